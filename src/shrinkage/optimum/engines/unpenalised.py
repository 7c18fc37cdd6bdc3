"""Whether a convex loss without a penalty has a minimum: not if weights can grow for ever and the loss falls.

For classes that is where a plane parts some rows of one from all of the others and contains the rest (complete or
quasi-complete separation). Reference: Albert & Anderson (1984), "On the existence of maximum likelihood estimates in
logistic regression models".
"""

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from .columns import Array
from .rows import Rows

FAR = 20.0  # how large an output has to be where a loss that falls for ever has no slope left that is seen


def has_minimum(rows: Rows, output: Array) -> bool:
    """Tell whether the mean loss has a minimum over all weights and a free bias.

    output: [n, outputs], at which the loss is as small as Newton's method makes it. If they are small, there is one: on
    the way to a loss that is not reached they grow for ever. Else a linear programme looks for a change of the weights
    along which no row's loss rises and some row's falls.
    """
    if np.abs(output).max() < FAR:
        return True
    if rows.problem.task.is_joint:
        return False  # outputs so far apart put the events into their order
    falling = rows.recession()
    n, m = falling.shape[:2]
    whole = rows.x.whole()
    columns = np.hstack([whole, np.ones((n, 1))]) if rows.is_free else whole
    if m == 0:
        return True
    if np.linalg.matrix_rank(columns) == n:  # whatever the outputs are, so that each kind of row is asked by itself
        return not any(can_fall(kind) for kind in np.unique(falling, axis=0))
    columns = columns / np.maximum(np.abs(columns).max(axis=0), np.finfo(float).tiny)
    return not can_fall((falling[:, :, :, None] * columns[:, None, None, :]).reshape(n * m, -1))


def can_fall(moves: Array) -> bool:
    """Tell whether a change d has moves [m, size]·d that are nowhere less than 0 and somewhere more."""
    found = milp(-moves.sum(axis=0), constraints=LinearConstraint(moves, 0, 1), bounds=Bounds(-np.inf, np.inf))
    # A change can be scaled until some move is 1.
    return found.fun is not None and found.fun < -0.5
