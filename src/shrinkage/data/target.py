"""Reads the column that is predicted, or several: are the values numbers or classes?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from pandas.api import types

from shrinkage.errors import InputError

from .quoting import quoted, shown
from .splits import as_word

FEW = 10  # a target of so many distinct whole numbers, or fewer, is read as classes


def read_target(target: pd.Series, task: str) -> tuple[np.ndarray, tuple[str, ...], list[str]]:
    """Read the target's numbers, or the codes and names of its classes; and say in notes how it was read.

    task: as `TableFile` has it. Raises InputError for dates, and for text where numbers are asked for.
    """
    if types.is_datetime64_any_dtype(target):
        raise InputError(
            f"data.target={shown(target.name)}: the column has dates, such as {target.iloc[0]:%Y-%m-%d}, and a "
            "date is neither a number nor one of a few classes; choose another column"
        )
    is_classes, notes = is_classification(target, task)
    if is_classes:
        codes, names = pd.factorize(target, sort=True)
        written = as_word if types.is_float_dtype(target) else str
        return codes.astype(np.int64), tuple(map(written, names)), notes
    if not types.is_numeric_dtype(target):
        raise InputError(
            f"data.target={shown(target.name)} data.task=regression: the column has text, such as "
            f"{quoted(target.iloc[0])}; regression needs numbers, use data.task=classification"
        )
    return target.to_numpy(dtype=np.float64), (), notes


def read_targets(targets: pd.DataFrame, task: str) -> np.ndarray:
    """Read the numbers of several targets, [n, targets].

    Raises InputError where classes are asked for, or no numbers are there.
    """
    if task == "classification":
        raise InputError(
            f"data.task=classification: data.target names {len(targets.columns)} columns, and classes are read from "
            "one; name one column, or leave data.task out for several numbers"
        )
    return np.column_stack([read_target(targets[name], "regression")[0] for name in targets])


def with_events(times: np.ndarray, column: pd.Series, target: str) -> np.ndarray:
    """Put times [n] beside whether an event was seen then, [n, 2], read from a column of 0 and 1, or of booleans.

    target: the name of the times. Raises InputError for other values, for negative times, and where there is no event.
    """
    key = f"data.event={shown(column.name)}"
    is_read = types.is_numeric_dtype(column) or types.is_bool_dtype(column)
    strange = column[~column.isin([0, 1])] if is_read else column
    if len(strange):
        raise InputError(
            f"{key}: it is {quoted(as_word(strange.iloc[0]))} in a row, and must be 1 where the event was seen, and 0 "
            "where the row was seen no longer; write it so"
        )
    if (times < 0).any():
        raise InputError(
            f"data.target={shown(target)}: a time is {times.min():g}, and times until an event are 0 or more; mend the "
            "rows"
        )
    if not column.any():
        raise InputError(f"{key}: no row has an event, and there is nothing to learn; choose another column")
    return np.column_stack([times, column.to_numpy(dtype=np.float64)])


def with_strata(values: np.ndarray, column: str, strata: np.ndarray) -> tuple[np.ndarray, tuple[str | float, ...]]:
    """Put the number of each row's stratum beside times and events [n, 2], [n, 3]; returns the strata's names, too.

    column: what the strata [n] were read from. Raises InputError where no event has another row of its stratum.
    """
    names, numbers = np.unique(strata, return_inverse=True)
    if not (np.bincount(numbers)[numbers[values[:, 1] > 0]] > 1).any():
        raise InputError(
            f"data.strata={shown(column)}: it parts {len(values)} rows into {len(names)} strata, and none of them "
            "has an event and another row to compare it with; choose another column, or leave it out"
        )
    return np.column_stack([values, numbers.astype(np.float64)]), tuple(names.tolist())


def check_target_names(target: object) -> tuple[str, ...]:
    """Look whether `data.target` names a column, or several different ones, and list them. Raises InputError."""
    names = target if isinstance(target, Sequence) and not isinstance(target, str) else [target]
    found = tuple(map(str, names))
    if not found or any(isinstance(name, list | tuple | dict) for name in names) or len(set(found)) < len(found):
        raise InputError(
            f"data.target={target}: must be a column, or several different ones; use data.target=price, or "
            "data.target=[height,weight]"
        )
    return found


def is_classification(target: pd.Series, task: str) -> tuple[bool, list[str]]:
    """Tell whether a target has classes, and say so in a note where it may be meant otherwise."""
    if task != "auto":
        return task == "classification", []
    distinct = target.nunique()
    notes: list[str] = []
    if types.is_numeric_dtype(target) and not types.is_bool_dtype(target):
        whole = bool((target == target.round()).all())
        classes = distinct == 2 or (whole and distinct <= FEW)
        if classes and distinct > 2:
            notes.append(
                f"{shown(target.name)} has {distinct} distinct whole numbers and is read as {distinct} classes; "
                "data.task=regression reads it as a number."
            )
        return classes, notes
    return True, []
