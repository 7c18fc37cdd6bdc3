"""Looks whether the columns of a file are of use to a model: what it can be given, and what it can learn from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas.api import types

from shrinkage.errors import InputError

from .features import PARTS
from .quoting import dropping, quoted, shown
from .recipe import GAP, Column

LISTED = 20  # the most columns that a message names


@dataclass(frozen=True)
class Limits:
    """What columns are held to: how many categories a text may have, and what a date is made into.

    drop: the columns that are left out already.
    """

    max_categories: int
    date_parts: Sequence[str]
    drop: Sequence[str]


def check_values(frame: pd.DataFrame) -> None:
    """Look for values that are no use to a model. Raises InputError for infinite numbers and for objects."""
    for name, column in frame.items():
        if types.is_numeric_dtype(column):
            count = int(np.isinf(column.to_numpy(dtype=np.float64, na_value=0.0)).sum())
            if count:
                raise InputError(
                    f"column {quoted(name)} is infinite in {count} of {len(frame)} rows: every number must be "
                    f"finite; mend the rows, or leave the column out with {dropping(name)}"
                )
        elif types.infer_dtype(column) == "mixed":
            value = type(column.dropna().iloc[0]).__name__
            raise InputError(
                f"column {quoted(name)} has values that are neither numbers nor text, such as a {value}; "
                f"leave it out with {dropping(name)}"
            )


def check_features(frame: pd.DataFrame, columns: Mapping[str, Column], limits: Limits) -> list[str]:
    """Look for columns that no feature can be made of, and note the constant ones.

    Raises InputError for one.
    """
    notes: list[str] = []
    wide = {
        name: column.nunique()
        for name, column in frame.items()
        if columns[name].kind == "text" and column.nunique() > limits.max_categories
    }
    if wide:
        (first, count), others = next(iter(wide.items())), list(wide)[1:]
        more = f", as do {', '.join(map(quoted, others[:LISTED]))}{', …' * (len(others) > LISTED)}" if others else ""
        raise InputError(
            f"text column {quoted(first)} has {count:,} different values{more}: each becomes a column of its own, "
            f"at most data.max_categories={limits.max_categories}; leave {'them' if others else 'it'} out with "
            f"{dropping(*limits.drop, *wide)}, or raise the bound"
        )
    constant = [name for name, column in frame.items() if column.nunique(dropna=False) == 1]
    if constant:
        notes.append(
            f"{', '.join(map(quoted, constant[:LISTED]))}{', …' * (len(constant) > LISTED)}: the same in all rows, "
            f"so of no use; {dropping(*limits.drop, *constant)} leaves {'them' if constant[1:] else 'it'} out."
        )
    for name, column in frame.items():
        if column.isna().all():
            raise InputError(f"column {quoted(name)} has no value at all; leave it out with {dropping(name)}")
        check_dates(column, columns[name], limits.date_parts)
        if columns[name].kind != "text":
            continue
        if column.isna().any() and (column == GAP).any():
            notes.append(
                f"column {quoted(name)} has gaps and the text {GAP!r}, and data.missing=mean makes one category of "
                "them."
            )
    return notes


def check_dates(column: pd.Series, rules: Column, date_parts: Sequence[str]) -> None:
    """Look whether dates are to be made into something. Raises InputError if `date_parts` does not say what."""
    if rules.kind == "date" and not date_parts:
        raise InputError(
            f"column {quoted(rules.name)} has dates, such as {column.dropna().iloc[0]:%Y-%m-%d}; make numbers and "
            f"categories of them with data.dates=[{','.join(PARTS)}] or some of these, order the rows by it with "
            f"data.time, or leave it out with {dropping(rules.name)}"
        )


def read_date_parts(dates: object) -> tuple[str, ...]:
    """Read what `data.dates` makes of a date; nothing if it refuses dates. Raises InputError for other values."""
    if dates == "error":
        return ()
    parts = tuple(map(str, dates)) if isinstance(dates, list | tuple) else ()
    wrong = [part for part in parts if part not in PARTS]
    if not parts or wrong or len(set(parts)) < len(parts):
        raise InputError(
            f"data.dates={shown(dates)}: must be error, or a list of some of {', '.join(PARTS)}, each once; use "
            f"data.dates=[{','.join(PARTS)}]"
        )
    return parts
