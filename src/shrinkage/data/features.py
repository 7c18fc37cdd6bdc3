"""Plans which features are made of the columns, from the levels that training rows have."""

from collections.abc import Sequence

import numpy as np

from .recipe import WEEKDAYS, Column, Feature, Recipe

PARTS = ("year", "month", "weekday", "dayofyear", "trend")  # what a date can be to a model
ENCODINGS = ("auto", "reference", "all")


def plan(columns: Sequence[Column], encoding: str, date_parts: Sequence[str]) -> Recipe:
    """Plan the features of columns whose levels are known: numbers first, then dates, then text.

    They have neither mean nor scale yet. encoding: which levels have a feature of their own, called column_level:
    `all`; under `reference` all but the first; under `auto` all where there are more than two, and of two the second.
    """
    features = [Feature(c.name, c.name) for c in columns if c.kind not in ("date", "text")]
    dates, texts = ([c for c in columns if c.kind == kind] for kind in ("date", "text"))
    for column, part in [(column, part) for column in dates for part in date_parts] + [(c, "") for c in texts]:
        name = f"{column.name}_{part}" if part else column.name
        if part in ("", *column.levels):
            levels = column.levels[part]
            drops_first = encoding == "reference" or (encoding == "auto" and len(levels) == 2)
            shown = levels[1:] if drops_first and len(levels) > 1 else levels
            features += [Feature(f"{name}_{level}", column.name, level, part=part) for level in shown]
        elif part == "dayofyear":
            features += [Feature(f"{name}_{wave}", column.name, part=f"{part}_{wave}") for wave in ("sin", "cos")]
        else:
            features.append(Feature(name, column.name, part=part))
    return Recipe(tuple(columns), tuple(features))


def find_levels(column: Column, values: np.ndarray, date_parts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Find the levels that training values without gaps have: sorted, and weekdays from Monday on."""
    if column.kind == "text":
        return {"": tuple(sorted(set(values)))}
    found = {}
    for part in ("month", "weekday"):
        if column.kind == "date" and part in date_parts:
            seen = set(column.part(values, part))
            found[part] = tuple(sorted(seen) if part == "month" else (day for day in WEEKDAYS if day in seen))
    return found
