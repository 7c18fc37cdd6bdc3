"""The user's own file as rows and columns: CSV or Parquet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shrinkage.checks import Whole, check
from shrinkage.errors import InputError

from .base import DataModule, Part
from .features import ENCODINGS
from .gaps import GapRules
from .named_columns import find_columns
from .oddities import find_oddities
from .placing import read_places, take_placing
from .quoting import dropping, quoted, quoted_list, shown
from .reading import CsvFormat, read_file
from .recipe import Column, tidied
from .row_terms import check_class_weight, read_weights
from .splits import Rows
from .tabular import Table, TabularData
from .target import check_target_names, read_target, read_targets, with_events, with_strata
from .usable import Limits, check_features, check_values, read_date_parts

if TYPE_CHECKING:
    import pandas as pd

DIAGNOSES = 3  # the most that an error tells beside what is wrong


@dataclass(frozen=True)
class Loaded:
    """A table as it was read from its file, whatever its split, and what was found out about it.

    targets, drop, roles: the settings of these names, with the columns as the file calls them. notes, diagnoses: those
    of the data set when the file had been read.
    """

    table: Table
    targets: tuple[str, ...]
    drop: list[str]
    roles: dict[str, str]
    notes: tuple[str, ...]
    diagnoses: tuple[str, ...]


class TableFile(TabularData):
    """The user's own table: a CSV (UTF-8, plain or gzipped) or Parquet file with a header, read by `read_file`.

    target: the column to predict, or several columns of numbers. task: `regression`, `classification`, or `auto`: text,
    booleans, two distinct values or at most ten distinct whole numbers are classes. drop: columns to leave out. group,
    time, split and fold_column: columns that say which rows belong together, which are later, and each row's part
    (`read_parts`) or fold (`read_folds`); no features. weight: a column that says how much each row counts; rows of
    weight 0 are left out. class_weight: what the rows' weights are multiplied by, as `weigh_classes` says. offset: a
    column that is added to the model's output; exposure: one whose logarithm is. event: a column that says whether the
    target is the time of an event (1), or that until which a row was seen without (0); strata: one whose equal values
    are a stratum, within which rows are compared. drop_classes: `rare` leaves out the rows of classes that have too few
    of them to be split; None refuses them. max_categories: the most values a text column may have. missing: `error`;
    `drop` leaves out the rows; `mean` puts the training part's mean into columns of numbers, booleans and dates, and
    makes a category of its own in text ones. encoding: which levels of a text column are features, as `features.plan`
    says. unseen: what becomes of levels that no training row has, as `Recipe` says. dates: `error` refuses columns of
    dates; or a list of what a date is made into, of `year`, `month`, `weekday`, `dayofyear` and `trend`.
    missing_target: `error`, or `drop` leaves out the rows that have no target, whatever becomes of other gaps. tidy:
    whether texts that differ only in case and blanks are one. separator, decimal, thousands, comment: as `CsvFormat`
    says.
    """

    def __init__(
        self,
        *,
        path: str | None,
        target: str | Sequence[str] | None,
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
        weight: str | None = None,
        class_weight: str | Mapping[str, float] | None = None,
        offset: str | None = None,
        exposure: str | None = None,
        event: str | None = None,
        strata: str | None = None,
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
        if offset is not None and exposure is not None:
            raise InputError("data.offset and data.exposure: both are added to the model's output; leave one out")
        self.class_weight = check_class_weight(class_weight)
        self.path, self.targets, self.task, self.missing = Path(str(path)), check_target_names(target), task, missing
        self.title = self.path.name
        self.drop, self.max_categories = list(map(str, drop)), max_categories
        named = {"group": group, "time": time, "split": split, "fold_column": fold_column}
        named |= {"weight": weight, "offset": offset, "exposure": exposure, "event": event, "strata": strata}
        self.has_events = event is not None
        if event is not None and (weight is not None or len(self.targets) > 1):
            other = f"data.weight={shown(weight)}" if weight is not None else f"data.target={self.shown_targets}"
            raise InputError(
                f"data.event={shown(event)} and {other}: rows with events have one target, their times, and all "
                "count the same; leave one of them out"
            )
        if strata is not None and event is None:
            raise InputError(
                f"data.strata={shown(strata)}: times until an event are compared within strata, by task=cox, and "
                "data.event names no events; use data.event=COLUMN, or leave data.strata out"
            )
        self.roles = {key: str(column) for key, column in named.items() if column is not None}
        self.drop_classes = drop_classes
        self.encoding, self.unseen = encoding, unseen
        self.missing_target, self.tidy = missing_target, tidy
        self.diagnoses: list[str] = []  # what is odd in the file, which an error that follows may come from
        named = (self.path, self.targets, self.drop, self.roles)
        asked = (task, missing, max_categories, drop_classes, encoding, unseen, self.date_parts, missing_target, tidy)
        asked = (*asked, str(self.class_weight))
        self.asked = (self.csv_format, *named, *asked)  # all that `load` goes by
        self.loaded: Loaded | None = None
        self.keeps_loaded = False

    def share_reading(self, earlier: DataModule | None) -> None:
        self.keeps_loaded = True
        if isinstance(earlier, TableFile) and (earlier.asked, earlier.own_units) == (self.asked, self.own_units):
            self.loaded = earlier.loaded

    @property
    def shown_targets(self) -> str:
        """The target as it is typed."""
        return shown(self.targets[0]) if len(self.targets) == 1 else f"[{','.join(map(shown, self.targets))}]"

    @property
    def reads_as(self) -> str:
        """As what the target is read: `task`, or numbers where nothing else is asked for and it keeps its own units."""
        is_number = self.own_units or self.has_events
        return "regression" if is_number and self.task == "auto" else self.task

    def make_parts(self) -> dict[str, Part]:
        try:
            return super().make_parts()
        except InputError as error:
            if not self.diagnoses:
                raise
            more = f" (and {len(self.diagnoses) - DIAGNOSES} notes more)" if len(self.diagnoses) > DIAGNOSES else ""
            raise InputError(f"{error}. Note: {' '.join(self.diagnoses[:DIAGNOSES])}{more}") from None

    def load(self) -> Table:
        if self.loaded is None:
            loaded = self.read_table()
            self.loaded = loaded if self.keeps_loaded else None
        else:
            loaded = self.loaded
            self.notes = [*loaded.notes, *self.notes]
        self.targets, self.drop, self.roles = loaded.targets, loaded.drop, loaded.roles
        self.diagnoses = list(loaded.diagnoses)
        return loaded.table

    def read_table(self) -> "Loaded":
        """Read the file, and find out what stands in it. Raises InputError on bad input."""
        contents = read_file(self.path, self.csv_format)
        frame, columns = contents.frame, contents.columns
        self.notes += contents.notes
        self.find_roles(list(frame))
        frame = frame.drop(columns=self.drop)
        for name in frame:
            if name in contents.doubts:
                raise InputError(f"{contents.doubts[name]}, or leave it out with {dropping(name)}")
        check_values(frame)
        aside = take_placing(frame, self.roles)
        if "weight" in self.roles:
            counts = read_weights(aside[self.roles["weight"]]) > 0
            if not counts.all():
                self.notes.append(
                    f"data.weight={shown(self.roles['weight'])} left out {(~counts).sum()} of {len(counts)} rows, "
                    "whose weight is 0."
                )
                frame, aside = frame[counts], aside[counts]
        gaps = GapRules(self.targets, self.missing, self.missing_target, self.drop)
        frame, notes = gaps.whole_rows(frame.drop(columns=aside.columns), contents.gap_words)
        self.notes += notes
        aside = aside.loc[frame.index]
        places, notes = read_places(aside, self.roles)
        self.notes += notes
        frame = frame.reset_index(drop=True)
        if self.tidy:
            texts = [name for name in frame if columns[name].kind == "text"]
            columns = columns | {name: replace(columns[name], tidy=True) for name in texts}
            frame = frame.assign(**{name: frame[name].map(tidied, na_action="ignore") for name in texts})
        self.diagnoses += find_oddities(frame, contents, self.targets, self.max_categories)
        self.notes += self.diagnoses
        targets = frame[list(self.targets)]
        frame = frame.drop(columns=targets.columns)
        if frame.columns.empty:
            raise InputError(
                f"data.path={shown(self.path)}: no column is left beside the target {quoted_list(self.targets)} to "
                "learn from"
            )
        for column in frame.columns[frame.columns.str.fullmatch(r"Unnamed: \d+")]:
            self.notes.append(
                f"a column without a name, which may be the rows' numbers, is learned from as {quoted(column)}; "
                f"{dropping(column)} leaves it out."
            )
        for name, target in targets.items():
            if len(target) > 1 and target.nunique() == 1:
                raise InputError(
                    f"data.target={shown(name)}: it is {shown(target.iloc[0])} in every row, there is nothing to "
                    "learn; choose another column"
                )
        values, names = self.read_targets(targets)
        if self.has_events:
            values = self.read_events(values, names, aside[self.roles["event"]])
        of_strata: dict[str, Any] = {}
        if "strata" in self.roles:
            column = columns[self.roles["strata"]]
            values, strata = with_strata(values, column.name, column.read(aside[column.name]))
            of_strata = {"strata_column": column, "strata_names": strata, "strata_cells": aside[column.name]}
        self.check_terms_of(names)
        rows = Rows(values, names, **places)
        if self.drop_classes is not None:
            rows, kept = self.without_rare(rows)
            frame, aside = frame[kept].reset_index(drop=True), aside.loc[kept]
        self.notes += check_features(frame, columns, Limits(self.max_categories, self.date_parts, self.drop))
        table = Table(
            frame,
            **vars(rows),
            columns=columns,
            fills=self.missing == "mean",
            encoding=self.encoding,
            date_parts=self.date_parts,
            unseen=self.unseen,
            has_events=self.has_events,
            target_names=self.targets if len(self.targets) > 1 else (),
            class_weight=self.class_weight,
            **self.offset_column(columns, aside),
            **of_strata,
        )
        return Loaded(table, self.targets, self.drop, self.roles, tuple(self.notes), tuple(self.diagnoses))

    def read_targets(self, targets: "pd.DataFrame") -> tuple[np.ndarray, tuple[str, ...]]:
        """Read the numbers or the class codes of the targets, and the names of classes. Raises InputError."""
        if len(self.targets) > 1:
            return read_targets(targets, self.reads_as), ()
        values, names, notes = read_target(targets.iloc[:, 0], self.reads_as)
        self.notes += notes
        return values, names

    def read_events(self, times: np.ndarray, names: Sequence[str], column: "pd.Series") -> np.ndarray:
        """Put the times beside the events, [n, 2]. Raises InputError."""
        if names:
            raise InputError(
                f"data.event={shown(column.name)}: data.target={self.shown_targets} is read as classes, and must be a "
                "time; leave data.task out"
            )
        return with_events(times, column, self.targets[0])

    def check_terms_of(self, class_names: Sequence[str]) -> None:
        """Look whether the target can have the weights and offsets that are asked for. Raises InputError."""
        if self.class_weight is not None and not class_names:
            raise InputError(
                f"data.class_weight={shown(self.class_weight)}: data.target={self.shown_targets} is a number and has "
                "no classes; use data.weight for a column of weights, or data.task=classification"
            )
        for key in ("offset", "exposure"):
            if key in self.roles and len(self.targets) > 1:
                raise InputError(
                    f"data.{key}={shown(self.roles[key])}: it is added to one output, and each of the "
                    f"{len(self.targets)} targets has one of its own; leave it out, or subtract what is known from "
                    "each target in the file"
                )
            if key in self.roles and len(class_names) > 2:
                raise InputError(
                    f"data.{key}={shown(self.roles[key])}: of {len(class_names)} classes each has an output of its "
                    "own, and one number added to all of them changes nothing; leave it out"
                )

    def offset_column(self, columns: Mapping[str, Column], aside: "pd.DataFrame") -> dict[str, Any]:
        """Say which column has the offsets, as `Table` takes it; nothing if none has."""
        for key in ("offset", "exposure"):
            if key in self.roles:
                name = self.roles[key]
                return {
                    "offset_column": columns[name],
                    "offset_cells": aside[name].reset_index(drop=True),
                    "is_exposure": key == "exposure",
                }
        return {}

    def find_roles(self, columns: Sequence[str]) -> None:
        """Find the columns that the settings name among those of the file (`find_columns`). Raises InputError."""
        named = [
            *(("target", name) for name in self.targets),
            *(("drop", column) for column in self.drop),
            *self.roles.items(),
        ]
        found = find_columns(named, columns, self.path)
        self.targets, others = tuple(found[: len(self.targets)]), found[len(self.targets) :]
        self.drop = others[: len(self.drop)]
        self.roles = dict(zip(self.roles, others[len(self.drop) :], strict=True))

    def without_rare(self, rows: Rows) -> tuple[Rows, np.ndarray]:
        """Leave out the rows of classes with too few of them to be split; returns which rows are kept, too.

        Raises InputError if the target has no classes, or no two classes are left.
        """
        if not rows.class_names:
            raise InputError(
                f"data.drop_classes={self.drop_classes}: data.target={self.shown_targets} is a number and has no "
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
