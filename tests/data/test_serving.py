"""One table is read alike in training and by the served model, whichever way its rows arrive."""

import io
import json
import logging
import os
import py_compile
import shutil
import socket
import subprocess
import sys
import urllib.request
import zipfile
from contextlib import suppress
from importlib.util import cache_from_source
from io import StringIO
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import config, wait_for
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc.scoring_server import invocations
from mlflow.types.schema import Schema

from shrinkage.data.base import DataModule
from shrinkage.errors import InputError
from shrinkage.models.linear import Linear
from shrinkage.runs.export import coefficients, write_model
from shrinkage.tracking.logged_model import save
from shrinkage.training.workshop import Workshop, make


def table(path: Path, *overrides: str) -> DataModule:
    data = make(config("data=table", f"data.path={path}", "data.target=y", *overrides).data, order_seed=0)
    data.setup()
    return data


def served(
    data: DataModule, folder: Path, weights: list[float] | None = None, link: str = "identity"
) -> tuple[PyFuncModel, torch.nn.Linear]:
    """A linear model of the features with these or random weights, as a model in MLflow's format, loaded again."""
    network = Linear(data.inputs, 1, bias=True, init="normal", sigma=1.0).double()
    if weights is not None:
        network.load_state_dict({"weight": torch.tensor([weights]).double(), "bias": torch.zeros(1).double()})
    write_model(data, network, folder / "model", link)
    save(folder / "model", folder / "mlflow", Model())
    return mlflow.pyfunc.load_model(str(folder / "mlflow")), network


def predictions(model: PyFuncModel, schema: Schema, rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """What the model says of rows as a frame and, by MLflow's server, as CSV and as JSON."""
    inputs = rows[schema.input_names()].astype(object).where(rows.notna(), None)
    for name, kind in zip(schema.input_names(), schema.pandas_types(), strict=True):
        if kind == np.dtype(bool):  # of which MLflow takes the text "false" for true: docs/choosing.md
            inputs[name] = inputs[name].replace({"true": True, "false": False})
    bodies = {
        "split": {"dataframe_split": {"columns": list(inputs), "data": inputs.to_numpy().tolist()}},
        "records": {"dataframe_records": inputs.to_dict("records")},
    }
    sent = {
        name: (json.dumps(body, default=lambda value: value.item()), "application/json")
        for name, body in bodies.items()
    }
    sent["csv"] = rows.to_csv(index=False), "text/csv"
    found = {name: invocations(*about, model, schema).response for name, about in sent.items()}
    types = dict(zip(schema.input_names(), schema.pandas_types(), strict=True))
    found = {
        name: np.array([row["prediction"] for row in json.loads(response)["predictions"]])
        for name, response in found.items()
    }
    typed = pd.read_csv(StringIO(rows.to_csv(index=False)), dtype=types)
    return found | {"frame": model.predict(inputs.astype(types)).prediction, "typed": model.predict(typed).prediction}


CELLS = {
    "number": st.floats(-1e6, 1e6).map(lambda value: round(value, 3)) | st.none(),
    "integer": st.integers(-1000, 1000),
    "boolean": st.booleans(),
    "switch": st.booleans() | st.none(),
    "lower": st.sampled_from(["true", "false", None]),
    "text": st.sampled_from(["a", "01", "1", "007", "None", "NA", "missing", "é", "true", "日本"]) | st.none(),
    "day": st.dates(pd.Timestamp("1999-01-01").date(), pd.Timestamp("2035-12-31").date()).map(str) | st.none(),
}


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    rows = draw(st.integers(10, 20))
    kinds = draw(st.lists(st.sampled_from(sorted(CELLS)), min_size=1, max_size=6))
    columns = {
        f"{kind} {k}": pd.Series(draw(st.lists(CELLS[kind], min_size=rows, max_size=rows)), dtype="object")
        for k, kind in enumerate(kinds)
    }
    frame = pd.DataFrame(columns)
    numbers = [name for name in frame if name.startswith("number")]
    return frame.astype(dict.fromkeys(numbers, "float64")).assign(y=np.arange(rows) ** 2 / 7)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    frame=tables(),
    kind=st.sampled_from(["csv", "parquet"]),
    encoding=st.sampled_from(["auto", "reference", "all"]),
    seed=st.integers(0, 9),
)
def test_one_answer_whichever_way_rows_arrive(
    tmp_path_factory: pytest.TempPathFactory, frame: pd.DataFrame, kind: str, encoding: str, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("table")
    path = folder / f"table.{kind}"
    frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
    common = ["data.missing=mean", "data.dates=[year,month,weekday,dayofyear,trend]", f"data.seed={seed}"]
    try:
        data = table(path, *common, f"data.encoding={encoding}")
    except InputError:  # a column of gaps alone
        return
    model, network = served(data, folder)
    expected = np.empty(len(frame))
    for part, rows in data.rows.items():
        with torch.no_grad():
            output = network(torch.from_numpy(data.parts[part].x))[:, 0].numpy()
        expected[rows] = output * data.scale + data.center
    for way, found in predictions(model, model.metadata.get_input_schema(), frame).items():
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9, err_msg=way)


def write_switches(path: Path) -> pd.DataFrame:
    """60 rows with y = 10 for true, −10 for false, 0 for a gap, and a number x that does not matter."""
    cells = pd.Series(["true", "false", ""] * 20)
    frame = pd.DataFrame(
        {"flag": cells, "x": np.tile([0.0, 1.0], 30), "y": cells.map({"true": 10.0, "false": -10.0, "": 0.0})}
    )
    frame.to_csv(path, index=False)
    return frame


def test_a_model_of_counts_is_served_with_its_rates(tmp_path: Path) -> None:
    """Counts keep their own units, however few of them differ, and the model's output is the logarithm of a rate."""
    random = np.random.default_rng(0)
    rows = pd.DataFrame({"age": random.normal(50, 10, size=40), "y": random.poisson(2.0, size=40)})
    rows.to_csv(tmp_path / "rows.csv", index=False)
    cfg = config("data=table", f"data.path={tmp_path / 'rows.csv'}", "data.target=y", "task=poisson")
    workshop = Workshop(cfg)
    data = workshop.datamodule
    model, network = served(data, tmp_path, link=workshop.task.link)
    assert (data.center, data.scale, data.classes) == (0.0, 1.0, None)
    np.testing.assert_array_equal(data.parts["train"].y, rows.y.to_numpy(float)[data.rows["train"]])
    found = model.predict(rows[["age"]].iloc[data.rows["val"]]).prediction
    output = network(torch.from_numpy(data.parts["val"].x)).detach()
    np.testing.assert_allclose(found, workshop.task.predictions(output), rtol=1e-12)
    table = coefficients(data, network)
    logs = table["coefficient"][0] * rows.age.iloc[data.rows["val"]] + table["coefficient"][1]
    np.testing.assert_allclose(np.log(found), logs, rtol=0, atol=1e-12)


def test_booleans_with_gaps_are_booleans_whose_gaps_are_the_training_share(tmp_path: Path) -> None:
    frame = write_switches(tmp_path / "switches.csv")
    data = table(tmp_path / "switches.csv", "data.missing=mean", "data.standardize=false", "data.task=regression")
    assert data.feature_names == ("flag", "x")
    trained = frame.flag.iloc[data.rows["train"]]
    share = (trained == "true").sum() / (trained != "").sum()
    model, _ = served(data, tmp_path, [20.0, 0.0])
    schema = model.metadata.get_input_schema()
    assert [column.type.name for column in schema.inputs] == ["string", "double"]
    for way, found in predictions(model, schema, frame.replace("", None)).items():
        np.testing.assert_allclose(found[:3], [20, 0, 20 * share], rtol=1e-12, err_msg=way)
    ways = [True, np.True_, "true", "True", " TRUE ", 1, "1"], [False, np.False_, "false", "False", " FALSE ", 0, "0"]
    gaps = [None, np.nan, pd.NA, "", "None", "NA", " "]
    cells = pd.DataFrame({"flag": pd.Series([*ways[0], *ways[1], *gaps], dtype=object), "x": 0.0})
    np.testing.assert_allclose(model.predict(cells).prediction, [20] * 7 + [0] * 7 + [20 * share] * 7, rtol=1e-12)
    with pytest.raises(
        MlflowException, match="column 'flag' must have booleans: 'maybe' is neither true nor false"
    ) as error:
        model.predict(pd.DataFrame({"flag": ["maybe"], "x": 0.0}))
    assert error.value.get_http_status_code() == 400


def write_towns(path: Path) -> pd.DataFrame:
    """Three towns, the word None among them, and a code of two digits."""
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"town": draw.choice(["Bonn", "None", "Ulm"], 60), "code": draw.choice(["01", "1", "x"], 60)})
    frame["y"] = frame.town.map({"Bonn": 1.0, "None": 2.0, "Ulm": 3.0}) + draw.normal(size=60)
    frame.to_csv(path, index=False)
    return frame


def test_the_word_none_is_a_gap_everywhere(tmp_path: Path) -> None:
    frame = write_towns(tmp_path / "towns.csv")
    data = table(tmp_path / "towns.csv", "data.missing=mean", "data.standardize=false")
    towns, codes = ("town_Bonn", "town_Ulm", "town_missing"), ("code_01", "code_1", "code_x")
    assert data.feature_names == towns + codes
    model, _ = served(data, tmp_path, [1.0, 3.0, 2.0, 10.0, 20.0, 30.0])
    expected = frame.town.map({"Bonn": 1, "None": 2, "Ulm": 3}) + frame.code.map({"01": 10, "1": 20, "x": 30})
    expected = expected * data.scale + data.center
    for rows in (frame, frame.replace("None", None), frame[frame.code != "x"]):  # the last one has digits alone
        for way, found in predictions(model, model.metadata.get_input_schema(), rows).items():
            np.testing.assert_allclose(found, expected[rows.index], rtol=1e-12, err_msg=way)


def test_levels_that_are_unseen_are_said_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_towns(tmp_path / "towns.csv")
    rows = pd.DataFrame({"town": ["Köln", "Köln", "Bonn", "Linz"], "code": ["1", "01", "x", "x"]})
    data = table(tmp_path / "towns.csv", "data.missing=mean", "data.standardize=false")
    model, _ = served(data, tmp_path / "zero", [1.0, 3.0, 2.0, 10.0, 20.0, 30.0])
    with caplog.at_level(logging.WARNING):
        found = (model.predict(rows).prediction - data.center) / data.scale
    np.testing.assert_allclose(found, [20, 10, 31, 30], rtol=1e-12)
    assert "column 'town' has values in 3 rows that no training row had: 'Köln' in 2, 'Linz' in 1" in caplog.text
    model, _ = served(table(tmp_path / "towns.csv", "data.missing=mean", "data.unseen=error"), tmp_path / "error")
    with pytest.raises(
        MlflowException, match=r"'Köln' in 2, 'Linz' in 1; the model was trained with data.unseen=error"
    ) as error:
        model.predict(rows)
    assert error.value.get_http_status_code() == 400


def test_dates_are_served_as_they_were_trained(tmp_path: Path) -> None:
    days = pd.Series(pd.date_range("2024-01-01", periods=60, freq="7D"))
    for name, cells in {"dotted": days.dt.strftime("%d.%m.%Y"), "typed": days}.items():
        frame = pd.DataFrame({"day": cells, "x": np.arange(60.0) % 7, "y": np.arange(60.0)})
        path = tmp_path / f"{name}.{'csv' if name == 'dotted' else 'parquet'}"
        frame.to_csv(path, index=False) if name == "dotted" else frame.to_parquet(path)
        data = table(path, "data.dates=[trend]", "data.standardize=false")
        assert data.feature_names == ("x", "day_trend")
        model, _ = served(data, tmp_path / name, [0.0, 1.0])
        start = days[data.rows["train"]].min()
        expected = (days - start).dt.days * data.scale + data.center
        rows = {
            name: pd.DataFrame({"day": cells, "x": 0.0}),
            "moments": pd.DataFrame({"day": days.astype(object), "x": 0.0}),
        }
        if name == "dotted":
            rows["iso"] = pd.DataFrame({"day": days.dt.strftime("%Y-%m-%d"), "x": 0.0})
            with pytest.raises(MlflowException, match="column 'day' must have dates, as 2026-01-31 or as in training"):
                model.predict(pd.DataFrame({"day": ["2/29"], "x": 0.0}))
        for way, these in rows.items():
            np.testing.assert_allclose(model.predict(these).prediction, expected, rtol=1e-12, err_msg=way)


def test_coefficients_times_raw_values_are_the_prediction_under_each_encoding(tmp_path: Path) -> None:
    frame = write_towns(tmp_path / "towns.csv").assign(sex=list("fm") * 30).replace("None", None)
    frame.to_csv(tmp_path / "towns.csv", index=False)
    for encoding in ("auto", "reference", "all"):
        data = table(tmp_path / "towns.csv", "data.missing=mean", f"data.encoding={encoding}")
        network = Linear(data.inputs, 1, bias=True, init="normal", sigma=1.0).double()
        own = pd.DataFrame(coefficients(data, network)).set_index("feature").coefficient
        rows = frame.iloc[data.rows["val"]].fillna("missing")
        total = own["(intercept)"] + sum(
            own.get(f"{column}_{level}", 0.0) * (rows[column] == level)
            for column in ("town", "code", "sex")
            for level in rows[column].unique()
        )
        with torch.no_grad():
            output = network(torch.from_numpy(data.parts["val"].x))[:, 0].numpy() * data.scale + data.center
        np.testing.assert_allclose(total, output, rtol=1e-9)


def test_mlflows_commands_take_the_example_that_is_printed(tmp_path: Path) -> None:
    frame = write_switches(tmp_path / "switches.csv")
    data = table(tmp_path / "switches.csv", "data.missing=mean", "data.task=regression")
    model, _ = served(data, tmp_path)
    expected = model.predict(frame.iloc[data.rows["train"][:5]].astype({"x": float})).prediction
    environment = os.environ | {"PYTHONPATH": "", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-m", "mlflow", "models"]
    common = ["--env-manager", "local", "-m", str(tmp_path / "mlflow")]
    example = tmp_path / "model" / "example.json"
    done = subprocess.run(
        [*command, "predict", *common, "-t", "json", "-i", example, "-o", tmp_path / "out.json"],
        env=environment, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [row["prediction"] for row in json.loads((tmp_path / "out.json").read_text())["predictions"]]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = [sys.executable, "-m", "mlflow", "models", "serve", *common, "--port", str(port)]
    with subprocess.Popen(
        server, env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            wait_for(lambda: answers(port), 120)
            for body, kind in (
                (example.read_bytes(), "application/json"),
                ((tmp_path / "switches.csv").read_bytes(), "text/csv"),
            ):
                request = urllib.request.Request(
                    f"http://127.0.0.1:{port}/invocations", body, headers={"Content-Type": kind}
                )
                with urllib.request.urlopen(request, timeout=60) as response:
                    rows = [row["prediction"] for row in json.load(response)["predictions"]]
                own = rows if kind == "application/json" else np.array(rows)[data.rows["train"][:5]]
                np.testing.assert_allclose(own, expected, rtol=1e-9)
        finally:
            os.killpg(process.pid, 9)


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


class Poison:
    """What writes a file when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple:
        return Path.touch, (self.witness,)


def poison(archive: Path, member: str, witness: Path) -> None:
    """Put a pickle that runs code in the place of a member of a `torch.export` archive, or beside the others."""
    with zipfile.ZipFile(archive) as file:
        held = {name: file.read(name) for name in file.namelist()}
    (root,) = {name.partition("/")[0] for name in held}
    content = io.BytesIO()
    torch.save({"weight": Poison(witness)}, content)
    held[f"{root}/{member}"] = content.getvalue()
    config = f"{root}/data/weights/model_weights_config.json"
    if member == "data/weights/weight_0":
        held[config] = held[config].replace(b'"use_pickle": false', b'"use_pickle": true', 1)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        for name, bytes_of_it in held.items():
            file.writestr(name, bytes_of_it)


PICKLES = ("data/sample_inputs/model.pt", "data/weights/weight_0", "data/weights/model.pt", "data/constants/model.pt")


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model as it is written, in `model`, and as it is logged, in `mlflow`."""
    folder = tmp_path_factory.mktemp("logged")
    write_switches(folder / "switches.csv")
    served(table(folder / "switches.csv", "data.missing=mean", "data.task=regression"), folder)
    return folder


@pytest.mark.parametrize("member", PICKLES)
def test_a_model_file_cannot_run_code(logged: Path, tmp_path: Path, member: str) -> None:
    folder, witness = tmp_path / "own", tmp_path / "witness"
    shutil.copytree(logged, folder)
    poison(folder / "mlflow/artifacts/model.pt2", member, witness)
    with suppress(Exception):
        torch.export.load(folder / "mlflow/artifacts/model.pt2")
    witness.unlink()  # so poison is what it is
    with pytest.raises(MlflowException, match="not the file that was logged with this model"):
        mlflow.pyfunc.load_model(str(folder / "mlflow"))
    # Where it was replaced before it was logged, its digest is right.
    poison(folder / "model/model.pt2", member, witness)
    shutil.rmtree(folder / "mlflow")
    save(folder / "model", folder / "mlflow", Model())
    with pytest.raises(MlflowException, match="in the model's archive may be code, so it is not"):
        mlflow.pyfunc.load_model(str(folder / "mlflow"))
    assert not witness.exists()


@pytest.mark.parametrize("name", ["model.pt2", "preprocessing.json", "recipe.py"])
def test_a_models_files_are_those_that_were_logged(logged: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(logged / "mlflow", tmp_path / "mlflow")
    path = tmp_path / "mlflow/artifacts" / name
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(MlflowException, match=rf"{name}: not the file that was logged .* export the model again"):
        mlflow.pyfunc.load_model(str(tmp_path / "mlflow"))


def test_the_recipe_is_not_read_from_a_compiled_copy(logged: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mlflow"
    shutil.copytree(logged / "mlflow", folder)
    recipe, other = folder / "artifacts/recipe.py", tmp_path / "other.py"
    other.write_text(f"open({str(tmp_path / 'witness')!r}, 'w')")
    compiled = Path(cache_from_source(str(recipe)))
    compiled.parent.mkdir(exist_ok=True)
    py_compile.compile(str(other), str(compiled), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    mlflow.pyfunc.load_model(str(folder))
    assert not (tmp_path / "witness").exists()
