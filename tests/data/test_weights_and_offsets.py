"""Weights and offsets of a table's rows: equal to copies, the same in training and in the served model, or refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import config
from mlflow.exceptions import MlflowException
from sklearn.utils.class_weight import compute_class_weight
from test_serving import served

from shrinkage.data.base import Batch, DataModule
from shrinkage.data.row_terms import weigh_classes
from shrinkage.errors import InputError
from shrinkage.tasks.regression import Regression
from shrinkage.training.run import Training, build
from shrinkage.training.workshop import make

FULL = ("tracking=none", "progress=false", "trainer.precision=64-true", "data.batch_size=null", "data.split=part")


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """60 rows of numbers with a gap, a town, a whole weight that may be 0, an exposure, counts, and their parts."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"age": random.normal(40, 10, 60), "dose": random.normal(size=60)})
    frame["town"] = random.choice(["Aachen", "Bonn", "Köln"], 60)
    frame["w"] = np.arange(60) % 4
    frame["years"] = random.uniform(0.5, 3, 60)
    frame["y"] = random.poisson(2 * frame["years"]).astype(float)
    frame["part"] = np.where(np.arange(60) % 5 == 1, "val", "train")
    frame.loc[3, "age"] = np.nan
    return frame


def copies(rows: pd.DataFrame) -> pd.DataFrame:
    """Each row as often as its weight says."""
    return rows.loc[rows.index.repeat(rows["w"])].reset_index(drop=True)


def data_of(frame: pd.DataFrame, folder: Path, *overrides: str) -> DataModule:
    frame.to_csv(folder / "rows.csv", index=False)
    own = [f"data.path={folder / 'rows.csv'}", "data.target=y", "data.missing=mean", "data.task=regression"]
    data = make(config("data=table", *own, *overrides).data, order_seed=0)
    data.setup()
    return data


def run_of(frame: pd.DataFrame, folder: Path, *overrides: str) -> Training:
    folder.mkdir()
    frame.to_csv(folder / "rows.csv", index=False)
    own = [f"data.path={folder / 'rows.csv'}", "data.target=y", "data.missing=mean", "data.task=regression"]
    training = build(config("data=table", *own, *FULL, *overrides), folder)
    training.run()
    return training


def test_whole_weights_are_copies_of_rows_and_a_weight_of_0_is_a_missing_row(
    rows: pd.DataFrame, tmp_path: Path
) -> None:
    weighted = data_of(rows, tmp_path, "data.split=part", "data.weight=w")
    copied = data_of(copies(rows).drop(columns="w"), tmp_path, "data.split=part")
    assert weighted.feature_names == copied.feature_names
    assert (weighted.center, weighted.scale) == pytest.approx((copied.center, copied.scale), rel=1e-12)
    for name, part in weighted.parts.items():
        assert part.weight is not None
        times = np.round(part.weight * rows.loc[rows["part"].eq("train") & rows["w"].gt(0), "w"].mean()).astype(int)
        np.testing.assert_allclose(part.x.repeat(times, axis=0), copied.parts[name].x, rtol=0, atol=1e-10)
        np.testing.assert_allclose(part.y.repeat(times), copied.parts[name].y, rtol=0, atol=1e-10)
    assert weighted.tags["data.weight.val"] == str(float(rows.loc[rows["part"] == "val", "w"].sum()))
    assert any("15 of 60 rows, whose weight is 0" in note for note in weighted.notes)
    plain = data_of(rows, tmp_path, "data.split=part", "data.drop=[w]")
    assert all(part.weight is None and part.offset is None for part in plain.parts.values())
    assert len(plain.tensors("train")[:]) == 2


@pytest.mark.parametrize("task", ["regression", "poisson"])
def test_a_training_with_weights_is_one_of_copies(task: str, rows: pd.DataFrame, tmp_path: Path) -> None:
    """Steps over all rows, metrics of every part, λ_max and the certificate."""
    asked = [f"task={task}", "trainer.max_epochs=3", "penalty=l1", "lambd=0.01", "metrics=[]", "data.exposure=years"]
    ours = run_of(rows, tmp_path / "weights", *asked, "data.weight=w")
    theirs = run_of(copies(rows).drop(columns="w"), tmp_path / "copies", *asked)
    for name, value in theirs.module.parameters_by_name().items():
        torch.testing.assert_close(ours.module.parameters_by_name()[name], value, rtol=1e-8, atol=1e-8)
    assert ours.module.measured == pytest.approx(theirs.module.measured, rel=1e-8, abs=1e-12)
    known = {name: theirs.conclusion[name] for name in ("optimum/lambda_max", "optimum/duality_gap", "optimum/kkt")}
    assert {name: ours.conclusion[name] for name in known} == pytest.approx(known, rel=1e-8)


def test_the_batches_of_an_epoch_have_the_weighted_mean_as_their_mean(rows: pd.DataFrame, tmp_path: Path) -> None:
    training = run_of(rows, tmp_path / "run", "data.weight=w", "trainer.max_epochs=1", "lambd=0")
    module, data = training.module, training.datamodule
    data.batch_rows = 6  # of 36
    drawn = [Batch(*batch) for batch in data.train_dataloader()]
    losses = [module.loss(module.penalty, 0.0, {}, module.predict(each), each.y, each.weight) for each in drawn]
    assert [len(each.y) for each in drawn] == [6] * 6
    assert torch.stack(losses).mean().item() == pytest.approx(module.measured["train/loss"], rel=1e-10)


@pytest.mark.parametrize("weights", [None, np.array([1.0, 3.0, 2.0, 2.0, 1.0])])
def test_balanced_classes_have_the_same_total(weights: np.ndarray | None) -> None:
    codes = np.array([0, 0, 1, 2, 2])
    found = weigh_classes("balanced", ("a", "b", "c"), codes, weights)
    totals = np.bincount(codes, found[codes] * (1 if weights is None else weights))
    np.testing.assert_allclose(totals, totals.mean())
    if weights is None:
        np.testing.assert_allclose(found, compute_class_weight("balanced", classes=np.arange(3), y=codes))


def test_class_weights_multiply_those_of_rows(rows: pd.DataFrame, tmp_path: Path) -> None:
    frame = rows.assign(y=np.where(np.arange(60) % 6 == 0, "yes", "no"), w=1 + np.arange(60) % 4)
    asked = ("data.task=classification", "data.split=part", "data.weight=w", "data.class_weight={yes: 5}")
    data = data_of(frame, tmp_path, *asked)
    train = frame[frame["part"] == "train"]
    expected = train["w"] * np.where(train["y"] == "yes", 5, 1)
    np.testing.assert_allclose(data.parts["train"].weight, expected / expected.mean())


@pytest.mark.parametrize(("key", "link"), [("offset", "identity"), ("exposure", "log")])
def test_a_served_model_takes_the_offset_of_each_row(key: str, link: str, rows: pd.DataFrame, tmp_path: Path) -> None:
    data = data_of(rows, tmp_path, "data.split=part", "data.drop=[w]", f"data.{key}=years")
    assert "years" not in data.feature_names
    model, network = served(data, tmp_path, link=link)
    predicted = model.predict(rows)["prediction"].to_numpy()
    output = network(torch.from_numpy(data.recipe()(rows))).detach().numpy()[:, 0] * data.scale + data.center
    by_hand = output + rows["years"] if key == "offset" else np.exp(output) * rows["years"]
    np.testing.assert_allclose(predicted, by_hand, rtol=1e-12)
    train = rows["part"] == "train"
    shift = rows.loc[train, "years"] if key == "offset" else np.log(rows.loc[train, "years"])
    np.testing.assert_allclose(data.parts["train"].offset * data.scale, shift, rtol=1e-12)
    with pytest.raises(MlflowException, match="years"):
        model.predict(rows.drop(columns="years"))
    with pytest.raises(MlflowException, match="'years' is missing in 1 of 60 rows"):
        model.predict(rows.assign(years=rows["years"].where(rows.index != 7)))
    if key == "exposure":
        with pytest.raises(MlflowException, match="must be above 0, and is -1 in 60 of 60 rows"):
            model.predict(rows.assign(years=-1.0))


@pytest.mark.parametrize(
    ("overrides", "change", "message"),
    [
        (["data.weight=w"], {"w": -1}, "data.weight=w: it is negative in 60 of 60 rows, such as -1"),
        (["data.weight=w"], {"w": 0}, "data.weight=w: it is 0 in every row"),
        (["data.weight=w"], {"w": "many"}, "data.weight=w: the column has no numbers, but values such as 'many'"),
        (["data.weight=ww"], {}, "did you mean data.weight=w?"),
        (["data.weight=w", "data.offset=w"], {}, "a column has one use"),
        (["data.weight=age"], {}, "it is missing in 1 of 60 rows, and no row can be weighed without it"),
        (["data.offset=w", "data.exposure=years"], {}, "data.offset and data.exposure"),
        (["data.exposure=w"], {"w": 0}, "data.exposure=w: column 'w' is an exposure, which must be above 0, and is 0"),
        (["data.class_weight=balanced"], {}, "data.target=y is a number and has no classes"),
        (["data.class_weight=even"], {}, "data.class_weight=even: must be balanced, or a number above 0"),
        (["data.class_weight={a: 0}"], {}, "must be balanced, or a number above 0"),
        (
            ["data.class_weight={town: 2}", "data.task=classification"],
            {"y": ["a", "b", "towns"] * 20},
            "'town' is no class; there are a, b, towns; did you mean towns?",
        ),
        (
            ["data.offset=years", "data.task=classification"],
            {"y": ["a", "b", "c"] * 20},
            "of 3 classes each has an output of its own",
        ),
    ],
)
def test_what_no_row_can_have_is_refused(
    overrides: list[str], change: dict, message: str, rows: pd.DataFrame, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as refused:
        data_of(rows.assign(**change), tmp_path, *overrides)
    assert message in str(refused.value)


def test_parts_of_ones_own_that_leave_weights_out_are_refused(rows: pd.DataFrame, tmp_path: Path) -> None:
    data = data_of(rows, tmp_path, "data.weight=w")
    data.parts = {name: type(part)(part.x, part.y) for name, part in data.parts.items()}
    with pytest.raises(InputError, match="TableFile makes parts of its own and leaves it out"):
        data.check_terms()


class WithoutWeights(Regression):
    """A task from outside whose best bias knows nothing of weights."""

    def best_bias(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (target[:, None] - output).mean(dim=0)


def test_a_task_whose_best_bias_takes_no_weights_is_told_so(rows: pd.DataFrame, tmp_path: Path) -> None:
    """A training by steps goes on without a certificate, and an exact one is refused."""
    own = ("task._target_=test_weights_and_offsets.WithoutWeights.for_target", "penalty=l1", "trainer.max_epochs=1")
    assert "optimum/duality_gap" in run_of(rows, tmp_path / "a", *own).conclusion
    weighted = run_of(rows, tmp_path / "b", *own, "data.weight=w")
    assert "optimum/duality_gap" not in weighted.conclusion and "takes none" in str(weighted.why_not)
    with pytest.raises(
        InputError, match=r"rows have weights, and best_bias of WithoutWeights takes none.*third argument"
    ):
        exact = ("trainer=exact", "tracking=none", "progress=false", *own[:2], "data.weight=w")
        path = f"data.path={tmp_path / 'a/rows.csv'}"
        build(
            config("data=table", path, "data.target=y", "data.task=regression", "data.missing=mean", *exact), tmp_path
        )
