"""Exact engines: every point certified, equal to scikit-learn, closed forms and glmnet, whatever the columns are."""

import itertools
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import ElasticNet, LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from shrinkage.errors import InputError
from shrinkage.optimum.engines.path import Solved, solve_in_turn, solve_path
from shrinkage.optimum.engines.quadratic import minimise
from shrinkage.optimum.problem import Problem
from shrinkage.tasks.auto import task_for
from shrinkage.tasks.base import Target

LASSO, ELASTIC, RIDGE = 1.0, 0.5, 0.0
PROMISED = 1e-6  # the largest gap of a point, as a share of the null objective, that trainer=exact takes as solved


@pytest.fixture
def random() -> np.random.Generator:
    """Draws of one test alone: they do not depend on what ran before."""
    return np.random.default_rng(0)


def problem_of(x: np.ndarray, y: np.ndarray, classes: int | None = None, bias: str = "free") -> Problem:
    return Problem(
        torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(y), task_for(Target(classes=classes)), bias
    )


def path(problem: Problem, *ratios: float, num: int = 10, reach: float = 1e-3) -> np.ndarray:
    """The strengths (λ₁, λ₂) of a path for each share of λ₁, from λ_max down."""
    largest = problem.lambda_max(1.0) or 1.0
    totals = np.geomspace(1.05 * largest, reach * largest, num)
    return np.array([(ratio * total, (1 - ratio) * total) for ratio in ratios for total in totals])


def null_objective(problem: Problem) -> float:
    return float(
        problem.objective(
            0.0, 0.0, *problem.best_bias_of(torch.zeros(problem.task.outputs, problem.design.shape[1]).double())
        )
    )


def assert_certified(problem: Problem, strengths: np.ndarray, solved: Solved, share: float = 1e-10) -> None:
    """Every point has the gap that the problem itself computes, and that is none.

    Both round the outputs and the target, and by that the slopes of the weights. This moves a gap by ‖W‖₁ times as
    much, and where the slopes are scaled to fit under λ₁, by that share of what the null objective is.
    """
    assert solved.has_minimum.all()
    widest, farthest = float(problem.design.abs().max()), float(problem.y.abs().max())
    assert (solved.gap <= share * null_objective(problem)).all(), solved.gap.max() / null_objective(problem)
    for (l1, l2), weight, bias, gap in zip(strengths, solved.weight, solved.bias, solved.gap, strict=True):
        own = problem.duality_gap(l1, l2, torch.from_numpy(weight), torch.from_numpy(bias))
        reach = widest * np.abs(weight).sum()
        output = reach + np.abs(bias).max() + farthest
        rounding = 4 * np.finfo(float).eps * output * (reach + (null_objective(problem) * widest / l1 if l1 else 0.0))
        assert abs(float(own) - gap) <= 1e-12 * null_objective(problem) + rounding


@st.composite
def designs(draw: st.DrawFn) -> tuple[np.ndarray, np.random.Generator]:
    """Rows x of columns at random, duplicate and constant ones among them, more than rows; and what drew them."""
    n, p = draw(st.integers(5, 25)), draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    x = random.normal(size=(n, p)) * draw(st.sampled_from([0.1, 1.0, 5.0])) + draw(st.sampled_from([0.0, 2.0]))
    if p > 2 and draw(st.booleans()):
        x[:, 0], x[:, 1] = x[:, 2], 1.0
    if p > 3 and draw(st.booleans()):
        x[:, 3] = -x[:, 2]
    return x, random


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Any design, classes of one row or that a plane parts, any bias."""
    kind = draw(st.sampled_from([None, 2, 3, 4]))
    x, random = draw(designs())
    n = len(x)
    if draw(st.booleans()):
        x = np.round(x)  # ties
    if kind is None:
        y = 2 * random.normal(size=n) + 1
    else:
        y = draw(st.sampled_from(["mixed", "one row a class", "separable"]))
        y = {
            "mixed": np.arange(n) % kind,
            "one row a class": np.minimum(np.arange(n), kind - 1),
            "separable": np.searchsorted(np.quantile(x[:, 0], np.arange(1, kind) / kind), x[:, 0]),
        }[y]
    return problem_of(x, y, kind, draw(st.sampled_from(["free", "none", "penalised"])))


@given(problems(), st.sampled_from([LASSO, 0.9, ELASTIC, RIDGE]))
@settings(deadline=None, max_examples=150)
def test_every_point_is_certified(problem: Problem, ratio: float) -> None:
    assume(problem.lambda_max() > 1e-12)  # else the columns say nothing but rounding
    strengths = path(problem, ratio, num=5)
    assert_certified(problem, strengths, solve_path(problem, strengths), PROMISED)


@given(problems())
@settings(deadline=None, max_examples=60)
def test_without_a_penalty_the_optimum_is_certified_or_there_is_none(problem: Problem) -> None:
    """Where it is said that there is none, weights grow on and on as a penalty vanishes: with log 1/λ."""
    solved = solve_path(problem, np.zeros((1, 2)))
    if solved.has_minimum[0]:
        assert_certified(problem, np.zeros((1, 2)), solved, PROMISED)
    else:
        assert np.isinf(solved.gap[0]) and not solved.weight.any()
        weak, weaker = solve_path(problem, np.array([[0.0, 1e-7], [0.0, 1e-10]])).weight
        # A class without rows is a matter of the bias alone.
        is_missing = len(np.unique(problem.y)) < max(problem.task.outputs, 2)
        assert is_missing or np.abs(weaker).max() > 1.02 * np.abs(weak).max()


@pytest.mark.parametrize("ratio", [LASSO, ELASTIC, RIDGE])
@pytest.mark.parametrize("shape", [(60, 5), (30, 80)])
@pytest.mark.parametrize("is_free", [True, False])
def test_least_squares_are_those_of_scikit_learn(
    shape: tuple[int, int], ratio: float, is_free: bool, random: np.random.Generator
) -> None:
    x = random.normal(size=shape) + 0.5
    y = x[:, :3] @ [1.0, -2.0, 0.5] + 2 + 0.5 * random.normal(size=len(x))
    problem = problem_of(x, y, bias="free" if is_free else "none")
    strengths = path(problem, ratio, num=4, reach=1e-2)
    for (l1, l2), weight, bias in zip(strengths, *solution(problem, strengths), strict=True):
        if ratio:
            model = ElasticNet(alpha=l1 + l2, l1_ratio=ratio, fit_intercept=is_free, tol=1e-14, max_iter=1_000_000)
        else:
            model = Ridge(alpha=len(x) * l2, fit_intercept=is_free, solver="svd")
        model.fit(x, y)
        np.testing.assert_allclose(weight[0], model.coef_, rtol=0, atol=1e-6)
        assert bias[0] == pytest.approx(model.intercept_, abs=1e-5)


def solution(problem: Problem, strengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    solved = solve_path(problem, strengths)
    # A slope may miss its bound by 1e-12 of λ_max. A gap moves with it by ‖W‖₁ ≤ F(0)/λ, and by as much again where the
    # slopes are scaled to fit under λ₁. A path here goes down to λ = λ_max/100.
    assert_certified(problem, strengths, solved, 2e-10)
    return solved.weight, solved.bias


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("ratio", [LASSO, RIDGE])
def test_classes_are_those_of_scikit_learn(classes: int, ratio: float, random: np.random.Generator) -> None:
    x = random.normal(size=(80, 5)) + 0.5
    y = (x[:, 0] + random.normal(size=80) > np.array([[0.0], [1.0]])[: classes - 1]).sum(axis=0)
    problem = problem_of(x, y, classes)
    strengths = path(problem, ratio, num=3, reach=3e-2)
    solver = "saga" if ratio else "newton-cholesky"
    for (l1, l2), weight in zip(strengths, solution(problem, strengths)[0], strict=True):
        model = LogisticRegression(C=1 / (80 * (l1 + l2)), l1_ratio=ratio, solver=solver, tol=1e-10, max_iter=100_000)
        # A softmax under L1 can be shifted between two classes; here three of them make the weights unique.
        np.testing.assert_allclose(weight, model.fit(x, y).coef_, rtol=0, atol=1e-6)


def test_a_lasso_on_orthogonal_columns_is_a_soft_threshold(random: np.random.Generator) -> None:
    x = np.linalg.qr(random.normal(size=(40, 8)))[0] * np.sqrt(40)
    y = random.normal(size=40)
    strengths = np.array([[0.1, 0.0], [0.02, 0.3], [0.0, 0.5], [0.0, 0.0]])
    correlation = x.T @ y / 40
    for (l1, l2), weight in zip(strengths, solution(problem_of(x, y, bias="none"), strengths)[0], strict=True):
        expected = np.sign(correlation) * np.maximum(np.abs(correlation) - l1, 0) / (1 + l2)
        np.testing.assert_allclose(weight[0], expected, rtol=0, atol=1e-13)


def test_least_squares_without_a_penalty_have_the_smallest_weights(random: np.random.Generator) -> None:
    x, y = random.normal(size=(10, 30)), random.normal(size=10)
    weight, bias = solution(problem_of(x, y), np.zeros((1, 2)))
    centred = x - x.mean(axis=0)
    np.testing.assert_allclose(weight[0, 0], np.linalg.pinv(centred) @ y, rtol=0, atol=1e-12)
    np.testing.assert_allclose(x @ weight[0, 0] + bias[0], y, rtol=0, atol=1e-12)


def table(name: str) -> Problem:
    x, y = {"breast_cancer": load_breast_cancer, "digits": load_digits}[name](return_X_y=True)
    return problem_of(StandardScaler().fit_transform(x), y, int(y.max()) + 1)


@pytest.mark.parametrize("name", ["breast_cancer", "digits"])
def test_real_tables_are_certified(name: str) -> None:
    problem = table(name)
    strengths = path(problem, LASSO, ELASTIC, RIDGE, num=6, reach=1e-2)
    assert_certified(problem, strengths, solve_path(problem, strengths))


def test_the_order_of_strengths_does_not_matter_and_nothing_is_left_to_chance(random: np.random.Generator) -> None:
    problem = table("breast_cancer")
    strengths = path(problem, LASSO, ELASTIC, RIDGE, num=4)
    once, again = solve_path(problem, strengths), solve_path(problem, strengths)
    order = random.permutation(len(strengths))
    shuffled = solve_path(problem, strengths[order])
    for name in ("weight", "bias", "gap"):
        np.testing.assert_array_equal(getattr(once, name), getattr(again, name))
        np.testing.assert_array_equal(getattr(once, name)[order], getattr(shuffled, name))


def test_a_path_that_is_interrupted_keeps_what_it_has_yielded() -> None:
    """Points come as they are certified, from strong to weak, each once, and equal to those of the whole path."""
    problem = table("breast_cancer")
    strengths = path(problem, ELASTIC, LASSO, num=25)
    whole = solve_path(problem, strengths)
    turns = solve_in_turn(problem, strengths)
    kept = list(itertools.islice(turns, 1))
    turns.close()
    places = np.concatenate([places for places, _ in kept])
    assert 0 < len(places) < len(strengths) and len(np.unique(places)) == len(places)
    np.testing.assert_array_equal(np.concatenate([part.weight for _, part in kept]), whole.weight[places])
    assert (np.diff(strengths[places].sum(axis=1)) < 0).all()
    rest = np.concatenate([places for places, _ in solve_in_turn(problem, strengths)])
    np.testing.assert_array_equal(np.sort(rest), np.arange(len(strengths)))


@pytest.mark.parametrize("goal", [0.0, 1e-300])
def test_a_weight_whose_goal_is_zero_ends_the_search(goal: float) -> None:
    """A weight that the quadratic function moves to exactly zero, where it has no sign any more, leaves the support."""
    hessian = np.array([[1.0, 0.5], [0.5, 1.0]])
    l1, other = 0.5, 1.0
    pull = np.array([l1 + 0.5 * other + goal, l1 + other + 0.5 * goal])
    found = minimise(hessian, pull, l1, 0.0, np.array([1.0, 1.0]))
    np.testing.assert_allclose(found, [goal, other], rtol=0, atol=1e-15)


def test_bad_strengths_are_refused() -> None:
    problem = table("breast_cancer")
    for bad in ([[-0.1, 0.0]], [[0.1, np.inf]], [[np.nan, 0.0]]):
        with pytest.raises(InputError, match="have to be finite and no less than 0"):
            solve_path(problem, np.array(bad))


def test_parted_classes_have_no_minimum_without_a_penalty_and_mixed_ones_have() -> None:
    x = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    for y, exists in (([0, 0, 1, 1], False), ([0, 1, 0, 1], True)):
        solved = solve_path(problem_of(x, np.array(y), 2), np.zeros((1, 2)))
        assert solved.has_minimum[0] == exists and np.isfinite(solved.gap[0]) == exists
    touching = problem_of(np.array([[-1.0], [0.0], [0.0], [1.0]]), np.array([0, 0, 1, 1]), 2)
    assert not solve_path(touching, np.zeros((1, 2))).has_minimum[0]


# The problem's strengths are given as alpha and lambda; the intercepts and the weights of a fit are a line each.
GLMNET = """
if (!requireNamespace("glmnet", quietly = TRUE)) quit(status = 3)
rows <- as.matrix(read.csv("rows.csv"))
strengths <- read.csv("strengths.csv")
p <- ncol(rows) - 1
for (i in seq_len(nrow(strengths))) {
  total <- strengths$l1[i] + strengths$l2[i]
  fit <- glmnet::glmnet(rows[, 1:p], rows[, p + 1], commandArgs(trailingOnly = TRUE), alpha = strengths$l1[i] / total,
                        lambda = total, standardize = FALSE, thresh = 1e-14, maxit = 1e7)
  found <- coef(fit)
  if (is.list(found)) found <- do.call(cbind, lapply(found, as.matrix))
  cat(sprintf("%.17g", as.matrix(found)), "\\n")
}
"""


@pytest.mark.parametrize("kind", [2, 3])
def test_classes_are_those_of_glmnet(kind: int, tmp_path: Path, random: np.random.Generator) -> None:
    """With λ₂ > 0, where the optimum is one; λ₁ alone for one logit."""
    if shutil.which("Rscript") is None:
        pytest.skip("R is not installed")
    x = random.normal(size=(90, 12)) + 0.5
    y = (x[:, 0] + x[:, 1] + random.normal(size=90) > np.array([[0.5], [1.5]])[: kind - 1]).sum(axis=0)
    problem = problem_of(x, y, kind)
    strengths = path(problem, *((LASSO, ELASTIC, RIDGE) if kind == 2 else (ELASTIC, RIDGE)), num=4, reach=1e-2)
    np.savetxt(tmp_path / "rows.csv", np.column_stack([x, y]), delimiter=",", header="r", comments="", fmt="%.17g")
    lines = (tmp_path / "rows.csv").read_text().splitlines()
    names = ",".join(f"c{number}" for number in range(x.shape[1] + 1))
    (tmp_path / "rows.csv").write_text("\n".join([names, *lines[1:]]))
    np.savetxt(tmp_path / "strengths.csv", strengths, delimiter=",", header="l1,l2", comments="", fmt="%.17g")
    family = "binomial" if kind == 2 else "multinomial"
    done = subprocess.run(["Rscript", "-e", GLMNET, family], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    if done.returncode == 3:
        pytest.skip("R has no glmnet")
    assert done.returncode == 0, done.stderr
    theirs = np.array([line.split() for line in done.stdout.splitlines()], dtype=float)
    theirs = theirs.reshape(len(strengths), problem.task.outputs, x.shape[1] + 1)
    weight, bias = solution(problem, strengths)
    np.testing.assert_allclose(weight, theirs[:, :, 1:], rtol=0, atol=1e-6)
    # Biases of a softmax can be shifted together.
    shift = 0 if kind == 2 else 1
    ours, other = (each - shift * each.mean(axis=1, keepdims=True) for each in (bias, theirs[:, :, 0]))
    np.testing.assert_allclose(ours, other, rtol=0, atol=2e-6)
