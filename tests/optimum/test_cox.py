"""Times until an event: engine and certificate against glmnet, and both rules for ties against survival's coxph."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_engines import ELASTIC, LASSO, RIDGE
from test_losses import numbers, run_r
from test_row_terms import tensor

from shrinkage.optimum.certifier import optimum_by_engine
from shrinkage.optimum.engines.path import solve_path
from shrinkage.optimum.gaps import duality_gaps
from shrinkage.optimum.problem import Problem
from shrinkage.tasks.base import Target
from shrinkage.tasks.cox import Cox
from shrinkage.testing import check_task

COLUMNS, FOLDS = 8, 5
TIES = ("breslow", "efron")


def problem_of_glmnet(rows: str = "cox", ties: str = "breslow") -> Problem:
    """Rows of glmnet's example. rows: `cox`, with times and events, or `strata`, with strata besides."""
    there, columns = numbers(f"{rows}_rows"), {"cox": 2, "strata": 3}[rows]
    return Problem(tensor(there[:, :COLUMNS]), tensor(there[:, COLUMNS : COLUMNS + columns]), Cox(ties), "none")


@pytest.mark.parametrize("alpha", [1.0, 0.5])
@pytest.mark.parametrize("rows", ["cox", "strata"])
def test_paths_are_those_of_glmnet(rows: str, alpha: float) -> None:
    problem, theirs = problem_of_glmnet(rows), numbers(rows)
    theirs = theirs[theirs[:, 0] == alpha]
    lambd = theirs[:, 1]
    solved = solve_path(problem, np.stack([alpha * lambd, (1 - alpha) * lambd], axis=1))
    np.testing.assert_allclose(solved.weight[:, 0], theirs[:, 2:], rtol=0, atol=1e-6)
    assert (solved.gap <= 1e-12).all() and lambd.max() == pytest.approx(problem.lambda_max(alpha), rel=1e-9)


@pytest.mark.parametrize(("rows", "weights"), [("cox", "coxph"), ("strata", "strata_coxph")])
def test_without_a_penalty_they_are_those_of_coxph(rows: str, weights: str) -> None:
    for ties, theirs in zip(("efron", "breslow"), numbers(weights), strict=True):
        solved = solve_path(problem_of_glmnet(rows, ties), np.array([[0.0, 0.0]]))
        np.testing.assert_allclose(solved.weight[0, 0], theirs, rtol=0, atol=1e-9)
        assert solved.has_minimum[0] and solved.gap[0] <= 1e-12


@pytest.mark.parametrize("script", ["cox.R", "strata.R"])
def test_the_reference_numbers_are_those_that_r_gives_today(script: str, tmp_path: Path) -> None:
    run_r(script, tmp_path)
    for path in tmp_path.glob("*.csv.gz"):  # coxph where R has survival
        name = path.name.removesuffix(".csv.gz")
        np.testing.assert_allclose(numbers(name, tmp_path), numbers(name), rtol=1e-8, atol=1e-8)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Problem, np.random.Generator]:
    """Rows with ties and without, events and none, with factors and offsets or without."""
    n, p = draw(st.integers(5, 30)), draw(st.integers(1, 12))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    time = random.integers(1, draw(st.sampled_from([4, 1000])), size=n)
    event = random.random(n) < 0.7
    event[time.argmin()] = True
    factor = tensor(random.uniform(0.3, 3, size=p)) if draw(st.booleans()) else None
    offset = tensor(random.normal(size=n)) if draw(st.booleans()) else None
    y = tensor(np.column_stack([time, event]))
    task = Cox(draw(st.sampled_from(TIES)))
    return Problem(tensor(random.normal(size=(n, p))), y, task, "none", None, offset, factor), random


@given(problems(), st.sampled_from([LASSO, ELASTIC, RIDGE]))
@settings(deadline=None, max_examples=60)
def test_every_point_is_certified_and_no_model_is_better_than_its_gap_allows(
    case: tuple[Problem, np.random.Generator], ratio: float
) -> None:
    problem, random = case
    totals = np.array([1.05, 0.3, 0.03]) * problem.lambda_max()
    strengths = np.stack([ratio * totals, (1 - ratio) * totals], axis=1)
    solved = solve_path(problem, strengths)
    null = float(problem.loss.losses(problem.null_output).mean())
    assert solved.has_minimum.all() and (solved.gap <= 1e-9 * max(null, 0.1)).all()
    for (l1, l2), weight, bias, gap in zip(strengths, solved.weight, solved.bias, solved.gap, strict=True):
        best = problem.objective(l1, l2, tensor(weight), tensor(bias))
        for spread in (1e-3, 0.1, 1.0):
            other = tensor(weight + spread * random.normal(size=weight.shape))
            objective = problem.objective(l1, l2, other, tensor(bias))
            bound = problem.duality_gap(l1, l2, other, tensor(bias))
            assert bound >= 0 and best >= objective - bound - 1e-12 * (1 + objective.abs())
            assert objective >= best - gap - 1e-12
    if ratio == LASSO:
        assert (solved.weight[0] == 0).all()
    weights = tensor(random.normal(size=(2, *solved.weight[0].shape)))
    of_two = (torch.tensor(strengths[:2, 0]), torch.tensor(strengths[:2, 1]), weights, torch.zeros(2, 1).double())
    alone = torch.stack([problem.duality_gap(*each) for each in zip(*of_two, strict=True)])
    torch.testing.assert_close(torch.vmap(problem.duality_gap)(*of_two), alone, rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(duality_gaps(problem, *of_two), alone, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("ties", TIES)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_the_task_keeps_the_laws(ties: str, seed: int) -> None:
    check_task(lambda target: Cox.for_target(target, ties), Target(has_events=True), seed)


def test_slopes_that_are_no_multiple_have_no_bound() -> None:
    """A dual point of which it is not known whether it is feasible bounds nothing."""
    problem = problem_of_glmnet()
    output = torch.zeros(len(problem.y), 1).double()
    slope = problem.task.slope(output, problem.y)
    for dual in (1.5 * slope, -slope, slope.roll(1, 0)):
        assert problem.task.fenchel_young(output, problem.y, dual).isinf().all()


@given(st.integers(2, 25), st.integers(0, 10_000), st.sampled_from(TIES))
@settings(deadline=None)
def test_the_loss_is_the_partial_likelihood_by_its_definition(n: int, seed: int, ties: str) -> None:
    random = np.random.default_rng(seed)
    time, event, z = random.integers(1, 6, n), random.random(n) < 0.7, random.normal(size=n)
    expected = 0.0
    for at in np.unique(time[event]):
        risk, own = np.exp(z[time >= at]).sum(), z[(time == at) & event]
        for rank in range(len(own)):
            out = rank / len(own) if ties == "efron" else 0.0
            expected += np.log(risk - out * np.exp(own).sum()) - np.log(len(own) * (1 - out))
        expected -= own.sum()
    losses = Cox(ties).losses(tensor(z)[:, None], tensor(np.column_stack([time, event])))
    assert float(losses.sum()) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert not event.any() or float(losses.sum()) >= -1e-12  # half a deviance


def test_events_in_the_order_of_a_column_have_no_optimum_without_a_penalty() -> None:
    time = np.arange(1.0, 21)
    problem = Problem(tensor(-time[:, None]), tensor(np.column_stack([time, np.ones(20)])), Cox(), "none")
    assert not solve_path(problem, np.array([[0.0, 0.0]])).has_minimum[0]
    best = optimum_by_engine(problem, 0.1, 0.0)
    assert best is not None and best.weight[0, 0] > 0
