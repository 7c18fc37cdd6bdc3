"""Reads the columns that say something of rows and are no features: groups, times, parts, folds, weights, offsets.

roles: those columns by their keys in the settings: `group`, `time`, `split`, `fold_column`, `weight`, `offset`,
`exposure`, `event` and `strata`.
"""

import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd
from pandas.api import types

from shrinkage.errors import InputError

from .quoting import quoted, shown
from .row_terms import read_offsets, read_weights
from .splits import read_folds, read_parts

WITHOUT = {
    "weight": "weighed",
    "event": "compared",
    "strata": "compared",
    "offset": "predicted",
    "exposure": "predicted",
}  # what no row can be without it


def take_placing(frame: pd.DataFrame, roles: Mapping[str, str]) -> pd.DataFrame:
    """Take the columns that say something of rows and are no features. Raises InputError if a row lacks it."""
    for key, column in roles.items():
        gaps = frame[column].isna().sum()
        if gaps and key != "fold_column":  # a test row needs no fold
            raise InputError(
                f"data.{key}={shown(column)}: it is missing in {gaps} of {len(frame)} rows, and no row can be "
                f"{WITHOUT.get(key, 'placed')} without it; mend the rows, or choose another column"
            )
    return frame[list(roles.values())]


def read_places(aside: pd.DataFrame, roles: Mapping[str, str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Read what these columns say of rows, as `Rows` takes it, and say in notes how.

    Raises InputError if they cannot be read.
    """
    columns = {key: aside[column] for key, column in roles.items()}
    found: dict[str, np.ndarray] = {}
    notes: list[str] = []
    if "group" in columns:
        found["groups"] = pd.factorize(columns["group"])[0]
    if "time" in columns:
        found["times"], told = read_times(columns["time"])
        notes += told
    if "split" in columns:
        found["parts"], note = read_parts(columns["split"])
        notes.append(note)
    if "fold_column" in columns:
        trains = found["parts"] == "train" if "parts" in found else slice(None)
        found["folds"] = np.full(len(aside), -1)
        found["folds"][trains], note = read_folds(columns["fold_column"][trains])
        notes.append(note)
    if "weight" in columns:
        found["weights"] = read_weights(columns["weight"])
    for key in ("offset", "exposure"):
        if key in columns:
            found["offsets"] = read_offsets(key, columns[key])
    return found, notes


def read_times(column: pd.Series) -> tuple[np.ndarray, list[str]]:
    """Read a column as numbers that grow with time, and say in notes how. Raises InputError if it has no times."""
    if types.is_numeric_dtype(column):
        return column.to_numpy(), []
    notes: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Could not infer format")
            warnings.filterwarnings("ignore", message="Parsing dates in")  # how they were read is noted
            try:
                moments = pd.to_datetime(column, format="ISO8601", utc=True)
            except ValueError:
                moments = pd.to_datetime(column, utc=True)
                notes.append(
                    f"data.time={shown(column.name)}: {quoted(column.iloc[0])} is read as "
                    f"{moments.iloc[0]:%Y-%m-%d}; dates written as 2026-01-31 cannot be mistaken."
                )
        if moments.isna().any():
            raise ValueError(f"{quoted(column[moments.isna()].iloc[0])} is no time")
    except (ValueError, TypeError, OverflowError, UserWarning) as error:
        raise InputError(
            f"data.time={shown(column.name)}: the column can be read neither as numbers nor as dates "
            f"({shown(error)}); write dates as 2026-01-31"
        ) from None
    return moments.astype("int64").to_numpy(), notes
