"""The model to take away: it predicts the user's raw rows without this package, and it is no pickle."""

import io
import json
import os
import pickletools
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import config, mlflow_at
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from shrinkage.data.base import DataModule
from shrinkage.data.recipe import Recipe
from shrinkage.data.splits import Rows
from shrinkage.data.table import TableFile
from shrinkage.errors import InputError
from shrinkage.runs.export import coefficients, preprocessing, write_model
from shrinkage.tracking.client import Client
from shrinkage.training.run import Training, build

pytestmark = pytest.mark.xdist_group("export")  # one training for all of them

# In a process of its own, as a user's: the models of these names on their own files, all rows and columns; and one as
# `mlflow models predict -t csv --env-manager local` does it.
PREDICT = """
import json, sys, mlflow, pandas as pd
files, run = json.loads(sys.argv[1]), sys.argv[2]
models = {name: mlflow.pyfunc.load_model(f"models:/{name}/1") for name in files}
print(json.dumps({name: models[name].predict(pd.read_csv(path)).to_dict("list") for name, path in files.items()}))
mlflow.models.predict(
    f"runs:/{run}/model", input_path=files["gaps"], content_type="csv", output_path="out.json", env_manager="local"
)
print(json.dumps([module for module in sys.modules if module.split(".")[0] in ("shrinkage", "sklearn", "lightning")]))
"""


@dataclass
class Exported:
    """A run whose model has been logged, and the file that it was trained on."""

    training: Training
    run_id: str
    answer: dict[str, str]
    path: Path

    @property
    def module_predicts(self) -> dict[str, torch.Tensor]:
        """The module's own outputs for the parts of its data."""
        model = self.training.module.model.eval()
        dtype = next(model.parameters()).dtype
        with torch.no_grad():
            return {
                name: model(torch.from_numpy(part.x).to(dtype)).double()
                for name, part in self.training.datamodule.parts.items()
            }

    @property
    def rows(self) -> dict[str, np.ndarray]:
        """Which rows of the file each part is."""
        data = self.training.datamodule
        table = data.load()
        return data.split.parts(Rows(table.target, table.class_names))


def houses() -> pd.DataFrame:
    """200 of them: a number with gaps, a whole number, a boolean, text with gaps, and a price."""
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "area": draw.uniform(40, 200, 200),
            "rooms": draw.integers(1, 7, 200),
            "pool": draw.random(200) < 0.3,
            "town": draw.choice(["Aachen", "Bonn", "Köln"], 200),
            "age": draw.uniform(0, 90, 200),
        }
    )
    price = 2000 * frame.area + 10_000 * frame.rooms + 50_000 * frame.pool - 100 * frame.age
    frame["price"] = price + 30_000 * (frame.town == "Köln") + draw.normal(0, 5000, 200)
    return frame


def with_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.copy()
    frame.loc[:19, "age"] = np.nan
    frame.loc[10:29, "town"] = None
    return frame


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture(scope="module")
def exported(uri: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    """Some runs and their logged models, by the name that they are registered under."""
    folder = tmp_path_factory.mktemp("runs")
    whole = houses()
    gaps = with_gaps(whole)
    kinds = gaps.assign(price=pd.cut(whole.price, 3, labels=["cheap", "fair", "dear"]))
    settings = {
        "gaps": (gaps, "data.missing=mean"),
        "kinds": (kinds, "data.missing=mean"),
        "mlp": (kinds, "data.missing=mean", "model=mlp", "model.dropout=0.2", "trainer.precision=64-true"),
        "whole": (whole, "data.missing=error"),
        "no/name": (whole, "data.missing=error"),
    }
    client = Client(uri, "shrinkage", folder)
    runs = {}
    for name, (frame, *overrides) in settings.items():
        own = folder / name.replace("/", "-")
        own.mkdir()
        frame.to_csv(own / "houses.csv", index=False)
        common = ["data=table", f"data.path={own / 'houses.csv'}", "data.target=price"]
        training = build(config(*common, "lambd=0.01", "trainer.max_epochs=10", *overrides), own)
        client.wait_until_ready()
        journal = client.begin(name, {}, folder=own)
        training.module.on_measured = lambda moment, journal=journal: journal.metrics(
            moment.metrics, moment.step, moment.time
        )
        training.run()
        written = write_model(training.datamodule, training.module.model, own / "model")
        journal.model(written, name, training.module.measured)
        client.end(journal, "FINISHED")
        client.wait_for(journal)
        runs[name] = Exported(training, client.run_id(journal), client.models[journal.id], own / "houses.csv")
    return runs


@pytest.fixture
def here(uri: str) -> Iterator[MlflowClient]:
    """MLflow in this process, looking at the store."""
    with mlflow_at(uri):
        yield MlflowClient(uri)


@pytest.fixture(scope="module")
def predicted(exported: dict[str, Exported], uri: str, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What the models say of their own files in another process."""
    files = {name: str(run.path) for name, run in exported.items() if "/" not in name}
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    done = subprocess.run(
        [sys.executable, "-c", PREDICT, json.dumps(files), exported["gaps"].run_id],
        env=os.environ | {"MLFLOW_TRACKING_URI": uri},
        cwd=elsewhere,
        capture_output=True,
        text=True,
        check=True,
    )
    predictions, modules = map(json.loads, done.stdout.splitlines())
    assert modules == []
    predictions["command line"] = json.loads((elsewhere / "out.json").read_text())["predictions"]
    return {name: pd.DataFrame(columns) for name, columns in predictions.items()}


@pytest.mark.parametrize("name", ["gaps", "whole"])
def test_numbers_are_the_modules_in_the_users_units(exported: dict, predicted: dict, name: str) -> None:
    run = exported[name]
    for part, output in run.module_predicts.items():
        expected = output[:, 0].numpy() * run.training.datamodule.scale + run.training.datamodule.center
        np.testing.assert_allclose(predicted[name].prediction[run.rows[part]], expected, rtol=1e-6)
    assert predicted[name].prediction.corr(houses().price) > 0.95


@pytest.mark.parametrize("name", ["kinds", "mlp"])
def test_classes_are_the_modules_with_their_probabilities(exported: dict, predicted: dict, name: str) -> None:
    run, names = exported[name], ["cheap", "dear", "fair"]
    assert list(predicted[name]) == ["prediction", *(f"probability_{kind}" for kind in names)]
    for part, output in run.module_predicts.items():
        found = predicted[name].iloc[run.rows[part]]
        np.testing.assert_allclose(found.iloc[:, 1:], output.softmax(dim=1), atol=1e-6)
        assert list(found.prediction) == [names[code] for code in output.argmax(dim=1)]


def test_the_command_line_takes_the_users_file(predicted: dict) -> None:
    np.testing.assert_allclose(predicted["command line"].prediction, predicted["gaps"].prediction, rtol=1e-6)


def test_the_run_ends_as_it_ended_and_says_where_its_model_is(exported: dict, here: MlflowClient) -> None:
    for name in ("gaps", "kinds", "mlp", "whole"):
        run = here.get_run(exported[name].run_id)
        version = here.get_model_version(name, "1")
        assert run.info.status == "FINISHED"
        assert exported[name].answer == {"uri": version.source, "registered": f"models:/{name}/1"}
        assert run.data.tags["model.registered"] == f"models:/{name}/1"
        assert version.run_id == run.info.run_id
        model = here.get_logged_model(version.source.removeprefix("models:/"))
        assert model.experiment_id == run.info.experiment_id and model.name == "model"
        assert {metric.key: metric.value for metric in model.metrics} == exported[name].training.module.measured
        assert len(here.get_metric_history(run.info.run_id, "val/loss")) == 11


def test_a_name_that_the_registry_refuses_costs_neither_run_nor_model(exported: dict, here: MlflowClient) -> None:
    run = here.get_run(exported["no/name"].run_id)
    assert run.info.status == "FINISHED"
    assert "Invalid model name" in run.data.tags["model.error"] and "model.registered" not in run.data.tags
    assert len(mlflow.pyfunc.load_model(run.data.tags["model.uri"]).predict(houses())) == 200


def test_the_signature_has_the_raw_columns(exported: dict, here: MlflowClient) -> None:
    model = mlflow.pyfunc.load_model("models:/kinds/1")
    types = {column.name: column.type.name for column in model.metadata.signature.inputs}
    assert types == {"area": "double", "rooms": "long", "pool": "boolean", "town": "string", "age": "double"}
    assert [column.type.name for column in model.metadata.signature.outputs] == ["string"] + ["double"] * 3
    example = model.input_example
    train = pd.read_csv(exported["kinds"].path).iloc[exported["kinds"].rows["train"][:5]].reset_index(drop=True)
    pd.testing.assert_frame_equal(example, train[example.columns], check_dtype=False)
    assert len(model.predict(example)) == 5


def is_pickle(content: bytes) -> bool:
    """From its first byte to its last: the bytes of some weights begin like one."""
    try:
        *_, (_, _, end) = pickletools.genops(content)
    except Exception:
        return False
    return end == len(content) - 1


def test_nothing_in_it_is_a_pickle(exported: dict, here: MlflowClient, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": 1}, buffer)
    with zipfile.ZipFile(buffer) as archive:  # what the test would find
        assert any(is_pickle(archive.read(member)) for member in archive.namelist())
    for name in ("kinds", "mlp"):
        path = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/1", dst_path=str(tmp_path / name)))
        files = [file for file in path.rglob("*") if file.is_file()]
        expected = {"serving.py", "recipe.py", "model.pt2", "preprocessing.json", "MLmodel"}
        assert expected <= {file.name for file in files}
        contents = {file.name: file.read_bytes() for file in files}
        for file in filter(zipfile.is_zipfile, files):
            with zipfile.ZipFile(file) as archive:
                contents |= {member: archive.read(member) for member in archive.namelist()}
        assert [member for member, content in contents.items() if is_pickle(content)] == []
        requirements = (path / "requirements.txt").read_text().split()
        assert [line.split("==")[0] for line in requirements] == ["mlflow", "torch", "numpy", "pandas"]
        assert "+" not in "".join(requirements)


def test_rows_that_the_model_has_not_seen_the_like_of(exported: dict, here: MlflowClient) -> None:
    model, whole = mlflow.pyfunc.load_model("models:/gaps/1"), houses()
    training = exported["gaps"].training
    own = pd.DataFrame(coefficients(training.datamodule, training.module.model))
    own = own.set_index("feature").coefficient
    numbers = ["age", "pool", "rooms", "area"]
    some = whole[["price", *numbers]].assign(town="Atlantis").head(3)
    expected = own["(intercept)"] + some[numbers].astype(float) @ own[numbers]
    np.testing.assert_allclose(model.predict(some).prediction, expected, rtol=1e-6)  # no town's column is 1
    gap = model.predict(some.assign(town=None)).prediction
    np.testing.assert_allclose(gap, expected + own["town_missing"], rtol=1e-6)
    mean = with_gaps(whole).age.iloc[exported["gaps"].rows["train"]].mean()
    gap, filled = model.predict(some.assign(age=np.nan)), model.predict(some.assign(age=mean))
    np.testing.assert_allclose(gap.prediction, filled.prediction, rtol=1e-6)
    assert len(model.predict(whole.head(0))) == 0


def test_rows_that_are_refused(exported: dict, here: MlflowClient) -> None:
    model, whole = mlflow.pyfunc.load_model("models:/whole/1"), houses()
    with pytest.raises(MlflowException, match=r"missing inputs \['area', 'town'\]"):
        model.predict(whole.drop(columns=["area", "town"]))
    with pytest.raises(MlflowException, match=r"column 'age' is missing in 20 of 200 rows.*data.missing=mean"):
        model.predict(with_gaps(whole).assign(town="Bonn"))
    with pytest.raises(MlflowException, match=r"column 'town' is missing in 20 of 200 rows"):
        model.predict(with_gaps(whole).assign(age=1.5))
    with pytest.raises(MlflowException, match=r"column 'area' is infinite in 200 of 200 rows"):
        model.predict(whole.assign(area=np.inf))


@pytest.mark.parametrize("data", ["diabetes", "breast_cancer", "digits", "d2l"])
def test_coefficients_in_the_users_units_reproduce_the_outputs(data: str, tmp_path: Path) -> None:
    training = build(config(f"data={data}", "trainer.precision=64-true", "trainer.max_epochs=2"), tmp_path)
    training.run()
    datamodule, model = training.datamodule, training.module.model
    table = pd.DataFrame(coefficients(datamodule, model))
    assert list(table) == ["output", "feature", "weight", "coefficient", "exchangeable"]
    if data == "d2l":
        raw = datamodule.parts["val"].x
        np.testing.assert_allclose(table.coefficient, table.weight)
    else:
        loaded = datamodule.load()
        rows = datamodule.split.parts(Rows(loaded.target, loaded.class_names))
        raw = loaded.features.iloc[rows["val"]].to_numpy()
    own = table.coefficient.to_numpy().reshape(model.out_features, -1)
    with torch.no_grad():
        output = model(torch.from_numpy(datamodule.parts["val"].x)).numpy() * datamodule.scale + datamodule.center
    np.testing.assert_allclose(raw @ own[:, :-1].T + own[:, -1], output, rtol=1e-9, atol=1e-9)
    outputs = {"diabetes": [""], "d2l": [""], "breast_cancer": ["benign"], "digits": list("0123456789")}
    assert list(table.output.unique()) == outputs[data]
    biases = table[table.feature == "(intercept)"]
    np.testing.assert_array_equal(biases.weight, model.bias.detach())
    other = {name: 2 * value for name, value in model.named_parameters()}
    np.testing.assert_allclose(coefficients(datamodule, model, other)["weight"], 2 * table.weight)


def test_only_a_linear_model_has_coefficients(tmp_path: Path) -> None:
    training = build(config("model=mlp"), tmp_path)
    assert coefficients(training.datamodule, training.module.model) is None


TABLE = dict(config("data=table").data)
COLUMNS = {
    "number": st.floats(-1e6, 1e6) | st.none(),
    "integer": st.integers(-1000, 1000),
    "boolean": st.booleans(),
    "text": st.sampled_from(["a", "b", "", "1", "missing", "é"]) | st.none(),
    "switch": st.booleans() | st.none(),
}


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    rows = draw(st.integers(8, 30))
    kinds = draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=5))
    columns = {
        f"{kind}{k}": pd.Series(
            draw(st.lists(COLUMNS[kind], min_size=rows, max_size=rows)),
            dtype={"number": "float64", "integer": "int64", "boolean": "bool"}.get(kind, "object"),
        )
        for k, kind in enumerate(kinds)
    }
    return pd.DataFrame(columns | {"y": np.arange(rows) ** 2 / 7})


def module_of(path: Path, **changes: object) -> DataModule:
    arguments = {name: value for name, value in TABLE.items() if name != "_target_"}
    data = TableFile(**arguments | {"path": str(path), "target": "y", "order_seed": 0} | changes)
    data.setup()
    return data


@given(frame=tables(), standardize=st.booleans(), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_serving_prepares_rows_as_training_did(tmp_path_factory, frame: pd.DataFrame, standardize, seed: int) -> None:
    path = tmp_path_factory.mktemp("table") / "table.parquet"
    frame.to_parquet(path)
    try:
        data = module_of(path, missing="mean", standardize=standardize, seed=seed)
    except InputError:  # a column of gaps alone
        return
    prepare = Recipe.from_json(json.loads(json.dumps(preprocessing(data, torch.float32))))
    rows = data.split.parts(Rows(data.load().target))
    raw = pd.read_parquet(path)[list(reversed(frame.columns))]
    for name, part in data.parts.items():
        np.testing.assert_array_equal(prepare(raw.iloc[rows[name]]), part.x)


def test_images_are_refused_in_words(tmp_path: Path) -> None:
    training = build(config("data=digits_images", "data.flat=false", "model=cnn"), tmp_path)
    with pytest.raises(InputError, match="images are none"):
        write_model(training.datamodule, training.module.model, tmp_path / "model")
