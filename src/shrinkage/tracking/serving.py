"""The code of a logged model, which goes with it: from rows as the user has them to predictions in the user's units.

It stands alone. The weights lie beside it as a `torch.export` archive, what comes before and after them as JSON.
"""

import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException


def refuse(words: str) -> None:
    """The caller's mistake; a server answers 400."""
    raise MlflowException.invalid_parameter_value(words)


class Preprocessing:
    """Raw rows to the numbers that the network sees; the description is that of preprocessing.json."""

    def __init__(self, description: dict) -> None:
        self.columns, self.features = description["columns"], description["features"]

    def __call__(self, frame: pd.DataFrame) -> np.ndarray:
        """[rows, features], float64. Other columns, and the order of the columns, do not matter."""
        missing = [column["name"] for column in self.columns if column["name"] not in frame]
        if missing:
            refuse(f"the model needs the columns {missing}, which are missing; there are {list(frame.columns)}")
        values = {column["name"]: self.values(frame[column["name"]], column) for column in self.columns}
        x = np.empty((len(frame), len(self.features)))
        for number, feature in enumerate(self.features):
            value = values[feature["column"]]
            if feature["category"] is not None:
                value = value == feature["category"]
            x[:, number] = (value - feature["mean"]) / feature["scale"]
        return x

    def values(self, given: pd.Series, column: dict) -> np.ndarray:
        """A column's numbers, or its text, without gaps."""
        name, gap = column["name"], column["gap"]
        gaps = given.isna().to_numpy()
        if gaps.any() and gap is None:
            refuse(
                f"column {name!r} is missing in {gaps.sum()} of {len(given)} rows: the model was trained to fill no "
                "gaps; fill them, or train it with data.missing=mean"
            )
        if column["kind"] == "text":
            return given.astype(object).where(~gaps, gap).astype(str).to_numpy(dtype=object)
        try:
            numbers = given.to_numpy(dtype=np.float64, na_value=np.nan)
        except (ValueError, TypeError) as error:
            refuse(f"column {name!r} must have numbers: {error}")
        infinite = np.isinf(numbers)
        if infinite.any():
            refuse(f"column {name!r} is infinite in {infinite.sum()} of {len(given)} rows: every number must be finite")
        return np.where(gaps, 0.0 if gap is None else gap, numbers)


class Served(mlflow.pyfunc.PythonModel):
    """Raw rows to `prediction`: the target in its own units, or a class name, with a `probability_<class>` for each."""

    def load_context(self, context: mlflow.pyfunc.PythonModelContext) -> None:
        description = json.loads(Path(context.artifacts["preprocessing"]).read_text(encoding="utf-8"))
        self.preprocessing = Preprocessing(description)
        self.dtype = getattr(torch, description["dtype"])
        self.classes = np.array(description["classes"], dtype=object)
        self.center, self.scale = description["center"], description["scale"]
        self.network = torch.export.load(context.artifacts["network"]).module()

    def predict(self, context, model_input: pd.DataFrame, params: dict | None = None) -> pd.DataFrame:
        x = torch.from_numpy(self.preprocessing(model_input)).to(self.dtype)
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
