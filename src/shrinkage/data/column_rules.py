"""Finds the rules by which a column of a person's file is read, from its cells: what kind of values they have.

A served model is given the rules, and does not look for them: `recipe.py` reads by them.
"""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from pandas.api import types

from .recipe import BOOLEANS, DATE, DAY, GAPS, ISO, Column

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf(inity)?", re.ASCII | re.IGNORECASE)
WHOLE = r"[+-]?[0-9]+"
FORMATS = tuple(
    day + time
    for day in ("%d.%m.%Y", "%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%d %b %Y", "%d-%b-%Y", "%b %d, %Y")
    for time in ("", " %H:%M", " %H:%M:%S")
)


def read_written(cells: pd.Series) -> tuple[Column, pd.Series]:
    """Find the rules of a column that was written as text, as in a CSV, and its values as pandas has them.

    Where all cells but gaps are numbers it is of numbers; it is of booleans where they are true and false, in any
    case; of dates where all are written as one of FORMATS or as 2026-01-31; else of text, each cell as it stands.
    """
    name = str(cells.name)
    gaps = np.zeros(len(cells), dtype=bool)
    numbers = parse_numbers(cells)  # first, since most columns are plain numbers, and no gap is one
    if numbers is None:
        gaps = cells.isin(GAPS)
        numbers = parse_numbers(cells[~gaps])
    if numbers is None:
        gaps = cells.str.strip().isin(GAPS)
        numbers = parse_numbers(cells[~gaps].str.strip())
    if numbers is None:
        return read_words(name, cells.mask(gaps))
    whole = not gaps.any() and bool((numbers == np.floor(numbers)).all()) and np.abs(numbers).max() < 2**53
    if whole and cells.str.strip().str.fullmatch(WHOLE).all():  # 1.0 is pandas' float
        return Column(name, "integer"), pd.Series(numbers.astype(np.int64), name=name)
    values = np.full(len(cells), np.nan)
    values[~gaps] = numbers
    return Column(name, "number"), pd.Series(values, name=name)


def read_words(name: str, cells: pd.Series) -> tuple[Column, pd.Series]:
    """Find the rules and the values of a column of texts and gaps that has no numbers."""
    codes, distinct = pd.factorize(cells)
    words = [word.strip().lower() for word in distinct]
    if words and BOOLEANS.keys() >= set(words):
        known = pd.array([*map(BOOLEANS.get, words), None], dtype="boolean")  # a gap's code is −1
        return Column(name, "boolean"), pd.Series(
            known[codes], dtype="boolean" if (codes < 0).any() else "bool", name=name
        )
    return read_texts(name, cells)


def read_texts(name: str, cells: pd.Series) -> tuple[Column, pd.Series]:
    """Find the rules and the values of a column whose texts are dates, or plain text."""
    written = find_date_format(cells.dropna().unique())
    if written is None:
        return Column(name, "text"), cells
    column = Column(name, "date", date_format=written)
    return column, as_dates(column, cells)


def read_typed(cells: pd.Series) -> tuple[Column, pd.Series]:
    """Find the rules of a column that has a type of its own, as in Parquet, and its values as pandas has them.

    Text stays text, "1" too, unless all of it is dates; and the words for gaps are gaps.
    """
    name = str(cells.name)
    if types.is_bool_dtype(cells) and not isinstance(cells.dtype, pd.CategoricalDtype):
        return Column(name, "boolean"), cells if cells.isna().any() else cells.astype(bool)
    if types.is_numeric_dtype(cells):
        whole = types.is_integer_dtype(cells) and not cells.isna().any()
        return Column(name, "integer" if whole else "number"), cells
    inferred = types.infer_dtype(cells, skipna=True)
    if inferred == "boolean":
        return Column(name, "boolean"), cells.astype("boolean")
    if types.is_datetime64_any_dtype(cells) or inferred in ("date", "datetime"):
        column = Column(name, "date", date_format=None if types.is_datetime64_any_dtype(cells) else ISO)
        return column, as_dates(column, cells)
    if inferred in ("string", "empty") and not isinstance(cells.dtype, pd.CategoricalDtype):
        return read_texts(name, cells.mask(cells.str.strip().isin(GAPS)))
    return Column(name, "text"), cells


def as_dates(column: Column, cells: pd.Series) -> pd.Series:
    """Write a column of dates as pandas has them, without a time zone (UTC)."""
    values = column.read_dates(cells)
    moments = np.full(len(values), np.datetime64("NaT", "us"))
    known = ~np.isnan(values)
    moments[known] = np.round(values[known] * DAY).astype("datetime64[us]")
    return pd.Series(moments, index=cells.index, name=cells.name)


def find_date_format(distinct: Sequence[str]) -> str | None:
    """Find how all of these texts write a date; None if they do not, or if they can be read in two ways."""
    texts = [text.strip() for text in distinct]
    if not texts or not any(char.isdigit() for char in texts[0]):
        return None
    candidates = [ISO] if DATE.fullmatch(texts[0]) else [f for f in FORMATS if is_date(texts[:1], f)]
    found = [each for each in candidates if is_date(texts, each)]
    return found[0] if len(found) == 1 else None


def is_date(texts: Sequence[str], written: str) -> bool:
    if written == ISO and not all(map(DATE.fullmatch, texts)):
        return False
    try:
        pd.to_datetime(pd.Series(texts, dtype=object), format=written, utc=True)
    except (ValueError, TypeError, OverflowError):
        return False
    return True


def parse_numbers(texts: pd.Series) -> np.ndarray | None:
    """Read texts as numbers; None if there is no text, or one of them is no number."""
    if texts.empty:
        return None
    if isinstance(texts.dtype, pd.StringDtype) and texts.dtype.storage == "pyarrow":
        try:
            numbers = texts.astype("Float64").to_numpy(dtype=np.float64)
        except ValueError:
            numbers = np.array([np.nan])
        if not np.isnan(numbers).any():
            return numbers
    if all(map(NUMBER.fullmatch, texts)):
        return np.fromiter(map(float, texts), np.float64, len(texts))
    return None
