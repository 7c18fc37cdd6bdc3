"""Several columns to predict: read, standardised each by itself, certified, measured, and served under their names."""

from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from conftest import config
from mlflow.models import Model

import shrinkage
from shrinkage.errors import InputError
from shrinkage.runs.export import coefficients, write_model
from shrinkage.tracking.logged_model import save
from shrinkage.training.run import Training, build
from shrinkage.training.workshop import make

EXACT = ("trainer=exact", "tracking=none", "progress=false", "trainer.precision=64-true")


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """90 rows of which two numbers follow from three of five columns, in units of their own, and a weight."""
    random = np.random.default_rng(0)
    x = random.normal(size=(90, 5))
    both = x[:, :3] @ random.normal(size=(3, 2)) + 0.3 * random.normal(size=(90, 2))
    frame = pd.DataFrame(x, columns=list("abcde")).assign(height=170 + 10 * both[:, 0], weight=70 + both[:, 1])
    frame["town"], frame["w"] = random.choice(["Bonn", "Köln"], 90), random.integers(0, 4, 90)
    frame.to_csv(tmp_path / "people.csv", index=False)
    return tmp_path / "people.csv"


def run_of(path: Path, *overrides: str) -> Training:
    own = (f"data.path={path}", "data.target=[height,weight]", "data.drop=[town]")
    training = build(config("data=table", *own, *EXACT, *overrides), path.parent)
    training.run()
    return training


def test_a_feature_stays_for_all_targets_or_for_none_and_each_is_served(people: Path) -> None:
    training = run_of(people, "data.weight=w", "penalty=group_lasso", "penalty.factor={a: 0}", "lambd=0.1")
    data, module, measured = training.datamodule, training.module, training.module.measured
    weight = module.parameters_by_name()["weight"].numpy()
    assert (weight[:, 0] != 0).all() and ((weight == 0).all(axis=0) == (weight == 0).any(axis=0)).all()
    assert (weight == 0).all(axis=0).any() and training.conclusion["optimum/duality_gap"] <= 1e-12

    frame = pd.read_csv(people)
    write_model(data, module.model, people.parent / "model")
    save(people.parent / "model", people.parent / "mlflow", Model())
    rows = frame.drop(columns=["height", "weight", "w", "town"])
    found = mlflow.pyfunc.load_model(str(people.parent / "mlflow")).predict(rows)
    assert list(found) == ["prediction_height", "prediction_weight"]
    table = pd.DataFrame(coefficients(data, module.model)).set_index(["output", "feature"])["coefficient"]
    val = frame[frame["w"] > 0].reset_index(drop=True).iloc[data.rows["val"]]
    for target in ("height", "weight"):
        by_hand = table[target, "(intercept)"] + rows.dot(table[target].drop("(intercept)").reindex(rows.columns))
        np.testing.assert_allclose(found[f"prediction_{target}"], by_hand, rtol=1e-9)
        left = val[target] - found[f"prediction_{target}"][frame["w"] > 0].reset_index(drop=True)[data.rows["val"]]
        assert measured[f"val/mse.{target}"] == pytest.approx(np.average(left**2, weights=val["w"]), rel=1e-9)
        around = np.average((val[target] - np.average(val[target], weights=val["w"])) ** 2, weights=val["w"])
        assert measured[f"val/r2.{target}"] == pytest.approx(1 - measured[f"val/mse.{target}"] / around, rel=1e-9)
    scaled = [measured[f"val/mse.{name}"] / scale**2 for name, scale in zip(data.target_names, data.scale, strict=True)]
    assert measured["val/mse"] == pytest.approx(np.mean(scaled)) == measured["val/loss"]


def test_each_target_is_a_regression_of_its_own_under_l1(people: Path) -> None:
    both = run_of(people, "penalty=l1", "lambd=0.05").module.parameters_by_name()["weight"]
    for place, (target, other) in enumerate([("height", "weight"), ("weight", "height")]):
        alone = run_of(people, "penalty=l1", "lambd=0.05", f"data.target={target}", f"data.drop=[town,{other}]")
        np.testing.assert_allclose(both[place], alone.module.parameters_by_name()["weight"][0], rtol=0, atol=1e-10)


def test_a_pair_of_arrays_may_have_several_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By steps, and with the same numbers as the exact solution has after a polish."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(1)
    x = random.normal(size=(40, 3))
    y = x @ random.normal(size=(3, 2)) + [5, -5]
    run = shrinkage.fit(
        "penalty=l2", "lambd=0.001", "tracking=none", "progress=false", "trainer.max_epochs=2", "polish=300",
        "trainer.precision=64-true", data=(x, y),
    )  # fmt: skip
    assert run.metrics["optimum/duality_gap"] < 1e-9
    found = run.predict(x)
    assert list(found) == ["prediction_y0", "prediction_y1"] and np.abs(found.to_numpy() - y).max() < 0.1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.target=[height,height]"], "must be a column, or several different ones"),
        (["data.target=[]"], "must be a column, or several different ones"),
        (["data.target=[height,size]"], "data.target=size"),
        (["data.target=[height,town]"], "data.target=town data.task=regression: the column has text"),
        (["data.target=[height,weight]", "data.drop=[height]"], "data.target and data.drop are both height"),
        (
            ["data.target=[height,weight]", "data.offset=w"],
            "data.offset=w: it is added to one output, and each of the 2",
        ),
        (["data.target=[height,weight]", "data.task=classification"], "data.target names 2 columns, and classes"),
        (["data.target=[height,weight]", "data.class_weight=balanced"], "data.target=[height,weight] is a number"),
        (
            ["data.target=[height,weight]", "task=poisson"],
            "data.target: it names 2 columns, and the task Poisson predicts one",
        ),
        (["data.target=[height,weight]", "task=huber"], "data.target: it names 2 columns, and the task Huber"),
        (["data.target=height", "task=multi_regression"], "task=multi_regression: it predicts several columns"),
        (["data.target=[height,weight]", "metrics=[rmse]"], "metrics=rmse: it measures predictions of numbers"),
    ],
)
def test_what_several_targets_cannot_have_is_refused_in_one_message(
    people: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        build(config("data=table", f"data.path={people}", *EXACT, "penalty=l1", *overrides), people.parent)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_gaps_and_constants_of_any_target_are_told(people: Path) -> None:
    frame = pd.read_csv(people)
    frame.loc[3, "weight"] = np.nan
    frame.to_csv(people, index=False)

    def data_of(*overrides: str) -> object:
        data = make(config("data=table", f"data.path={people}", "data.drop=[town]", *overrides).data, order_seed=0)
        data.setup()
        return data

    with pytest.raises(InputError, match=r"data\.target=weight is missing in 1 of 90 rows"):
        data_of("data.target=[height,weight]")
    kept = data_of("data.target=[height,weight]", "data.missing_target=drop")
    assert sum(len(part.y) for part in kept.parts.values()) == 89
    frame.assign(weight=1.0, same=1.0).to_csv(people, index=False)
    with pytest.raises(InputError, match=r"data.target=same: it is 1.0 in every row"):
        data_of("data.target=[height,same]")
