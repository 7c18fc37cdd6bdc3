"""Least squares under an elastic net: a path of exact solutions, each begun at the one before.

With few columns all their inner products are computed once. Else only those of the columns that ever had a weight: one
enters where its correlation with the residuals exceeds λ₁, the worst first.
Reference: Friedman, Hastie & Tibshirani (2010), "Regularization paths for generalized linear models".
"""

from collections.abc import Iterator

import numpy as np

from .columns import Array, Columns, inner
from .entering import worst_of
from .quadratic import ROUNDING, minimise

FEW_COLUMNS = 2_000  # up to which all inner products are computed, if there are more rows than columns
ROUNDS = 1_000  # of columns that enter; more would be a circle, which only rounding can make


def gaussian_path(
    x: Columns, y: Array, strengths: Array, counts: Array | None = None, ridge: Array | float = 1.0
) -> Iterator[Array]:
    """Solve for each (λ₁, λ₂) in strengths [K, 2], λ₁ > 0, in their order; yields weights [p].

    x: [n, p]. y: [n]. Both are centred where the bias is free. counts: how much each row counts, [n] with a mean of 1,
    None for all the same. ridge: what multiplies λ₂ of each column, [p].
    """
    n, p = x.shape
    is_small = p < n and p <= FEW_COLUMNS
    return (of_all_columns if is_small else of_working_set)(x, y, strengths, counts, ridge)


def of_all_columns(
    x: Columns, y: Array, strengths: Array, counts: Array | None, ridge: Array | float
) -> Iterator[Array]:
    """Solve from the inner products of all columns, [p, p]."""
    n, p = x.shape
    gram, pull, weight = inner(x, x, counts) / n, x.slopes_of(counted(y, counts)) / n, np.zeros(p)
    for l1, l2 in strengths:
        weight = minimise(gram, pull, l1, l2 * ridge, weight)
        yield weight


def counted(values: Array, counts: Array | None) -> Array:
    """Multiply the values of rows, [n], by how much these count."""
    return values if counts is None else counts * values


def of_working_set(
    x: Columns, y: Array, strengths: Array, counts: Array | None, ridge: Array | float
) -> Iterator[Array]:
    """Solve from the inner products of the columns that ever had a weight."""
    n, p = x.shape
    pull, ridge = x.slopes_of(counted(y, counts)) / n, np.broadcast_to(ridge, p)
    columns, gram, weight = np.empty(0, dtype=np.int64), np.empty((0, 0)), np.empty(0)
    chosen = x.take(columns)
    left = pull
    for l1, l2 in strengths:
        enough = l1 + ROUNDING * (l1 + np.abs(pull).max())
        for turn in range(ROUNDS):
            size = np.abs(left)
            size[columns] = 0.0
            entering = worst_of(size, enough, l1, int(np.count_nonzero(weight)))
            if len(entering):
                new = x.take(entering)
                across = inner(chosen, new, counts) / n
                gram = np.block([[gram, across], [across.T, inner(new, new, counts) / n]])
                columns, weight = np.concatenate([columns, entering]), np.append(weight, np.zeros(len(entering)))
                chosen = x.take(columns)
            elif turn:
                break
            weight = minimise(gram, pull[columns], l1, l2 * ridge[columns], weight)
            left = x.slopes_of(counted(y - chosen.outputs_of(weight), counts)) / n
        whole = np.zeros(p)
        whole[columns] = weight
        yield whole
