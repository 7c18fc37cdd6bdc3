"""What a run leaves to be used without it: its network with the way to it from raw rows, and its coefficients."""

import copy
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shrinkage.data import recipe
from shrinkage.data.base import DataModule
from shrinkage.errors import InputError
from shrinkage.models.linear import Linear
from shrinkage.tasks.base import Survival
from shrinkage.tracking.source import INTERCEPT


def write_model(
    datamodule: DataModule,
    model: nn.Module,
    folder: Path,
    link: str = "identity",
    survival: Survival | None = None,
) -> Path:
    """Write what `tracking/serving.py` predicts with, from rows as the user has them; returns the folder.

    link: that of the task, by which a number follows from the network's output. survival: what tells how long a row
    goes without an event, None where the model does not. These are written:
    model.pt2: the network in evaluation mode, of any number of rows (`torch.export`). preprocessing.json: what comes
    before and after it. recipe.py: the program that reads cells by it. example.json: a few raw rows as MLflow's
    server takes them. Nothing in them is a pickle.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dtype = next(model.parameters()).dtype
    if isinstance(model, Linear) and datamodule.is_sparse:
        network, way = without_zeros(model, datamodule)
    else:
        network, way = of_rows(model, datamodule), datamodule.recipe()
    way = with_strata(way, datamodule, survival)
    program = as_program(network, torch.zeros(2, len(way.features), dtype=dtype))
    program.example_inputs = None  # the only part of the file that would be pickled
    torch.export.save(program, folder / "model.pt2")
    described = preprocessing(datamodule, way, dtype, link) | describe_survival(survival, datamodule)
    write_json(folder / "preprocessing.json", described)
    shutil.copyfile(recipe.__file__, folder / "recipe.py")
    example, columns = datamodule.example(), way.columns
    rows = zip(*([as_json(value, column.kind) for value in example[column.name]] for column in columns), strict=True)
    split = {"columns": [column.name for column in columns], "data": list(map(list, rows))}
    write_json(folder / "example.json", {"dataframe_split": split})
    return folder


def with_strata(way: recipe.Recipe, datamodule: DataModule, survival: Survival | None) -> recipe.Recipe:
    """Add the column of strata to the way, where survival is to be told and depends on it."""
    column = datamodule.strata_column
    if survival is None or not survival.times or column is None:
        return way
    return replace(way, columns=(*way.columns, column), strata=column.name)


def describe_survival(survival: Survival | None, datamodule: DataModule) -> dict[str, Any]:
    """Describe what `Recipe.survival` goes by, under `survival`; nothing where no times are asked for."""
    if survival is None or not survival.times:
        return {}
    strata = range(len(survival.steps))
    expected = [[survival.expected(number, time) for time in survival.times] for number in strata]
    names = [f"survival_{time:g}" for time in survival.times]
    return {"survival": {"names": names, "expected": expected, "strata": list(datamodule.strata_names)}}


def check_exportable(datamodule: DataModule) -> None:
    """Look whether a model of these data can be written. Raises InputError if they do not come from columns."""
    if datamodule.is_sparse:  # of which a linear model is solved for, and some columns are written
        return
    count, inputs = len(datamodule.recipe().features), datamodule.inputs
    widths = list(inputs.values()) if isinstance(inputs, Mapping) else [inputs]
    if not all(isinstance(width, int) for width in widths) or sum(widths) != count:
        raise InputError(
            f"export: a model that predicts from rows of a table is written, and inputs of {widths} are not the "
            f"{count} features of these data side by side; leave it out"
        )


def without_zeros(model: Linear, datamodule: DataModule) -> tuple[nn.Module, recipe.Recipe]:
    """Return a linear model with the features alone that have a weight, and the way to these; the first if none has."""
    used = torch.nonzero(model.weight.detach().any(dim=0))[:, 0]
    used = used if len(used) else torch.zeros(1, dtype=torch.int64)
    smaller = nn.Linear(len(used), model.out_features, bias=model.bias is not None, dtype=model.weight.dtype)
    with torch.no_grad():
        smaller.weight.copy_(model.weight[:, used])
        if model.bias is not None:
            smaller.bias.copy_(model.bias)
    return smaller, datamodule.recipe_of(used.tolist())


def of_rows(model: nn.Module, datamodule: DataModule) -> nn.Module:
    """Return the model as one of rows of features [n, p], whether it has one input or several."""
    return model if isinstance(datamodule.inputs, int) else OfFeatures(model, datamodule)


class OfFeatures(nn.Module):
    """A model of several inputs, as one of rows of features, which are the inputs side by side."""

    def __init__(self, model: nn.Module, datamodule: DataModule) -> None:
        super().__init__()
        self.model, self.inputs = model, datamodule.inputs
        self.has_names = isinstance(datamodule.parts["train"].x, Mapping)

    def forward(self, x: Tensor) -> Tensor:
        each = x.split(list(self.inputs.values()), dim=1)
        return self.model(dict(zip(self.inputs, each, strict=True)) if self.has_names else each)


def as_program(model: nn.Module, rows: Tensor) -> torch.export.ExportedProgram:
    """Compile a network in evaluation mode for any number of such rows [n, …], in a form without pickles."""
    network = copy.deepcopy(model).cpu().eval()
    return torch.export.export(network, (rows[:2],), dynamic_shapes=({0: torch.export.Dim("rows")},))


def preprocessing(
    datamodule: DataModule, way: recipe.Recipe, dtype: torch.dtype, link: str = "identity"
) -> dict[str, object]:
    """Describe how raw rows become the network's inputs, and what its outputs mean."""
    return {
        "classes": list(datamodule.class_names),
        "center": datamodule.center,
        "scale": datamodule.scale,
        "targets": list(datamodule.target_names),
        "link": link,
        "dtype": str(dtype).removeprefix("torch."),
        **asdict(way),
    }


def write_json(path: Path, content: object) -> None:
    """Write content as JSON with a line's end."""
    path.write_text(json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n", encoding="utf-8")


def as_json(value: Any, kind: str) -> object:
    """Turn a value of a raw column into one of JSON; None for a gap."""
    import pandas as pd

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
) -> dict[str, list[Any]] | None:
    """Tabulate a linear model as columns output, feature, weight, coefficient, exchangeable; None for another model.

    weight: w, and in the row `(intercept)` the bias b, of the features (x − m)/s and the target (y − c_y)/s_y that the
    model was trained on. coefficient: w·s_y/s, and the intercept c_y + s_y(b − Σw·m/s), so that Σ coefficient·x +
    intercept is the prediction in the user's own units. For classes it is their logits (s_y = 1, c_y = 0); two classes
    have one logit, the second's. Of several targets each is an output. Under a log link it is the logarithm of the
    prediction (s_y = 1, c_y = 0). exchangeable: features with one entry can take over weight from one another at the
    same objective, and it is the name of the first; empty for all others.

    Of sparse data the features are left out whose weight is 0 for every output.

    parameters: by name, in place of the model's own. exchangeable: the groups [outputs, p] of
    `exchangeable_columns.exchangeable`, None where none are known.
    """
    if type(model) is not Linear:
        return None
    if parameters is None:
        parameters = dict(model.named_parameters())
    weight = parameters["weight"].detach().cpu().double().numpy()
    bias = np.zeros(len(weight))
    if "bias" in parameters:
        bias = parameters["bias"].detach().cpu().double().numpy()
    all_names, means, scales = datamodule.units
    if datamodule.is_sparse:
        used = np.flatnonzero(weight.any(axis=0))
        names, means, scales = [all_names[place] for place in used.tolist()], means[used], scales[used]
        weight, exchangeable = weight[:, used], None if exchangeable is None else exchangeable[:, used]
    else:
        names = list(all_names)
    center, scale = np.asarray(datamodule.center), np.asarray(datamodule.scale)  # of several targets one each
    own = weight / scales * scale.reshape(-1, 1)
    intercept = center + scale * bias - own @ means
    outputs = (datamodule.class_names or datamodule.target_names)[-len(weight) :] or ("",)
    # A sweep writes thousands of these tables: as lists, since pandas takes ten times as long for each.
    return {
        "output": [output for output in outputs for _ in range(len(names) + 1)],
        "feature": [*names, INTERCEPT] * len(weight),
        "weight": np.column_stack([weight, bias]).ravel().tolist(),
        "coefficient": np.column_stack([own, intercept]).ravel().tolist(),
        "exchangeable": firsts_of_groups(names, exchangeable, len(weight)),
    }


def firsts_of_groups(names: list[str], groups: np.ndarray | None, outputs: int) -> list[str]:
    """Name the first feature of each one's group, for every output with its intercept; empty where it has none."""
    if groups is None or not groups.any():
        return [""] * (outputs * (len(names) + 1))
    rows = groups.tolist()
    return [name for row in rows for name in (*(names[row.index(group)] if group else "" for group in row), "")]
