"""Columns that nearly tell the target, which are often not known yet when the model is to predict."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import rankdata

ROWS = 20  # of fewer rows a column may order the target by chance
KNOWN = 0.999  # the share of the target's variance that a column must explain


def find_leaks(values: Mapping[str, np.ndarray], target: np.ndarray, classes: int | None) -> dict[str, str]:
    """Find the columns that alone determine the target, or nearly, and say how.

    values: columns of numbers or texts without gaps, [n] each. target [n]: numbers, or class codes where there are
    classes. For numbers it is r² of the values, or of their ranks; of texts the share of variance between them, with
    the degrees of freedom that they cost. For classes every text, or every stretch of numbers, has one class alone.
    """
    if len(target) < ROWS:
        return {}
    found = {}
    for name, column in values.items():
        how = say_class(column, target, classes) if classes else say_number(column, target)
        if how:
            found[name] = how
    return found


def say_number(column: np.ndarray, target: np.ndarray) -> str:
    """Say how a column determines a target of numbers; "" if it does not."""
    if column.dtype == object:
        levels, codes = np.unique(column.astype(str), return_inverse=True)
        if 2 * len(levels) > len(target) or np.ptp(target) == 0:
            return ""
        means = np.bincount(codes, target) / np.bincount(codes)
        rest = np.sum((target - means[codes]) ** 2) / (len(target) - len(levels))
        share = 1 - rest / np.var(target, ddof=1)
        return f"its categories explain {100 * share:.4g} % of the variance" if share > KNOWN else ""
    if np.array_equal(column, target):
        return "it equals the target"
    if np.ptp(column) == 0 or np.ptp(target) == 0:
        return ""
    for what, x, y in (("", column, target), (" of the ranks", rankdata(column), rankdata(target))):
        squared = float(np.corrcoef(x, y)[0, 1] ** 2)
        if squared > KNOWN:
            return f"r²{what} is {squared:.6g}"
    return ""


def say_class(column: np.ndarray, target: np.ndarray, classes: int) -> str:
    """Say how a column determines a target of classes; "" if it does not."""
    if min(np.bincount(target, minlength=classes)) < 2:
        return ""
    levels, codes = np.unique(column.astype(str) if column.dtype == object else column, return_inverse=True)
    table = pd.crosstab(codes, target).to_numpy()
    if np.any((table > 0).sum(axis=1) > 1):
        return ""
    if 2 * len(levels) <= len(target) and len(levels) <= 10 * classes:
        return "each of its values has one class"
    in_order = np.argmax(table, axis=1)  # the class of each value, from the least on
    is_number = column.dtype != object
    return "it puts the classes in order" if is_number and np.sum(np.diff(in_order) != 0) == classes - 1 else ""
