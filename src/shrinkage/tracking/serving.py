"""The code of a logged model, which goes with it: from rows as the user has them to predictions in the user's units.

It stands alone. Beside it lie the weights, as a `torch.export` archive; what comes before and after them, as JSON; and
the file by which training read its cells, too. The file MLmodel has the SHA-256 of each, and nothing of a file is used
that has another.
"""

import hashlib
import io
import json
import re
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

DIGESTS = "sha256"  # the key of MLmodel's `config` that has them
# Members of an archive that are text or bare numbers, and the one that would be a pickle if there were anything in it.
PLAIN = re.compile(
    r"[^/]+/(archive_format|archive_version|byteorder|\.data/\w+|models/model\.json"
    r"|data/(weights|constants)/(weight_\d+|tensor_\d+|model_\w+_config\.json))"
)
EMPTY = re.compile(r"[^/]+/data/sample_inputs/model\.pt")


def checked(name: str, context: PythonModelContext) -> bytes:
    """Read a file of the model. Raises MlflowException where it is not the one that was logged."""
    path = Path(context.artifacts[name])
    content = path.read_bytes()
    digests = (context.model_config or {}).get(DIGESTS, {})
    if digests.get(name) != hashlib.sha256(content).hexdigest():
        raise MlflowException.invalid_parameter_value(
            f"{path}: not the file that was logged with this model, by the SHA-256 in MLmodel, so it is not loaded; "
            "export the model again"
        )
    return content


def load_module(name: str, source: bytes) -> ModuleType:
    """A Python file as a module of its own, so that models of several versions can be loaded beside each other.

    It is made from this source, and not from a compiled copy that may lie beside the file.
    """
    module = ModuleType(name)
    exec(compile(source, f"{name}.py", "exec"), module.__dict__)
    return module


def load_network(archive: bytes) -> torch.nn.Module:
    """Load the network of a `torch.export` archive in which nothing is a pickle.

    `torch.export.load` unpickles what is one, and loads compiled libraries. Raises MlflowException for such an archive.
    """
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        for member in file.infolist():
            is_plain = PLAIN.fullmatch(member.filename) or (EMPTY.fullmatch(member.filename) and not member.file_size)
            if is_plain and member.filename.endswith("_config.json"):
                is_plain = not any(tensor["use_pickle"] for tensor in json.loads(file.read(member))["config"].values())
            if not is_plain:
                raise MlflowException.invalid_parameter_value(
                    f"{member.filename} in the model's archive may be code, so it is not loaded; export the model again"
                )
    return torch.export.load(io.BytesIO(archive)).module()


class Served(PythonModel):
    """Raw rows to `prediction`: the target in its own units, or a class name, with a `probability_<class>` for each.

    Of several targets it is `prediction_<target>`. Of times until an event it is a relative risk, and beside it may be
    `survival_<time>`, the probability of none until then.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Load the network and the recipe of its features. Raises MlflowException where a file has been replaced."""
        description = json.loads(checked("preprocessing", context))
        self.reading = load_module("recipe", checked("reading", context))
        self.recipe = self.reading.Recipe.from_json(description)
        self.dtype = getattr(torch, description["dtype"])
        self.classes = description["classes"]
        self.center, self.scale = description["center"], description["scale"]
        self.link = description.get("link", "identity")  # which older models do not say
        self.targets = description.get("targets", [])
        self.survival = description.get("survival")
        self.network = load_network(checked("network", context))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Predict from rows as the user has them.

        Raises MlflowException where a cell cannot be read, which a server answers with 400.
        """
        try:
            x = torch.from_numpy(self.recipe(model_input)).to(self.dtype)
            offset = self.recipe.offsets(model_input)
        except self.reading.Refused as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None  # a server answers 400
        with torch.no_grad():
            output = self.network(x).double().numpy()
        more = (self.link, offset, self.targets)
        columns = self.reading.predicted(output, self.classes, self.center, self.scale, *more)
        if self.survival is not None:
            columns |= self.recipe.survival(model_input, columns["prediction"], self.survival)
        return pd.DataFrame(columns, index=model_input.index)


set_model(Served())
