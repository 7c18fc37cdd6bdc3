"""Strata of times until an event: each is compared within itself. Weights are held to R's in test_cox."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cox import COLUMNS, TIES
from test_engines import ELASTIC, LASSO, RIDGE
from test_losses import numbers
from test_row_terms import tensor

from shrinkage.optimum.certifier import optimum_by_engine
from shrinkage.optimum.engines.path import solve_path
from shrinkage.optimum.gaps import duality_gaps
from shrinkage.optimum.problem import Problem
from shrinkage.tasks.cox import Cox
from shrinkage.tasks.metrics.concordance import Concordance


@st.composite
def rows_in_strata(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, np.random.Generator]:
    """Outputs [n, 1] and targets [n, 3], with ties or none; a stratum's outputs may be far from the others'."""
    n, strata = draw(st.integers(4, 30)), draw(st.integers(1, 5))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    own = random.integers(0, strata, n)
    time = random.integers(1, draw(st.sampled_from([4, 1000])), size=n)
    event = random.random(n) < 0.7
    event[time.argmin()] = True
    apart = draw(st.sampled_from([0.0, 60.0])) * own
    return tensor(random.normal(size=n) + apart)[:, None], tensor(np.column_stack([time, event, own])), random


@pytest.mark.parametrize("ties", TIES)
@given(case=rows_in_strata())
@settings(deadline=None, max_examples=60)
def test_a_stratum_is_as_if_it_were_alone(
    ties: str, case: tuple[torch.Tensor, torch.Tensor, np.random.Generator]
) -> None:
    """Losses, slopes, second derivatives, bounds and concordance; the largest stratum loses no digits of the others."""
    (output, target, random), task = case, Cox(ties)
    columns = tensor(random.normal(size=(len(output), 2)))
    slope = task.slope(output, target)
    each = [target[:, 2] == stratum for stratum in target[:, 2].unique()]

    def joined(of_rows: list[torch.Tensor]) -> torch.Tensor:
        found = of_rows[0].new_zeros(len(output), *of_rows[0].shape[1:])
        for rows, values in zip(each, of_rows, strict=True):
            found[rows] = values
        return found

    alone = [(output[rows], target[rows, :2]) for rows in each]
    close = {"rtol": 1e-11, "atol": 1e-13}
    torch.testing.assert_close(task.losses(output, target), joined([task.losses(*one) for one in alone]), **close)
    torch.testing.assert_close(slope, joined([task.slope(*one) for one in alone]), **close)
    torch.testing.assert_close(
        task.curvatures(output, target), joined([task.curvatures(*one) for one in alone]), **close
    )
    joint = [task.joint_part(*one, columns[rows]) for one, rows in zip(alone, each, strict=True)]
    torch.testing.assert_close(task.joint_part(output, target, columns), joined(joint), **close)
    bounds = [task.fenchel_young(*one, 0.3 * slope[rows]) for one, rows in zip(alone, each, strict=True)]
    torch.testing.assert_close(task.fenchel_young(output, target, 0.3 * slope), joined(bounds), **close)
    total = torch.func.grad(lambda z: task.losses(z, target).sum())(output)
    torch.testing.assert_close(total, slope, rtol=1e-9, atol=1e-12)
    both = torch.stack([output, output.flip(0)])
    torch.testing.assert_close(torch.vmap(lambda z: task.losses(z, target))(both)[0], task.losses(output, target))

    pairs = right = 0.0
    for i in torch.nonzero(target[:, 1])[:, 0]:
        for j in torch.nonzero(target[:, 2] == target[i, 2])[:, 0]:
            if target[j, 0] > target[i, 0] or (target[j, 0] == target[i, 0] and not target[j, 1]):
                pairs += 1
                right += float(output[i] > output[j]) + float(output[i] == output[j]) / 2
    found = float(Concordance().value(output[:, 0], target))
    assert np.isnan(found) if not pairs else found == pytest.approx(right / pairs)


@given(rows_in_strata(), st.sampled_from([LASSO, ELASTIC, RIDGE]), st.sampled_from(TIES))
@settings(deadline=None, max_examples=20)
def test_every_point_of_a_path_is_certified(
    case: tuple[torch.Tensor, torch.Tensor, np.random.Generator], ratio: float, ties: str
) -> None:
    _, target, random = case
    problem = Problem(tensor(random.normal(size=(len(target), 6))), target, Cox(ties), "none")
    if not float(problem.lambda_max()):
        return  # no event has another row beside it
    totals = np.array([1.05, 0.3, 0.03]) * problem.lambda_max()
    strengths = np.stack([ratio * totals, (1 - ratio) * totals], axis=1)
    solved = solve_path(problem, strengths)
    null = float(problem.loss.losses(problem.null_output).mean())
    assert solved.has_minimum.all() and (solved.gap <= 1e-9 * max(null, 0.1)).all()
    points = (torch.tensor(strengths[:, 0]), torch.tensor(strengths[:, 1]), tensor(solved.weight), tensor(solved.bias))
    alone = torch.stack([problem.duality_gap(*each) for each in zip(*points, strict=True)])
    torch.testing.assert_close(duality_gaps(problem, *points), alone, rtol=1e-8, atol=1e-12)
    assert ratio != LASSO or (solved.weight[0] == 0).all()


def test_columns_that_differ_by_a_number_for_each_stratum_have_no_single_optimum() -> None:
    rows = numbers("strata_rows")
    x, y = rows[:, :2], rows[:, COLUMNS : COLUMNS + 3]
    for other, is_unique in ((x[:, :1] + y[:, 2:], False), (x[:, 1:], True)):
        problem = Problem(tensor(np.hstack([x[:, :1], other])), tensor(y), Cox(), "none")
        found = optimum_by_engine(problem, 0.0, 0.0)
        assert found is not None and found.unique == is_unique


def test_expected_events_are_those_of_survfit() -> None:
    rows, theirs = numbers("strata_rows"), numbers("strata_survival")
    x, y = tensor(rows[:, :COLUMNS]), tensor(rows[:, COLUMNS : COLUMNS + 3])
    y[:, 2] -= 1
    for kind, (ties, weight) in enumerate(zip(("efron", "breslow"), numbers("strata_coxph"), strict=True), start=1):
        found = Cox(ties).survival(x @ tensor(weight)[:, None], y)
        own = theirs[theirs[:, 0] == kind]
        ours = [found.expected(int(stratum) - 1, time) for _, stratum, time, _ in own]
        np.testing.assert_allclose(ours, own[:, 3], rtol=1e-8, atol=1e-12)
        assert len(own) > 50 and found.expected(0, 0.0) == 0 and found.expected(0, found.ends[0] + 1) is None
