"""From the cells of the user's own columns to the numbers that a model sees.

Training and a served model both read cells by this file: it goes with each model that is written, so it imports
nothing but NumPy and pandas; and pandas only where cells are read, since data that have none need not wait for it.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

GAPS = frozenset(  # the words for no value: those of pandas
    (
        *("", "NA", "N/A", "n/a", "#N/A", "#NA", "#N/A N/A", "<NA>", "NaN", "nan", "-NaN", "-nan", "NULL", "null"),
        *("None", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
    )
)
GAP = "missing"  # the level of a gap in a text column whose gaps are filled
SIGNS = str.maketrans({"\u00a0": " ", "\u202f": " ", "’": "'"})  # other characters for a sign between thousands
BOOLEANS = {"true": True, "false": False}
DATE = re.compile(r"\d{4}-\d\d-\d\d([T ].*)?", re.ASCII)  # which pandas' ISO8601 reads; it reads years alone, too
ISO = "ISO8601"
DAY = np.timedelta64(1, "D") / np.timedelta64(1, "us")  # microseconds
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
LISTED = 5  # the most values that a message names


class Refused(ValueError):
    """A column cannot be read; the message says which, why, and what to do."""


@dataclass(frozen=True)
class Column:
    """The rules by which a column's cells are read.

    kind: number, integer, boolean, date or text. has_gaps: whether the file had gaps in it. gap: what stands for a
    missing value; without one a missing value is refused. date_format: how dates are written, `ISO8601` or as
    `strptime` has it; None for dates that are no text. decimal and thousands: the signs in numbers that are text, as
    `as_plain` reads them. tidy: whether texts are read as `tidied` has them. start: the first training day, in days
    since 1970. levels: the values that training rows have, of a text column under "", of a date under the part
    (`month`, `weekday`).
    """

    name: str
    kind: str
    has_gaps: bool = False
    gap: float | str | None = None
    date_format: str | None = None
    decimal: str = "."
    thousands: str = ""
    tidy: bool = False
    start: float = 0.0
    levels: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def read(self, cells: "pd.Series") -> np.ndarray:
        """Read the values of cells: text [n] of `str` and None, or numbers [n] and NaN.

        Booleans are 0 and 1. Dates are days since 1970-01-01 (UTC). Raises Refused for a cell that is not of this kind.
        """
        from pandas.api import types

        if self.kind == "text":
            return self.read_text(cells)
        if self.kind == "date":
            return self.read_dates(cells)
        read = read_boolean if self.kind == "boolean" else partial(read_number, signs=(self.decimal, self.thousands))
        if types.is_numeric_dtype(cells) and (self.kind != "boolean" or types.is_bool_dtype(cells)):
            return cells.to_numpy(dtype=np.float64, na_value=np.nan)
        try:
            return read_each(cells, read).astype(np.float64)
        except ValueError as error:
            raise Refused(f"column {self.name!r} must have {self.kind}s: {error}") from None

    def read_text(self, cells: "pd.Series") -> np.ndarray:
        """Read the texts of cells, with None for a gap."""
        levels = self.levels.get("", ())
        return read_each(cells, lambda cell: tidied(spell(cell, levels)) if self.tidy else spell(cell, levels))

    def read_dates(self, cells: "pd.Series") -> np.ndarray:
        import pandas as pd
        from pandas.api import types

        try:
            if types.is_datetime64_any_dtype(cells):
                return days(pd.DatetimeIndex(cells))
            texts = cells.astype(object).where(cells.notna(), None)
            texts = texts.where(~texts.isin(GAPS), None)
            if types.is_numeric_dtype(cells) or any(
                isinstance(text, int | float) for text in texts if text is not None
            ):
                raise ValueError("there are numbers")
            iso = np.array([not isinstance(text, str) or bool(DATE.fullmatch(text.strip())) for text in texts])
            if self.date_format in (None, ISO) or iso.all():
                return days(pd.to_datetime(texts.map(str, na_action="ignore"), format=ISO, utc=True))
            found = np.empty(len(texts))
            found[iso] = days(pd.to_datetime(texts[iso].map(str, na_action="ignore"), format=ISO, utc=True))
            found[~iso] = days(pd.to_datetime(texts[~iso].str.strip(), format=self.date_format, utc=True))
            return found
        except (ValueError, TypeError, OverflowError) as error:
            reason = " ".join(str(error).split())[:200]
            raise Refused(
                f"column {self.name!r} must have dates, as 2026-01-31 or as in training ({self.date_format}): {reason}"
            ) from None

    def fill(self, values: np.ndarray) -> np.ndarray:
        """Fill the gaps of values. Raises Refused if they are not to be filled, and for infinite numbers."""
        import pandas as pd

        gaps = pd.isna(values)
        if gaps.any() and self.gap is None:
            raise Refused(
                f"column {self.name!r} is missing in {gaps.sum()} of {len(values)} rows: the model was trained to fill "
                "no gaps; fill them, or train it with data.missing=mean"
            )
        if self.kind != "text" and np.isinf(values).any():
            raise Refused(
                f"column {self.name!r} is infinite in {np.isinf(values).sum()} of {len(values)} rows: every number "
                "must be finite"
            )
        return values if self.gap is None or not gaps.any() else np.where(gaps, self.gap, values)

    def part(self, values: np.ndarray, part: str) -> np.ndarray:
        """Take the part of dates that a feature is made of; "" is the value itself."""
        if not part:
            return values
        if part == "trend":
            return values - self.start

        import pandas as pd

        moments = pd.DatetimeIndex((np.floor(values) * DAY).astype("datetime64[us]"))
        if part == "year":
            return moments.year.to_numpy(dtype=np.float64)
        if part == "month":
            return moments.strftime("%m").to_numpy(dtype=object)
        if part == "weekday":
            return np.array(WEEKDAYS, dtype=object)[moments.day_of_week]
        angle = 2 * np.pi * (moments.day_of_year.to_numpy(dtype=np.float64) - 1) / 365.25
        return np.sin(angle) if part == "dayofyear_sin" else np.cos(angle)


@dataclass(frozen=True)
class Feature:
    """A feature is one number that a model sees of a row: (v − mean)/scale.

    v is a number of the column; or 1 if the column has the category, and 0 if not. A boolean is 0 or 1. part: the part
    of a date that is meant, as `Column.part` has it.
    """

    name: str
    column: str
    category: str | None = None
    mean: float = 0.0
    scale: float = 1.0
    part: str = ""


@dataclass(frozen=True)
class Recipe:
    """A recipe makes a model's features from the user's own columns.

    columns: in the user's order. features: in the model's order. unseen: what happens to a level that no training row
    had: under `zero` no category of its column is 1, and a warning says so; under `error` it is refused. offset: the
    one of the columns, of which no feature is made, that is added to the model's output, or its logarithm where
    is_exposure; None for none. strata: the one that says a row's stratum, of which no feature is made either; None for
    none.
    """

    columns: tuple[Column, ...]
    features: tuple[Feature, ...]
    unseen: str = "zero"
    offset: str | None = None
    is_exposure: bool = False
    strata: str | None = None

    @classmethod
    def from_json(cls, description: Mapping[str, Any]) -> "Recipe":
        """Make a recipe from what `dataclasses.asdict` and JSON have kept of it."""
        columns = tuple(Column(**column) for column in description["columns"])
        features = tuple(Feature(**feature) for feature in description["features"])
        # Which older models do not have.
        aside = description.get("offset"), description.get("is_exposure", False), description.get("strata")
        return cls(columns, features, description["unseen"], *aside)

    def __call__(self, frame: "pd.DataFrame") -> np.ndarray:
        """Make the features [rows, features] of rows as the user has them.

        Other columns and their order do not matter. Logs a warning for levels that are unseen. Raises Refused for rows
        that cannot be read.
        """
        missing = [column.name for column in self.columns if column.name not in frame]
        if missing:
            raise Refused(f"the model needs the columns {missing}, which are missing; there are {list(frame.columns)}")
        own = [column for column in self.columns if column.name not in (self.offset, self.strata)]
        values = {column.name: column.fill(column.read(frame[column.name])) for column in own}
        unseen = describe_unseen(self.count_unseen(values))
        if unseen and self.unseen == "error":
            raise Refused(f"{unseen}; the model was trained with data.unseen=error")
        if unseen:
            logging.getLogger(__name__).warning("%s; each counts as none of the column's categories", unseen)
        return self.encode(values)

    def offsets(self, frame: "pd.DataFrame") -> np.ndarray | None:
        """Read what is added to the model's output for each row, [rows], in the target's own units; None for nothing.

        Raises Refused for rows that lack it.
        """
        if self.offset is None:
            return None
        (column,) = (column for column in self.columns if column.name == self.offset)
        values = column.read(frame[column.name])
        if np.isnan(values).any():
            raise Refused(
                f"column {column.name!r} is missing in {np.isnan(values).sum()} of {len(values)} rows: the model was "
                "trained with it as an offset, and predicts nothing without; give each row its own"
            )
        return as_offset(values, column.name, self.is_exposure)

    def survival(self, frame: "pd.DataFrame", risk: np.ndarray, survival: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Tell the probability that no event is seen until certain times, as columns, of rows of relative risks [n].

        survival: the names of the columns; how many events a row of risk 1 expects until then, a list of numbers for
        each stratum, null where no training row was seen so long; and the strata's values. A row of another stratum has
        NaN.
        """
        expected = np.array(survival["expected"], dtype=float)  # NaN for null
        places = np.zeros(len(risk), dtype=np.int64)
        if self.strata is not None:
            import pandas as pd

            (column,) = (column for column in self.columns if column.name == self.strata)
            places = pd.Index(survival["strata"]).get_indexer(pd.Index(column.read(frame[column.name])))
        found = np.exp(-expected[places] * risk[:, None])
        found[places < 0] = np.nan
        return {name: found[:, k] for k, name in enumerate(survival["names"])}

    def encode(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Make the features of values without gaps, float64 [rows, features]."""
        rows = len(next(iter(values.values()))) if values else 0
        x = np.empty((rows, len(self.features)))
        columns = {column.name: column for column in self.columns}
        parts: dict[tuple[str, str], np.ndarray] = {}
        for number, feature in enumerate(self.features):
            key = feature.column, feature.part
            if key not in parts:
                parts[key] = columns[feature.column].part(values[feature.column], feature.part)
                if feature.category is not None:
                    import pandas as pd

                    levels = columns[feature.column].levels[feature.part]
                    parts[key] = pd.Index(levels, dtype=object).get_indexer(parts[key])  # −1 for a level that is unseen
            value = parts[key]
            if feature.category is not None:
                value = value == columns[feature.column].levels[feature.part].index(feature.category)
            x[:, number] = (value - feature.mean) / feature.scale
        return x

    def count_unseen(self, values: Mapping[str, np.ndarray]) -> dict[str, Counter[str]]:
        """Count each level of the values that no training row had, by the column or part that has it."""
        found = {}
        for column in self.columns:
            for part, levels in column.levels.items():
                counts, known = Counter(column.part(values[column.name], part).tolist()), set(levels)
                others = Counter({level: count for level, count in counts.items() if level not in known})
                if others:
                    found[f"the {part} of column {column.name!r}" if part else f"column {column.name!r}"] = others
        return found


def as_offset(values: np.ndarray, name: str, is_exposure: bool) -> np.ndarray:
    """Take the logarithm of exposures, and offsets as they are. Raises Refused for numbers that cannot be one."""
    if not np.isfinite(values).all():
        raise Refused(f"column {name!r} is infinite in {(~np.isfinite(values)).sum()} of {len(values)} rows")
    if not is_exposure:
        return values
    if (values <= 0).any():
        raise Refused(
            f"column {name!r} is an exposure, which must be above 0, and is {values[values <= 0][0]:g} in "
            f"{(values <= 0).sum()} of {len(values)} rows"
        )
    return np.log(values)


def describe_unseen(counts: Mapping[str, Counter[str]]) -> str:
    """Say which levels no training row had, and in how many rows they are; "" if there are none."""
    found = []
    for name, others in counts.items():
        listed = ", ".join(f"{level!r} in {count}" for level, count in others.most_common(LISTED))
        more = f", … ({len(others)} values in all)" if len(others) > LISTED else ""
        rows = f"{others.total()} row{'s' * (others.total() > 1)}"
        found.append(f"{name} has values in {rows} that no training row had: {listed}{more}")
    return "; ".join(found)


def read_each(cells: "pd.Series", read: Callable[[object], object]) -> np.ndarray:
    """Read each cell by `read`, with None for a gap, [n] objects; each different text is read once."""
    import pandas as pd
    from pandas.api import types

    if types.infer_dtype(cells, skipna=True) in ("string", "empty", "categorical"):
        codes, distinct = pd.factorize(cells)
        known = [None if is_gap(cell) else read(cell) for cell in distinct]
        table = np.empty(len(known) + 1, dtype=object)
        table[:-1] = known
        return table[codes]  # a gap's code is −1
    found = np.empty(len(cells), dtype=object)
    found[:] = [None if pd.isna(cell) or is_gap(cell) else read(cell) for cell in cells.tolist()]
    return found


def is_gap(cell: object) -> bool:
    return isinstance(cell, str) and cell.strip() in GAPS


def tidied(text: str) -> str:
    """Write a text in small letters, without blanks at its ends, and with one for each run of blanks in it."""
    return " ".join(text.split()).casefold()


@lru_cache
def pattern(decimal: str, thousands: str) -> re.Pattern[str]:
    """Make the pattern of a number that has such signs; with a sign for thousands, digits in groups of three."""
    groups = rf"[1-9]\d{{0,2}}(?:{re.escape(thousands)}\d{{3}})+|" if thousands else ""
    point = re.escape(decimal)
    return re.compile(
        rf"[+-]?(?:(?:{groups}\d+)(?:{point}\d*)?|{point}\d+)(?:e[+-]?\d+)?|[+-]?inf(?:inity)?",
        re.ASCII | re.IGNORECASE,
    )


def as_plain(text: str, decimal: str, thousands: str) -> str | None:
    """Write a number that has such signs as Python does, 1234.5; None if it is no number."""
    text = text.strip().translate(SIGNS)
    if not pattern(decimal, thousands).fullmatch(text):
        return None
    return (text.replace(thousands, "") if thousands else text).replace(decimal, ".")


def read_number(cell: Any, signs: tuple[str, str] = (".", "")) -> float:
    plain = as_plain(cell, *signs) if isinstance(cell, str) else cell
    if plain is None:
        raise ValueError(f"{cell!r} is no number")
    try:
        return float(plain)
    except (TypeError, ValueError):
        raise ValueError(f"{cell!r} is no number") from None


def read_boolean(cell: object) -> bool:
    word = cell.strip().lower() if isinstance(cell, str) else cell
    known = BOOLEANS.get(word) if isinstance(word, str) else None
    if known is None and word in (0, 1, "0", "1"):
        known = bool(int(word))
    if known is None:
        raise ValueError(f"{cell!r} is neither true nor false")
    return known


def spell(cell: object, levels: Sequence[str]) -> str:
    """Write a cell as text; a number or boolean in the way that is one of the levels, if one is."""
    if isinstance(cell, str):
        return cell
    spellings = [str(cell)]
    if isinstance(cell, bool | np.bool_):
        spellings += [str(cell).lower(), str(cell).upper()]
    elif isinstance(cell, float | np.floating) and float(cell).is_integer():
        spellings.insert(0, str(int(cell)))  # where a gap beside it has made 1 a fraction
    elif isinstance(cell, int | np.integer):
        spellings.append(str(float(cell)))
    elif isinstance(cell, date):
        spellings.append(cell.isoformat())
    return next((each for each in spellings if each in levels), spellings[0])


def days(moments: Iterable[Any]) -> np.ndarray:
    """Count the days since 1970-01-01 (UTC) of moments, NaN for none."""
    import pandas as pd

    index = pd.DatetimeIndex(moments)
    index = index.tz_localize("UTC") if index.tz is None else index.tz_convert("UTC")
    found = index.as_unit("us").asi8 / DAY
    return np.where(index.isna(), np.nan, found)


def predicted(
    output: np.ndarray,
    classes: Sequence[str],
    center: float | Sequence[float],
    scale: float | Sequence[float],
    link: str = "identity",
    offset: np.ndarray | None = None,
    targets: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """Say what a network's outputs [n, outputs] predict, as columns. offset: what `Recipe.offsets` adds to them, [n].

    Without classes `prediction` is the target in its own units, output · scale + center, or under a log link e to the
    power of that; of several targets `prediction_NAME` is each. With classes it is the name of the likeliest, and
    `probability_NAME` is the probability of each; two classes have one logit, the second's.
    """
    output = output.astype(float)
    if offset is not None:
        output = output + offset[:, None] / np.asarray(scale)
    if not len(classes):
        numbers = output * np.asarray(scale) + np.asarray(center)
        if len(targets):
            return {f"prediction_{name}": numbers[:, k] for k, name in enumerate(targets)}
        number = numbers[:, 0]
        return {"prediction": np.exp(number) if link == "log" else number}
    if output.shape[1] == 1:
        output = np.hstack([np.zeros_like(output), output])
    odds = np.exp(output - output.max(axis=1, keepdims=True))
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    likeliest = np.array(classes, dtype=object)[output.argmax(axis=1)]
    return {"prediction": likeliest} | {f"probability_{name}": probabilities[:, k] for k, name in enumerate(classes)}
