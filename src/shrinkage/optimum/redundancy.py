"""Columns that are linear combinations of others: which they are, and how a lasso does without them.

Where columns are dependent, many weights give the same outputs, and the lasso's optimum need not be unique. Of all
optima the one is taken here that has independent columns, and those as far in front as possible, so that neither the
start nor the seed decides. Reference: Tibshirani (2013), "The lasso problem and uniqueness", Electronic Journal of
Statistics 7.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.linalg import qr, solve_triangular

WORK = 500_000_000  # multiply-adds, a second or less, up to which combinations are looked for
DEPENDENT = 1e-10  # what the others leave of a combination of them, at most, as a share of its norm
NEAR = 1e-6  # what they leave of its square where rounding could hide a combination, far more than 1e-10² and rounding
TIE = 1e-9  # a change of ‖w‖₁ that is none, as a share of the weights that are moved


def sparsest(
    x: np.ndarray | None, weight: np.ndarray, is_shift_invariant: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Move the weights of each output to the first of the columns that can stand for one another.

    x: [n, p], centred where the bias is free; None where its columns are independent. weight: W [outputs, p].
    is_shift_invariant: whether the same number added to all outputs of a row changes no loss, as of a softmax.

    Returns W at the same loss, whose ‖W‖₁ is no larger and whose columns are independent for each output; and groups
    [outputs, p]: columns of one number ≥ 1 can take over weight from one another at the same ‖W‖₁, 0 is no group. At an
    optimum of the lasso these are all of them: a column outside of the support S can have a weight in another optimum
    only if its correlation with the residuals is ±λ, and for x_j = X_S c that is λ·Σ sign(w_S)c. So one output has one
    optimum where there is no group.
    """
    if is_shift_invariant and len(weight) > 1:
        weight = on_the_middle_class(weight)
    if x is None or not np.isfinite(weight).all():
        return weight, np.zeros(weight.shape, dtype=np.int64)
    found, groups = zip(*(sparsest_of_one(x, row) for row in weight), strict=True)
    return np.stack(found), np.stack(groups)


def sparsest_of_one(x: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Do what `sparsest` does for one output, w [p].

    The moves are those of the simplex method: a weight enters, the others keep up the outputs, and the first that comes
    to zero leaves. Each lowers ‖w‖₁, or keeps it and takes weight from the last of the columns that it changes.
    """
    none = np.zeros(len(weight), dtype=np.int64)
    norms = np.linalg.norm(x, axis=0)
    contributions = norms * np.abs(weight)
    support = np.flatnonzero(contributions > max(x.shape) * np.finfo(float).eps * contributions.max(initial=0.0))
    if len(support) == 0:
        return np.zeros_like(weight), none
    table = Table.of(x, norms, weight, support)
    table.leave_dependent()
    table.move_to_the_front()
    found = np.where(table.sizes > 0, table.signs * table.sizes, 0.0)
    # Columns that are nearly, and not quite, combinations could make a step that costs more than rounding.
    before, after = x @ weight, x @ found
    same = np.linalg.norm(after - before) <= TIE * np.linalg.norm(before)
    if not same or np.abs(found).sum() > (1 + TIE) * np.abs(weight).sum():
        return weight, none
    return found, table.groups()


def centred(x: np.ndarray) -> np.ndarray:
    """Subtract its mean from every column of x [n, p]; a constant column becomes exactly zero."""
    return np.where(np.ptp(x, axis=0) > 0, x - x.mean(axis=0), 0.0)


def on_the_middle_class(weight: np.ndarray) -> np.ndarray:
    """Subtract from each column of W [classes, p] the weight of the middle class, which makes ‖W‖₁ least.

    This changes no probability of a softmax. An even number of classes has two in the middle, and every number between
    their weights is as good. The one nearest to 0 is taken; but if that is 0 and no class has the weight 0, the weight
    of the later of the two classes.
    """
    order = np.argsort(weight, axis=0, kind="stable")
    columns = np.arange(weight.shape[1])
    two = order[[(len(weight) - 1) // 2, len(weight) // 2]]
    low, high = weight[two, columns]
    shift = np.clip(0.0, low, high)
    dense = (shift == 0) & (weight != 0).all(axis=0)
    shift[dense] = weight[two.max(axis=0), columns][dense]
    return weight - shift


def combinations(x: np.ndarray, origins: Sequence[object]) -> dict[int, list[int]]:
    """Find the columns of x [n, p] that are combinations of columns before them and a constant.

    Returns for each such column those that make it up. origins: for each column what it is a category of, None for no
    category. All categories of one column add up to 1 because they are made so, and that is not reported. If p ≥ n, any
    column could be made up by others, and only copies of one other column, scaled and shifted, are reported; so they
    are if n·p² > WORK.
    """
    n, p = x.shape
    x = centred(x)
    norms = np.linalg.norm(x, axis=0)
    scaled = x / np.where(norms > 0, norms, 1.0)
    if p >= n or n * p**2 > WORK:
        return copies(scaled)
    scaled = triangle(scaled)
    if is_independent(scaled):
        return {}
    kept = norms > 0
    for origin in {origin for origin in origins if origin is not None}:
        *others, last = [j for j, own in enumerate(origins) if own == origin and kept[j]] or [0]
        if others:
            fit = scaled[:, others] @ np.linalg.lstsq(scaled[:, others], scaled[:, last], rcond=None)[0]
            # A level that says what the only other one says is no surprise either.
            kept[last] = np.linalg.norm(scaled[:, last] - fit) > DEPENDENT
    basis, q, found = [], np.empty((p, 0)), {}
    for j in np.flatnonzero(kept):
        left = scaled[:, j] - q @ (q.T @ scaled[:, j])
        left -= q @ (q.T @ left)  # twice is enough
        if (size := np.linalg.norm(left)) > DEPENDENT:
            basis, q = [*basis, int(j)], np.column_stack([q, left / size])
        else:
            share = np.linalg.lstsq(scaled[:, basis], scaled[:, j], rcond=None)[0]
            found[int(j)] = [k for k, of in zip(basis, share, strict=True) if abs(of) > TIE]
    return found


def copies(scaled: np.ndarray) -> dict[int, list[int]]:
    """Find the columns [n, p], of length 1 or 0, that are a copy of another one or of its negative.

    Returns for each copy the first column that it is a copy of.
    """
    places = np.abs(np.random.default_rng(0).normal(size=len(scaled)) @ scaled)
    order = np.argsort(places, kind="stable")
    found: dict[int, list[int]] = {}
    for before, after in pairwise(order):
        if places[after] - places[before] <= TIE and places[before] > 0:
            a, b = scaled[:, before], scaled[:, after]
            if min(np.linalg.norm(a - b), np.linalg.norm(a + b)) <= DEPENDENT:
                first, second = sorted((int(before), int(after)))
                found[second] = found.get(first, [first])
    return dict(sorted(found.items()))


def triangle(x: np.ndarray) -> np.ndarray:
    """Shorten x [n, p] to R of its QR decomposition, [min(n, p), p], whose columns have the same inner products."""
    return np.asarray(np.linalg.qr(x, mode="r"))


def is_independent(x: np.ndarray) -> bool:
    """Tell whether no column of x [n, p] is a combination of others; columns of zeros do not count."""
    norms = np.linalg.norm(x, axis=0)
    there = x[:, norms > 0] / norms[norms > 0]
    if there.shape[1] > len(x):
        return False
    (r,) = qr(there, mode="r", pivoting=True)[:1]
    return bool((np.abs(np.diag(r)) > DEPENDENT).all())


@dataclass
class Table:
    """A simplex table: weights sign · size, with sizes ≥ 0, and how the columns in the basis make up the others.

    basis: [r] independent columns; others: [m] columns that are combinations of them. share: [r, m], with which
    sign_j x_j = Σ_k share_kj sign_k x_k over the basis. norms, signs, sizes: [p], of all columns.
    """

    basis: np.ndarray
    others: np.ndarray
    share: np.ndarray
    norms: np.ndarray
    signs: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, norms: np.ndarray, weight: np.ndarray, support: np.ndarray) -> "Table":
        """Begin with a basis of the columns of the support, and every column that is a combination of them."""
        q, r, order = qr(x[:, support] / norms[support], mode="economic", pivoting=True)
        rank = int((np.abs(np.diag(r)) > DEPENDENT).sum())
        q, basis = q[:, :rank], support[order[:rank]]
        within = q.T @ x / np.where(norms > 0, norms, 1.0)
        # What lies within tells who may be reached, and only for those the digits count that remain.
        might = (norms > 0) & (np.square(within).sum(axis=0) > 1 - NEAR)
        might[basis] = False
        others, within = np.flatnonzero(might), within[:, might]
        reached = np.linalg.norm(x[:, others] / norms[others] - q @ within, axis=0) <= DEPENDENT
        others, within = others[reached], within[:, reached]
        signs = np.where(weight < 0, -1.0, 1.0)
        share = solve_triangular(r[:rank, :rank], within) * norms[others] / norms[basis, None]
        share *= signs[others] * signs[basis, None]
        sizes = np.zeros_like(norms)
        sizes[support] = np.abs(weight[support])
        return cls(basis, others, share, norms, signs, sizes)

    @property
    def moved(self) -> np.ndarray:
        """Which columns of the basis change when one of the others does, [r, m]."""
        return np.abs(self.share) * self.norms[self.basis, None] > TIE * self.norms[self.others]

    @property
    def rise(self) -> np.ndarray:
        """The change of ‖w‖₁ when the size of one of the others grows by one, [m]; exactly 0 where it is a tie."""
        rise = 1 - self.share.sum(axis=0)
        return np.where(np.abs(rise) <= TIE * (1 + np.abs(self.share).sum(axis=0)), 0.0, rise)

    @property
    def last_falls(self) -> np.ndarray:
        """Whether growth of one of the others takes from the last of the columns that change, [m]."""
        order = np.argsort(self.basis)
        moved, share = self.moved[order], self.share[order]
        last = len(order) - 1 - moved[::-1].argmax(axis=0)
        columns = np.arange(len(self.others))
        behind = self.basis[order][last] > self.others
        return moved.any(axis=0) & behind & (share[last, columns] > 0)

    def leave_dependent(self) -> None:
        """Bring the weights outside the basis to zero, the last one first."""
        while (there := np.flatnonzero(self.sizes[self.others])).size:
            j = there[self.others[there].argmax()]
            rise = self.rise[j]
            grows = rise < 0 or (rise == 0 and self.last_falls[j])
            self.move(j, 1.0 if grows else -1.0)

    def move_to_the_front(self) -> None:
        """Let every column enter that lowers ‖w‖₁, or keeps it and takes weight from the last of those that change."""
        for _ in range(10 * len(self.sizes)):  # more is a circle, which only rounding could make
            turned = self.share.sum(axis=0) < 0
            self.signs[self.others[turned]] *= -1
            self.share[:, turned] *= -1
            rise = self.rise
            entering = np.flatnonzero((rise < 0) | ((rise == 0) & self.last_falls))
            if not len(entering):
                return
            self.move(entering[self.others[entering].argmin()], 1.0)

    def move(self, j: int, growth: float) -> None:
        """Let the j-th of the others grow or shrink until a weight is zero, which then leaves the basis."""
        other, share = self.others[j], self.share[:, j].copy()
        falling = growth * share * self.moved[:, j]
        limits = np.full(len(share), np.inf)
        limits[falling > 0] = self.sizes[self.basis[falling > 0]] / falling[falling > 0]
        step = limits.min(initial=np.inf)
        if growth < 0 and self.sizes[other] <= step:
            step = self.sizes[other]
            self.sizes[self.basis] = np.maximum(self.sizes[self.basis] - step * falling, 0.0)
            self.sizes[other] = 0.0
            return
        leaving = np.flatnonzero(limits == step)
        h = leaving[self.basis[leaving].argmax()]
        self.sizes[self.basis] = np.maximum(self.sizes[self.basis] - step * falling, 0.0)
        self.sizes[other] = max(self.sizes[other] + growth * step, 0.0)
        self.sizes[self.basis[h]] = 0.0
        row = self.share[h] / share[h]
        self.share -= np.outer(share, row)
        self.share[h] = row
        self.share[:, j] = -share / share[h]
        self.share[h, j] = 1 / share[h]
        self.basis[h], self.others[j] = other, self.basis[h]

    def groups(self) -> np.ndarray:
        """Number the groups of columns that can take over weight from one another at the same ‖w‖₁, from 1; [p]."""
        group = np.arange(len(self.sizes))
        for j in np.flatnonzero(self.rise == 0):
            together = [self.others[j], *self.basis[self.moved[:, j]]]
            group[np.isin(group, group[together])] = group[together].min()
        many = np.bincount(group, minlength=len(group))[group] > 1
        numbers = np.zeros_like(group)
        numbers[many] = np.unique(group[many], return_inverse=True)[1] + 1
        return numbers
