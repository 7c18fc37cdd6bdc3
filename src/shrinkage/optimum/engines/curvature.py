"""A quadratic model of a convex loss: second derivatives in the weights that are in play, the free bias eliminated."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from .columns import Array, inner
from .rows import Rows

PINNED = 1e-12  # the share of the largest curvature below which a direction has none


def inverse_of(curvature: Array) -> Array:
    """Compute an inverse of a matrix [k, k] on its range, after scaling its diagonal to 1: a class may be all but gone.

    Of a softmax the same number added to every bias changes nothing: that direction stays. What has no curvature, as a
    constant column beside a bias, stays where it is.
    """
    diagonal = curvature.diagonal()
    unit = np.where(diagonal > 0, 1 / np.sqrt(np.maximum(diagonal, np.finfo(float).tiny)), 0.0)
    return np.linalg.pinv(curvature * unit * unit[:, None], rcond=PINNED, hermitian=True) * unit * unit[:, None]


@dataclass
class Curvature:
    """Second derivatives of the mean loss at one point, in weights at `places`, after the best move of the bias.

    With c(i)·p + j the place of the weight of column j for output c, H is (1/n)Σ ∇²ℓ(zᵢ)_cd x_ij x_im between two
    places, R that between a place and what no penalty holds, B between two of those; what is left after these is
    H − RB⁺Rᵀ. They are the biases, and the weights of free columns (`Rows`).

    rates: ∇²ℓ, [n, outputs, outputs]. output: where they are. places: [m]. hessian: H − RB⁺Rᵀ, [m, m]. across: R [m,
    loose]. inverse: B⁺.
    """

    rows: Rows
    rates: Array
    output: Array
    places: Array
    hessian: Array
    across: Array
    inverse: Array
    factor: tuple[float, tuple[Array, bool]] | None = None

    @classmethod
    def at(cls, rows: Rows, output: Array, places: Array) -> "Curvature":
        """Compute the second derivatives at outputs [n, outputs], in the weights at these places."""
        rates = rows.curvatures(output)
        inverse = inverse_of(rows.curvature_in_loose(rates))
        if rows.free is None:
            inverse = inverse * float(rows.is_free)
        empty = np.empty(0, dtype=np.int64)
        found = cls(rows, rates, output, empty, np.empty((0, 0)), np.empty((0, len(inverse))), inverse)
        found.extend(places)
        return found

    def solve(self, l2: float, right: Array) -> Array:
        """Solve (H − RB⁺Rᵀ + λ₂)w = right for w [m], the smallest one if there are many without a penalty.

        A decomposition is kept for the next right-hand side.
        """
        if not l2:
            return np.linalg.pinv(self.hessian, rcond=PINNED, hermitian=True) @ right
        if self.factor is None or self.factor[0] != l2:
            curved = self.hessian.copy()
            curved[np.diag_indices_from(curved)] += l2
            try:
                self.factor = l2, cho_factor(curved, lower=True, overwrite_a=True, check_finite=False)
            except np.linalg.LinAlgError:  # λ₂ is less than the rounding of H
                values, vectors = np.linalg.eigh(self.hessian)
                return vectors @ ((right @ vectors) / (np.maximum(values, 0.0) + l2))
        return cho_solve(self.factor[1], right, check_finite=False)

    def extend(self, places: Array) -> None:
        """Take further weights in, at the same point."""
        across = self.with_loose(places)
        new = self.between(places, places) - across @ self.inverse @ across.T
        if len(self.places):
            old = self.between(self.places, places) - self.across @ self.inverse @ across.T
            new = np.block([[self.hessian, old], [old.T, new]])
        self.hessian, self.factor = new, None
        self.places = np.concatenate([self.places, places])
        self.across = np.concatenate([self.across, across])

    def between(self, left: Array, right: Array) -> Array:
        """Compute H between weights at two lists of places, [left, right]."""
        (n, p), k = self.rows.x.shape, self.rows.outputs
        found = np.zeros((len(left), len(right)))
        lefts, rights = ([np.flatnonzero(each // p == c) for c in range(k)] for each in (left, right))
        blocks = [self.rows.x.take(right[own] % p) for own in rights]
        is_square = left is right
        for c, own in enumerate(lefts):
            block = blocks[c] if is_square else self.rows.x.take(left[own] % p)
            for d, others in enumerate(rights):
                if not len(own) or not len(others) or (is_square and d < c) or not self.rates[:, c, d].any():
                    continue
                product = inner(block, blocks[d], self.rates[:, c, d]) / n
                if self.rows.problem.task.is_joint:
                    joint, other = (self.rows.joint_part(self.output, each) for each in (block, blocks[d]))
                    product -= joint.T @ other / n
                found[np.ix_(own, others)] = product
                if is_square and d > c:
                    found[np.ix_(others, own)] = product.T
        return found

    def with_loose(self, places: Array) -> Array:
        """Compute R: H between weights at these places and what no penalty holds, [m, loose]."""
        (n, p), k, free = self.rows.x.shape, self.rows.outputs, self.rows.free
        found = np.zeros((len(places), len(self.inverse)))
        for c in range(k):
            own = np.flatnonzero(places // p == c)
            if not len(own):
                continue
            columns = self.rows.x.take(places[own] % p)
            if self.rows.is_free:
                found[own, :k] = columns.slopes_of(self.rates[:, c].T).T / n
            if free is not None:
                found[own, k:] = np.hstack([inner(columns, free, self.rates[:, c, d]) / n for d in range(k)])
        return found
