"""From the user's own columns to the numbers that a model sees, written down for another program to repeat."""

from dataclasses import dataclass

import pandas as pd
from pandas.api import types

GAP = "missing"  # the category of a gap in a text column


@dataclass(frozen=True)
class Column:
    """A column as the user has it. kind: number, integer, boolean or text. gap: what stands for a missing value.

    Without one a missing value is refused.
    """

    name: str
    kind: str
    gap: float | str | None = None


@dataclass(frozen=True)
class Feature:
    """(v − mean)/scale, with v the column's number, or of a category 1 where the column is that and 0 elsewhere.

    A boolean is 0 or 1.
    """

    name: str
    column: str
    category: str | None = None
    mean: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """columns: in the user's order. features: in the model's. A category that no feature has is 0 in all of them."""

    columns: tuple[Column, ...]
    features: tuple[Feature, ...]


def kind(column: pd.Series) -> str:
    """Of a column as it was read. With gaps in it booleans and whole numbers are numbers."""
    if not types.is_numeric_dtype(column):
        return "text"
    if types.is_float_dtype(column) or column.isna().any():
        return "number"
    return "boolean" if types.is_bool_dtype(column) else "integer"
