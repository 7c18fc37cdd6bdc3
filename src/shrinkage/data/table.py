"""The user's own file."""

import difflib
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api import types

from shrinkage.errors import InputError

from .quoting import LENGTH, dropping, quoted, shown
from .reading import read_file
from .recipe import ENCODINGS, GAP, NUMBER, PARTS, Column
from .splits import Rows, read_folds, read_parts
from .tabular import Table, TabularData

LISTED = 20  # the most columns that a message names
FEW = 10  # a target of so many distinct whole numbers, or fewer, is read as classes
# What a person takes for a number: 1,234.50 and 1.234,50 and 1 234 and 12 % and $5.
ALMOST = re.compile(r"[+-]?[$€£]?\s*\d[\d.,'’\s]*(e[+-]?\d+)?\s*[%$€£]?", re.ASCII | re.IGNORECASE)


class TableFile(TabularData):
    """A CSV (UTF-8, plain or gzipped) or Parquet file with a header, read as `read_file` says.

    target: the column to predict. task: `regression`, `classification`, or `auto`: text, booleans, two distinct
    values or at most ten distinct whole numbers are classes. drop: columns to leave out. group, time, split and
    fold_column: columns that say which rows belong together, which are later, and each row's part (`read_parts`) or
    fold (`read_folds`); no features. drop_classes: `rare` leaves out the rows of classes that have too few of them to
    be split; None refuses them. max_categories: the most values a text column may have. missing: `error`; `drop`
    leaves out the rows; `mean` puts the training part's mean into columns of numbers, booleans and dates, and makes a
    category of its own in text ones. encoding: which levels of a text column are features, as `recipe.plan` says.
    unseen: what becomes of levels that no training row has, as `Recipe` says. dates: `error` refuses columns of dates;
    or a list of what a date is made into, of `year`, `month`, `weekday`, `dayofyear` and `trend`.
    """

    def __init__(
        self,
        *,
        path: str | None,
        target: str | None,
        task: str,
        missing: str,
        drop: Sequence[str],
        group: str | None,
        time: str | None,
        split: str | None,
        fold_column: str | None,
        drop_classes: str | None,
        max_categories: int,
        encoding: str,
        unseen: str,
        dates: str | Sequence[str],
        **settings: object,
    ) -> None:
        super().__init__(**settings)
        for name, value, example in (("path", path, "houses.csv"), ("target", target, "price")):
            if value is None:
                raise InputError(
                    f"data.{name} is not set: a file and the column to predict are needed; use data.{name}={example}"
                )
        for name, value, choices in (
            ("task", task, ("auto", "regression", "classification")),
            ("missing", missing, ("error", "drop", "mean")),
            ("encoding", encoding, ENCODINGS),
            ("unseen", unseen, ("zero", "error")),
        ):
            if value not in choices:
                raise InputError(f"data.{name}={shown(value)}: must be one of {', '.join(choices)}; use {choices[0]}")
        if not isinstance(drop, list | tuple):
            way_out = dropping(drop) if isinstance(drop, str) else "data.drop=[]"
            raise InputError(f"data.drop={shown(drop)}: must be a list of columns; use {way_out}")
        self.date_parts = read_date_parts(dates)
        if type(max_categories) is not int or max_categories < 1:
            raise InputError(f"data.max_categories={shown(max_categories)}: must be a whole number ≥ 1; use 100")
        if drop_classes not in (None, "rare"):
            raise InputError(f"data.drop_classes={shown(drop_classes)}: must be rare, or null for none; use rare")
        if group is not None and time is not None:
            raise InputError("data.group and data.time: rows are kept together by one of them; leave the other one out")
        self.path, self.target, self.task, self.missing = Path(str(path)), str(target), task, missing
        self.title = self.path.name
        self.drop, self.max_categories = list(map(str, drop)), max_categories
        named = {"group": group, "time": time, "split": split, "fold_column": fold_column}
        self.roles = {key: str(column) for key, column in named.items() if column is not None}
        self.drop_classes = drop_classes
        self.encoding, self.unseen = encoding, unseen

    def load(self) -> Table:
        frame, columns = read_file(self.path)
        self.check_roles(list(frame))
        frame = frame.drop(columns=self.drop)
        self.check_values(frame)
        aside = self.set_aside(frame)
        frame = self.without_missing(frame.drop(columns=aside.columns))
        decided = self.decided(aside.loc[frame.index])
        frame = frame.reset_index(drop=True)
        for column in frame:
            self.note_almost_numbers(frame[column])
        target = frame.pop(self.target)
        if frame.columns.empty:
            raise InputError(
                f"data.path={shown(self.path)}: no column is left beside the target {quoted(self.target)} to learn from"
            )
        for column in frame.columns[frame.columns.str.fullmatch(r"Unnamed: \d+")]:
            self.notes.append(
                f"a column without a name, which may be the rows' numbers, is learned from as {quoted(column)}; "
                f"{dropping(column)} leaves it out."
            )
        if len(target) > 1 and target.nunique() == 1:
            raise InputError(
                f"data.target={shown(self.target)}: it is {shown(target.iloc[0])} in every row, there is nothing to "
                "learn; choose another column"
            )
        values, names = self.target_of(target)
        rows = Rows(values, names, **decided)
        if self.drop_classes is not None:
            rows, kept = self.without_rare(rows)
            frame = frame[kept].reset_index(drop=True)
        self.check_features(frame, columns)
        return Table(
            frame,
            **vars(rows),
            columns=columns,
            fills=self.missing == "mean",
            encoding=self.encoding,
            date_parts=self.date_parts,
            unseen=self.unseen,
        )

    def check_roles(self, columns: list[str]) -> None:
        """Raises InputError for the first column that is named and not there, or named twice."""
        named = [("target", self.target), *(("drop", column) for column in self.drop), *self.roles.items()]
        found: dict[str, str] = {}
        for key, column in named:
            if column not in columns:
                raise InputError(self.not_a_column(key, column, columns))
            if found.setdefault(column, key) != key:
                raise InputError(
                    f"data.{found[column]} and data.{key} are both {shown(column)}: a column has one use; choose "
                    "another for one of them"
                )

    def set_aside(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The columns that place rows and are no features. Raises InputError where a row cannot be placed."""
        for key, column in self.roles.items():
            gaps = frame[column].isna().sum()
            if gaps and key != "fold_column":  # a test row needs no fold
                raise InputError(
                    f"data.{key}={shown(column)}: it is missing in {gaps} of {len(frame)} rows, and no row can be "
                    "placed without it; mend the rows, or choose another column"
                )
        return frame[list(self.roles.values())]

    def decided(self, aside: pd.DataFrame) -> dict[str, np.ndarray]:
        """What the columns that place rows say, as `Rows` takes it."""
        columns = {key: aside[column] for key, column in self.roles.items()}
        found: dict[str, np.ndarray] = {}
        if "group" in columns:
            found["groups"] = pd.factorize(columns["group"])[0]
        if "time" in columns:
            found["times"] = self.times(columns["time"])
        if "split" in columns:
            found["parts"], note = read_parts(columns["split"])
            self.notes.append(note)
        if "fold_column" in columns:
            trains = found["parts"] == "train" if "parts" in found else slice(None)
            found["folds"] = np.full(len(aside), -1)
            found["folds"][trains], note = read_folds(columns["fold_column"][trains])
            self.notes.append(note)
        return found

    def without_rare(self, rows: Rows) -> tuple[Rows, np.ndarray]:
        """The rows of the classes that have enough of them to be split, and which of all rows they are."""
        if not rows.class_names:
            raise InputError(
                f"data.drop_classes={self.drop_classes}: data.target={shown(self.target)} is a number and has no "
                "classes; use data.drop_classes=null, or data.task=classification"
            )
        rare = self.split.rare(rows)
        kept = ~np.isin(rows.target, rare)
        if len(rows.class_names) - len(rare) < 2:
            raise InputError(
                f"data.drop_classes={self.drop_classes}: {self.split.named_classes(rare, rows)} have fewer than "
                f"{self.split.needed(rows)} rows, and no two classes are left; bring more rows"
            )
        if len(rare):
            self.notes.append(
                f"data.drop_classes={self.drop_classes} left out {(~kept).sum()} of {len(kept)} rows: "
                f"{self.split.named_classes(rare, rows)}, with fewer than the {self.split.needed(rows)} needed."
            )
        return rows.only(kept), kept

    def target_of(self, target: pd.Series) -> tuple[np.ndarray, tuple[str, ...]]:
        """Its numbers, or the codes and names of its classes."""
        if self.is_classification(target):
            codes, names = pd.factorize(target, sort=True)
            return codes.astype(np.int64), tuple(map(str, names))
        if not types.is_numeric_dtype(target):
            raise InputError(
                f"data.target={shown(self.target)} data.task=regression: the column has text, such as "
                f"{quoted(target.iloc[0])}; regression needs numbers, use data.task=classification"
            )
        return target.to_numpy(dtype=np.float64), ()

    def times(self, column: pd.Series) -> np.ndarray:
        """The column as numbers that grow with time."""
        if types.is_numeric_dtype(column):
            return column.to_numpy()
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message="Could not infer format")
                warnings.filterwarnings("ignore", message="Parsing dates in")  # how they were read is said below
                try:
                    moments = pd.to_datetime(column, format="ISO8601", utc=True)
                except ValueError:
                    moments = pd.to_datetime(column, utc=True)
                    self.notes.append(
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
        return moments.astype("int64").to_numpy()

    def not_a_column(self, key: str, column: str, columns: list[str]) -> str:
        close = difflib.get_close_matches(column, columns, n=1)
        names = [shown(name, LENGTH) for name in columns[:LISTED]]
        listed = ", ".join(names) + (f", … ({len(columns)} in all)" if len(columns) > LISTED else "")
        way_out = f"did you mean {shown(close[0])}?" if close else "choose one of them"
        for separator, word in ((";", "semicolons"), ("\t", "tabs")):
            if len(columns) == 1 and separator in columns[0]:
                way_out = f"its cells are separated by {word}, write the file with commas"
        return f"data.{key}={shown(column)}: {shown(self.path)} has no such column, it has {listed}; {way_out}"

    def check_values(self, frame: pd.DataFrame) -> None:
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

    def note_almost_numbers(self, column: pd.Series) -> None:
        """A note on text that a person may take for numbers."""
        if types.is_numeric_dtype(column):
            return
        texts = [str(value).strip() for value in column.dropna().unique()]
        others = [text for text in texts if not NUMBER.fullmatch(text)]
        if others and 2 * sum(1 for text in texts if ALMOST.fullmatch(text) or NUMBER.fullmatch(text)) > len(texts):
            self.notes.append(
                f"column {quoted(column.name)} is read as text, each value a category, since {quoted(others[0])} is no "
                "number; numbers are written as 1234.5."
            )

    def without_missing(self, frame: pd.DataFrame) -> pd.DataFrame:
        missing = frame.isna().sum()
        missing = missing[missing > 0]
        if missing.empty:
            return frame
        if self.missing == "error":
            columns = ", ".join(f"{quoted(column)} in {count}" for column, count in missing[:LISTED].items())
            columns += f", … ({len(missing)} columns in all)" if len(missing) > LISTED else ""
            raise InputError(
                f"missing values (of {len(frame)} rows): {columns}; use data.missing=drop to leave the rows out, "
                "or data.missing=mean to fill them from the training part"
            )
        if self.missing == "drop":
            kept = frame.dropna()
            if kept.empty:
                raise InputError(
                    "data.missing=drop: every row has a missing value, none is left; use data.missing=mean, "
                    "or leave the emptiest columns out with data.drop"
                )
            self.notes.append(f"data.missing=drop left out {len(frame) - len(kept)} of {len(frame)} rows.")
            return kept
        if self.target in missing:
            raise InputError(
                f"data.target={shown(self.target)} is missing in {missing[self.target]} of {len(frame)} rows: a target "
                "cannot be filled in; use data.missing=drop"
            )
        return frame

    def check_features(self, frame: pd.DataFrame, columns: Mapping[str, Column]) -> None:
        """Raises InputError for a column that no feature can be made of."""
        for name, column in frame.items():
            if column.isna().all():
                raise InputError(f"column {quoted(name)} has no value at all; leave it out with {dropping(name)}")
            self.check_dates(column, columns[name])
            if columns[name].kind != "text":
                continue
            if column.nunique() > self.max_categories:
                raise InputError(
                    f"text column {quoted(name)} has {column.nunique():,} different values: each becomes a column of "
                    f"its own, at most data.max_categories={self.max_categories}; leave it out with {dropping(name)}, "
                    "or raise the bound"
                )
            if column.isna().any() and (column == GAP).any():
                self.notes.append(
                    f"column {quoted(name)} has gaps and the text {GAP!r}, and data.missing=mean makes one category of "
                    "them."
                )

    def check_dates(self, column: pd.Series, rules: Column) -> None:
        """Raises InputError for a column of dates where nothing is said of what they are to be."""
        if rules.kind == "date" and not self.date_parts:
            raise InputError(
                f"column {quoted(rules.name)} has dates, such as {column.dropna().iloc[0]:%Y-%m-%d}; make numbers and "
                f"categories of them with data.dates=[{','.join(PARTS)}] or some of these, order the rows by it with "
                f"data.time, or leave it out with {dropping(rules.name)}"
            )

    def is_classification(self, target: pd.Series) -> bool:
        if self.task != "auto":
            return self.task == "classification"
        distinct = target.nunique()
        if types.is_numeric_dtype(target) and not types.is_bool_dtype(target):
            whole = bool((target == target.round()).all())
            classes = distinct == 2 or (whole and distinct <= FEW)
            if classes and distinct > 2:
                self.notes.append(
                    f"{shown(self.target)} has {distinct} distinct whole numbers and is read as {distinct} classes; "
                    "data.task=regression reads it as a number."
                )
            return classes
        return True


def read_date_parts(dates: object) -> tuple[str, ...]:
    """What `data.dates` makes of a date; nothing where it refuses dates."""
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
