"""The user's own file."""

import difflib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api import types

from shrinkage.errors import InputError

from .recipe import GAP
from .tabular import Table, TabularData

FEW = 10  # a target of so many distinct whole numbers, or fewer, is read as classes


class TableFile(TabularData):
    """A CSV (plain or gzipped) or Parquet file with a header.

    target: the column to predict. task: `regression`, `classification`, or `auto`: text, booleans, two distinct
    values or at most ten distinct whole numbers are classes. drop: columns to leave out. group and time: columns that
    say which rows belong together and which are later; no features. max_categories: the most
    values a text column may have. missing: `error`; `drop` leaves out the rows; `mean` puts the training part's mean
    into numeric columns and makes a category of its own in text ones.
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
        max_categories: int,
        **split: object,
    ) -> None:
        super().__init__(**split)
        for name, value, example in (("path", path, "houses.csv"), ("target", target, "price")):
            if value is None:
                raise InputError(f"data.{name} is not set: data=table needs it; use data.{name}={example}")
        for name, value, choices in (
            ("task", task, ("auto", "regression", "classification")),
            ("missing", missing, ("error", "drop", "mean")),
        ):
            if value not in choices:
                raise InputError(f"data.{name}={value}: must be one of {', '.join(choices)}; use {choices[0]}")
        self.title = Path(path).name
        self.path, self.target, self.task, self.missing = Path(path), str(target), task, missing
        self.drop, self.max_categories = list(map(str, drop)), max_categories
        self.group, self.time = (None if column is None else str(column) for column in (group, time))

    def load(self) -> Table:
        frame = self.read()
        roles = {"target": [self.target], "drop": self.drop, "group": [self.group], "time": [self.time]}
        for key, columns in roles.items():
            for column in columns:
                if column is not None and column not in frame:
                    raise InputError(self.not_a_column(key, column, list(frame)))
        frame = frame.drop(columns=self.drop)
        for key in ("group", "time"):
            column = getattr(self, key)
            if column is not None and column not in frame.drop(columns=self.target):
                raise InputError(f"data.{key}={column}: it is the target, or dropped; choose another column")
        self.check_infinite(frame)
        for key in ("group", "time"):
            column = getattr(self, key)
            if column is not None and frame[column].isna().any():
                raise InputError(
                    f"data.{key}={column}: it is missing in {frame[column].isna().sum()} of {len(frame)} rows, and no "
                    "row can be placed without it; mend the rows, or choose another column"
                )
        frame = self.without_missing(frame)
        groups = None if self.group is None else pd.factorize(frame.pop(self.group))[0]
        times = None if self.time is None else self.times(frame.pop(self.time))
        target = frame.pop(self.target)
        if frame.columns.empty:
            raise InputError(f"{self.path}: no column is left beside the target {self.target!r} to learn from")
        if len(target) > 1 and target.nunique() == 1:
            raise InputError(
                f"data.target={self.target}: it is {target.iloc[0]} in every row, there is nothing to learn; "
                "choose another column"
            )
        features, fills = self.check_features(frame), self.missing == "mean"
        if not self.is_classification(target):
            if not types.is_numeric_dtype(target):
                raise InputError(
                    f"data.target={self.target} data.task=regression: the column has text, such as "
                    f"{target.iloc[0]!r}; regression needs numbers, use data.task=classification"
                )
            return Table(features, target.to_numpy(dtype=np.float64), (), groups, times, frame, fills)
        codes, names = pd.factorize(target, sort=True)
        return Table(features, codes.astype(np.int64), tuple(map(str, names)), groups, times, frame, fills)

    def read(self) -> pd.DataFrame:
        try:
            if self.path.suffix.lower() in (".parquet", ".pq"):
                frame = pd.read_parquet(self.path)
            else:
                frame = pd.read_csv(self.path, low_memory=False)
        except FileNotFoundError:
            raise InputError(
                f"data.path={self.path}: there is no such file in {Path.cwd()}; give its path from here, or a full one"
            ) from None
        except pd.errors.EmptyDataError:
            raise InputError(f"data.path={self.path}: the file is empty; it needs a header and rows") from None
        except (
            OSError,
            ValueError,
            EOFError,
        ) as error:  # ParserError, UnicodeDecodeError, BadGzipFile, ArrowInvalid
            reason = " ".join(str(error).split())
            raise InputError(
                f"data.path={self.path}: cannot be read ({reason}); it must be CSV (UTF-8), gzipped CSV or Parquet"
            ) from None
        if frame.empty:
            raise InputError(f"data.path={self.path}: there is a header and no row; it needs rows")
        return frame.rename(columns=str)

    def times(self, column: pd.Series) -> np.ndarray:
        """The column as numbers that grow with time."""
        if types.is_numeric_dtype(column):
            return column.to_numpy(dtype=np.float64)
        try:
            return pd.to_datetime(column).astype("int64").to_numpy()
        except (ValueError, TypeError) as error:
            reason = " ".join(str(error).split())[:120]
            raise InputError(
                f"data.time={self.time}: the column can be read neither as numbers nor as dates ({reason}); write "
                "dates as 2026-01-31"
            ) from None

    def not_a_column(self, key: str, column: str, columns: list[str]) -> str:
        close = difflib.get_close_matches(column, columns, n=1)
        shown = ", ".join(columns[:20]) + (f", … ({len(columns)} in all)" if len(columns) > 20 else "")
        way_out = f"did you mean {close[0]}?" if close else "choose one of them"
        return f"data.{key}={column}: {self.path} has no such column, it has {shown}; {way_out}"

    def check_infinite(self, frame: pd.DataFrame) -> None:
        for column in frame.select_dtypes("number"):
            count = int(np.isinf(frame[column].to_numpy(dtype=np.float64, na_value=0.0)).sum())
            if count:
                raise InputError(
                    f"column {column!r} is infinite in {count} of {len(frame)} rows: every number must be finite; "
                    f"mend the rows, or leave the column out with data.drop=[{column}]"
                )

    def without_missing(self, frame: pd.DataFrame) -> pd.DataFrame:
        missing = frame.isna().sum()
        missing = missing[missing > 0]
        if missing.empty:
            return frame
        if self.missing == "error":
            columns = ", ".join(f"{column!r} in {count}" for column, count in missing.items())
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
            return kept.reset_index(drop=True)
        if self.target in missing:
            raise InputError(
                f"data.target={self.target} is missing in {missing[self.target]} of {len(frame)} rows: a target cannot "
                "be filled in; use data.missing=drop"
            )
        return frame

    def check_features(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The same features, booleans as 0 and 1, text as text."""
        columns = {}
        for name, column in frame.items():
            if column.isna().all():
                raise InputError(f"column {name!r} has no value at all; leave it out with data.drop=[{name}]")
            if types.is_numeric_dtype(column):
                columns[name] = column.to_numpy(dtype=np.float64, na_value=np.nan)
                continue
            if column.nunique() > self.max_categories:
                raise InputError(
                    f"text column {name!r} has {column.nunique():,} different values: each becomes a column of its "
                    f"own, at most data.max_categories={self.max_categories}; leave it out with data.drop=[{name}], "
                    "or raise the bound"
                )
            columns[name] = column.astype(object).where(column.notna(), GAP).astype(str)
        return pd.DataFrame(columns)

    def is_classification(self, target: pd.Series) -> bool:
        if self.task != "auto":
            return self.task == "classification"
        distinct = target.nunique()
        if types.is_numeric_dtype(target) and not types.is_bool_dtype(target):
            whole = bool((target == target.round()).all())
            classes = distinct == 2 or (whole and distinct <= FEW)
            if classes and distinct > 2:
                self.notes.append(
                    f"{self.target} has {distinct} distinct whole numbers and is read as {distinct} classes; "
                    "data.task=regression reads it as a number."
                )
            return classes
        return True
