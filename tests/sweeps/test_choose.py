"""From a person's own file to the λ to take and the model to take away, by one command."""

import json
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from conftest import runs, train_py
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from shrinkage.names import in_markdown
from shrinkage.report import __main__ as report

pytestmark = pytest.mark.xdist_group("choose")  # one sweep, or training, for all of them

FOLDS, POINTS, PENALTIES = 3, 3, ("l1", "l2", "elastic_net")


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = np.random.default_rng(0)
    area, town, noise = draw.uniform(40, 200, 150), draw.choice(["Bonn", "Köln"], 150), draw.normal(size=(150, 3))
    price = 2000 * area + 30_000 * (town == "Köln") + draw.normal(0, 20_000, 150)
    path = tmp_path_factory.mktemp("data") / "houses.csv"
    pd.DataFrame(noise, columns=["a", "b", "c"]).assign(area=area, town=town, price=price).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def chosen(houses: Path) -> tuple[str, Path, list[Run]]:
    """What the command printed, its store and the runs in it."""
    store = houses.parent / "mlflow.db"
    done = train_py(
        "experiment=choose", f"data.path={houses}", "data.target=price", f"hydra.sweeper.num={POINTS}", "refit=1se",
        f"data.folds={FOLDS}", f"data.fold=range({FOLDS})",
        "hydra.sweep.dir=here", cwd=houses.parent, store=store,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, store, runs(store)


def role(run: Run) -> str:
    if "mlflow.parentRunId" not in run.data.tags:
        return "parent"
    return "refit" if run.data.params["data.refit"] == "True" else "child"


def test_every_penalty_has_its_path_over_the_same_folds(chosen: tuple[str, Path, list[Run]]) -> None:
    children = [run for run in chosen[2] if role(run) == "child"]
    assert len(children) == FOLDS * POINTS * len(PENALTIES)
    assert {run.info.status for run in chosen[2]} == {"FINISHED"}
    grids = {(run.data.params["penalty"], run.data.params["data.fold"]): set() for run in children}
    for run in children:
        grids[run.data.params["penalty"], run.data.params["data.fold"]].add(run.data.metrics["lambd"])
        assert run.data.metrics["optimum/duality_gap"] <= 1e-6
        # Who chooses by folds has not looked at the test rows.
        assert not any(name.startswith("test/") for name in run.data.metrics)
    assert all(grids[penalty, fold] == grids[penalty, "0"] for penalty, fold in grids)
    assert grids["l1", "0"] != grids["l2", "0"] and max(grids["l2", "0"]) > 100 * max(grids["l1", "0"])


def test_the_parent_tells_the_answer(chosen: tuple[str, Path, list[Run]]) -> None:
    output, store, everyone = chosen
    (parent,) = [run for run in everyone if role(run) == "parent"]
    folder = store.parent / "here"
    answer = json.loads((folder / "answer.json").read_text())
    assert answer["sentence"] in output
    assert in_markdown(answer["sentence"]) in parent.data.tags["mlflow.note.content"]
    assert float(parent.data.tags["lambd.1se"]) == answer["lambd.1se"] >= answer["lambd.min"]
    assert len(answer["settings"]) == 3 and len(answer["comparisons"]) == 2
    assert parent.data.metrics["val/loss"] == pytest.approx(answer["settings"][0]["mean"])
    files = {file.path for file in MlflowClient(f"sqlite:///{store}").list_artifacts(parent.info.run_id)}
    assert files >= {"report.html", "runs.csv", "answer.json", "validation.png", "coefficients.png"}


def test_the_model_to_take_away(chosen: tuple[str, Path, list[Run]], houses: Path) -> None:
    output, store, everyone = chosen
    (refit,) = [run for run in everyone if role(run) == "refit"]
    assert {"test/loss", "test/r2"} <= set(refit.data.metrics) and "val/loss" not in refit.data.metrics
    assert f"test/r2 {refit.data.metrics['test/r2']:.4g}" in output and "models:/houses/1" in output
    assert refit.data.tags["data.rows.train"] == "120" and refit.data.tags["data.rows.test"] == "30"
    frame = pd.read_csv(houses)
    mlflow.set_tracking_uri(f"sqlite:///{store}")
    predicted = mlflow.pyfunc.load_model("models:/houses/1").predict(frame.drop(columns="price"))["prediction"]
    table = pd.read_csv(store.parent / "here/refit/coefficients.csv").set_index("feature")["coefficient"]
    raw = frame.assign(**{f"town_{town}": frame["town"] == town for town in ("Bonn", "Köln")}).astype({"area": float})
    by_hand = table["(intercept)"] + sum(table[name] * raw[name] for name in table.index if name != "(intercept)")
    np.testing.assert_allclose(predicted, by_hand, rtol=1e-5)
    assert np.corrcoef(predicted, frame["price"])[0, 1] > 0.9


def test_coin_flips_are_answered_by_a_constant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The path's top is λ_max of all rows but the test rows, where some folds still keep a weight; read from the store
    the answer has the same words."""
    draw, store = np.random.default_rng(1), tmp_path / "mlflow.db"
    table = pd.DataFrame(draw.normal(size=(200, 40))).add_prefix("x")
    table.assign(y=np.where(draw.random(200) < 0.5, "heads", "tails")).to_csv(tmp_path / "coins.csv", index=False)
    done = train_py(
        "experiment=choose", "data.path=coins.csv", "data.target=y", "hydra.sweeper.num=3", "penalty=l1",
        "data.folds=3", "data.fold=range(3)", "refit=1se", "hydra.sweep.dir=here", cwd=tmp_path, store=store,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads((tmp_path / "here/answer.json").read_text())
    assert answer["sentence"].startswith("No feature helps here: the model is a constant (its val/loss 0.69")
    assert answer["sentence"] in done.stdout and "beyond" not in done.stdout and answer["warnings"] == []
    assert answer["refit"] == {"lambd": answer["lambd.1se"], "zeros": 1.0} and answer["settings"][0]["zeros"] < 1
    weights = pd.read_csv(tmp_path / "here/refit/coefficients.csv").set_index("feature")["weight"]
    assert (weights.drop("(intercept)") == 0).all()
    (parent,) = [run for run in runs(store) if role(run) == "parent"]
    again = ["report", parent.info.run_id, "--store", f"sqlite:///{store}", "--out", str(tmp_path / "again")]
    monkeypatch.setattr(sys, "argv", again)
    report.main()
    assert json.loads((tmp_path / "again/answer.json").read_text()) == answer
    assert answer["sentence"] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lambd=1,2"], "hydra/sweeper=path chooses the λ's itself"),
        (["hydra.sweeper.num=1"], "hydra.sweeper.num=1: must be a whole number ≥ 2"),
        (
            ["hydra.sweeper.ratio=2"],
            "hydra.sweeper.ratio=2: the smallest λ as a share of the largest must be > 0 and < 1",
        ),
    ],
)
def test_what_is_no_path_is_refused_in_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = train_py("-m", "hydra/sweeper=path", *arguments, "tracking=none", cwd=tmp_path, store=tmp_path / "none")
    assert done.returncode == 1 and message in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_rates_with_weights_a_kept_column_and_a_category_as_a_group_end_as_a_model(tmp_path: Path) -> None:
    """Counts of an exposure, rows that count more, a column that no penalty holds: the model predicts what it did."""
    random, store = np.random.default_rng(0), tmp_path / "mlflow.db"
    frame = pd.DataFrame({"age": random.normal(40, 10, 120), "noise": random.normal(size=120)})
    frame["town"] = random.choice(["Aachen", "Bonn", "Köln"], 120)
    frame["years"], frame["w"] = random.uniform(0.5, 3, 120), random.integers(0, 4, 120)
    frame["claims"] = random.poisson(frame["years"] * np.exp(0.03 * (frame["age"] - 40)))
    frame.to_csv(tmp_path / "claims.csv", index=False)
    done = train_py(
        "experiment=choose", "data.path=claims.csv", "data.target=claims", "task=poisson", "data.weight=w",
        "data.exposure=years", "penalty=group_lasso", "penalty.factor={age: 0}", "hydra.sweeper.max=1",
        "hydra.sweeper.ratio=0.1", "hydra.sweeper.num=2", "data.folds=2", "data.fold=range(2)", "refit=min",
        "export=claims", "trainer.precision=64-true", "trainer.max_epochs=20", "hydra.sweep.dir=here",
        cwd=tmp_path, store=store,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    weights = pd.read_csv(tmp_path / "here/refit/coefficients.csv").set_index("feature")
    weights, logs = weights["weight"], weights["coefficient"]
    towns = [name for name in weights.index if name.startswith("town_")]
    assert weights["age"] != 0 and len(towns) == 3 and (weights[towns] == 0).all() == (weights[towns] == 0).any()
    raw = frame.assign(**{name: (frame["town"] == name.removeprefix("town_")) for name in towns})
    by_hand = logs["(intercept)"] + sum(logs[name] * raw[name] for name in ["age", "noise", *towns])
    mlflow.set_tracking_uri(f"sqlite:///{store}")
    predicted = mlflow.pyfunc.load_model("models:/claims/1").predict(frame.drop(columns=["claims", "w"]))["prediction"]
    np.testing.assert_allclose(predicted, np.exp(by_hand) * frame["years"], rtol=1e-6)
    answer = json.loads((tmp_path / "here/answer.json").read_text())
    tags = [run.data.tags["data.weight.val"] for run in runs(store) if role(run) == "child"]
    train = frame["w"].sum() - float(
        next(run for run in runs(store) if role(run) == "refit").data.tags["data.weight.test"]
    )
    assert sum(map(float, set(tags))) == train and answer["metric"] == "val/loss"


@pytest.mark.parametrize(("target", "task"), [("months", "cox"), ("height,weight", "multi_regression")])
def test_times_until_events_and_several_targets_end_as_a_model(target: str, task: str, tmp_path: Path) -> None:
    """The served model predicts relative risks, or each target in its own units, from rows as they are in the file."""
    random, store = np.random.default_rng(0), tmp_path / "mlflow.db"
    frame = pd.DataFrame({"age": random.normal(40, 10, 160), "noise": random.normal(size=160)})
    frame["town"] = random.choice(["Aachen", "Bonn", "Köln"], 160)
    size = (frame["age"] - 40) / 10 + (frame["town"] == "Köln")
    given, events = target.split(","), []
    if task == "cox":
        frame["months"], events = np.ceil(5 * random.exponential(np.exp(-size))), ["data.event=died"]
        frame["died"] = (random.random(160) < 0.7).astype(int)
        given.append("died")
    else:
        frame["height"], frame["weight"] = 170 + 5 * size + random.normal(size=160), 70 - size + random.normal(size=160)
    frame.to_csv(tmp_path / "people.csv", index=False)
    done = train_py(
        "experiment=choose", "data.path=people.csv", f"data.target=[{target}]", *events, f"task={task}", "penalty=l1",
        "hydra.sweeper.num=2", "hydra.sweeper.ratio=0.1", "data.folds=2", "data.fold=range(2)", "refit=min",
        "export=people", "trainer.precision=64-true", "hydra.sweep.dir=here", cwd=tmp_path, store=store,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads((tmp_path / "here/answer.json").read_text())
    assert answer["sentence"].startswith("Take penalty=l1 with λ") and answer["sentence"] in done.stdout
    table = pd.read_csv(tmp_path / "here/refit/coefficients.csv", keep_default_na=False)
    rows = frame.drop(columns=given)
    raw = rows.assign(**{f"town_{town}": frame["town"] == town for town in ("Aachen", "Bonn", "Köln")})
    raw = raw.drop(columns="town").astype(float)
    mlflow.set_tracking_uri(f"sqlite:///{store}")
    predicted = mlflow.pyfunc.load_model("models:/people/1").predict(rows)
    outputs = [""] if task == "cox" else given
    assert list(predicted) == [f"prediction_{name}" if name else "prediction" for name in outputs]
    for name, column in zip(outputs, predicted, strict=True):
        own = table[table["output"] == name].set_index("feature")["coefficient"]
        assert own["age"] != 0
        by_hand = own["(intercept)"] + raw @ own[raw.columns]
        np.testing.assert_allclose(predicted[column], np.exp(by_hand) if task == "cox" else by_hand, rtol=1e-6)
    (refit,) = [run for run in runs(store) if role(run) == "refit"]
    assert f"test/{'concordance' if task == 'cox' else 'r2.height'}" in refit.data.metrics
