"""Factors on λ and groups by the names of columns: what they are, where they act, and what they refuse."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import config
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkage.errors import InputError
from shrinkage.penalties.base import Penalty
from shrinkage.penalties.elastic_net import ElasticNet
from shrinkage.penalties.group_lasso import GroupLasso
from shrinkage.penalties.l1 import L1
from shrinkage.penalties.l2 import L2
from shrinkage.penalties.none import NoPenalty
from shrinkage.training import objective
from shrinkage.training.run import Training, build
from shrinkage.training.workshop import Workshop

COLUMNS = [("age", "age", "age"), ("dose_a", "dose_a", "dose_a"), ("dose_b", "dose_b", "dose_b")]
COLUMNS += [(f"town_{name}", "town", "town") for name in ("Aachen", "Bonn", "Köln")]
KINDS = {
    "l1": (lambda **own: L1(mode="prox", **own), lambda w: w.abs()),
    "l2": (lambda **own: L2(mode="prox", **own), lambda w: w.square() / 2),
    "net": (lambda **own: ElasticNet(mode="prox", l1_ratio=0.3, **own), lambda w: 0.3 * w.abs() + 0.35 * w.square()),
}


@given(st.sampled_from(sorted(KINDS)), st.integers(0, 1000), st.floats(0.01, 2))
@settings(deadline=None, max_examples=40)
def test_each_column_has_its_own_strength(kind: str, seed: int, lambd: float) -> None:
    """Value, gradient and prox are those of a column alone under its factor times λ; factor 0 is left as it is."""
    make, each = KINDS[kind]
    penalty = make(factor={"age": 0, "dose_*": 2, "town": 0.5}).on_columns(COLUMNS)
    factor = torch.tensor([0, 2, 2, 0.5, 0.5, 0.5], dtype=torch.float64)
    w = torch.randn(2, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    torch.testing.assert_close(objective.value(penalty, {"weight": w}), (factor * each(w)).sum())
    gradient = torch.func.grad(lambda w: (factor * each(w)).sum())(w)
    decayed = objective.decayed(penalty, {"weight": w}, 0.1, lambd)["weight"]
    torch.testing.assert_close(decayed, w - 0.1 * lambd * gradient)
    proxed = objective.proxed(penalty, {"weight": w}, 0.1, lambd)["weight"]
    alone = [make().prox({"weight": w[:, j : j + 1]}, 0.1 * lambd * f)["weight"] for j, f in enumerate(factor)]
    torch.testing.assert_close(proxed, torch.cat(alone, dim=1))
    assert torch.equal(proxed[:, 0], w[:, 0])


def test_the_last_pattern_counts_and_a_feature_may_be_named_by_itself() -> None:
    penalty = L1(mode="loss", factor={"*": 2, "town": 3, "town_Bonn": 0}).on_columns(COLUMNS)
    assert penalty.of_columns == (2, 2, 2, 3, 0, 3) and not penalty.is_plain


def test_a_category_is_one_group_and_a_kept_column_stays() -> None:
    penalty = GroupLasso(mode="prox", by="auto", factor={"age": 0}).on_columns(COLUMNS)
    assert penalty.by == "input" and penalty.members == {"town": [3, 4, 5]}
    w = torch.tensor([[1.0, 0.5, -0.5, 0.1, 0.2, -0.2]])
    expected = 0.5 + 0.5 + np.sqrt(3) * 0.3
    assert float(objective.value(penalty, {"weight": w})) == pytest.approx(expected)
    assert objective.proxed(penalty, {"weight": w}, 1.0, 0.3)["weight"].tolist() == [
        pytest.approx([1.0, 0.2, -0.2, 0.0, 0.0, 0.0])
    ]
    named = GroupLasso(mode="prox", by="auto", members={"doses": ["dose_*"], "place": ["town"]}).on_columns(COLUMNS)
    assert named.members == {"doses": [1, 2], "place": [3, 4, 5]}
    assert GroupLasso(mode="prox", by="auto").on_columns(None).members is None


@pytest.mark.parametrize(
    ("penalty", "columns", "message"),
    [
        (
            L1(mode="loss", factor={"aeg": 0}),
            COLUMNS,
            "penalty.factor: 'aeg' is no column that is learned from; they are",
        ),
        (L1(mode="loss", factor={"aeg": 0}), COLUMNS, "did you mean age?"),
        (L1(mode="loss", factor={"*": 0}), COLUMNS, "every factor is 0"),
        (NoPenalty(mode="loss", factor={"age": 0}), COLUMNS, "there is no penalty for it to multiply"),
        (L1(mode="loss", factor={"age": 0}), None, "only a linear model of named columns"),
        (GroupLasso(mode="prox", by="auto", members={"a": ["twon"]}), COLUMNS, "did you mean town"),
        (GroupLasso(mode="prox", by="auto", members={"a": ["town"], "b": ["town_*"]}), COLUMNS, "is in two groups"),
        (GroupLasso(mode="prox", by="output", members={"a": ["town"]}), COLUMNS, "by penalty.by=input, or auto"),
        (GroupLasso(mode="prox", by="input", members={"a": ["town"]}), None, "only a linear model of named columns"),
    ],
)
def test_a_name_that_no_column_has_is_refused(penalty: Penalty, columns: list | None, message: str) -> None:
    with pytest.raises(InputError) as refused:
        penalty.on_columns(columns)
    assert message in str(refused.value)


@pytest.mark.parametrize("factor", [{"age": -1}, {"age": "much"}, ["age"]])
def test_what_is_no_factor_is_refused(factor: object) -> None:
    with pytest.raises(InputError, match=r"penalty\.factor"):
        L1(mode="loss", factor=factor)


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(1)
    frame = pd.DataFrame(random.normal(size=(80, 4)), columns=["age", "dose_a", "dose_b", "noise"])
    frame["town"] = random.choice(["Aachen", "Bonn", "Köln"], 80)
    frame["y"] = frame["age"] + 0.5 * frame["dose_a"] + (frame["town"] == "Bonn") + random.normal(size=80)
    path = tmp_path_factory.mktemp("visits") / "visits.csv"
    frame.to_csv(path, index=False)
    return path


def run_of(path: Path, folder: Path, *overrides: str) -> Training:
    own = ["data=table", f"data.path={path}", "data.target=y", "tracking=none", "progress=false"]
    training = build(config(*own, "penalty.factor={age: 0, dose_*: 2}", *overrides), folder)
    training.run()
    return training


@pytest.mark.parametrize("penalty", [["penalty=l1"], ["penalty=elastic_net"]])
def test_steps_tend_to_the_optimum_that_an_engine_finds(penalty: list[str], visits: Path, tmp_path: Path) -> None:
    solved = run_of(visits, tmp_path / "exact", *penalty, "lambd=0.05", "trainer=exact")
    steps = ("data.batch_size=null", "trainer.max_epochs=3", "polish=5000", "trainer.until_gap=1e-12")
    trained = run_of(visits, tmp_path / "steps", *penalty, "lambd=0.05", "trainer.precision=64-true", *steps)
    for training in (solved, trained):
        assert training.conclusion["optimum/duality_gap"] <= 1e-9
    ours, theirs = (training.module.parameters_by_name()["weight"].double() for training in (solved, trained))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    factor = torch.tensor(solved.module.penalty.of_columns).double()
    l1_ratio = 1.0 if penalty == ["penalty=l1"] else solved.module.penalty.l1_ratio
    omega = (factor * (l1_ratio * theirs.abs() + (1 - l1_ratio) / 2 * theirs.square())).sum()
    assert trained.module.measured["train/penalty"] == pytest.approx(0.05 * float(omega), rel=1e-9)
    largest = solved.conclusion["optimum/lambda_max"]
    at_top = run_of(visits, tmp_path / "top", *penalty, f"lambd={1.001 * largest}", "trainer=exact")
    weight = at_top.module.parameters_by_name()["weight"][0]
    assert weight[0] != 0 and not weight[1:].any()  # λ_max is that of the others, given the one that is kept


def test_a_network_has_no_weights_of_columns(visits: Path) -> None:
    own = ["data=table", f"data.path={visits}", "data.target=y", "model=mlp", "penalty=l1", "penalty.factor={age: 0}"]
    cfg = config(*own)
    workshop = Workshop(cfg)
    with pytest.raises(InputError, match="only a linear model of named columns"):
        workshop.penalty(cfg, workshop.model(0))
