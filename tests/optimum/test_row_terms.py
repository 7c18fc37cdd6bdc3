"""Weights and offsets of rows, and factors of columns: engines and certificates against glmnet, and against copies."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_certificate import EVERY, STRENGTH, target_of
from test_engines import ELASTIC, LASSO, PROMISED, RIDGE
from test_losses import numbers, run_r

from shrinkage.optimum.engines.path import solve_path
from shrinkage.optimum.gaps import duality_gaps
from shrinkage.optimum.problem import Problem
from shrinkage.tasks.auto import task_for
from shrinkage.tasks.base import ConvexTask, Target
from shrinkage.tasks.classification import Classification
from shrinkage.tasks.poisson import Poisson
from shrinkage.tasks.regression import Regression

FAMILIES = {"gaussian": Regression(), "binomial": Classification(2), "poisson": Poisson()}


def tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=float))


def null_objective(problem: Problem) -> float:
    return float(problem.loss.losses(problem.null_output).mean())


@pytest.mark.parametrize("family", FAMILIES)
def test_paths_are_those_of_glmnet(family: str) -> None:
    """glmnet takes the offset from a gaussian's target, and standardises by the weighted sd; its factors sum to p."""
    rows, theirs, factor = numbers(f"{family}_rows"), numbers(f"{family}_terms"), numbers("factor")
    x, y, weight, offset = rows[:, :-3], rows[:, -3], rows[:, -2], rows[:, -1]
    share = weight / weight.sum()
    mean = share @ x
    scale = np.sqrt(share @ (x - mean) ** 2)
    unit = 1.0
    if family == "gaussian":
        unit = np.sqrt(share @ (y - offset - share @ (y - offset)) ** 2)
    own = factor * len(factor) / factor.sum()
    task = FAMILIES[family]
    y_there = tensor(y / unit) if family != "binomial" else torch.from_numpy((y > y.min()).astype(np.int64))
    problem = Problem(
        tensor((x - mean) / scale), y_there, task, "free", tensor(weight), tensor(offset / unit), tensor(own)
    )
    alpha, lambd = theirs[:, 0], theirs[:, 1] / unit
    strengths = np.stack([alpha * lambd, (1 - alpha) * lambd], axis=1)
    solved = solve_path(problem, strengths)
    assert (solved.gap <= 1e-11 * null_objective(problem)).all()
    found = solved.weight[:, 0] * unit / scale
    np.testing.assert_allclose(found, theirs[:, 3:], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(solved.bias[:, 0] * unit - found @ mean, theirs[:, 2], rtol=1e-6, atol=1e-6)
    for ratio in (LASSO, ELASTIC):  # of the columns that a penalty holds, given the others
        assert lambd[alpha == ratio].max() == pytest.approx(problem.lambda_max(ratio), rel=1e-6)


def test_the_reference_numbers_are_those_that_glmnet_gives_today(tmp_path: Path) -> None:
    run_r("terms.R", tmp_path)
    for name in ("factor", *(f"{family}_{kind}" for family in FAMILIES for kind in ("rows", "terms"))):
        np.testing.assert_allclose(numbers(name, tmp_path), numbers(name), rtol=1e-9, atol=1e-9)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Problem, np.random.Generator]:
    """Any convex task and bias, with weights, offsets and factors, some of them 0, or without."""
    kind = draw(st.sampled_from(EVERY))
    task = kind if isinstance(kind, ConvexTask) else task_for(Target(classes=kind))
    n, p = draw(st.integers(6, 25)), draw(st.integers(2, 12))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    x = random.normal(size=(n, p)) * draw(st.sampled_from([0.3, 1.0])) + draw(st.sampled_from([0.0, 2.0]))
    y = target_of(task, random, n)
    weight = tensor(random.integers(1, 5, size=n)) if draw(st.booleans()) else None
    offset = tensor(random.normal(size=n)) if draw(st.booleans()) and task.outputs == 1 else None
    factor = None
    if draw(st.booleans()):
        factor = random.uniform(0.2, 3.0, size=p)
        factor[: draw(st.integers(0, min(3, p - 1, n // 6)))] = 0
        factor = tensor(factor)
    bias = draw(st.sampled_from(["free", "none", "penalised"]))
    return Problem(tensor(x), torch.from_numpy(y), task, bias, weight, offset, factor), random


@given(problems(), st.sampled_from([LASSO, ELASTIC, RIDGE]))
@settings(deadline=None, max_examples=80)
def test_every_point_is_certified_and_no_model_is_better_than_its_gap_allows(
    case: tuple[Problem, np.random.Generator], ratio: float
) -> None:
    problem, random = case
    largest = problem.lambda_max()
    assume(largest > 1e-9)
    totals = np.array([1.05, 0.3, 0.01]) * largest
    strengths = np.stack([ratio * totals, (1 - ratio) * totals], axis=1)
    solved = solve_path(problem, strengths)
    assert (solved.gap >= 0).all()
    for (l1, l2), weight, bias, gap, exists in zip(
        strengths, solved.weight, solved.bias, solved.gap, solved.has_minimum, strict=True
    ):
        if not exists:  # rows that the columns without a penalty part
            assert problem.free is not None
            continue
        assert gap <= PROMISED * null_objective(problem)
        best = problem.objective(l1, l2, tensor(weight), tensor(bias))
        for spread in (0.0, 0.1, 1.0):
            other = tensor(weight + spread * random.normal(size=weight.shape))
            own = tensor(bias + spread * random.normal(size=bias.shape) * (problem.bias == "free"))
            objective, bound = problem.objective(l1, l2, other, own), problem.duality_gap(l1, l2, other, own)
            assert bound >= 0 and best >= objective - bound - 1e-12 * (1 + objective.abs())
            assert objective >= best - gap - 1e-12
        if ratio == LASSO and problem.free is None:
            assert (solved.weight[0] == 0).all()


@given(problems(), STRENGTH, STRENGTH)
@settings(deadline=None, max_examples=60)
def test_whole_weights_are_as_many_equal_rows(case: tuple[Problem, np.random.Generator], l1: float, l2: float) -> None:
    problem, random = case
    assume(problem.row_weight is not None)
    times = problem.row_weight.long()
    copied = replace(
        problem,
        x=problem.x.repeat_interleave(times, dim=0),
        y=problem.y.repeat_interleave(times),
        row_weight=None,
        offset=None if problem.offset is None else problem.offset.repeat_interleave(times),
    )
    weight = tensor(random.normal(size=(problem.task.outputs, problem.width)))
    bias = tensor(random.normal(size=problem.task.outputs) * (problem.bias == "free"))
    assert problem.lambda_max() == pytest.approx(copied.lambda_max(), rel=1e-8)
    assert problem.smoothness == pytest.approx(copied.smoothness, rel=1e-8)
    for measure in ("objective", "duality_gap", "kkt"):
        ours, theirs = (float(getattr(each, measure)(l1, l2, weight, bias)) for each in (problem, copied))
        assert ours == pytest.approx(theirs, rel=1e-8, abs=1e-12), measure
    ours, theirs = (
        problem.loss.best_bias(problem.outputs_of(weight)),
        copied.loss.best_bias(copied.outputs_of(weight)),
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)
    strengths = np.array([[0.1 * problem.lambda_max(), 0.1 * problem.lambda_max()]])
    ours, theirs = solve_path(problem, strengths), solve_path(copied, strengths)
    if ours.has_minimum[0] and theirs.has_minimum[0]:
        outputs = [problem.outputs_of(tensor(each.weight[0])) + tensor(each.bias[0]) for each in (ours, theirs)]
        torch.testing.assert_close(*outputs, rtol=1e-6, atol=1e-6)


@given(problems(), STRENGTH, STRENGTH)
@settings(deadline=None, max_examples=40)
def test_gaps_of_many_are_those_of_each_and_lanes_take_them_at_once(
    case: tuple[Problem, np.random.Generator], l1: float, l2: float
) -> None:
    problem, random = case
    shares = torch.tensor([0.3, 1.0], dtype=torch.float64)
    weights = tensor(random.normal(size=(2, problem.task.outputs, problem.width)))
    biases = tensor(random.normal(size=(2, problem.task.outputs)) * (problem.bias == "free"))
    at_once = duality_gaps(problem, shares * l1, shares * l2, weights, biases)
    in_lanes = torch.vmap(problem.duality_gap)(shares * l1, shares * l2, weights, biases)
    alone = torch.stack(
        [problem.duality_gap(*each) for each in zip(shares * l1, shares * l2, weights, biases, strict=True)]
    )
    torch.testing.assert_close(at_once, alone, rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(in_lanes, alone, rtol=1e-6, atol=1e-10)
