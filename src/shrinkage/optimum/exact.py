"""What is known exactly about a penalised linear model: its optimum, and its degrees of freedom.

The objective is (1/n)Σ ℓ(Wxᵢ + b, yᵢ) + λ₁‖W‖₁ + ½λ₂‖W‖², with ½ residual² or cross-entropy.
"""

import warnings
from dataclasses import dataclass

import numpy as np

from .engines.columns import DenseColumns
from .engines.gaussian import gaussian_path
from .redundancy import centred, sparsest

CHEAP_CLASSIFICATION = 2_000_000  # rows × weights under which an exact L2 classification takes about a second
CHEAP_REGRESSION = 500_000_000  # multiply-adds of a singular value decomposition of about a second
SMALL_HESSIAN = 1_000  # weights up to which Newton's method beats L-BFGS
ITERATIONS = 100_000


@dataclass(frozen=True)
class Optimum:
    """The weights and bias that minimise the objective.

    weight: [outputs, p]. bias: [outputs]. unique: whether no other weights minimise it too.

    degrees_of_freedom: for regression the expected ones, with the bias: 1 + Σs²/(s² + nλ₂) over the singular values s
    of the centred columns whose weights are not zero. For ridge they are all (Hastie, Tibshirani & Friedman, "The
    elements of statistical learning", §3.4.1), for the lasso that counts them (Zou, Hastie & Tibshirani, 2007).
    """

    weight: np.ndarray
    bias: np.ndarray
    unique: bool
    degrees_of_freedom: float | None = None


def is_cheap(x: np.ndarray, classes: int | None, l1: float, problems: int = 1) -> bool:
    """Tell whether so many exact optima take no more than about a second."""
    n, p = x.shape
    if classes is None:
        return problems * n * p * min(n, p) <= CHEAP_REGRESSION
    return l1 == 0 and problems * n * p * (1 if classes == 2 else classes) <= CHEAP_CLASSIFICATION


def optimum(
    x: np.ndarray, y: np.ndarray, classes: int | None, l1: float, l2: float, free_bias: bool = True
) -> Optimum | None:
    """Solve for the exact minimiser for x [n, p] and y [n]; None if there is none: classes without a penalty.

    If there are many, as for λ = 0 with fewer rows than columns, it is the one with the smallest ‖w‖₂ (no penalty), or
    for L1 the one on the first of the columns that can stand for one another. Two classes have one logit.
    """
    if classes is None:
        return least_squares(x, y, l1, l2, free_bias)
    return None if l1 == l2 == 0 else cross_entropy(x, y, classes, l1, l2, free_bias)


def least_squares(x: np.ndarray, y: np.ndarray, l1: float, l2: float, free_bias: bool = True) -> Optimum:
    """Minimise ½ mean squares + an elastic net: ridge by a singular value decomposition, else by an engine."""
    x_mean, y_mean = (x.mean(axis=0), y.mean()) if free_bias else (np.zeros(x.shape[1]), 0.0)
    design, target = centred(x) if free_bias else x, y - y_mean
    n, p = x.shape
    if l1 == 0:
        u, s, vt = np.linalg.svd(design, full_matrices=False)
        there = s > s.max(initial=0) * max(n, p) * np.finfo(float).eps
        u, s, vt = u[:, there], s[there], vt[there]
        weight = vt.T @ (s / (s**2 + n * l2) * (u.T @ target))
        unique, freedom = l2 > 0 or len(s) == p, float((s**2 / (s**2 + n * l2)).sum())
    else:
        (weight,) = gaussian_path(DenseColumns(design), target, np.array([[l1, l2]]))
        unique = l2 > 0
        if not unique:
            (weight,), groups = sparsest(design, weight[None])
            unique = not groups.any()
        s = np.linalg.svd(design[:, weight != 0], compute_uv=False)
        freedom = float((s**2 / (s**2 + n * l2)).sum())
    bias = y_mean - x_mean @ weight
    return Optimum(weight[None], np.array([bias]), bool(unique), freedom + free_bias)


def cross_entropy(x: np.ndarray, y: np.ndarray, classes: int, l1: float, l2: float, free_bias: bool) -> Optimum:
    """Minimise the mean cross-entropy + an elastic net, by scikit-learn's `LogisticRegression`."""
    from sklearn.linear_model import LogisticRegression

    n, p = x.shape
    weights = p * (1 if classes == 2 else classes)
    solver = "saga" if l1 else "newton-cholesky" if weights <= SMALL_HESSIAN else "lbfgs"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(
            C=1 / (n * (l1 + l2)),
            l1_ratio=l1 / (l1 + l2),
            solver=solver,
            tol=1e-9,
            max_iter=ITERATIONS if not l1 else 20_000,
            fit_intercept=free_bias,
        ).fit(x, y)
    bias = np.broadcast_to(model.intercept_, len(model.coef_)).astype(float)
    weight, unique, design = model.coef_, l2 > 0, centred(x) if free_bias else x
    if not l2:
        weight, groups = sparsest(design, weight, is_shift_invariant=True)
        bias = bias + (x.mean(axis=0) * free_bias) @ (model.coef_ - weight).T
        # Between the two middle ones of an even number of classes a column's weights can be shifted.
        half, order = len(weight) // 2, np.sort(weight, axis=0)
        unique = not groups.any() and (len(weight) % 2 == 1 or bool((order[half - 1] == order[half]).all()))
    return Optimum(weight, bias, unique)
