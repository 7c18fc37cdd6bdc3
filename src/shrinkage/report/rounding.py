"""Means and errors that do not depend on an order, and when two values differ by rounding alone.

A sum of floating-point numbers depends on the order in which they are added. `math.fsum` adds exactly and rounds once,
so that folds, seeds and runs may come in any order.

Two values of a metric count as equal within SAME = 2⁻²⁰ ≈ 1e-6 of their size. Training computes predictions in float32,
which rounds each number by up to u = 2⁻²⁴ of its size, and a metric sums what follows from them in float64. A row's
prediction goes through a sum over the features, its residual and a square (or a logarithm): some ten roundings, so that
one and the same model, computed in another order, has a metric that differs by a few u. 16 u is above that, and far
below anything that a validation part can tell: paths of convex problems end within 1e-6 of their optimum, too. In half
precision rounding is coarser, and values that it alone tells apart still count as different.

A metric for which larger is better is 1 for a perfect model (R² = 1 − Σr²/Σ(y − ȳ)², accuracy), and R² has the rounding
of numbers near 1 even where it is near 0; so its size counts as at least 1.
"""

import math
from collections.abc import Sequence

import pandas as pd

SAME = 2.0**-20


def rounding(value: float, larger: bool) -> float:
    """How far rounding alone may move a metric of this value. larger: whether larger values of it are better."""
    return SAME * max(abs(value), 1.0 if larger else 0.0)


def mean(values: Sequence[float]) -> float:
    """The mean, the same in any order of the values; of equal values exactly their value."""
    return min(max(math.fsum(values) / len(values), min(values)), max(values))


def deviation(values: Sequence[float]) -> float:
    """s with s² = Σ(x − x̄)²/(n − 1), the same in any order of the n values; NaN where n < 2."""
    if len(values) < 2:
        return math.nan
    centre = mean(values)
    distances = [abs(value - centre) for value in values]
    largest = max(distances)
    if largest == 0:
        return 0.0
    # Divided by the largest, no square overflows.
    squares = math.fsum((distance / largest) ** 2 for distance in distances)
    return largest * math.sqrt(squares / (len(values) - 1))


def weighted_mean(values: Sequence[float], weights: Sequence[float]) -> float:
    """Σwx/Σw, the same in any order of the values."""
    found = math.fsum(w * x for w, x in zip(weights, values, strict=True)) / math.fsum(weights)
    return min(max(found, min(values)), max(values))


def weighted_deviation(values: Sequence[float], weights: Sequence[float]) -> float:
    """s with s² = n/(n − 1)·Σw(x − x̄)²/Σw of n ≥ 2 values: of equal weights that of `deviation`."""
    centre = weighted_mean(values, weights)
    squares = math.fsum(w * (x - centre) ** 2 for w, x in zip(weights, values, strict=True))
    return math.sqrt(len(values) / (len(values) - 1) * squares / math.fsum(weights))


def means(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The mean of every other column over the rows of each group, NaN left out; the groups are the sorted index."""
    groups = frame.groupby(by).indices
    found = {}
    for name in frame.columns.drop(by):
        column = frame[name].to_numpy(dtype=float).tolist()
        there = ([column[row] for row in rows if not math.isnan(column[row])] for rows in groups.values())
        found[name] = [mean(values) if values else math.nan for values in there]
    return pd.DataFrame(found, index=pd.MultiIndex.from_tuples(groups, names=by)).sort_index()
