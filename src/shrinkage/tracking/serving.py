"""The code of a logged model, which goes with it: from rows as the user has them to predictions in the user's units.

It stands alone. Beside it lie the weights, as a `torch.export` archive; what comes before and after them, as JSON; and
the file by which training read its cells, too.
"""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException


def load_module(path: str) -> ModuleType:
    """The Python file as a module of its own, so that models of several versions can be loaded beside each other."""
    spec = importlib.util.spec_from_file_location("recipe", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Served(mlflow.pyfunc.PythonModel):
    """Raw rows to `prediction`: the target in its own units, or a class name, with a `probability_<class>` for each."""

    def load_context(self, context: mlflow.pyfunc.PythonModelContext) -> None:
        """Load the network and the recipe of its features."""
        description = json.loads(Path(context.artifacts["preprocessing"]).read_text(encoding="utf-8"))
        self.reading = load_module(context.artifacts["reading"])
        self.recipe = self.reading.Recipe.from_json(description)
        self.dtype = getattr(torch, description["dtype"])
        self.classes = np.array(description["classes"], dtype=object)
        self.center, self.scale = description["center"], description["scale"]
        self.network = torch.export.load(context.artifacts["network"]).module()

    def predict(self, context, model_input: pd.DataFrame, params: dict | None = None) -> pd.DataFrame:
        """Predict from rows as the user has them.

        Raises MlflowException where a cell cannot be read, which a server answers with 400.
        """
        try:
            x = torch.from_numpy(self.recipe(model_input)).to(self.dtype)
        except self.reading.Refused as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None  # a server answers 400
        with torch.no_grad():
            output = self.network(x).double()
        if not len(self.classes):
            prediction = output[:, 0].numpy() * self.scale + self.center
            return pd.DataFrame({"prediction": prediction}, index=model_input.index)
        if output.shape[1] == 1:  # two classes share one logit, of the second
            output = torch.cat([torch.zeros_like(output), output], dim=1)
        probabilities = output.softmax(dim=1).numpy()
        columns = {"prediction": self.classes[output.argmax(dim=1).numpy()]}
        columns |= {f"probability_{name}": probabilities[:, k] for k, name in enumerate(self.classes)}
        return pd.DataFrame(columns, index=model_input.index)


mlflow.models.set_model(Served())
