"""Reads what a row has beside features and target: how much it counts, and what is added to the model's output."""

import difflib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from pandas.api import types

from shrinkage.checks import is_number
from shrinkage.errors import InputError

from .quoting import quoted, shown
from .recipe import Refused, as_offset

ClassWeight = str | Mapping[str, float] | None


def read_numbers(key: str, column: pd.Series) -> np.ndarray:
    """Read a column of numbers, [n] float64. Raises InputError if it has others."""
    if not types.is_numeric_dtype(column) or types.is_bool_dtype(column):
        raise InputError(
            f"data.{key}={shown(column.name)}: the column has no numbers, but values such as "
            f"{quoted(column.dropna().iloc[0])}; choose another column"
        )
    return column.to_numpy(dtype=np.float64)


def read_weights(column: pd.Series) -> np.ndarray:
    """Read how much each row counts, [n] ≥ 0. Raises InputError for a weight under 0, and if all are 0."""
    weights = read_numbers("weight", column)
    if (weights < 0).any():
        raise InputError(
            f"data.weight={shown(column.name)}: it is negative in {(weights < 0).sum()} of {len(weights)} rows, such "
            f"as {weights[weights < 0][0]:g}; a weight must be 0 or more, and 0 leaves its row out"
        )
    if not weights.any():
        raise InputError(
            f"data.weight={shown(column.name)}: it is 0 in every row, and none is left; choose another column"
        )
    return weights


def read_offsets(key: str, column: pd.Series) -> np.ndarray:
    """Read what is added to the model's output for each row, [n], of the key `offset` or `exposure`.

    Raises InputError for an exposure that is not above 0.
    """
    try:
        return as_offset(read_numbers(key, column), str(column.name), key == "exposure")
    except Refused as error:
        raise InputError(f"data.{key}={shown(column.name)}: {error}") from None


def check_class_weight(setting: object) -> ClassWeight:
    """Look whether `data.class_weight` is what it may be, with names as text. Raises InputError."""
    if setting is None or setting == "balanced":
        return None if setting is None else "balanced"
    if isinstance(setting, Mapping) and setting and all(is_number(w) and 0 < w < np.inf for w in setting.values()):
        return {str(name): float(weight) for name, weight in setting.items()}
    raise InputError(
        f"data.class_weight={shown(setting)}: must be balanced, or a number above 0 for each class by its name; use "
        "data.class_weight=balanced, or 'data.class_weight={yes: 3, no: 1}'"
    )


def weigh_classes(
    setting: ClassWeight, names: Sequence[str], codes: np.ndarray, weights: np.ndarray | None
) -> np.ndarray:
    """Weigh the classes, [classes], by what the training rows have: their codes [n] and weights [n].

    `balanced` gives every class the same total: Σw/(k·Σ w of the class) with k classes. A class that a mapping does not
    name has 1. Raises InputError for a name that no class has.
    """
    if isinstance(setting, Mapping):
        for name in setting:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1) or list(names[:1])
                raise InputError(
                    f"data.class_weight: {quoted(name)} is no class; there are {', '.join(map(shown, names[:20]))}; "
                    f"did you mean {shown(near[0])}?"
                )
        return np.array([setting.get(name, 1.0) for name in names])
    totals = np.bincount(codes, weights, minlength=len(names))
    return totals.sum() / (len(names) * totals)
