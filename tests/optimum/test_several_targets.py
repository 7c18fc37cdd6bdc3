"""Several targets at once: engine and certificates against glmnet, and against each target by itself."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_engines import ELASTIC, LASSO, RIDGE
from test_losses import numbers, run_r
from test_row_terms import null_objective, tensor

from shrinkage.optimum.engines.path import solve_path
from shrinkage.optimum.engines.together import minimise_together
from shrinkage.optimum.gaps import duality_gaps
from shrinkage.optimum.problem import Problem
from shrinkage.tasks.classification import Classification
from shrinkage.tasks.multi_regression import MultiRegression
from shrinkage.tasks.regression import Regression

TARGETS = 4


@pytest.mark.parametrize("is_standardised", [False, True], ids=["one scale", "each standardised"])
@pytest.mark.parametrize("name", ["several", "several_terms"])
def test_paths_are_those_of_glmnet(name: str, is_standardised: bool) -> None:
    """At every λ of its path: ours times √targets, where its responses are divided by what they are divided by here.

    Without standardize.response glmnet's λ is that of its documented objective, of responses in their own units: a
    group's part of it is in proportion to these, and the ridge's is not.
    """
    rows, theirs, factor = numbers("several_rows"), numbers(name), numbers("several_factor")
    theirs = theirs[theirs[:, 0] == is_standardised]
    x, y, weight = rows[:, : -TARGETS - 1], rows[:, -TARGETS - 1 : -1], rows[:, -1]
    has_terms = name == "several_terms"
    share = weight / weight.sum() if has_terms else np.full(len(x), 1 / len(x))
    mean = share @ x
    scale, spread = np.sqrt(share @ (x - mean) ** 2), np.sqrt(share @ (y - share @ y) ** 2)
    unit = spread if is_standardised else 7.0  # any number
    own = tensor(factor * len(factor) / factor.sum())
    problem = Problem(
        tensor((x - mean) / scale), tensor(y / unit), MultiRegression(TARGETS), "free",
        *((tensor(weight), None, own) if has_terms else (None, None, None)), together=True,
    )  # fmt: skip
    alpha, lambd = theirs[:, 1], theirs[:, 2] / (1.0 if is_standardised else unit)
    strengths = np.stack([alpha * lambd / np.sqrt(TARGETS), (1 - alpha) * theirs[:, 2]], axis=1)
    solved = solve_path(problem, strengths)
    assert (solved.gap <= 1e-12 * null_objective(problem)).all()
    found = solved.weight * np.reshape(unit, (-1, 1)) / scale
    bias = solved.bias * unit - found @ mean
    expected = theirs[:, 3:].reshape(len(theirs), TARGETS, -1)
    np.testing.assert_allclose(found, expected[:, :, 1:], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(bias, expected[:, :, 0], rtol=1e-6, atol=1e-6)
    for ratio in (LASSO, ELASTIC):
        largest = problem.lambda_max(ratio / np.sqrt(TARGETS))
        assert lambd[alpha == ratio].max() == pytest.approx(largest, rel=1e-6)


def test_the_reference_numbers_are_those_that_glmnet_gives_today(tmp_path: Path) -> None:
    run_r("several.R", tmp_path)
    for name in ("several_rows", "several_factor", "several", "several_terms"):
        np.testing.assert_allclose(numbers(name, tmp_path), numbers(name), rtol=1e-9, atol=1e-9)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Problem, np.random.Generator]:
    """Least squares of some targets, or a softmax; columns held together or not, with weights and factors or none."""
    n, p, k = draw(st.integers(6, 20)), draw(st.integers(1, 30)), draw(st.integers(2, 4))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    x = random.normal(size=(n, p)) + draw(st.sampled_from([0.0, 2.0]))
    if p > 2 and draw(st.booleans()):
        x[:, 0], x[:, 1] = x[:, 2], 1.0
    is_softmax = draw(st.integers(0, 3)) == 0 and k == 3
    y = torch.arange(n) % k if is_softmax else tensor(random.normal(size=(n, k)) @ random.normal(size=(k, k)))
    weight = tensor(random.integers(1, 5, size=n)) if draw(st.booleans()) else None
    factor = None
    if draw(st.booleans()):
        factor = random.uniform(0.2, 3.0, size=p)
        factor[: draw(st.integers(0, min(2, p - 1, n // 6)))] = 0
        factor = tensor(factor)
    task = Classification(k) if is_softmax else MultiRegression(k)
    together = draw(st.integers(0, 3)) > 0
    bias = draw(st.sampled_from(["free", "none"]))
    return Problem(tensor(x), y, task, bias, weight, None, factor, together), random


@given(problems(), st.sampled_from([LASSO, ELASTIC, RIDGE]))
@settings(deadline=None, max_examples=60)
def test_every_point_is_certified_and_no_model_is_better_than_its_gap_allows(
    case: tuple[Problem, np.random.Generator], ratio: float
) -> None:
    problem, random = case
    assume(problem.lambda_max() > 1e-9)
    totals = np.array([1.05, 0.3, 0.03]) * problem.lambda_max()
    strengths = np.stack([ratio * totals, (1 - ratio) * totals], axis=1)
    solved = solve_path(problem, strengths)
    for (l1, l2), weight, bias, gap, exists in zip(
        strengths, solved.weight, solved.bias, solved.gap, solved.has_minimum, strict=True
    ):
        if not exists:  # rows that the columns without a penalty part
            continue
        assert 0 <= gap <= 1e-9 * null_objective(problem)
        best = problem.objective(l1, l2, tensor(weight), tensor(bias))
        assert problem.kkt(l1, l2, tensor(weight), tensor(bias)) <= 1e-6 * (1 + problem.steepest_at_zero)
        for spread in (0.0, 0.1, 1.0):
            other = tensor(weight + spread * random.normal(size=weight.shape))
            own = tensor(bias + spread * random.normal(size=bias.shape) * (problem.bias == "free"))
            objective, bound = problem.objective(l1, l2, other, own), problem.duality_gap(l1, l2, other, own)
            assert bound >= 0 and best >= objective - bound - 1e-12 * (1 + objective.abs())
            assert objective >= best - gap - 1e-12
        if problem.together and problem.free is None:
            assert ((weight != 0).all(axis=0) | (weight == 0).all(axis=0)).all() or not l1
    if ratio == LASSO and problem.free is None:
        assert (solved.weight[0] == 0).all()


@given(problems(), st.floats(0.01, 1), st.floats(0, 1))
@settings(deadline=None, max_examples=30)
def test_gaps_of_many_are_those_of_each_and_lanes_take_them_at_once(
    case: tuple[Problem, np.random.Generator], l1: float, l2: float
) -> None:
    problem, random = case
    l1, l2 = l1 * torch.tensor([0.3, 1.0]).double(), l2 * torch.tensor([0.0, 1.0]).double()
    weights = tensor(random.normal(size=(2, problem.task.outputs, problem.width)))
    weights[:, :, ::2] = 0
    biases = tensor(random.normal(size=(2, problem.task.outputs)) * (problem.bias == "free"))
    alone = torch.stack([problem.duality_gap(*each) for each in zip(l1, l2, weights, biases, strict=True)])
    torch.testing.assert_close(duality_gaps(problem, l1, l2, weights, biases), alone, rtol=1e-8, atol=1e-12)
    in_lanes = torch.vmap(problem.duality_gap)(l1, l2, weights, biases)
    torch.testing.assert_close(in_lanes, alone, rtol=1e-6, atol=1e-10)
    kkt = torch.stack([problem.kkt(*each) for each in zip(l1, l2, weights, biases, strict=True)])
    torch.testing.assert_close(torch.vmap(problem.kkt)(l1, l2, weights, biases), kkt, rtol=1e-6, atol=1e-10)


def test_a_polish_comes_to_the_optimum_of_the_engine() -> None:
    random = np.random.default_rng(0)
    problem = Problem(
        tensor(random.normal(size=(40, 6))), tensor(random.normal(size=(40, 3))), MultiRegression(3), "free",
        together=True,
    )  # fmt: skip
    l1 = 0.7 * problem.lambda_max()
    start = {"weight": torch.zeros(3, 6).double(), "bias": torch.zeros(3).double()}
    polished = problem.polished(l1, 0.0, start, 500)
    solved = solve_path(problem, np.array([[l1, 0.0]]))
    np.testing.assert_allclose(polished["weight"], solved.weight[0], rtol=0, atol=1e-9)
    assert (polished["weight"] == 0).all(dim=0).any()


@given(st.integers(2, 12), st.integers(1, 3), st.integers(0, 10_000), st.sampled_from([0.0, 0.1]))
@settings(deadline=None, max_examples=40)
def test_targets_that_nothing_holds_together_are_regressions_of_their_own(n: int, k: int, seed: int, l1: float) -> None:
    random = np.random.default_rng(seed)
    x, y = tensor(random.normal(size=(n, 4))), tensor(random.normal(size=(n, k)))
    weight = tensor(random.integers(1, 4, size=n))
    together = solve_path(Problem(x, y, MultiRegression(k), "free", weight), np.array([[l1, 0.1]]))
    for c in range(k):
        alone = solve_path(Problem(x, y[:, c], Regression(), "free", weight), np.array([[l1, 0.1]]))
        np.testing.assert_allclose(together.weight[0, c], alone.weight[0, 0], rtol=0, atol=1e-12)
        np.testing.assert_allclose(together.bias[0, c], alone.bias[0, 0], rtol=0, atol=1e-12)


@given(st.integers(1, 6), st.integers(1, 3), st.integers(1, 12), st.integers(0, 10_000), st.sampled_from([0.0, 0.3]))
@settings(deadline=None)
def test_a_quadratic_function_has_its_minimum_where_no_condition_is_missed(
    groups: int, size: int, rank: int, seed: int, ridge: float
) -> None:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(rank, groups * size))
    hessian, pull = rows.T @ rows, random.normal(size=rank) @ rows
    group = random.permutation(np.repeat(np.arange(groups), size))
    l1 = random.uniform(0.05, 1.2) * max(np.linalg.norm(pull[group == g]) for g in range(groups))
    found = minimise_together(hessian, pull, l1, np.full(len(pull), ridge), np.zeros(len(pull)), group)
    slope = hessian @ found - pull + ridge * found
    for g in range(groups):
        own, length = found[group == g], np.linalg.norm(found[group == g])
        if length:
            missed = np.linalg.norm(slope[group == g] + l1 * own / length)
        else:
            missed = max(np.linalg.norm(slope[group == g]) - l1, 0.0)
        assert missed <= 1e-10 * (l1 + np.abs(pull).max())
