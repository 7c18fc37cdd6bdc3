"""What a convex task says of its loss, against automatic differentiation and outputs at random."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from shrinkage.tasks.auto import task_for
from shrinkage.tasks.base import ConvexTask, Target
from shrinkage.tasks.classification import Classification
from shrinkage.tasks.gamma import Gamma
from shrinkage.tasks.huber import Huber
from shrinkage.tasks.log_link import relative_entropy
from shrinkage.tasks.multi_regression import MultiRegression
from shrinkage.tasks.poisson import Poisson
from shrinkage.tasks.regression import Regression
from shrinkage.testing import check_task

TARGETS = [Target(), Target(classes=2), Target(classes=3), Target(scale=7.0), Target("language", 5)]
TARGETS.append(Target(names=("a", "b/c", "é"), scales=(1.0, 2.0, 3.0)))
TASKS = {
    "regression": Regression(),
    "two classes": Classification(2),
    "three classes": Classification(3),
    "poisson": Poisson(),
    "gamma": Gamma(),
    "huber": Huber(0.7),
    "three targets": MultiRegression(3),
}
ROUNDING = 1e-13  # of losses and slopes, which are some tens at most here


def rows(task: ConvexTask) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs and targets at random; counts have zeros among them, and residuals are small and large ones."""
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(12, task.outputs, generator=generator, dtype=torch.float64)
    if isinstance(task, Classification):
        return output, torch.arange(12) % max(task.outputs, 2)
    if isinstance(task, MultiRegression):
        return output, torch.randn(12, task.outputs, generator=generator, dtype=torch.float64)
    target = torch.randn(12, generator=generator, dtype=torch.float64)
    if isinstance(task, Poisson):
        return output, torch.arange(12, dtype=torch.float64) % 4
    return output, target.exp() if isinstance(task, Gamma) else target


@pytest.mark.parametrize("target", TARGETS, ids=str)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=5, deadline=None)
def test_a_task_keeps_the_laws(target: Target, seed: int) -> None:
    check_task(task_for, target, seed)


@pytest.mark.parametrize("name", TASKS)
def test_slopes_and_curvatures_are_the_losss_derivatives(name: str) -> None:
    task = TASKS[name]
    output, target = rows(task)
    k = task.outputs

    def loss(row: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return task.losses(row[None], target[None])[0]

    slopes = torch.vmap(torch.func.grad(loss))(output, target)
    torch.testing.assert_close(task.slope(output, target), slopes, rtol=0, atol=ROUNDING)
    curvatures = torch.vmap(torch.func.hessian(loss))(output, target)
    found = task.curvatures(output, target).reshape(-1, k, k)
    torch.testing.assert_close(found, curvatures, rtol=0, atol=ROUNDING)
    assert torch.linalg.eigvalsh(found).max() <= task.curvature * (1 + 1e-14)
    model = task.model_curvatures(output, target).reshape(-1, k, k)
    assert (torch.linalg.eigvalsh(model - found) >= -1e-15).all()


@pytest.mark.parametrize("name", TASKS)
def test_fenchel_young_differences_are_no_less_than_zero_and_zero_at_the_slope(name: str) -> None:
    """They are ℓ(z) + ℓ*(u) − u·z. For the slope u at another z' it is ℓ(z) − ℓ(z') − u·(z − z')."""
    task = TASKS[name]
    output, target = rows(task)
    for scale in (0.0, 0.3, 1.0):  # a dual point is shrunk to be feasible, and stays a slope of the loss
        other = output.roll(1, 0)
        dual = task.slope(other, target)
        expected = task.losses(output, target) - task.losses(other, target) - (dual * (output - other)).sum(dim=1)
        found = task.fenchel_young(output, target, dual)
        torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING)
        shrunk = task.fenchel_young(output, target, scale * dual)
        assert (shrunk >= 0).all() and shrunk.isfinite().all()
    at_slope = task.fenchel_young(output, target, task.slope(output, target))
    torch.testing.assert_close(at_slope, torch.zeros(12, dtype=torch.float64), rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", ["two classes", "three classes", "poisson", "gamma", "huber"])
def test_slopes_that_the_loss_has_nowhere_have_no_bound(name: str) -> None:
    """Counts have the slopes above −y, ratios those under 1, and residuals those within ±δ."""
    task = TASKS[name]
    output, target = rows(task)
    match task:
        case Poisson():
            beyond = -target[:, None] - 1e-9
        case Gamma():
            beyond = 1e-9 + torch.ones_like(output)
        case Huber(threshold=threshold):
            beyond = torch.cat([output[:6] * 0 + threshold, output[6:] * 0 - threshold]) * (1 + 1e-9)
        case _:
            beyond = -task.slope(output, target)
    assert task.fenchel_young(output, target, beyond).isinf().all()


@pytest.mark.parametrize("name", TASKS)
def test_a_loss_falls_for_ever_where_its_recession_says(name: str) -> None:
    task = TASKS[name]
    output, target = rows(task)
    falling = task.recession(target).double()
    directions = torch.randn(50, task.outputs, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for direction in directions:
        products = falling @ direction
        far, farther = (task.losses(output + scale * direction / direction.norm(), target) for scale in (300, 600))
        rises = (products < 0).any(dim=1) | (products.shape[1] == 0)
        assert (farther[rises] > far[rises]).all() and (farther[~rises] <= far[~rises]).all()


@given(st.sampled_from(sorted(TASKS)), st.integers(1, 30), st.integers(0, 2**32 - 1), st.sampled_from([0.1, 1.0, 10.0]))
@settings(deadline=None)
def test_no_other_bias_is_better(name: str, n: int, seed: int, width: float) -> None:
    """At the best bias the slopes of the rows add up to zero, but for the rounding of what is added up."""
    task, random = TASKS[name], np.random.default_rng(seed)
    is_classes = isinstance(task, Classification)
    assume(not is_classes or (n >= 2 * max(task.outputs, 2) and width <= 1))  # else the best bias is far away
    output = torch.from_numpy(width * random.normal(size=(n, task.outputs)))
    if is_classes:
        target = torch.arange(n) % max(task.outputs, 2)
    elif isinstance(task, Poisson):
        target = torch.from_numpy(random.poisson(2.0, size=n) + (np.arange(n) == 0)).double()
    else:
        shape = (n, task.outputs) if isinstance(task, MultiRegression) else n
        target = torch.from_numpy(width * random.normal(size=shape))
        target = target.exp() if isinstance(task, Gamma) else target
    best = task.best_bias(output, target)
    slope = task.slope(output + best, target)
    rounding = 1e-12 * n * (1 + slope.abs().sum(dim=0) + output.abs().max())
    assert (slope.sum(dim=0).abs() <= rounding).all()


@given(st.integers(2, 12), st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.7, 5.0]))
@settings(deadline=None)
def test_the_best_bias_of_huber_is_that_of_a_search(n: int, seed: int, threshold: float) -> None:
    """Also in lanes; where many biases are as good, none of them is better."""
    task, random = Huber(threshold), np.random.default_rng(seed)
    target, output = torch.from_numpy(random.normal(size=n).round(1)), torch.zeros(n, 1).double()

    def slope(bias: float) -> float:
        return float(task.slope(output + bias, target).sum())

    found = task.best_bias(output, target)
    least = task.losses(output + brentq(slope, -99, 99, xtol=1e-14, rtol=1e-14), target).sum()
    assert abs(float(task.losses(output + found, target).sum() - least)) <= 1e-12 * n
    lanes = torch.vmap(task.best_bias, in_dims=(0, None))(torch.stack([output, output + 1]), target)
    for lane, shift in zip(lanes, (0, 1), strict=True):
        assert abs(float(task.losses(output + shift + lane, target).sum() - least)) <= 1e-12 * n


@given(st.floats(1e-8, 1e8), st.floats(-1e-3, 1e-3))
def test_a_relative_entropy_keeps_its_digits(number: float, share: float) -> None:
    """Near r it is r(e²/2 − e³/6 + e⁴/12 − …), with e the share by which m is larger than r."""
    r = torch.tensor(number, dtype=torch.float64)
    m = r * (1 + share)
    e = float((m - r) / r)
    series = number * sum((-1) ** k * e**k / (k * (k - 1)) for k in range(2, 9))
    # e has the rounding of its subtraction, and the difference that of its two terms, of about |e|.
    assert float(relative_entropy(m, r)) == pytest.approx(series, rel=1e-12, abs=number * 4e-16 * abs(e))


def test_a_relative_entropy_at_its_ends() -> None:
    pairs = [[0.0, 2.0], [0.0, 0.0], [3.0, 0.0], [-1e-300, 1.0], [1.0, math.inf]]
    m, r = torch.tensor(pairs, dtype=torch.float64).T
    expected = torch.tensor([2.0, 0.0, math.inf, math.inf, math.inf]).double()
    torch.testing.assert_close(relative_entropy(m, r), expected, rtol=0, atol=0)


@pytest.mark.parametrize("task", [Poisson, Gamma, Huber])
@pytest.mark.parametrize("seed", range(3))
def test_the_laws_know_which_targets_a_task_takes(task: type[ConvexTask], seed: int) -> None:
    """By the least number of the target, or by the values that they are told."""
    check_task(task.for_target, Target(least=0.5 if task is Gamma else 0.0), seed)
    check_task(task.for_target, Target(least=0.5), seed, values=[0.5, 2.0, 7.25])
