"""The exact minimum of a quadratic function with an elastic net, by an active set.

Reference: Lee, Battle, Raina & Ng (2006), "Efficient sparse coding algorithms" (feature-sign search).
"""

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotrs, dtrtrs

from .entering import worst_of

ROUNDING = 1e-14  # by what share of the largest pull a condition may be missed
DEPENDENT = 1e-13  # the share of its length that a column keeps, squared, which the columns before it do not reach
ROUNDS = 100  # of columns that enter; more would be a circle, which only rounding can make


def minimise(
    hessian: np.ndarray, pull: np.ndarray, l1: float, ridge: np.ndarray | float, start: np.ndarray
) -> np.ndarray:
    """Minimise ½wᵀHw − cᵀw + λ₁‖w‖₁ + ½Σλ₂w² over w [m], for λ₁ > 0.

    hessian: H [m, m], positive semidefinite. pull: c [m], in the range of H. ridge: λ₂, one for all or for each, [m].
    start: a w to begin at.
    """
    w, l2 = start.copy(), np.broadcast_to(ridge, len(start))
    enough = l1 + ROUNDING * (l1 + np.abs(pull).max(initial=0.0))
    on = np.flatnonzero(w)
    signs = np.sign(w[on])
    for _ in range(ROUNDS):
        on, signs = settle(hessian, pull, l1, l2, w, on, signs)
        left = pull - hessian @ w
        size = np.abs(left)
        size[on] = 0.0
        entering = worst_of(size, enough, l1, len(w))
        if not len(entering):
            break
        on, signs = np.concatenate([on, entering]), np.concatenate([signs, np.sign(left[entering])])
    return w


def settle(
    hessian: np.ndarray,
    pull: np.ndarray,
    l1: float,
    l2: np.ndarray,
    w: np.ndarray,
    on: np.ndarray,
    signs: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise over the weights in `on`, each of its sign or zero, and change w in place.

    Weights that come to zero leave; the ones that stay are returned with their signs. Each round takes a weight out or
    is the last one.
    """
    while len(on):
        curved = hessian[np.ix_(on, on)]
        own = curved.diagonal().copy()
        curved[np.diag_indices_from(curved)] += l2[on]
        factor, failed = dpotrf(curved, lower=1, clean=0)
        good = failed - 1 if failed else len(on)
        lost = np.flatnonzero(factor.diagonal()[:good] ** 2 <= DEPENDENT * (own + l2[on])[:good])
        if failed or len(lost):
            on, signs = without_dependent(factor, curved, w, on, signs, int(lost[0]) if len(lost) else good)
            continue
        goal = dpotrs(factor, pull[on] - l1 * signs, lower=1)[0]
        crossing = np.sign(goal) != signs
        if not crossing.any():
            w[on] = goal
            break
        now = w[on]
        # All that would change sign are put to zero at once where that is downhill, else only the first of them.
        clipped = np.where(crossing, 0.0, goal)
        before, after = now - goal, clipped - goal
        if after @ curved @ after < before @ curved @ before:
            w[on] = clipped
        else:
            share = np.full(len(on), np.inf)
            moving = crossing & (now != 0)
            share[crossing & (now == 0)] = 0.0
            share[moving] = now[moving] / (now[moving] - goal[moving])  # 1 where the goal is zero itself
            crossing = share == share.min()
            w[on] = np.where(crossing, 0.0, now + share.min() * (goal - now))
        on, signs = on[~crossing], signs[~crossing]
    return on, signs


def without_dependent(
    factor: np.ndarray, curved: np.ndarray, w: np.ndarray, on: np.ndarray, signs: np.ndarray, j: int
) -> tuple[np.ndarray, np.ndarray]:
    """Take one weight out of a combination of columns, where the j-th of `on` is made up of those before it.

    Along the combination neither the outputs nor the quadratic function change, so it is followed in the direction in
    which ‖w‖₁ does not grow, until a weight is zero. The factor [m, m] is the Cholesky factor of the columns before.
    """
    share = np.ones(j + 1)
    if j:
        half = dtrtrs(factor[:j, :j], curved[:j, j], lower=1)[0]
        share[:j] = -dtrtrs(factor[:j, :j], half, lower=1, trans=1)[0]
    share[np.abs(share) <= 1e-9] = 0.0
    now = w[on[: j + 1]]
    rise = share @ signs[: j + 1]
    if rise > 0 or (rise == 0 and now[j] * share[j] > 0):
        share = -share
    leaving = j
    falling = share * signs[: j + 1] < 0
    if falling.any():
        limits = np.full(j + 1, np.inf)
        limits[falling] = -now[falling] / share[falling]
        leaving = int(limits.argmin())
        w[on[: j + 1]] = now + limits[leaving] * share
    w[on[leaving]] = 0.0
    stays = np.arange(len(on)) != leaving
    return on[stays], signs[stays]
