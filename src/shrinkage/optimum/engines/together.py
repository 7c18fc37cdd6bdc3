"""The exact minimum of a quadratic function under a penalty that holds weights together in groups, each by its length.

Sweeps over the groups put each to its best or to zero (block coordinate descent), and steps of Newton's method over the
groups that are there make it exact: on these the objective is smooth. Reference: Qin, Scheinberg & Goldfarb (2013),
"Efficient block-coordinate descent algorithms for the group lasso".
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from .columns import Array

ROUNDING = 1e-14  # by what share of the largest pull a condition may be missed
ROUNDS = 1_000  # of a sweep and Newton's steps
STEPS = 20  # of Newton's method after a sweep
HALVINGS = 20
LEVEL = 1e-14  # of the objective, by which rounding may raise it in a step that leads nearer
NEARLY = 0.999  # of the way to where a group vanishes
DAMPING = 1e-12  # of the largest curvature, beside which there is none
STALLS = 10  # rounds in a row that hardly come nearer, which rounding alone can make


def minimise_together(hessian: Array, pull: Array, l1: float, ridge: Array, start: Array, group: Array) -> Array:
    """Minimise ½wᵀHw − cᵀw + λ₁Σ_g‖w_g‖₂ + ½Σλ₂w² over w [m], for λ₁ > 0.

    hessian: H [m, m], positive semidefinite. pull: c [m], in the range of H. ridge: λ₂ of each, the same within a
    group. start: a w to begin at. group: the number of each one's group, [m]; all groups have as many members.
    """
    if not len(start):
        return start
    order = np.argsort(group, kind="stable")
    size = int((group == group[0]).sum())
    model = Model(hessian[np.ix_(order, order)], pull[order], l1, ridge[order].reshape(-1, size)[:, 0])
    found = model.minimum(start[order].reshape(-1, size))
    whole = np.empty_like(start)
    whole[order] = found.ravel()
    return whole


def norms_of(groups: Array) -> Array:
    """Compute the length of each group of [groups, size]."""
    return np.sqrt(np.square(groups).sum(axis=1))


@dataclass(frozen=True)
class Model:
    """The quadratic function, its weights sorted by groups: w is [groups, size], H is [groups·size, groups·size].

    l1: λ₁. ridge: λ₂ of each group.
    """

    hessian: Array
    pull: Array
    l1: float
    ridge: Array

    def left(self, w: Array) -> Array:
        """Compute c − Hw, [groups, size]."""
        return (self.pull - self.hessian @ w.ravel()).reshape(w.shape)

    def objective(self, w: Array) -> float:
        """Compute the function and its penalty."""
        smooth = 0.5 * w.ravel() @ (self.hessian @ w.ravel()) - self.pull @ w.ravel()
        return float(smooth + self.l1 * norms_of(w).sum() + 0.5 * self.ridge @ np.square(w).sum(axis=1))

    def slope(self, w: Array, on: Array) -> Array:
        """Compute the gradient in the groups that are there, [on, size]."""
        own = w[on]
        return self.ridge[on, None] * own + self.l1 * own / norms_of(own)[:, None] - self.left(w)[on]

    def missed(self, w: Array) -> float:
        """Compute by how much the conditions of the minimum are missed at most."""
        on = np.flatnonzero(w.any(axis=1))
        beyond = norms_of(self.left(w)) - self.l1
        beyond[on] = 0.0
        return float(max(norms_of(self.slope(w, on)).max(initial=0.0), beyond.max(initial=0.0)))

    def minimum(self, w: Array) -> Array:
        """Find the minimum, from w on."""
        groups, size = w.shape
        blocks = self.hessian.reshape(groups, size, groups, size)[np.arange(groups), :, np.arange(groups)]
        steepest = np.linalg.eigvalsh(blocks)[:, -1]
        enough = ROUNDING * (self.l1 + np.abs(self.pull).max())
        best, least, stalls = w, np.inf, 0
        for _ in range(ROUNDS):
            w = self.newton_steps(self.swept(w, steepest), enough)
            missed = self.missed(w)
            stalls = stalls + 1 if missed > least / 2 else 0
            if missed < least:
                best, least = w, missed
            if least <= enough or stalls >= STALLS:
                break
        return best

    def swept(self, w: Array, steepest: Array) -> Array:
        """Put each group, in turn, to the best that its largest curvature promises."""
        w, size = w.copy(), w.shape[1]
        left = self.left(w)
        for g in range(len(w)):
            if not w[g].any() and np.sqrt(left[g] @ left[g]) <= self.l1:
                continue
            aim = steepest[g] * w[g] + left[g]
            length = np.sqrt(aim @ aim)
            curved = steepest[g] + self.ridge[g]
            if length == 0.0 or curved <= 0.0:
                continue
            new = max(1 - self.l1 / length, 0.0) / curved * aim
            change = new - w[g]
            if change.any():
                left -= (self.hessian[:, g * size : (g + 1) * size] @ change).reshape(left.shape)
                w[g] = new
        return w

    def newton_steps(self, w: Array, enough: float) -> Array:
        """Take steps of Newton's method over the groups that are there, as long as they lead nearer."""
        size = w.shape[1]
        on = np.flatnonzero(w.any(axis=1))
        if not len(on):
            return w
        places = (on[:, None] * size + np.arange(size)).ravel()
        own = self.hessian[np.ix_(places, places)]
        slope = self.slope(w, on)
        for _ in range(STEPS):
            worst = np.abs(slope).max()
            if worst <= enough / 10:
                break
            change = self.newton_change(own, w[on], self.ridge[on], slope)
            share, now = longest_share(w[on], change), self.objective(w)
            for _ in range(HALVINGS):
                moved = w.copy()
                moved[on] -= share * change
                if norms_of(moved[on]).all():
                    next_slope = self.slope(moved, on)
                    there = self.objective(moved)
                    is_level = there <= now + LEVEL * abs(now) and np.abs(next_slope).max() <= worst / 2
                    if there < now or is_level:
                        break
                share /= 2
            else:
                break
            w, slope = moved, next_slope
            if (norms_of(w[on]) < 1e-8 * np.abs(w).max()).any():  # a group that vanishes is for a sweep
                break
        return w

    def newton_change(self, own: Array, w: Array, ridge: Array, slope: Array) -> Array:
        """Solve for the step of Newton's method, [on, size]. own: H of the groups that are there."""
        count, size = w.shape
        norms = norms_of(w)
        unit = w / norms[:, None]
        bend = self.l1 / norms[:, None, None] * (np.eye(size) - unit[:, :, None] * unit[:, None, :])
        bend += ridge[:, None, None] * np.eye(size)
        curved = own.copy().reshape(count, size, count, size)
        curved[np.arange(count), :, np.arange(count)] += bend
        curved = curved.reshape(count * size, -1)
        least = DAMPING * curved.diagonal().max()
        try:
            damped = curved + least * np.eye(len(curved))
            found = cho_solve(cho_factor(damped, lower=True, check_finite=False), slope.ravel())
        except LinAlgError:  # rounding has made a curvature negative
            values, vectors = np.linalg.eigh(curved)
            found = vectors @ ((slope.ravel() @ vectors) / np.maximum(values, least))
        return found.reshape(count, size)


def longest_share(w: Array, change: Array) -> float:
    """Give how much of a step to take at most, so that no group passes the point where it vanishes; w [groups, size].

    Between columns of one direction a step may be as long as rounding lets it be.
    """
    is_falling = (w * change).sum(axis=1) > 0
    shares = NEARLY * norms_of(w[is_falling]) / norms_of(change[is_falling])
    return float(min(1.0, shares.min(initial=1.0)))
