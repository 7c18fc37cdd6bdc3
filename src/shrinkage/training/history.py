"""The history of a training: what was measured, when, and whether it shows that the training has diverged."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

from torch import Tensor

Metrics = TypeVar("Metrics", dict[str, float], Tensor)

WATCHED = ("train/loss", "train/objective", "val/loss")  # metrics that stay finite unless training diverges
GROWTH = 100.0  # of the objective over the whole training, from which on it has diverged


class Moment(NamedTuple, Generic[Metrics]):
    """What was measured at one moment of a training; a history is a list of them.

    step: how many epochs were finished then, or optimiser steps where those count the run. time: milliseconds since
    1970. metrics: by name; of lanes that are trained together a tensor [lanes, metrics].
    """

    step: int
    time: int
    metrics: Metrics


def drop_undefined(names: Iterable[str], values: Iterable[float]) -> dict[str, float]:
    """Return the metrics by name, without those that are not defined for a part.

    A task's metric that is NaN is not defined; a loss that is NaN has diverged, and stays.
    """
    return {
        name: value
        for name, value in zip(names, values, strict=True)
        if not (math.isnan(value) and name.startswith("val/") and name != "val/loss")
    }


def describe_not_finite(measured: Mapping[str, float]) -> str | None:
    """Say which of the metrics that decide about a training is infinite or NaN; None if none is."""
    for name in WATCHED:
        if not math.isfinite(measured.get(name, 0.0)):
            return f"{name} became {measured[name]}"
    return None


def describe_growth(objectives: Sequence[float]) -> str | None:
    """Say that an objective, measured before training and after each epoch, grows without bounds; None if it does not.

    It does where it ends at more than GROWTH times what it was before training, and at more than twice what it was
    halfway: steps that are merely noisy come to rest at some height.
    """
    first, halfway, last = objectives[0], objectives[len(objectives) // 2], objectives[-1]
    if last > GROWTH * first and last > 2 * halfway:
        return f"train/objective, {first:.3g} before training, has grown to {last:.3g}"
    return None


def thinned(count: int, points: int = 20) -> list[int]:
    """Return which of `count` moments a thinned curve keeps: all of them up to `points`, else so many.

    The first and the last are among them, and the gaps between them grow as a geometric series does.
    """
    chosen = [0] if count else []
    while len(chosen) < min(points, count):
        # The next of a geometric series from here to the last.
        left, last = min(points, count) - len(chosen), max(chosen[-1], 1)
        chosen.append(max(chosen[-1] + 1, round(last * ((count - 1) / last) ** (1 / left))))
    return chosen
