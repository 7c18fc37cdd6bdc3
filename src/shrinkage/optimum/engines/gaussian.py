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


def gaussian_path(x: Columns, y: Array, strengths: Array) -> Iterator[Array]:
    """Solve for each (λ₁, λ₂) in strengths [K, 2], λ₁ > 0, in their order; yields weights [p].

    x: [n, p]. y: [n]. Both are centred where the bias is free.
    """
    n, p = x.shape
    return of_all_columns(x, y, strengths) if p < n and p <= FEW_COLUMNS else of_working_set(x, y, strengths)


def of_all_columns(x: Columns, y: Array, strengths: Array) -> Iterator[Array]:
    """Solve from the inner products of all columns, [p, p]."""
    n, p = x.shape
    gram, pull, weight = inner(x, x) / n, x.slopes_of(y) / n, np.zeros(p)
    for l1, l2 in strengths:
        weight = minimise(gram, pull, l1, l2, weight)
        yield weight


def of_working_set(x: Columns, y: Array, strengths: Array) -> Iterator[Array]:
    """Solve from the inner products of the columns that ever had a weight."""
    n, p = x.shape
    pull = x.slopes_of(y) / n
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
                across = inner(chosen, new) / n
                gram = np.block([[gram, across], [across.T, inner(new, new) / n]])
                columns, weight = np.concatenate([columns, entering]), np.append(weight, np.zeros(len(entering)))
                chosen = x.take(columns)
            elif turn:
                break
            weight = minimise(gram, pull[columns], l1, l2, weight)
            left = x.slopes_of(y - chosen.outputs_of(weight)) / n
        whole = np.zeros(p)
        whole[columns] = weight
        yield whole
