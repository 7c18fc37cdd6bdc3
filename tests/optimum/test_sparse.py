"""A sparse design has the optimum, the gaps and the λ_max of its dense twin, and its zeros are never written down."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.sparse import csc_array, random_array

from shrinkage.errors import InputError
from shrinkage.optimum.engines.path import solve_path
from shrinkage.optimum.gaps import duality_gaps
from shrinkage.optimum.problem import Problem
from shrinkage.optimum.sparse_problem import SparseProblem
from shrinkage.tasks.auto import task_for
from shrinkage.tasks.base import Target


@st.composite
def twins(draw: st.DrawFn, classes: tuple[int | None, ...] = (None, 2, 3)) -> tuple[SparseProblem, Problem]:
    """A sparse problem and the same one with its zeros, with empty and constant columns, and any bias."""
    kind, bias = draw(st.sampled_from(classes)), draw(st.sampled_from(["free", "none", "penalised"]))
    n, p = draw(st.integers(6, 25)), draw(st.integers(2, 40))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    x = random.normal(size=(n, p)) * (random.random(size=(n, p)) < draw(st.sampled_from([0.1, 0.4])))
    x[:, 0] = draw(st.sampled_from([0.0, 1.0]))
    y = 2 * random.normal(size=n) + 1 if kind is None else np.arange(n) % kind
    task, target = task_for(Target(classes=kind)), torch.from_numpy(y)
    return SparseProblem(csc_array(x), target, task, bias), Problem(torch.from_numpy(x), target, task, bias)


def path(problem: Problem, ratio: float) -> np.ndarray:
    totals = np.geomspace(1.05, 1e-2, 6) * problem.lambda_max()
    return np.stack([ratio * totals, (1 - ratio) * totals], axis=1)


@given(twins(), st.sampled_from([0.5, 0.9]))
@settings(deadline=None, max_examples=40)
def test_weights_and_gaps_are_those_of_the_dense_twin(problems: tuple[SparseProblem, Problem], ratio: float) -> None:
    sparse, dense = problems
    assume(dense.lambda_max() > 1e-12)
    assert sparse.lambda_max() == pytest.approx(dense.lambda_max(), rel=1e-12)
    strengths = path(dense, ratio)
    found, twin = solve_path(sparse, strengths), solve_path(dense, strengths)
    np.testing.assert_allclose(found.weight, twin.weight, rtol=0, atol=1e-7)
    np.testing.assert_allclose(found.bias, twin.bias, rtol=0, atol=1e-7)
    assert_certified(found.gap, dense)
    assert_gaps_are_equal(sparse, dense, strengths, found.weight, found.bias)


@given(twins())
@settings(deadline=None, max_examples=40)
def test_a_lasso_has_the_objective_of_its_dense_twin(problems: tuple[SparseProblem, Problem]) -> None:
    """Its weights need not be unique, so they are vouched for by the gap that the dense problem computes of them."""
    sparse, dense = problems
    assume(dense.lambda_max() > 1e-12)
    strengths = path(dense, 1.0)
    found = solve_path(sparse, strengths)
    assert_certified(found.gap, dense)
    assert_gaps_are_equal(sparse, dense, strengths, found.weight, found.bias)


def assert_certified(gaps: np.ndarray, problem: Problem) -> None:
    null = problem.objective(0.0, 0.0, *problem.best_bias_of(torch.zeros(problem.task.outputs, problem.width).double()))
    assert (gaps <= 1e-9 * float(null)).all()


@given(twins(), st.floats(0.0, 1.0), st.floats(0.01, 1.0), st.integers(0, 10_000))
@settings(deadline=None, max_examples=40)
def test_any_weights_have_the_certificate_of_the_dense_twin(
    problems: tuple[SparseProblem, Problem], ratio: float, strength: float, seed: int
) -> None:
    sparse, dense = problems
    random = np.random.default_rng(seed)
    weight = random.normal(size=(3, dense.task.outputs, dense.width)) * (random.random(dense.width) < 0.5)
    bias = random.normal(size=(3, dense.task.outputs)) * (dense.bias == "free")
    strengths = np.tile([ratio * strength, (1 - ratio) * strength], (3, 1))
    assert_gaps_are_equal(sparse, dense, strengths, weight, bias)
    for (l1, l2), w, b in zip(strengths, torch.from_numpy(weight), torch.from_numpy(bias), strict=True):
        for measure in ("objective", "duality_gap", "kkt"):
            own, twin = (getattr(problem, measure)(l1, l2, w, b) for problem in problems)
            torch.testing.assert_close(own, twin, rtol=1e-9, atol=1e-12)


def assert_gaps_are_equal(
    sparse: SparseProblem, dense: Problem, strengths: np.ndarray, weight: np.ndarray, bias: np.ndarray
) -> None:
    tensors = [torch.from_numpy(np.ascontiguousarray(each)) for each in (*strengths.T, weight, bias)]
    own, twin = (duality_gaps(problem, *tensors) for problem in (sparse, dense))
    torch.testing.assert_close(own, twin, rtol=1e-9, atol=1e-11)


def test_a_large_design_is_solved_without_its_zeros() -> None:
    """8 · 10¹⁰ bytes with all zeros: it would not fit. The certificate is of every row and column."""
    n, p = 20_000, 500_000
    random = np.random.default_rng(0)
    x = random_array((n, p), density=2e-5, format="csc", rng=random, data_sampler=random.standard_normal)
    y = x[:, :10_000].sum(axis=1) + 0.1 * random.normal(size=n)
    for bias in ("free", "none"):
        problem = SparseProblem(x, torch.from_numpy(y), task_for(Target(classes=None)), bias)
        l1 = np.array([0.9, 0.7]) * problem.lambda_max()
        solved = solve_path(problem, np.stack([l1, 0 * l1], axis=1))
        assert (solved.gap <= 1e-12 * float(np.square(y).mean())).all()
        assert (np.count_nonzero(solved.weight, axis=(1, 2)) > 0).all()


def test_a_mean_far_from_zero_is_subtracted() -> None:
    """A dense column inside a sparse design, of mean 100 and deviation 1."""
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 30)) * (random.random(size=(200, 30)) < 0.1)
    x[:, 0] = 100 + random.normal(size=200)
    y = torch.from_numpy(x[:, 0] + 0.5 * random.normal(size=200))
    dense = Problem(torch.from_numpy(x), y, task_for(Target(classes=None)), "free")
    strengths = path(dense, 0.9)
    found = solve_path(SparseProblem(csc_array(x), y, dense.task, "free"), strengths)
    np.testing.assert_allclose(found.weight, solve_path(dense, strengths).weight, rtol=0, atol=1e-9)
    assert_certified(found.gap, dense)


@pytest.mark.parametrize("strength", [[0.0, 0.1], [0.0, 0.0]])
def test_a_sparse_design_without_l1_is_refused(strength: list[float]) -> None:
    problem = SparseProblem(csc_array(np.eye(4, 9)), torch.arange(4.0).double(), task_for(Target(classes=None)), "free")
    with pytest.raises(InputError, match=r"^λ₁=0: a design of 4 × 9 with 4 numbers is sparse"):
        solve_path(problem, np.array([strength]))
    classes = replace(problem, y=torch.arange(4) % 2, task=task_for(Target(classes=2)))
    with pytest.raises(InputError, match=r"^λ₁=0"):
        solve_path(classes, np.array([strength]))
