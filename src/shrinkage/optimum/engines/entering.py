"""Which weights at zero enter next: in batches, since most of those that want to would leave again."""

import numpy as np

from .columns import Array

ENTER = 10  # at once at least, if so many want to


def worst_of(size: Array, enough: float, l1: float, there: int) -> Array:
    """Choose the places of the weights at zero that λ₁ holds least, in an order that is always the same.

    size: |gradient|, 0 for those that are there already. enough: what it has to exceed. Of those that exceed λ₁ by at
    least half as much as the worst, no more are chosen than there are weights already, or 10.
    """
    worst = size.max(initial=0.0)
    if worst <= enough:
        return np.empty(0, dtype=np.int64)
    beyond = np.flatnonzero(size >= max(enough, (l1 + worst) / 2))
    most = max(ENTER, there)
    if len(beyond) > most:
        beyond = beyond[np.argsort(-size[beyond], kind="stable")[:most]]
    return beyond
