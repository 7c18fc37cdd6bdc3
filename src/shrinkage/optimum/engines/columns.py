"""Columns of a design as an engine computes with them, in numpy: dense, or sparse and centred without a zero written.

S(X − 1mᵀ) = SX − (S1)mᵀ, and so on for every product, so that the means m of sparse columns are subtracted from what
the columns give and never from the columns.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.sparse import csc_array

from shrinkage.errors import InputError

Array = np.ndarray


class Columns(ABC):
    """Some columns of a design, centred where the bias is free: a matrix X [n, p]."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """n and p."""

    @property
    @abstractmethod
    def numbers(self) -> int:
        """How many numbers are stored."""

    @abstractmethod
    def take(self, which: Array) -> Self:
        """Take the columns at these places, in their order."""

    @abstractmethod
    def divided(self, scale: Array) -> Self:
        """Divide each column by a number of its own, [p]."""

    @abstractmethod
    def outputs_of(self, weight: Array) -> Array:
        """Compute XW for W [p] or [p, m]."""

    @abstractmethod
    def slopes_of(self, slope: Array) -> Array:
        """Compute SX for S [n] or [m, n]."""

    @abstractmethod
    def whole(self) -> Array:
        """Give the matrix with its zeros. Raises InputError where it is sparse."""

    @abstractmethod
    def with_zeros(self) -> Array:
        """Give the matrix with its zeros, of few columns."""


@dataclass(frozen=True)
class DenseColumns(Columns):
    """Columns with every number in memory.

    x: float64 [n, p] in Fortran's order, so that a column is one piece of memory.
    """

    x: Array

    @property
    def shape(self) -> tuple[int, int]:
        return self.x.shape[0], self.x.shape[1]

    @property
    def numbers(self) -> int:
        return self.x.size

    def take(self, which: Array) -> "DenseColumns":
        is_all = len(which) == self.x.shape[1] and bool((which == np.arange(len(which))).all())
        return self if is_all else DenseColumns(self.x[:, which])

    def divided(self, scale: Array) -> "DenseColumns":
        return DenseColumns(self.x / scale)

    def outputs_of(self, weight: Array) -> Array:
        return self.x @ weight

    def slopes_of(self, slope: Array) -> Array:
        return slope @ self.x

    def whole(self) -> Array:
        return self.x

    def with_zeros(self) -> Array:
        return self.x


@dataclass(frozen=True)
class SparseColumns(Columns):
    """Columns of mostly zeros. x: [n, p]. mean: what is subtracted from each, [p]."""

    x: csc_array
    mean: Array

    @property
    def shape(self) -> tuple[int, int]:
        return self.x.shape

    @property
    def numbers(self) -> int:
        return self.x.nnz

    def take(self, which: Array) -> "SparseColumns":
        return SparseColumns(self.x[:, which], self.mean[which])

    def divided(self, scale: Array) -> "SparseColumns":
        return SparseColumns(csc_array(self.x.multiply(1 / scale)), self.mean / scale)

    def outputs_of(self, weight: Array) -> Array:
        return self.x @ weight - self.mean @ weight

    def slopes_of(self, slope: Array) -> Array:
        return slope @ self.x - np.multiply.outer(slope.sum(axis=-1), self.mean)

    def whole(self) -> Array:
        raise InputError(
            f"λ₁=0: a design of {self.shape[0]} × {self.shape[1]} with {self.numbers} numbers is sparse, and is solved "
            "for under λ₁ > 0; ask for an elastic net with a small λ₁, or give the design with its zeros"
        )

    def with_zeros(self) -> Array:
        return self.x.toarray() - self.mean


def inner(left: Columns, right: Columns, rates: Array | None = None) -> Array:
    """Compute XᵀDY [p, m] of columns X [n, p] and Y [n, m] of one design, D the diagonal of rates [n], or of ones."""
    match left, right:
        case DenseColumns(x), DenseColumns(y):
            return x.T @ (y if rates is None else rates[:, None] * y)
        case SparseColumns(x, mean), SparseColumns(y, other):
            rates = np.ones(left.shape[0]) if rates is None else rates
            return (
                (x.T @ y.multiply(rates[:, None])).toarray()
                - np.outer(left.slopes_of(rates), other)
                - np.outer(mean, rates @ y)
            )
        case _:
            raise TypeError("columns of one design are all dense or all sparse")
