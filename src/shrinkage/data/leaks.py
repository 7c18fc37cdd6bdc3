"""Columns that nearly tell the target, which are often not known yet when the model is to predict."""

from collections.abc import Mapping

import numpy as np
from scipy.stats import rankdata

ROWS = 20  # of fewer rows a column may order the target by chance
NUMBERS_AT_ONCE = 1_000_000  # of columns that are looked at together
KNOWN = 0.999  # the share of the target's variance that a column must explain


def find_leaks(values: Mapping[str, np.ndarray], target: np.ndarray, classes: int | None) -> dict[str, str]:
    """Find the columns that alone determine the target, or nearly, and say how.

    values: columns of numbers or texts without gaps, [n] each. target [n]: numbers, or class codes where there are
    classes. For numbers it is r² of the values, or of their ranks; of texts the share of variance between them, with
    the degrees of freedom that they cost. For classes every text, or every stretch of numbers, has one class alone.
    """
    if len(target) < ROWS:
        return {}
    if classes and min(np.bincount(target, minlength=classes)) < 2:
        return {}
    if classes:
        said = {name: say_class(column, target, classes) for name, column in values.items()}
    elif np.ptp(target) == 0:
        return {}
    else:
        said = {name: say_text(column, target) for name, column in values.items() if column.dtype == object}
        numbers = [name for name in values if name not in said]
        size = max(NUMBERS_AT_ONCE // len(target), 1)
        for start in range(0, len(numbers), size):
            names = numbers[start : start + size]
            columns = np.column_stack([values[name] for name in names]).astype(np.float64)
            said |= dict(zip(names, say_numbers(columns, target), strict=True))
    return {name: said[name] for name in values if said[name]}


def say_text(column: np.ndarray, target: np.ndarray) -> str:
    """Say how a column of texts determines a target of numbers; "" if it does not."""
    levels, codes = np.unique(column.astype(str), return_inverse=True)
    if 2 * len(levels) > len(target):
        return ""
    means = np.bincount(codes, target) / np.bincount(codes)
    rest = np.sum((target - means[codes]) ** 2) / (len(target) - len(levels))
    share = 1 - rest / np.var(target, ddof=1)
    return f"its categories explain {100 * share:.4g} % of the variance" if share > KNOWN else ""


def say_numbers(columns: np.ndarray, target: np.ndarray) -> list[str]:
    """Say how each of the columns [n, p] determines a target of numbers; "" for one that does not."""
    equal = (columns == target[:, None]).all(axis=0)
    of_values = squared_correlations(columns, target)
    of_ranks = squared_correlations(rankdata(columns, axis=0), rankdata(target))
    return [
        "it equals the target"
        if same
        else f"r² is {by_value:.6g}"
        if by_value > KNOWN
        else f"r² of the ranks is {by_rank:.6g}"
        if by_rank > KNOWN
        else ""
        for same, by_value, by_rank in zip(equal, of_values, of_ranks, strict=True)
    ]


def squared_correlations(columns: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Compute r² of each of the columns [n, p] and a target; 0 for a constant column."""
    x, y = columns - columns.mean(axis=0), target - target.mean()
    varies = np.ptp(columns, axis=0) > 0
    found = np.zeros(columns.shape[1])
    found[varies] = (y @ x[:, varies]) ** 2 / (np.square(x[:, varies]).sum(axis=0) * (y @ y))
    return found


def say_class(column: np.ndarray, target: np.ndarray, classes: int) -> str:
    """Say how a column determines a target of classes; "" if it does not."""
    levels, codes = np.unique(column.astype(str) if column.dtype == object else column, return_inverse=True)
    table = np.bincount(codes * classes + target, minlength=len(levels) * classes).reshape(-1, classes)
    if np.any((table > 0).sum(axis=1) > 1):
        return ""
    if 2 * len(levels) <= len(target) and len(levels) <= 10 * classes:
        return "each of its values has one class"
    in_order = np.argmax(table, axis=1)  # the class of each value, from the least on
    is_number = column.dtype != object
    return "it puts the classes in order" if is_number and np.sum(np.diff(in_order) != 0) == classes - 1 else ""
