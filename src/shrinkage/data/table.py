"""The user's own file as rows and columns: CSV or Parquet."""

import difflib
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from shrinkage.checks import Whole, check
from shrinkage.errors import InputError

from .base import Part
from .quoting import LENGTH, dropping, override, quoted, shown
from .reading import Contents, CsvFormat, read_file
from .recipe import ENCODINGS, GAP, NUMBER, PARTS, Column, tidied
from .splits import Rows, as_word, read_folds, read_parts
from .tabular import Table, TabularData

LISTED = 20  # the most columns that a message names
DIAGNOSES = 3  # the most that an error tells beside what is wrong
FEW = 10  # a target of so many distinct whole numbers, or fewer, is read as classes
# What a person takes for a number: 1,234.50 and 12 % and $5 and 27 kg and (27) and <27.
ALMOST = re.compile(r"[(<>~≈≤≥]?\s*[+-]?[$€£¥]?\s*[+-]?\d[\d.,'’\s]*(e[+-]?\d+)?\s*([%‰$€£¥°]|[^\W\d_]{1,5}[²³]?)?\)?")
# What a person takes for a date, and which is none of the ways to write one that are read.
ALMOST_DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}(\s.*)?", re.ASCII)


class TableFile(TabularData):
    """The user's own table: a CSV (UTF-8, plain or gzipped) or Parquet file with a header, read by `read_file`.

    target: the column to predict. task: `regression`, `classification`, or `auto`: text, booleans, two distinct
    values or at most ten distinct whole numbers are classes. drop: columns to leave out. group, time, split and
    fold_column: columns that say which rows belong together, which are later, and each row's part (`read_parts`) or
    fold (`read_folds`); no features. drop_classes: `rare` leaves out the rows of classes that have too few of them to
    be split; None refuses them. max_categories: the most values a text column may have. missing: `error`; `drop`
    leaves out the rows; `mean` puts the training part's mean into columns of numbers, booleans and dates, and makes a
    category of its own in text ones. encoding: which levels of a text column are features, as `recipe.plan` says.
    unseen: what becomes of levels that no training row has, as `Recipe` says. dates: `error` refuses columns of dates;
    or a list of what a date is made into, of `year`, `month`, `weekday`, `dayofyear` and `trend`. missing_target:
    `error`, or `drop` leaves out the rows that have no target, whatever becomes of other gaps. tidy: whether texts that
    differ only in case and blanks are one. separator, decimal, thousands, comment: as `CsvFormat` says.
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
        missing_target: str = "error",
        tidy: bool = False,
        separator: str = "auto",
        decimal: str = "auto",
        thousands: str = "auto",
        comment: str = "auto",
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.csv_format = CsvFormat(separator, decimal, thousands, comment)
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
            ("missing_target", missing_target, ("error", "drop")),
        ):
            if value not in choices:
                raise InputError(f"data.{name}={shown(value)}: must be one of {', '.join(choices)}; use {choices[0]}")
        if not isinstance(drop, list | tuple):
            way_out = dropping(drop) if isinstance(drop, str) else "data.drop=[]"
            raise InputError(f"data.drop={shown(drop)}: must be a list of columns; use {way_out}")
        self.date_parts = read_date_parts(dates)
        check("data.max_categories", max_categories, Whole(1), "use data.max_categories=100")
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
        self.missing_target, self.tidy = missing_target, tidy
        self.diagnoses: list[str] = []  # what is odd in the file, which an error that follows may come from

    def make_parts(self) -> dict[str, Part]:
        try:
            return super().make_parts()
        except InputError as error:
            if not self.diagnoses:
                raise
            more = f" (and {len(self.diagnoses) - DIAGNOSES} notes more)" if len(self.diagnoses) > DIAGNOSES else ""
            raise InputError(f"{error}. Note: {' '.join(self.diagnoses[:DIAGNOSES])}{more}") from None

    def load(self) -> Table:
        contents = read_file(self.path, self.csv_format)
        frame, columns = contents.frame, contents.columns
        self.notes += contents.notes
        self.find_roles(list(frame))
        frame = frame.drop(columns=self.drop)
        for name in frame:
            if name in contents.doubts:
                raise InputError(f"{contents.doubts[name]}, or leave it out with {dropping(name)}")
        self.check_values(frame)
        aside = self.set_aside(frame)
        frame = self.with_target(frame.drop(columns=aside.columns), contents)
        frame = self.without_missing(frame, contents)
        decided = self.decided(aside.loc[frame.index])
        frame = frame.reset_index(drop=True)
        if self.tidy:
            texts = [name for name in frame if columns[name].kind == "text"]
            columns = columns | {name: replace(columns[name], tidy=True) for name in texts}
            frame = frame.assign(**{name: frame[name].map(tidied, na_action="ignore") for name in texts})
        self.diagnose(frame, contents)
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

    def find_roles(self, columns: list[str]) -> None:
        """Find the columns that the settings name, by their names, or else by their names without blanks at the ends.

        Raises InputError for the first that is named and not there, or named twice.
        """
        named = [("target", self.target), *(("drop", column) for column in self.drop), *self.roles.items()]
        found: dict[str, str] = {}
        for key, column in named:
            name = self.find_column(key, column, columns)
            if found.setdefault(name, key) != key:
                raise InputError(
                    f"data.{found[name]} and data.{key} are both {shown(name)}: a column has one use; choose "
                    "another for one of them"
                )
        self.target = self.find_column("target", self.target, columns)
        self.drop = [self.find_column("drop", column, columns) for column in self.drop]
        self.roles = {key: self.find_column(key, column, columns) for key, column in self.roles.items()}

    def find_column(self, key: str, column: str, columns: list[str]) -> str:
        """Find the column of this name, blanks at the ends apart. Raises InputError if there is none."""
        if column in columns:
            return column
        close = [name for name in columns if name.strip() == column.strip()]
        if len(close) == 1:
            return close[0]
        raise InputError(self.not_a_column(key, column, columns))

    def set_aside(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Take the columns that place rows and are no features. Raises InputError if a row cannot be placed."""
        for key, column in self.roles.items():
            gaps = frame[column].isna().sum()
            if gaps and key != "fold_column":  # a test row needs no fold
                raise InputError(
                    f"data.{key}={shown(column)}: it is missing in {gaps} of {len(frame)} rows, and no row can be "
                    "placed without it; mend the rows, or choose another column"
                )
        return frame[list(self.roles.values())]

    def decided(self, aside: pd.DataFrame) -> dict[str, np.ndarray]:
        """Read what the columns that place rows say, as `Rows` takes it. Raises InputError if they cannot be read."""
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
        """Leave out the rows of classes with too few of them to be split; returns which rows are kept, too.

        Raises InputError if the target has no classes, or no two classes are left.
        """
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
        """Read the target's numbers, or the codes and names of its classes. Raises InputError for text as numbers."""
        if types.is_datetime64_any_dtype(target):
            raise InputError(
                f"data.target={shown(self.target)}: the column has dates, such as {target.iloc[0]:%Y-%m-%d}, and a "
                "date is neither a number nor one of a few classes; choose another column"
            )
        if self.is_classification(target):
            codes, names = pd.factorize(target, sort=True)
            return codes.astype(np.int64), tuple(map(as_word, names)) if types.is_float_dtype(target) else tuple(
                map(str, names)
            )
        if not types.is_numeric_dtype(target):
            raise InputError(
                f"data.target={shown(self.target)} data.task=regression: the column has text, such as "
                f"{quoted(target.iloc[0])}; regression needs numbers, use data.task=classification"
            )
        return target.to_numpy(dtype=np.float64), ()

    def times(self, column: pd.Series) -> np.ndarray:
        """Read a column as numbers that grow with time. Raises InputError if it has no times."""
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
        close = difflib.get_close_matches(column, columns, n=1) or [
            name for name in columns if name.strip().casefold() == column.strip().casefold()
        ]
        names = [shown(name, LENGTH) for name in columns[:LISTED]]
        listed = ", ".join(names) + (f", … ({len(columns)} in all)" if len(columns) > LISTED else "")
        way_out = "choose one of them"
        if close:
            way_out = f"did you mean {dropping(close[0]) if key == 'drop' else override(f'data.{key}', close[0])}?"
        if len(columns) == 1 and not columns[0].isidentifier():
            way_out = "if its cells are separated by another sign, say it, as in data.separator=tab"
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

    def diagnose(self, frame: pd.DataFrame, contents: Contents) -> None:
        """Note what a person may have meant otherwise; an error that follows tells these notes, too."""
        found = []
        for name, column in frame.items():
            if name in contents.codes and contents.columns[name].kind == "integer":
                found.append(
                    f"column {quoted(name)} has {quoted(contents.codes[name])} and is read as numbers, without the "
                    f"first 0; if these are codes, {dropping(name)} leaves them out."
                )
            if contents.columns[name].kind == "text":
                found += self.diagnose_text(column)
        self.diagnoses += found
        self.notes += found

    def diagnose_text(self, column: pd.Series) -> list[str]:
        """Say what is odd in a column of text."""
        name, counts = str(column.name), column.dropna().astype(str).value_counts()
        kind = "classes" if name == self.target else "categories"
        texts = [text.strip() for text in counts.index]
        if not texts:
            return []
        found = []
        others = [place for place, text in enumerate(texts) if not NUMBER.fullmatch(text)]
        units = Counter(unit_of(text) for text in texts)
        almost = units.pop("", 0) + max((count for unit, count in units.items() if unit is not None), default=0)
        dates = sum(1 for text in texts if ALMOST_DATE.fullmatch(text))
        if 2 * dates > len(texts):
            found.append(
                f"column {quoted(name)} has what may be dates, such as {quoted(texts[0])}, but cannot be read as such "
                f"in one way alone, and is read as text, its values as {kind}; dates are written as 2026-01-31."
            )
        elif others and 2 * almost > len(texts):
            rows, verb = int(counts.iloc[others].sum()), "are" if len(others) > 1 else "is"
            found.append(
                f"column {quoted(name)} is read as text, its values as {kind}, since {quoted(texts[others[0]])} "
                f"{'and others, ' * (len(others) > 1)}in {rows} of {len(column)} rows {verb} no "
                "number; numbers are written as 1234.5, and a gap is an empty cell."
            )
        elif name != self.target and len(column) > FEW and len(column) < 2 * len(texts) <= 2 * self.max_categories:
            found.append(
                f"column {quoted(name)} has {len(texts)} different texts in {len(column)} rows, each a category, as "
                f"names and numbers of rows do; {dropping(name)} leaves it out."
            )
        alike: dict[str, list[str]] = {}
        for text in counts.index:
            alike.setdefault(tidied(text), []).append(text)
        joined = next((spellings for spellings in alike.values() if len(spellings) > 1), None)
        if joined:
            count = sum(len(spellings) > 1 for spellings in alike.values())
            found.append(
                f"column {quoted(name)} has {', '.join(map(quoted, joined[:LISTED]))} as {kind} of their own"
                f"{f', and {count - 1} more such' * (count > 1)}; data.tidy=true joins those that differ only in case "
                "and blanks."
            )
        return found

    def with_target(self, frame: pd.DataFrame, contents: Contents) -> pd.DataFrame:
        """Keep the rows that have a target. Raises InputError if others are there and are not to be left out."""
        gaps = frame[self.target].isna()
        if not gaps.any() or self.missing == "drop":
            return frame
        if self.missing_target == "error":
            if frame.drop(columns=self.target).isna().any(axis=None) and self.missing == "error":
                return frame  # all gaps are told together
            raise InputError(
                f"data.target={shown(self.target)} is missing in {gaps.sum()} of {len(frame)} rows"
                f"{describe_words(contents, self.target, frame)}: a target cannot be filled in; use "
                "data.missing_target=drop to leave these rows out"
            )
        kept = frame[~gaps]
        if kept.empty:
            raise InputError(f"data.target={shown(self.target)} has no value at all; choose another column")
        self.notes.append(f"data.missing_target=drop left out {gaps.sum()} of {len(frame)} rows.")
        return kept

    def without_missing(self, frame: pd.DataFrame, contents: Contents) -> pd.DataFrame:
        missing = frame.isna().sum()
        missing = missing[missing > 0]
        if missing.empty:
            return frame
        if self.missing == "error":
            columns = ", ".join(
                f"{quoted(column)} in {count}{describe_words(contents, column, frame)}"
                for column, count in missing[:LISTED].items()
            )
            columns += f", … ({len(missing)} columns in all)" if len(missing) > LISTED else ""
            others = " data.missing_target=drop" * (self.target in missing)
            left = int(frame.notna().all(axis=1).sum())
            raise InputError(
                f"missing values (of {len(frame)} rows): {columns}; use data.missing=drop to leave rows out and keep "
                f"{left}{self.advise_dropping(frame)}, or data.missing=mean{others} to fill them from the training part"
                f"{' and leave out the rows without a target' * bool(others)}, where a gap in text is a category"
            )
        if self.missing == "drop":
            kept = frame.dropna()
            if kept.empty:
                raise InputError(
                    f"data.missing=drop: every row has a missing value, none is left{self.advise_dropping(frame)}; use "
                    "data.missing=mean, or leave the emptiest columns out with data.drop"
                )
            left_out = len(frame) - len(kept)
            advice = self.advise_dropping(frame)
            self.notes.append(f"data.missing=drop left out {left_out} of {len(frame)} rows{advice}.")
            return kept
        return frame

    def advise_dropping(self, frame: pd.DataFrame) -> str:
        """Name the few columns without which most rows would be whole, as they are left out; "" if none cost much.

        They are the emptiest features, taken until three quarters of the rows that have a target are whole.
        """
        features = frame[frame[self.target].notna()].drop(columns=self.target)
        wanted = 0.75 * len(features)
        if features.notna().all(axis=1).sum() >= wanted:
            return ""
        emptiest = features.isna().sum().sort_values(ascending=False, kind="stable")
        for count in range(1, min(LISTED, len(emptiest) - 1) + 1):
            left = int(features.drop(columns=emptiest.index[:count]).notna().all(axis=1).sum())
            if left >= wanted:
                return f" (with {dropping(*self.drop, *emptiest.index[:count])} {left} would be whole)"
        return ""

    def check_features(self, frame: pd.DataFrame, columns: Mapping[str, Column]) -> None:
        """Look for columns that no feature can be made of, and note the constant ones. Raises InputError for one."""
        wide = {
            name: column.nunique()
            for name, column in frame.items()
            if columns[name].kind == "text" and column.nunique() > self.max_categories
        }
        if wide:
            (first, count), others = next(iter(wide.items())), list(wide)[1:]
            more = (
                f", as do {', '.join(map(quoted, others[:LISTED]))}{', …' * (len(others) > LISTED)}" if others else ""
            )
            raise InputError(
                f"text column {quoted(first)} has {count:,} different values{more}: each becomes a column of its own, "
                f"at most data.max_categories={self.max_categories}; leave {'them' if others else 'it'} out with "
                f"{dropping(*self.drop, *wide)}, or raise the bound"
            )
        constant = [name for name, column in frame.items() if column.nunique(dropna=False) == 1]
        if constant:
            self.notes.append(
                f"{', '.join(map(quoted, constant[:LISTED]))}{', …' * (len(constant) > LISTED)}: the same in all rows, "
                f"so of no use; {dropping(*self.drop, *constant)} leaves {'them' if constant[1:] else 'it'} out."
            )
        for name, column in frame.items():
            if column.isna().all():
                raise InputError(f"column {quoted(name)} has no value at all; leave it out with {dropping(name)}")
            self.check_dates(column, columns[name])
            if columns[name].kind != "text":
                continue
            if column.isna().any() and (column == GAP).any():
                self.notes.append(
                    f"column {quoted(name)} has gaps and the text {GAP!r}, and data.missing=mean makes one category of "
                    "them."
                )

    def check_dates(self, column: pd.Series, rules: Column) -> None:
        """Look whether dates are to be made into something. Raises InputError if `dates` does not say what."""
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


def unit_of(text: str) -> str | None:
    """Find what stands beside the digits of a text that a person may take for a number; None if it is no such text."""
    if NUMBER.fullmatch(text):
        return ""
    return re.sub(r"[\d.,'’\s+-]", "", text) if ALMOST.fullmatch(text) else None


def describe_words(contents: Contents, column: str, frame: pd.DataFrame) -> str:
    """Say which of a column's gaps are words, and how many: ` (1,775 × 'None')`; "" if none is."""
    words = contents.gap_words.get(column, pd.Series(dtype=object))
    counts = words[words.index.isin(frame.index)].value_counts()
    return f" ({', '.join(f'{count:,} × {quoted(word)}' for word, count in counts.items())})" if len(counts) else ""
