"""What a run leaves to be used without it: its network with the way to it from raw rows, and its coefficients."""

import copy
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from shrinkage.data import recipe
from shrinkage.data.base import DataModule
from shrinkage.models.linear import Linear
from shrinkage.tracking.source import INTERCEPT


def write_model(datamodule: DataModule, model: nn.Module, folder: Path) -> Path:
    """Write what `tracking/serving.py` predicts with, from rows as the user has them; returns the folder.

    model.pt2: the network in evaluation mode, of any number of rows (`torch.export`). preprocessing.json: what comes
    before and after it. recipe.py: the program that reads cells by it. example.json: a few raw rows as MLflow's
    server takes them. Nothing in them is a pickle.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dtype = next(model.parameters()).dtype
    program = as_program(model, torch.zeros(2, datamodule.inputs, dtype=dtype))
    program.example_inputs = None  # the only part of the file that would be pickled
    torch.export.save(program, folder / "model.pt2")
    write_json(folder / "preprocessing.json", preprocessing(datamodule, dtype))
    shutil.copyfile(recipe.__file__, folder / "recipe.py")
    example, columns = datamodule.example(), datamodule.recipe().columns
    rows = zip(*([as_json(value, column.kind) for value in example[column.name]] for column in columns), strict=True)
    split = {"columns": [column.name for column in columns], "data": list(map(list, rows))}
    write_json(folder / "example.json", {"dataframe_split": split})
    return folder


def as_program(model: nn.Module, rows: Tensor) -> torch.export.ExportedProgram:
    """Compile a network in evaluation mode for any number of such rows [n, …], in a form without pickles."""
    network = copy.deepcopy(model).cpu().eval()
    return torch.export.export(network, (rows[:2],), dynamic_shapes=({0: torch.export.Dim("rows")},))


def preprocessing(datamodule: DataModule, dtype: torch.dtype) -> dict[str, object]:
    """Describe how raw rows become the network's inputs, and what its outputs mean."""
    return {
        "classes": list(datamodule.class_names),
        "center": float(datamodule.center),
        "scale": float(datamodule.scale),
        "dtype": str(dtype).removeprefix("torch."),
        **asdict(datamodule.recipe()),
    }


def write_json(path: Path, content: object) -> None:
    """Write content as JSON with a line's end."""
    path.write_text(json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n", encoding="utf-8")


def as_json(value: object, kind: str) -> object:
    """Turn a value of a raw column into one of JSON; None for a gap."""
    if pd.isna(value):
        return None
    return {"number": float, "integer": int, "boolean": bool, "date": lambda moment: f"{moment}", "text": str}[kind](
        value
    )


def coefficients(
    datamodule: DataModule,
    model: nn.Module,
    parameters: Mapping[str, Tensor] | None = None,
    exchangeable: np.ndarray | None = None,
) -> pd.DataFrame | None:
    """Tabulate a linear model as columns output, feature, weight, coefficient, exchangeable; None for another model.

    weight: w, and in the row `(intercept)` the bias b, of the features (x − m)/s and the target (y − c_y)/s_y that the
    model was trained on. coefficient: w·s_y/s, and the intercept c_y + s_y(b − Σw·m/s), so that Σ coefficient·x +
    intercept is the prediction in the user's own units. For classes it is their logits (s_y = 1, c_y = 0); two classes
    have one logit, the second's. exchangeable: features with one entry can take over weight from one another at the
    same objective, and it is the name of the first; empty for all others.

    parameters: by name, in place of the model's own. exchangeable: the groups [outputs, p] of `Certifier.exchangeable`,
    None where none are known.
    """
    if type(model) is not Linear:
        return None
    if parameters is None:
        parameters = dict(model.named_parameters())
    weight = parameters["weight"].detach().cpu().double().numpy()
    bias = np.zeros(len(weight))
    if "bias" in parameters:
        bias = parameters["bias"].detach().cpu().double().numpy()
    features = datamodule.recipe().features
    means, scales = (np.array([getattr(feature, name) for feature in features]) for name in ("mean", "scale"))
    own = weight / scales * datamodule.scale
    intercept = datamodule.center + datamodule.scale * bias - own @ means
    names = datamodule.class_names[-len(weight) :] or ("",)
    groups = np.zeros(weight.shape, dtype=np.int64) if exchangeable is None else exchangeable
    firsts = [[features[list(row).index(group)].name if group else "" for group in row] for row in groups]
    return pd.DataFrame(
        {
            "output": np.repeat(names, len(features) + 1),
            "feature": [*(feature.name for feature in features), INTERCEPT] * len(weight),
            "weight": np.column_stack([weight, bias]).ravel(),
            "coefficient": np.column_stack([own, intercept]).ravel(),
            "exchangeable": [name for row in firsts for name in (*row, "")],
        }
    )
