"""Certificates against exact solutions, on random problems: what a bound promises holds for every model."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import ElasticNet, LogisticRegression, Ridge
from torch import nn
from torch.optim import SGD

from shrinkage.optimum.certifier import Certifier, optimum_by_engine
from shrinkage.optimum.exact import optimum
from shrinkage.optimum.learning_rates import working_lr
from shrinkage.optimum.memory import memory_of_the_start
from shrinkage.optimum.polishing import polish_lanes
from shrinkage.optimum.problem import Problem
from shrinkage.penalties.l2 import L2
from shrinkage.tasks.auto import task_for
from shrinkage.tasks.base import ConvexTask, Target
from shrinkage.tasks.classification import Classification
from shrinkage.tasks.gamma import Gamma
from shrinkage.tasks.huber import Huber
from shrinkage.tasks.poisson import Poisson
from shrinkage.tasks.regression import Regression
from shrinkage.training import objective

# Losses that are curved by so much at most, and those that are not bounded so; a number stands for so many classes.
BOUNDED, EVERY = (None, 2, 3, Huber(1.0)), (None, 2, 3, Huber(1.0), Poisson(), Gamma())
STRENGTH = st.one_of(st.just(0.0), st.floats(-3, 0.5).map(lambda exponent: 10**exponent))


@st.composite
def problems(draw: st.DrawFn, kinds: tuple = BOUNDED) -> tuple:
    """A problem, λ₁, λ₂ and a random model; some columns are constant or repeated, some weights zero."""
    kind = draw(st.sampled_from(kinds))
    task = kind if isinstance(kind, ConvexTask) else task_for(Target(classes=kind))
    n, p = draw(st.integers(4, 25)), draw(st.integers(1, 10))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    x = random.normal(size=(n, p)) * draw(st.sampled_from([0.1, 1.0, 5.0])) + draw(st.sampled_from([0.0, 2.0]))
    if p > 2 and draw(st.booleans()):
        x[:, 0], x[:, 1] = x[:, 2], 1.0
    y = target_of(task, random, n)
    bias = draw(st.sampled_from(["free", "none", "penalised"]))
    problem = Problem(torch.from_numpy(x), torch.from_numpy(y), task, bias)
    size = problem.design.shape[1]
    weight = random.normal(size=(problem.task.outputs, size)) * draw(st.sampled_from([0.0, 0.1, 1.0, 10.0]))
    weight *= random.random(weight.shape) < draw(st.sampled_from([0.3, 1.0]))
    own = random.normal(size=problem.task.outputs) if bias == "free" else np.zeros(problem.task.outputs)
    return problem, draw(STRENGTH), draw(STRENGTH), torch.from_numpy(weight), torch.from_numpy(own)


def target_of(task: ConvexTask, random: np.random.Generator, n: int) -> np.ndarray:
    """Targets at random: classes in turn, counts of which some are 0, numbers above 0, or any numbers."""
    if isinstance(task, Classification):
        return np.arange(n) % max(task.outputs, 2)
    if isinstance(task, Poisson):
        return random.poisson(2.0, size=n) + (np.arange(n) == 0).astype(float)
    return random.gamma(2.0, size=n) if isinstance(task, Gamma) else 2 * random.normal(size=n) + 1


def solved(problem: Problem, l1: float, l2: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Solve by scikit-learn or closed forms; other losses by an engine, which tests of its own hold to a reference."""
    classes = max(problem.task.outputs, 2) if isinstance(problem.task, Classification) else None
    if classes is None and not problem.task.is_least_squares:
        best = optimum_by_engine(problem, l1, l2)
    else:
        best = optimum(problem.design.numpy(), problem.y.numpy(), classes, l1, l2, problem.bias == "free")
    assume(best is not None)
    return torch.from_numpy(best.weight), torch.from_numpy(best.bias)


@given(problems(EVERY), st.integers(0, 1000))
@settings(deadline=None)
def test_no_model_is_better_than_the_gap_allows(case: tuple, seed: int) -> None:
    """P(w) − gap(w) is a lower bound: no other model, here a random one, has a smaller objective."""
    problem, l1, l2, weight, bias = case
    gap, objective = problem.duality_gap(l1, l2, weight, bias), problem.objective(l1, l2, weight, bias)
    torch.manual_seed(seed)
    for scale in (0.0, 0.3, 1.0):
        other = problem.objective(l1, l2, scale * torch.randn_like(weight), bias)
        assert gap >= 0 and objective - gap <= other + 1e-12 * (1 + objective.abs())


@given(problems(EVERY))
@settings(deadline=None, max_examples=60)
def test_gap_and_kkt_vanish_at_the_optimum_and_bound_the_distance_to_it(case: tuple) -> None:
    problem, l1, l2, weight, bias = case
    l1 = (
        0.0 if problem.y.dtype == torch.int64 else l1
    )  # an exact L1 classification takes seconds: it has a test of its own
    best, best_bias = solved(problem, l1, l2)
    objective, least = problem.objective(l1, l2, weight, bias), problem.objective(l1, l2, best, best_bias)
    scale = 1 + objective.abs()
    # The solvers stop at a gradient of 1e-9, or a gap of 1e-13 of the target's square.
    assert problem.duality_gap(l1, l2, best, best_bias) <= 1e-7 * scale
    assert problem.kkt(l1, l2, best, best_bias) <= 1e-6 * scale
    assert objective - least >= -1e-9 * scale
    assert problem.duality_gap(l1, l2, weight, bias) >= objective - least - 1e-9 * scale
    # Convexity: from a model whose conditions are violated by no more than kkt, the way to the optimum falls no faster.
    distance = (weight - best).abs().sum() + (bias - best_bias).abs().sum()
    refitted = problem.task.best_bias(problem.design @ weight.T, problem.y) if problem.bias == "free" else bias
    excess = problem.objective(l1, l2, weight, refitted) - least
    assert excess <= problem.kkt(l1, l2, weight, bias) * distance + 1e-9 * scale


@given(problems(EVERY))
@settings(deadline=None, max_examples=40)
def test_a_lane_has_the_certificate_of_a_run(case: tuple) -> None:
    problem, l1, l2, weight, bias = case
    factors = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)

    def both(factor: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return problem.duality_gap(factor * l1, factor * l2, weight, bias), problem.kkt(
            factor * l1, factor * l2, weight, bias
        )

    stack = factors[:, None, None] * weight
    for lane, ours in enumerate(zip(*torch.vmap(both)(factors, stack), strict=True)):
        for one, alone in zip(ours, both(factors[lane], stack[lane]), strict=True):
            torch.testing.assert_close(one, alone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("strengths", [(0.1, 0.2), (0.0, 0.2)])
def test_the_columns_are_decomposed_only_for_a_lane_without_a_penalty(strengths: tuple[float, float]) -> None:
    random = np.random.default_rng(0)
    x, y = torch.from_numpy(random.normal(size=(20, 4))), torch.from_numpy(random.normal(size=20))
    problem = Problem(x, y, Regression(), "free")
    weight, bias = torch.ones(2, 1, 4, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)

    def gap(l1: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return problem.duality_gap(l1, 0.0, weight, bias)

    torch.vmap(gap)(torch.tensor(strengths, dtype=torch.float64), weight)
    assert ("columns" in vars(problem)) == (0.0 in strengths)


def test_classes_without_a_penalty_are_certified_at_their_optimum_alone() -> None:
    """There the slopes that no column reaches are all of them; far from it they are no slopes of the loss."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(50, 3)), random.integers(0, 2, size=50)
    problem = Problem(torch.from_numpy(x), torch.from_numpy(y), task_for(Target(classes=2)), "free")
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12).fit(x, y)
    weight, bias = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
    assert problem.duality_gap(0.0, 0.0, weight, bias) <= 1e-14
    near = problem.duality_gap(0.0, 0.0, 1.01 * weight, bias)
    excess = problem.objective(0.0, 0.0, 1.01 * weight, bias) - problem.objective(0.0, 0.0, weight, bias)
    assert excess <= near <= 1e-3
    far = problem.duality_gap(0.0, 0.0, 1000 * weight, bias)
    torch.testing.assert_close(far, problem.objective(0.0, 0.0, 1000 * weight, bias))


@given(problems(), st.floats(0.1, 1.0))
@settings(deadline=None, max_examples=60)
def test_every_weight_is_zero_from_lambda_max_on_and_not_before(case: tuple, l1_ratio: float) -> None:
    """Above it a dual point proves zero weights to be the optimum; below it a proximal step is better than they are."""
    problem, _, _, weight, _ = case
    zero, bias = problem.best_bias_of(torch.zeros_like(weight))
    largest = problem.lambda_max(l1_ratio)

    def strengths(factor: float) -> tuple[float, float]:
        return factor * largest * l1_ratio, factor * largest * (1 - l1_ratio)

    assert problem.duality_gap(*strengths(1 + 1e-9), zero, bias) <= 1e-12
    assume(largest > 1e-6 and weight.shape[1] > (problem.bias == "penalised"))
    named = {"weight": zero[:, : problem.x.shape[1]]}
    if problem.bias != "none":
        named["bias"] = bias
    better = problem.parameters(problem.polished(*strengths(0.9), named, 1))
    assert better[0].any()
    assert problem.objective(*strengths(0.9), *better) < problem.objective(*strengths(0.9), zero, bias)
    assert problem.lambda_max(0.0) == math.inf


def test_counts_have_the_lambda_max_of_glmnet() -> None:
    """For Poisson counts ‖Xᵀ(y − ȳ)‖_∞/n, as in glmnet: its slope is exp(z) − y, and exp(b̂) = ȳ."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(40, 3)) + 1, random.poisson(2.0, size=40).astype(float)
    problem = Problem(torch.from_numpy(x), torch.from_numpy(y), Poisson(), "free")
    assert problem.lambda_max(0.5) == pytest.approx(2 * np.abs(x.T @ (y - y.mean())).max() / 40, rel=1e-12)


@given(problems(), st.sampled_from([1, 20]), st.sampled_from([1e17, math.inf, math.nan]))
@settings(deadline=None, max_examples=40)
def test_polishing_never_leaves_the_problem_worse(case: tuple, steps: int, huge: float) -> None:
    """One proximal step of length 1/L cannot raise the objective; accelerated ones end below the start, and below zero
    weights. From weights that have diverged it goes as from zero."""
    problem, l1, l2, weight, bias = case
    last = None if problem.bias != "penalised" else weight[:, -1]
    named = {"weight": weight if last is None else weight[:, :-1]}
    if problem.bias != "none":
        named["bias"] = bias if last is None else last
    assume(named["weight"].shape[1] > 0 and problem.smoothness > 0)
    polished = problem.parameters(problem.polished(l1, l2, named, steps))
    before = problem.objective(l1, l2, weight, bias)
    assert problem.objective(l1, l2, *polished) <= before + 1e-10 * (1 + before.abs())
    none = problem.best_bias_of(torch.zeros_like(weight))
    zero = problem.objective(l1, l2, *none)
    assert problem.objective(l1, l2, *polished) <= zero + 1e-10 * (1 + zero)
    assume(l1 + l2 > 0 or not math.isfinite(huge))  # classes without a penalty may want weights without bound
    diverged = {name: torch.full_like(value, huge) for name, value in named.items()}
    start = {name: torch.zeros_like(value) for name, value in named.items()}
    ours, theirs = (problem.polished(l1, l2, given, steps) for given in (diverged, start))
    assert all(torch.equal(ours[name], theirs[name]) for name in named)


@given(problems(), st.data())
@settings(deadline=None, max_examples=40)
def test_no_batch_is_steeper_than_the_bound(case: tuple, data: st.DataObject) -> None:
    problem = case[0]
    n = len(problem.x)
    rows = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=n, unique=True))
    x = problem.x if problem.bias == "none" else torch.cat([problem.x, torch.ones(n, 1, dtype=torch.float64)], dim=1)

    def curvature(x: torch.Tensor) -> float:
        return problem.task.curvature * float(torch.linalg.matrix_norm(x, 2)) ** 2 / len(x)

    assert curvature(x[rows]) <= problem.steepness(len(rows)) * (1 + 1e-9)
    assert problem.steepness(n) == pytest.approx(curvature(x), rel=1e-9)


@pytest.mark.parametrize("mode", ["loss", "decay", "prox"])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.parametrize("batch", [32, 5])
def test_the_learning_rate_that_is_said_to_work_does(mode: str, momentum: float, nesterov: bool, batch: int) -> None:
    """On columns from 1 to 1000 wide; with a hundred times as much the same steps diverge."""
    random = np.random.default_rng(0)
    x = torch.from_numpy(random.normal(size=(32, 4)) * [1, 10, 100, 1000] + 5)
    y = x @ torch.tensor([1.0, 0.1, 0.01, 0.001], dtype=torch.float64) + torch.from_numpy(random.normal(size=32))
    penalty, lambd = L2(mode=mode), 0.1
    problem = Problem(x, y, Regression(), "free")
    optimizer = SGD([torch.zeros(1)], lr=1.0, momentum=momentum, nesterov=nesterov)
    works, words = working_lr(Certifier(problem, 1.0, None, exact=False), penalty, lambd, optimizer, batch)
    assert f"use optimizer.lr={works:g}" in words

    def objectives(lr: float) -> list[float]:
        model = nn.Linear(4, 1).double()
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        optimizer = SGD(model.parameters(), lr=lr, momentum=momentum, nesterov=nesterov)
        found, weights = [], {"weight": model.weight}
        for _ in range(300):
            rows = torch.from_numpy(random.permutation(32)[:batch])
            loss = problem.task.loss(model(x[rows]), y[rows])
            optimizer.zero_grad()
            (objective.penalised_loss(penalty, loss, weights, lambd) if mode == "loss" else loss).backward()
            if mode == "decay":
                objective.assign_(weights, objective.decayed(penalty, objective.detached(weights), lr, lambd))
            optimizer.step()
            if mode == "prox":
                w = objective.detached(weights)
                objective.assign_(weights, objective.proxed(penalty, w, lr, lambd, momentum))
            with torch.no_grad():
                found.append(float(problem.objective(0.0, lambd, model.weight, model.bias)))
        return found

    start = float(problem.objective(0.0, lambd, torch.zeros(1, 4).double(), torch.zeros(1).double()))
    assert max(objectives(works)) < 3 * start and objectives(works)[-1] < start
    assert not objectives(100 * works)[-1] < 1e6 * start


@pytest.mark.parametrize(("dtype", "until_gap", "most"), [("float32", 1e-9, 500), ("float64", 1e-30, 1000)])
def test_a_polish_ends_where_the_gap_can_fall_no_further(dtype: str, until_gap: float, most: int) -> None:
    """In single precision the gap that weights prove stays at their rounding; what ends the polish is not rounded."""
    random = np.random.default_rng(1)
    x, y = random.normal(size=(100, 20)), random.normal(size=100)
    problem = Problem(torch.from_numpy(x), torch.from_numpy(y), Regression(), "free")
    certifier = Certifier(problem, 1.0, None, exact=False)
    named = {"weight": torch.ones(1, 1, 20), "bias": torch.zeros(1, 1)}
    named = {name: value.to(getattr(torch, dtype)) for name, value in named.items()}
    l1, l2 = torch.tensor([0.05], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    told = []
    found, taken, from_zero = polish_lanes(
        certifier, l1, l2, named, 20_000, until_gap, lambda done, _: told.append(done)
    )
    assert 0 < taken <= most and from_zero.item() and told[-1] == taken
    weight, bias = problem.parameters({name: value[0] for name, value in found.items()})
    gap, least = problem.duality_gap(0.05, 0.0, weight, bias), certifier.solve(0.05, 0.0)[1]
    assert problem.objective(0.05, 0.0, weight, bias) - least < 1e-12  # the polish is at the optimum all the same
    assert until_gap < gap < {"float32": 1e-6, "float64": 1e-14}[dtype]


@pytest.mark.parametrize("classes", [2, 3])
def test_l1_classification_has_the_optimum_of_another_solver(classes: int) -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(60, 8)), np.arange(60) % classes
    x[:, 0] += y
    best = optimum(x, y, classes, 0.05, 0.0)
    problem = Problem(torch.from_numpy(x), torch.from_numpy(y), task_for(Target(classes=classes)), "free")
    weight, bias = torch.from_numpy(best.weight), torch.from_numpy(best.bias)
    assert problem.duality_gap(0.05, 0.0, weight, bias) < 1e-7
    named = {"weight": torch.zeros_like(weight), "bias": torch.zeros_like(bias)}
    ours, _ = problem.parameters(problem.polished(0.05, 0.0, named, 2000))
    torch.testing.assert_close(ours, weight, rtol=0, atol=1e-6)
    assert 0 < (ours == 0).sum() < ours.numel() and ((ours == 0) == (weight == 0)).all()


@given(st.integers(3, 30), st.integers(1, 40), st.floats(-3, 1), st.booleans())
@settings(deadline=None, max_examples=40)
def test_ridge_is_scikit_learns(n: int, p: int, exponent: float, free: bool) -> None:
    random, l2 = np.random.default_rng(n * p), 10**exponent
    x, y = random.normal(size=(n, p)), random.normal(size=n) + 1
    best = optimum(x, y, None, 0.0, l2, free)
    exact = Ridge(alpha=n * l2, fit_intercept=free, solver="cholesky").fit(x, y)
    np.testing.assert_allclose(best.weight[0], exact.coef_, rtol=0, atol=1e-8)
    assert best.bias[0] == pytest.approx(exact.intercept_, abs=1e-8)
    # Degrees of freedom are the trace of the matrix that makes fitted values out of targets.
    fitted = [Ridge(alpha=n * l2, fit_intercept=free).fit(x, row).predict(x)[i] for i, row in enumerate(np.eye(n))]
    assert best.degrees_of_freedom == pytest.approx(sum(fitted), abs=1e-6)


def test_without_a_penalty_the_optimum_of_many_is_that_of_minimum_norm() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(6, 15)), random.normal(size=6)
    best = optimum(x, y, None, 0.0, 0.0, False)
    assert not best.unique
    np.testing.assert_allclose(best.weight[0], np.linalg.pinv(x) @ y, atol=1e-12)
    repeated = np.hstack([x, x])  # the lasso cannot tell a column from its copy either
    assert not optimum(repeated, y, None, 0.01, 0.0).unique and optimum(x, y, None, 0.01, 0.0).unique


def test_elastic_net_counts_its_degrees_of_freedom_on_the_support() -> None:
    random = np.random.default_rng(1)
    x, y = random.normal(size=(40, 6)), random.normal(size=40)
    exact = ElasticNet(alpha=0.2, l1_ratio=0.5, tol=1e-12).fit(x, y)
    active = (x - x.mean(axis=0))[:, exact.coef_ != 0]
    hat = active @ np.linalg.solve(active.T @ active + 40 * 0.1 * np.eye(active.shape[1]), active.T)
    assert optimum(x, y, None, 0.1, 0.1).degrees_of_freedom == pytest.approx(np.trace(hat) + 1)


@given(st.floats(0, 2), st.lists(st.floats(0.001, 0.3), min_size=1, max_size=30))
def test_the_memory_is_what_shrinking_leaves(lambd: float, rates: list[float]) -> None:
    decayed = proxed = 1.0
    for rate in rates:
        decayed, proxed = decayed - rate * lambd * decayed, proxed / (1 + rate * lambd)
    for mode, left in (("loss", decayed), ("decay", decayed), ("prox", proxed)):
        assert memory_of_the_start(lambd, rates, mode) == pytest.approx(left, rel=1e-9)


def test_two_classes_have_one_logit() -> None:
    random = np.random.default_rng(2)
    x, y = random.normal(size=(50, 4)), np.arange(50) % 2
    exact = LogisticRegression(C=1 / (50 * 0.1), tol=1e-10).fit(x, y)
    np.testing.assert_allclose(optimum(x, y, 2, 0.0, 0.1).weight, exact.coef_, atol=1e-6)
