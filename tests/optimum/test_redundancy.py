"""The lasso where columns are dependent: one answer whatever the start, on independent columns, and said."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import config, train_here
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Lasso

from shrinkage.optimum.certifier import Certifier
from shrinkage.optimum.exact import optimum
from shrinkage.optimum.polishing import polish_lanes
from shrinkage.optimum.problem import Problem
from shrinkage.optimum.redundancy import centred, combinations, sparsest
from shrinkage.sweeps.path import CONVERGED, jobs_along, lambda_path
from shrinkage.tasks.auto import task_for
from shrinkage.tasks.base import Target


@st.composite
def designs(draw: st.DrawFn) -> tuple[np.ndarray, np.random.Generator]:
    """Centred columns, some of which are combinations of others, in any order."""
    random = np.random.default_rng(draw(st.integers(0, 100_000)))
    n, own, made = draw(st.integers(5, 25)), draw(st.integers(1, 5)), draw(st.integers(1, 6))
    x = random.normal(size=(n, own))
    x = np.column_stack([x, x @ random.integers(-2, 3, size=(own, made))])[:, random.permutation(own + made)]
    return centred(x), random


def lasso(x: np.ndarray, y: np.ndarray, lambd: float, random: np.random.Generator) -> np.ndarray:
    """One of scikit-learn's optima, which depends on where it starts."""
    model = Lasso(alpha=lambd, fit_intercept=False, tol=1e-14, max_iter=100_000, selection="random", warm_start=True)
    model.coef_ = random.normal(size=x.shape[1])
    return model.set_params(random_state=int(random.integers(1000))).fit(x, y).coef_


@pytest.mark.filterwarnings("ignore")
@given(designs(), st.floats(-2, -0.1))
@settings(deadline=None, max_examples=60)
def test_every_optimum_of_the_lasso_comes_to_one_on_independent_columns(case: tuple, exponent: float) -> None:
    x, random = case
    y = random.normal(size=len(x))
    y -= y.mean()
    lambd = 10**exponent * np.abs(x.T @ y).max() / len(x)
    assume(lambd > 1e-3)
    found = []
    for start in (lasso(x, y, lambd, random) for _ in range(3)):
        (weight,), (groups,) = sparsest(x, start[None])
        np.testing.assert_allclose(x @ weight, x @ start, atol=1e-9 * (1 + np.abs(x @ start).max()))
        assert np.abs(weight).sum() <= np.abs(start).sum() * (1 + 1e-9)
        kept = x[:, weight != 0]
        assert np.linalg.matrix_rank(kept, tol=1e-8) == kept.shape[1]
        found.append((weight, groups))
    assert found[0][0] == pytest.approx(optimum(x, y, None, lambd, 0.0, False).weight[0], abs=1e-6)
    for weight, groups in found[1:]:
        np.testing.assert_allclose(weight, found[0][0], atol=1e-6)
        np.testing.assert_array_equal(groups, found[0][1])
    # Unique by Tibshirani's condition: the columns whose correlation with the residuals is λ are independent.
    weight, groups = found[0]
    on = np.abs(x.T @ (y - x @ weight)) / len(x) >= lambd * (1 - 1e-7)
    if np.linalg.matrix_rank(x[:, on], tol=1e-8) == on.sum():
        assert not groups.any()


@given(designs(), st.sampled_from([None, 2, 3, 4]), st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_any_weights_keep_their_loss_and_no_larger_penalty(case: tuple, classes: int | None, seed: int) -> None:
    """Far from an optimum too; and of one output, what has been moved once moves no more."""
    x, random = case
    y = random.normal(size=len(x)) if classes is None else np.arange(len(x)) % classes
    problem = Problem(torch.from_numpy(x + 1), torch.from_numpy(y), task_for(Target(classes=classes)), "free")
    weight = random.normal(size=(problem.task.outputs, x.shape[1])) * (random.random(x.shape[1]) < 0.7)
    weight = torch.from_numpy(weight)
    found, _ = problem.sparsest(weight)

    def objective(weight: torch.Tensor) -> torch.Tensor:
        return problem.objective(0.1, 0.0, *problem.best_bias_of(weight))

    assert objective(found) <= objective(weight) * (1 + 1e-9)
    if len(weight) == 1:
        torch.testing.assert_close(problem.sparsest(found)[0], found, rtol=0, atol=1e-8)
    independent = Problem(torch.eye(9).double()[:, :4], torch.arange(9) % 2, task_for(Target(classes=2)), "free")
    weight = torch.tensor([[0.1, 0.0, -2.0, 3.0]], dtype=torch.float64)
    assert independent.sparsest(weight)[0].equal(weight)


def test_the_first_of_two_copies_keeps_the_weight_and_a_longer_one_is_cheaper() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 30))
    x = centred(np.column_stack([a, -a, b, 2 * b]))
    (weight,), (groups,) = sparsest(x, np.array([[0.3, -0.2, 0.1, 0.5]]))
    np.testing.assert_allclose(weight, [0.5, 0, 0, 0.55], atol=1e-12)
    assert groups.tolist() == [1, 1, 0, 0]


def test_of_four_classes_one_weight_of_a_column_can_be_zero() -> None:
    weight = np.array([[-1.0, 0.2], [-0.5, 0.1], [0.5, 0.4], [1.0, 0.3]])
    found, _ = sparsest(None, weight, is_shift_invariant=True)
    np.testing.assert_allclose(found, [[-1.5, 0.0], [-1.0, -0.1], [0.0, 0.2], [0.5, 0.1]])


def test_columns_that_others_make_up_are_named() -> None:
    random = np.random.default_rng(0)
    z, kind = random.normal(size=(50, 3)), np.eye(3)[np.arange(50) % 3]
    x = np.column_stack([z, 2 * z[:, 0] + 3, z[:, 1] - z[:, 2], np.ones(50), kind])
    origins = [None] * 6 + ["kind"] * 3
    assert combinations(x, origins) == {3: [0], 4: [1, 2]}
    assert combinations(x[:7], origins) == {3: [0]}  # fewer rows than columns: only copies


def test_lanes_end_where_each_would_alone_though_their_starts_differ() -> None:
    """A lane whose gap is small enough at once moves its weights too."""
    random = np.random.default_rng(1)
    z = random.normal(size=(40, 4))
    x, y = np.column_stack([z, z[:, ::-1], z[:, :1] + z[:, 1:2]]), z[:, 0] - z[:, 1] + random.normal(size=40)
    problem = Problem(torch.from_numpy(x), torch.from_numpy(y), task_for(Target(classes=None)), "free")
    certifier = Certifier(problem, 1.0, None, exact=False)
    best = optimum(x, y, None, 0.1, 0.0)
    assert not best.unique
    shared = best.weight.copy()
    shared[0, [0, 7]] = best.weight[0, 0] / 2
    weight = torch.from_numpy(np.stack([shared, random.normal(size=(1, 9)), random.normal(size=(1, 9))]))
    named = {"weight": weight, "bias": torch.from_numpy(np.stack([best.bias] * 3))}
    l1, l2 = torch.full((3,), 0.1, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)

    def polished(lanes: slice) -> tuple[torch.Tensor, torch.Tensor]:
        given = {name: value[lanes] for name, value in named.items()}
        found, taken, _ = polish_lanes(certifier, l1[lanes], l2[lanes], given, 5000, 1e-12, lambda done, left: None)
        gaps = [problem.duality_gap(0.1, 0.0, w, b) for w, b in zip(found["weight"], found["bias"], strict=True)]
        assert max(gaps) <= 1e-12 and (taken > 0).all()
        return found["weight"], taken

    together, taken = polished(slice(None))
    for lane in range(3):
        alone, own = polished(slice(lane, lane + 1))
        assert own == taken[lane]
        torch.testing.assert_close(alone[0], together[lane], rtol=0, atol=1e-12)
        np.testing.assert_allclose(together[lane], best.weight, atol=1e-5)
        assert ((together[lane].numpy() != 0) == (best.weight != 0)).all()


def test_a_path_by_steps_begins_at_zero_weights_whatever_the_seed() -> None:
    along = lambda_path(config("data=diabetes", "penalty=l1"), 3, None, None, False)
    jobs = jobs_along([["penalty=l1", "optimizer.lr=0.1", f"seed={seed}"] for seed in (0, 1)], [along, along])
    assert len(jobs) == 6 and all({"model.init=normal", "model.sigma=0"} < set(job) for job in jobs)


def test_a_table_with_sex_twice_has_one_answer(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    size, female = random.normal(size=60), np.arange(60) % 2
    y = 2 * size + female + 0.1 * random.normal(size=60)
    columns = {"size": size, "copy": size, "noise": random.normal(size=60), "female": female, "male": 1 - female}
    pd.DataFrame(columns | {"y": y}).to_csv(tmp_path / "t.csv", index=False)
    tables = []
    for seed in (0, 1):
        run = train_here(
            "data=table", f"data.path={tmp_path / 't.csv'}", "data.target=y", "data.seed=0", "penalty=l1", "lambd=0.1",
            f"seed={seed}", *(f"{key}={value}" for key, value in CONVERGED.items()), f"hydra.run.dir={seed}",
            cwd=tmp_path,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        assert "'copy' from 'size', 'male' from 'female'" in run.stderr
        words = " ".join(run.stdout.split())
        assert "the optimum is not unique, since columns can take over weight" in words
        assert "from one another: 'size' and 'copy' and others (exchangeable in coefficients.csv)" in words
        tables.append(pd.read_csv(tmp_path / str(seed) / "coefficients.csv", index_col="feature"))
    pd.testing.assert_frame_equal(*tables)
    weights = tables[0]["weight"].drop("(intercept)")
    assert list(weights[weights != 0].index) == ["size", "female"]
    assert tables[0]["exchangeable"].dropna().to_dict() == {
        "size": "size", "copy": "size", "female": "female", "male": "female",
    }  # fmt: skip
