"""Counts, gamma and Huber losses: engines and certificates against glmnet, scikit-learn and the test's own solvers."""

import gzip
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.linear_model import GammaRegressor, Lasso, PoissonRegressor
from test_certificate import target_of
from test_engines import ELASTIC, LASSO, PROMISED, RIDGE, assert_certified, designs, null_objective, path

from shrinkage.optimum.engines.path import solve_path
from shrinkage.optimum.problem import Problem
from shrinkage.tasks.base import ConvexTask
from shrinkage.tasks.gamma import Gamma
from shrinkage.tasks.huber import Huber
from shrinkage.tasks.poisson import Poisson
from shrinkage.tasks.regression import Regression

GLMNET = Path(__file__).with_name("glmnet")


def numbers(name: str, folder: Path = GLMNET) -> np.ndarray:
    with gzip.open(folder / f"{name}.csv.gz", "rt") as file:
        return np.loadtxt(file, delimiter=",")


def run_r(script: str, folder: Path) -> None:
    """Have a script in `glmnet/` write its numbers into a folder; skips where R or its packages are not there."""
    if shutil.which("Rscript") is None:
        pytest.skip("R is not installed")
    command = ["Rscript", str(GLMNET / script), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode == 3:
        pytest.skip("R has not the packages that it needs")
    assert done.returncode == 0, done.stderr


def problem_of(x: np.ndarray, y: np.ndarray, task: ConvexTask, bias: str = "free") -> Problem:
    return Problem(torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(y.astype(float)), task, bias)


@pytest.mark.parametrize("task", [Poisson(), Gamma()], ids=lambda task: task.name)
def test_paths_are_those_of_glmnet(task: ConvexTask) -> None:
    """At every λ that glmnet chose for its own example data; it standardises the columns as we do, by 1/n.

    Its fits of a gamma distribution stop up to 0.01 away, with an objective that is larger than ours.
    """
    rows, theirs = numbers("rows"), numbers(task.name)
    x, y = rows[:, :-1], rows[:, -1] + (0.5 if isinstance(task, Gamma) else 0)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    problem = problem_of((x - mean) / scale, y, task)
    alpha, lambd = theirs[:, 0], theirs[:, 1]
    strengths = np.stack([alpha * lambd, (1 - alpha) * lambd], axis=1)
    solved = solve_path(problem, strengths)
    assert_certified(problem, strengths, solved)
    weight = solved.weight[:, 0] / scale
    if isinstance(task, Poisson):
        np.testing.assert_allclose(weight, theirs[:, 3:], rtol=0, atol=1e-6)
        np.testing.assert_allclose(solved.bias[:, 0] - weight @ mean, theirs[:, 2], rtol=0, atol=1e-6)
    for (l1, l2), ours, own, line in zip(strengths, solved.weight, solved.bias, theirs, strict=True):
        other = torch.from_numpy(line[3:] * scale)[None], torch.from_numpy(line[2:3] + line[3:] @ mean)
        least = problem.objective(l1, l2, torch.from_numpy(ours), torch.from_numpy(own))
        assert problem.objective(l1, l2, *other) >= least - 1e-14 * null_objective(problem)
    for ratio in (LASSO, ELASTIC):
        # glmnet's path begins where ours does, and its λ_max is that of an elastic net without its ridge part.
        assert lambd[alpha == ratio].max() == pytest.approx(problem.lambda_max(ratio), rel=1e-9)


def test_the_reference_numbers_are_those_that_glmnet_gives_today(tmp_path: Path) -> None:
    run_r("losses.R", tmp_path)
    for name in ("rows", "poisson", "gamma"):
        np.testing.assert_allclose(numbers(name, tmp_path), numbers(name), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("task", "regressor"), [(Poisson(), PoissonRegressor), (Gamma(), GammaRegressor)])
@pytest.mark.parametrize("bias", ["free", "none"])
def test_ridge_is_that_of_scikit_learn_at_the_same_strength(task: ConvexTask, regressor: type, bias: str) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 8)) + 0.3
    y = target_of(task, random, 60)
    strengths = np.array([[0.0, 1.0], [0.0, 0.1], [0.0, 0.001]])
    problem = problem_of(x, y, task, bias)
    solved = solve_path(problem, strengths)
    for (_, l2), weight, own in zip(strengths, solved.weight, solved.bias, strict=True):
        settings = {"solver": "newton-cholesky", "tol": 1e-12, "max_iter": 1000}
        model = regressor(alpha=l2, fit_intercept=bias == "free", **settings).fit(x, y)
        np.testing.assert_allclose(weight[0], model.coef_, rtol=0, atol=1e-8)
        assert own[0] == pytest.approx(model.intercept_, abs=1e-8)


def residuals_far_off(n: int, p: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a linear model of which a fifth are far off."""
    random = np.random.default_rng(0)
    x = random.normal(size=(n, p)) + 0.5
    y = x[:, :3] @ [1.0, -2.0, 0.5] + 2 + 0.3 * random.normal(size=n)
    return x, y + 20 * (np.arange(n) % 5 == 0)


@pytest.mark.parametrize("threshold", [0.1, 1.345])
def test_huber_under_a_ridge_is_that_of_newtons_method(threshold: float) -> None:
    x, y = residuals_far_off(60, 8)
    n, ones = len(y), np.column_stack([x, np.ones(len(y))])
    for l2 in (1.0, 0.01):
        shrunk = l2 * np.diag([*np.ones(8), 0.0])

        def objective(w: np.ndarray, shrunk: np.ndarray = shrunk) -> tuple[float, np.ndarray]:
            r = ones @ w - y
            inner = np.clip(r, -threshold, threshold)
            value = (inner**2 / 2 + threshold * np.abs(r - inner)).mean() + w @ shrunk @ w / 2
            return value, inner @ ones / n + shrunk @ w

        # Somewhere near, then Newton's method, whose steps end as soon as the rows within ±δ stay the same.
        w = minimize(objective, np.zeros(9), jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10}).x
        for _ in range(10):
            r = ones @ w - y
            inside = ones[np.abs(r) <= threshold]
            w = w - np.linalg.solve(inside.T @ inside / n + shrunk, objective(w)[1])
        assert np.abs(objective(w)[1]).max() <= 1e-13
        solved = solve_path(problem_of(x, y, Huber(threshold)), np.array([[0.0, l2]]))
        np.testing.assert_allclose([*solved.weight[0, 0], *solved.bias[0]], w, rtol=0, atol=1e-8)


@pytest.mark.parametrize("task", [Poisson(), Gamma()], ids=lambda task: task.name)
@pytest.mark.parametrize("ratio", [LASSO, ELASTIC])
def test_sparse_weights_are_those_of_newtons_method_on_their_support(task: ConvexTask, ratio: float) -> None:
    """A quasi-Newton method finds the signs, with positive and negative parts as bounded variables."""
    random = np.random.default_rng(0)
    x = np.column_stack([random.normal(size=(60, 8)) + 0.3, np.ones(60)])
    y = target_of(task, random, 60)
    problem = problem_of(x[:, :-1], y, task)
    strength = 0.3 * problem.lambda_max(ratio)  # at which some weights are zero
    l1, l2 = strength * ratio, strength * (1 - ratio)
    shrunk = np.array([*np.full(8, l2), 0.0])

    def slopes(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The loss and its derivatives, written out once more."""
        if isinstance(task, Poisson):
            return np.exp(z) - y * z, np.exp(z) - y, np.exp(z)
        return z + y * np.exp(-z), 1 - y * np.exp(-z), y * np.exp(-z)

    def objective(parts: np.ndarray) -> tuple[float, np.ndarray]:
        w = parts[:9] - parts[9:]
        loss, slope, _ = slopes(x @ w)
        gradient, each = slope @ x / 60 + shrunk * w, np.tile([*np.full(8, l1), 0.0], 2)
        return loss.mean() + w @ (shrunk * w) / 2 + each @ parts, np.concatenate([gradient, -gradient]) + each

    near = minimize(
        objective, np.zeros(18), jac=True, method="L-BFGS-B", bounds=[(0, None)] * 18, options={"ftol": 1e-15}
    ).x
    w = near[:9] - near[9:]
    w[np.abs(w) < 1e-4] = 0
    on = w != 0
    for _ in range(20):
        _, slope, curvature = slopes(x @ w)
        gradient = slope @ x / 60 + shrunk * w + l1 * np.sign(w) * (np.arange(9) < 8)
        hessian = (x.T * curvature) @ x / 60 + np.diag(shrunk)
        w[on] -= np.linalg.solve(hessian[np.ix_(on, on)], gradient[on])
    assert 0 < on[:-1].sum() < 8 and np.abs(slopes(x @ w)[1] @ x / 60)[:-1][~on[:-1]].max() < l1
    solved = solve_path(problem, np.array([[l1, l2]]))
    np.testing.assert_allclose([*solved.weight[0, 0], *solved.bias[0]], w, rtol=0, atol=1e-8)


@pytest.mark.parametrize("threshold", [0.1, 1.345])
def test_huber_under_l1_is_a_lasso_with_a_weight_of_its_own_for_every_row(threshold: float) -> None:
    """h(r) is the least of ½(r − o)² + δ|o| over o, so that each row has one more column that shifts it alone."""
    x, y = residuals_far_off(40, 6)
    problem = problem_of(x, y, Huber(threshold), "none")
    n, largest = len(y), problem.lambda_max()
    for l1 in (0.5 * largest, 0.02 * largest):
        extended = np.column_stack([x, n * l1 / threshold * np.eye(n)])
        model = Lasso(alpha=l1, fit_intercept=False, tol=1e-15, max_iter=1_000_000).fit(extended, y)
        solved = solve_path(problem, np.array([[l1, 0.0]]))
        np.testing.assert_allclose(solved.weight[0, 0], model.coef_[:6], rtol=0, atol=1e-8)


def test_huber_with_a_threshold_that_no_residual_reaches_is_least_squares() -> None:
    x, y = residuals_far_off(40, 6)
    strengths = path(problem_of(x, y, Regression()), LASSO, ELASTIC, RIDGE, num=4)
    ours, theirs = (solve_path(problem_of(x, y, task), strengths) for task in (Huber(1e3), Regression()))
    np.testing.assert_allclose(ours.weight, theirs.weight, rtol=0, atol=1e-8)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Any design, counts of 0 that a plane parts, any bias."""
    task = draw(st.sampled_from([Poisson(), Gamma(), Huber(0.2), Huber(1.345)]))
    x, random = draw(designs())
    y = target_of(task, random, len(x))
    if isinstance(task, Poisson) and draw(st.booleans()):
        y *= x[:, 0] >= np.median(x[:, 0])
    return problem_of(x, y, task, draw(st.sampled_from(["free", "none", "penalised"])))


@given(problems(), st.sampled_from([LASSO, ELASTIC, RIDGE]))
@settings(deadline=None, max_examples=60)
def test_every_point_is_certified(problem: Problem, ratio: float) -> None:
    assume(problem.lambda_max() > 1e-12)  # else the columns say nothing but rounding
    strengths = path(problem, ratio, num=4)
    assert_certified(problem, strengths, solve_path(problem, strengths), PROMISED)


@given(problems())
@settings(deadline=None, max_examples=40)
def test_without_a_penalty_the_optimum_is_certified_or_there_is_none(problem: Problem) -> None:
    """Only counts have none, where some of 0 can be parted from the others: then weights grow as a penalty vanishes."""
    solved = solve_path(problem, np.zeros((1, 2)))
    if solved.has_minimum[0]:
        assert solved.gap[0] <= PROMISED * null_objective(problem)
    else:
        assert isinstance(problem.task, Poisson) and np.isinf(solved.gap[0]) and not solved.weight.any()
        weak, weaker = solve_path(problem, np.array([[0.0, 1e-7], [0.0, 1e-10]])).weight
        assert np.abs(weaker).max() > 1.02 * np.abs(weak).max()


@pytest.mark.parametrize("width", [1, 4])
def test_counts_of_0_that_can_be_parted_have_no_minimum_and_positive_ones_have(width: int) -> None:
    """Also where there are as many columns as rows, so that any outputs are reached."""
    x = np.array([-2.0, -1.0, 1.0, 2.0])[:, None] ** np.arange(1, width + 1)
    for y, exists in (([0, 0, 0, 1], False), ([2, 1, 3, 1], True), ([0, 2, 3, 0], width == 1)):
        solved = solve_path(problem_of(x, np.array(y), Poisson()), np.zeros((1, 2)))
        assert solved.has_minimum[0] == exists and np.isfinite(solved.gap[0]) == exists
