"""Times until an event, read from a table: scored beside the training rows, ranked, served as risks, or refused."""

from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, config
from mlflow.models import Model

from shrinkage.errors import InputError
from shrinkage.runs.export import coefficients, write_model
from shrinkage.tasks.cox import Cox
from shrinkage.tasks.metrics.concordance import Concordance
from shrinkage.tracking.logged_model import save
from shrinkage.tracking.outcome import Outcome
from shrinkage.training.run import Training, build

EXACT = ("trainer=exact", "tracking=none", "progress=false", "trainer.precision=64-true")


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    rows = np.loadtxt(ROOT / "tests/optimum/glmnet/cox_rows.csv.gz", delimiter=",")
    names = [*(f"x{place}" for place in range(8)), "months", "died", "fold"]
    pd.DataFrame(rows, columns=names).to_csv(tmp_path / "patients.csv", index=False)
    return tmp_path / "patients.csv"


def run_of(path: Path, *overrides: str, chosen: tuple[str, ...] = EXACT) -> Training:
    own = (f"data.path={path}", "data.target=months", "data.event=died", "penalty=l1")
    training = build(config("data=table", *own, *chosen, *overrides), path.parent)
    training.run()
    return training


def test_the_curve_and_its_errors_are_those_of_cv_glmnet(patients: Path) -> None:
    """Each fold counts by its events, and is scored by the loss of all rows less that of its training rows."""
    theirs = np.loadtxt(ROOT / "tests/optimum/glmnet/cox_folds.csv.gz", delimiter=",")
    theirs = theirs[theirs[:, 0] == 1][::6]
    folds = ("data.fold_column=fold", "data.folds=5", "data.standardize=false")
    scores, weights = np.zeros((5, len(theirs))), np.zeros(5)
    for fold in range(5):
        for place, lambd in enumerate(theirs[:, 1]):
            training = run_of(patients, *folds, f"data.fold={fold}", f"lambd={float(lambd)!r}")
            scores[fold, place] = 2 * training.module.measured["val/loss"]
        weights[fold] = float(training.datamodule.tags["data.weight.val"])
    mean = weights @ scores / weights.sum()
    error = np.sqrt(weights @ (scores - mean) ** 2 / weights.sum() / 4)
    np.testing.assert_allclose(mean, theirs[:, 2], rtol=1e-6)
    np.testing.assert_allclose(error, theirs[:, 3], rtol=1e-6)


def test_steps_over_all_rows_come_to_what_is_solved_and_the_risk_is_served(patients: Path) -> None:
    steps = ("tracking=none", "progress=false", "trainer.precision=64-true", "data.batch_size=null", "optimizer.lr=0.3")
    solved = run_of(patients, "lambd=0.05", "data.test=0.2")
    trained = run_of(patients, "lambd=0.05", "data.test=0.2", "task=cox", "trainer.max_epochs=300", chosen=steps)
    weights = [each.module.parameters_by_name()["weight"].numpy() for each in (solved, trained)]
    np.testing.assert_allclose(weights[1], weights[0], rtol=0, atol=1e-4)
    for name in ("val/loss", "val/concordance", "train/loss"):
        assert trained.module.measured[name] == pytest.approx(solved.module.measured[name], abs=1e-3)
    assert {"test/loss", "test/concordance"} <= set(solved.test)

    data, model = solved.datamodule, solved.module.model
    write_model(data, model, patients.parent / "model", solved.module.task.link)
    save(patients.parent / "model", patients.parent / "mlflow", Model())
    rows = pd.read_csv(patients).drop(columns=["months", "died"])
    found = mlflow.pyfunc.load_model(str(patients.parent / "mlflow")).predict(rows)["prediction"]
    table = pd.DataFrame(coefficients(data, model)).set_index("feature")["coefficient"]
    logs = table["(intercept)"] + rows.dot(table.drop("(intercept)").reindex(rows.columns))
    np.testing.assert_allclose(found, np.exp(logs), rtol=1e-9)


@pytest.mark.parametrize("sparse", ["false", "true"])
def test_strata_are_scored_as_cv_glmnet_scores_them_and_are_no_feature(tmp_path: Path, sparse: str) -> None:
    """Each fold's rows are compared with the training rows of their own stratum, which a column of names tells."""
    rows = np.loadtxt(ROOT / "tests/optimum/glmnet/strata_rows.csv.gz", delimiter=",")
    theirs = np.loadtxt(ROOT / "tests/optimum/glmnet/strata_folds.csv.gz", delimiter=",")
    names = [*(f"x{place}" for place in range(8)), "months", "died", "clinic", "fold"]
    frame = pd.DataFrame(rows, columns=names)
    frame["clinic"] = "clinic " + frame["clinic"].astype(int).astype(str)
    frame.to_csv(tmp_path / "patients.csv", index=False)
    own = (
        "data.fold_column=fold",
        "data.folds=5",
        "data.standardize=false",
        "data.strata=clinic",
        f"data.sparse={sparse}",
    )
    scores, weights = np.zeros((5, len(theirs))), np.zeros(5)
    for fold in range(5):
        for place, lambd in enumerate(theirs[:, 0]):
            training = run_of(tmp_path / "patients.csv", *own, f"data.fold={fold}", f"lambd={float(lambd)!r}")
            scores[fold, place] = 2 * training.module.measured["val/loss"]
        weights[fold] = float(training.datamodule.tags["data.weight.val"])
    np.testing.assert_allclose(weights @ scores / weights.sum(), theirs[:, 1], rtol=1e-6)
    assert training.datamodule.feature_names == tuple(names[:8])
    assert 0.5 < training.module.measured["val/concordance"] <= 1


@pytest.mark.parametrize("has_strata", [False, True])
def test_survival_is_served_at_given_times_and_empty_where_nobody_was_seen_so_long(
    patients: Path, has_strata: bool
) -> None:
    frame = pd.read_csv(patients)
    frame["clinic"] = np.where(frame.index % 3 > 0, "big", "small")
    frame.loc[(frame.clinic == "small") & (frame.months > 3), "months"] = 3.0
    frame.to_csv(patients, index=False)
    strata = ["data.strata=clinic"] if has_strata else ["data.drop=[clinic]"]
    training = run_of(patients, "lambd=0.05", "task=cox", "task.times=[1,3.5]", *strata)
    survival = training.module.survival()
    write_model(training.datamodule, training.module.model, patients.parent / "model", "log", survival)
    save(patients.parent / "model", patients.parent / "mlflow", Model())
    given = pd.concat([frame, frame.head(1).assign(clinic="unknown")]).drop(columns=["months", "died"])
    found = mlflow.pyfunc.load_model(str(patients.parent / "mlflow")).predict(given)
    assert list(found) == ["prediction", "survival_1", "survival_3.5"]
    place = given["clinic"].map({"big": 0, "small": 1, "unknown": 2}) if has_strata else 0 * given["x0"].astype(int)
    for time in (1.0, 3.5):
        expected = [survival.expected(number, time) for number in range(len(survival.steps))]
        hazard = place.map(dict(enumerate(expected))).astype(float)
        np.testing.assert_allclose(found[f"survival_{time:g}"], np.exp(-hazard * found["prediction"]), rtol=1e-9)
    assert found["survival_3.5"].isna().sum() == (51 if has_strata else 0)
    assert found["survival_1"].between(0, 1).sum() >= 150
    outcome = training.outcome(survival)
    assert outcome is not None and len(outcome.series) == (2 if has_strata else 3)
    assert all(each.line[0] == (0.0, 1.0) and each.line[-1][1] < 1 for each in outcome.series)
    assert Outcome.from_json(outcome.as_json()).title == outcome.title


@pytest.mark.parametrize(
    ("change", "overrides", "message"),
    [
        ({"died": [0] * 150}, [], "data.event=died: no row has an event"),
        (
            {"died": [2] + [1] * 149},
            [],
            "data.event=died: it is '2' in a row, and must be 1 where the event was seen, and 0",
        ),
        ({"died": ["yes"] * 150}, [], "data.event=died: it is 'yes' in a row"),
        (
            {"months": [-1.0] + [2.0] * 149},
            [],
            "data.target=months: a time is -1, and times until an event are 0 or more",
        ),
        ({}, ["task=regression"], "data.event: the task Regression knows no events; use task=cox"),
        ({}, ["task=poisson"], "data.event: the task Poisson knows no events"),
        ({}, ["data.event=null", "task=cox"], "task=cox: it needs a column that says which times"),
        ({}, ["data.event=null", "data.strata=x0"], "data.strata=x0: times until an event are compared within strata"),
        (
            {},
            ["data.strata=x0"],
            "data.strata=x0: it parts 150 rows into 150 strata, and none of them has an event",
        ),
        ({"x0": [None] + [1] * 149}, ["data.strata=x0"], "data.strata=x0: it is missing in 1 of 150 rows, and no row"),
        ({}, ["data.strata=clinic"], "data.strata=clinic: "),
        ({}, ["data.strata=x1", "task=regression"], "data.strata=x1: it parts"),
        ({}, ["data.weight=x0"], "data.event=died and data.weight=x0: rows with events have one target"),
        ({}, ["data.target=[months,x0]"], "data.event=died and data.target=[months,x0]"),
        ({}, ["task=cox", "task.ties=exact"], "task.ties=exact: must be breslow or efron"),
        ({}, ["task=cox", "task.times=[12,12]"], "task.times=[12, 12]: must be a list of different times above 0"),
        ({}, ["task=cox", "task.times=3"], "task.times=3: must be a list of different times above 0"),
        ({}, ["task=cox", "task.times=[1e6]"], "no training row was seen longer than until"),
        ({}, ["data.task=classification"], "data.target=months is read as classes"),
        ({}, ["penalty.factor={x0: 0}"], "beside columns of factor 0 no bound is known for Cox"),
        ({}, ["trainer=cpu", "data.batch_size=32"], "data.batch_size=32: the loss of Cox compares each of the"),
        ({}, ["trainer=cpu", "data.batch_size=null", "polish=3"], "polish=3: the loss of Cox is curved without bound"),
    ],
)
def test_what_no_event_can_have_is_refused_in_one_message(
    patients: Path, change: dict[str, list], overrides: list[str], message: str
) -> None:
    pd.read_csv(patients).assign(**change).to_csv(patients, index=False)
    with pytest.raises(InputError) as caught:
        run_of(patients, "lambd=0.1", *overrides)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_several_devices_are_refused() -> None:
    with pytest.raises(InputError, match=r"trainer\.devices: 2 devices share the rows of each part, and Cox compares"):
        Cox().check_devices(2)


def test_the_concordance_is_the_share_of_pairs_in_the_order_of_their_events() -> None:
    random = np.random.default_rng(0)
    risk, time, event = random.integers(0, 5, 40), random.integers(0, 9, 40), random.random(40) < 0.6
    right = pairs = 0.0
    for i in np.flatnonzero(event):
        for j in range(40):
            if time[j] > time[i] or (time[j] == time[i] and not event[j]):
                pairs += 1
                right += (risk[i] > risk[j]) + (risk[i] == risk[j]) / 2
    target = torch.tensor(np.column_stack([time, event]).astype(float))
    assert float(Concordance().value(torch.tensor(risk).double(), target)) == pytest.approx(right / pairs)
