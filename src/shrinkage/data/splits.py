"""Which rows of a table train, validate and test."""

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    TimeSeriesSplit,
    train_test_split,
)

from shrinkage.checks import Whole, check
from shrinkage.errors import InputError
from shrinkage.split import FOLD, FOLDS, REPEAT, SEED, TEST, VAL

from .quoting import quoted, shown

PARTS = ("train", "val", "test")
WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
TRUE, FALSE = {"true", "t", "yes", "y", "1"}, {"false", "f", "no", "n", "0"}
LISTED = 20  # the most classes or folds that a message names


@dataclass(frozen=True)
class Rows:
    """What a split must know of the rows; every array has one entry a row.

    target [n]: class codes if class_names are given. groups [n]: rows of one group stay in one part. times [n]: what
    validates is later than what trains, and what tests is latest. parts [n]: the name of each row's part, where the
    user has decided it. folds [n]: the number of each row's fold from 0, where the user has decided it; -1 for none.
    weights and offsets [n]: what a row counts, and what is added to the model's output for it; no split asks for them.
    """

    target: np.ndarray
    class_names: tuple[str, ...] = ()
    groups: np.ndarray | None = None
    times: np.ndarray | None = None
    parts: np.ndarray | None = None
    folds: np.ndarray | None = None
    weights: np.ndarray | None = None
    offsets: np.ndarray | None = None

    def only(self, kept: np.ndarray) -> "Rows":
        """Keep some of the rows, and the classes that these have."""
        codes, target = (
            np.unique(self.target[kept], return_inverse=True) if self.class_names else ((), self.target[kept])
        )
        placed = {
            name: None if (entry := getattr(self, name)) is None else entry[kept]
            for name in ("groups", "times", "parts", "folds", "weights", "offsets")
        }
        return Rows(target, tuple(self.class_names[code] for code in codes), **placed)


@dataclass(frozen=True)
class Split:
    """A split decides which rows train, validate and test: by shares, by folds, or as the user has decided.

    val and test are shares of all rows, drawn from seed and stratified by class; test=0 for no test part. With folds=K
    the rows that are not test rows are dealt into K folds, of which number `fold` validates; `repeat` deals anew, and
    the test rows stay what they are. Runs of folds have no test part: it waits for the model that is chosen by them.
    refit: the validation rows join the training part, and there is no validation part.

    Where the rows say their parts, nothing is drawn for the test part, and val is a share of the rows that train, if
    none are said to validate. Where the rows say their folds, nothing is drawn at all.
    """

    val: float
    test: float
    seed: int
    folds: int | None
    fold: int
    repeat: int
    refit: bool

    def __post_init__(self) -> None:
        numbers = all(type(share) in (int, float) for share in (self.val, self.test))
        if not (numbers and 0 < self.val < 1 and 0 <= self.test < 1 and self.val + self.test < 1):
            raise InputError(
                f"{VAL}={self.val} {TEST}={self.test}: shares of the rows, val > 0, test ≥ 0, together under 1; "
                f"use {VAL}=0.2 {TEST}=0.2"
            )
        if self.folds is None:
            if self.fold != 0 or self.repeat != 0:
                raise InputError(
                    f"{FOLD}={self.fold} {REPEAT}={self.repeat}: there are no folds; use {FOLDS}=5 as well"
                )
            return
        check(FOLDS, self.folds, Whole(2), f"use {FOLDS}=5, or null for none")
        if not isinstance(self.fold, int) or not 0 <= self.fold < self.folds:
            raise InputError(
                f"{FOLD}={self.fold}: {FOLDS}={self.folds} are numbered from 0 to {self.folds - 1}; "
                f"use '{FOLD}=range({self.folds})' for all of them"
            )
        check(REPEAT, self.repeat, Whole(0), f"use {REPEAT}=0")

    def parts(self, rows: Rows) -> dict[str, np.ndarray]:
        """Give the row numbers of each part. Raises InputError if the rows cannot be split so."""
        self.check(rows)
        left = np.arange(len(rows.target))
        if rows.times is not None:
            left = np.argsort(rows.times, kind="stable")
        val, test = left[:0], left[:0]
        try:
            if rows.parts is not None:
                left, val, test = (np.flatnonzero(rows.parts == name) for name in PARTS)
            test_is_first = self.folds is not None or rows.times is not None
            if test_is_first:
                left, more = self.apart(left, "test", rows)
                test = np.concatenate([test, more])
            if self.folds is None:
                left, more = self.apart(left, "val", rows)
                val = np.concatenate([val, more])
            else:
                self.check_folds(left, rows)
                if not self.refit:
                    left, val = self.of_folds(left, rows)
            if not test_is_first:
                left, more = self.apart(left, "test", rows)
                test = np.concatenate([test, more])
        except InputError:
            raise
        except ValueError as error:
            raise InputError(
                f"{VAL}={self.val} {TEST}={self.test}: the rows cannot be split with every class in every "
                f"part and every group in one ({shown(error)}); use smaller shares, or bring more rows"
            ) from error
        if self.refit:
            left, val = np.concatenate([left, val]), val[:0]
        absent = np.setdiff1d(np.arange(len(rows.class_names)), rows.target[left])
        if len(absent):
            verb = "is" if len(absent) == 1 else "are"
            raise InputError(
                f"{self.named_classes(absent, rows)} {verb} in no training row: all rows of a class lie in one group, "
                "at one end of the time, or in a part or fold that does not train; bring more of them, "
                f"choose another {SEED}, or leave rare classes out with data.drop_classes=rare"
            )
        found = {"train": left, "val": val, "test": test if self.folds is None or self.refit else test[:0]}
        return {name: index for name, index in found.items() if len(index)}

    def dealt(self, rows: Rows) -> np.ndarray:
        """Give the rows from which parts are drawn, or which are dealt into folds."""
        return np.arange(len(rows.target)) if rows.parts is None else np.flatnonzero(rows.parts == "train")

    def count(self, part: str, rows: Rows) -> int:
        """Count the rows that are drawn for `val` or `test`."""
        decided = rows.folds is not None or (rows.parts is not None and (part == "test" or "val" in rows.parts))
        if decided or (part == "val" and self.folds is not None):
            return 0
        return int(np.ceil({"val": self.val, "test": self.test}[part] * len(self.dealt(rows))))

    def rare(self, rows: Rows) -> np.ndarray:
        """Find the classes, by their codes, that have fewer rows than there are parts or folds."""
        members = np.bincount(rows.target[self.dealt(rows)], minlength=len(rows.class_names))
        return np.flatnonzero(members < self.needed(rows))

    def needed(self, rows: Rows) -> int:
        """Count the rows that a class must have, for one in each part or fold."""
        return (self.folds or 2) + (self.count("test", rows) > 0)

    def check(self, rows: Rows) -> None:
        """Look whether the rows can be split. Raises InputError for too few of them, and for contradictions."""
        if rows.groups is not None and rows.times is not None:
            raise InputError("data.group and data.time: rows are kept together by one of them; leave the other one out")
        if rows.times is not None and self.repeat:
            raise InputError(f"{REPEAT}={self.repeat}: folds in the order of time cannot be dealt anew; use 0")
        self.check_decided(rows)
        total, val, test = len(self.dealt(rows)), self.count("val", rows), self.count("test", rows)
        if total - val - test < 2:
            raise InputError(
                f"{total} row{'s' * (total != 1)} for {VAL}={self.val} {TEST}={self.test}: at least 2 must be "
                "left to train on; bring more rows or smaller shares"
            )
        if rows.groups is not None and self.folds is None:
            groups, parts = len(np.unique(rows.groups)), 1 + (val > 0) + (test > 0)
            if groups < parts and rows.parts is None:
                way_out = f"use {TEST}=0" if groups == 2 else "leave data.group out, or bring more rows"
                raise InputError(
                    f"data.group: {counted(groups, 'group')} for {parts} parts, each of which needs its own; {way_out}"
                )
        drawn = {"val": val, "test": test}
        is_dealt = self.folds is not None or any(drawn.values())
        if rows.class_names and is_dealt and rows.folds is None and rows.groups is None and rows.times is None:
            rare = self.rare(rows)
            if len(rare):
                places = "part" if self.folds is None else f"of the {self.folds} folds"
                others = "leave these classes out with data.drop_classes=rare"
                if len(rows.class_names) - len(rare) < 2:
                    others = "choose another target, or data.task=regression if it is a number"
                raise InputError(
                    f"{self.named_classes(rare, rows)}: every class needs at least {self.needed(rows)} rows, one for "
                    f"each {places}{' and one to test' * (self.folds is not None and test > 0)}; bring more of them, "
                    f"or {others}"
                )
            for part, count in drawn.items():
                if 0 < count < len(rows.class_names):
                    raise InputError(
                        f"data.{part}={getattr(self, part)}: {counted(count, 'row')} for {len(rows.class_names)} "
                        "classes, each of which needs one there; use "
                        f"data.{part}={np.ceil(100 * len(rows.class_names) / total) / 100:g} or more"
                    )

    def named_classes(self, codes: np.ndarray, rows: Rows) -> str:
        """Name classes, with the numbers of their rows: `classes 'a' (1 row), 'b' (2 rows)`."""
        members = np.bincount(rows.target[self.dealt(rows)], minlength=len(rows.class_names))
        listed = [f"{quoted(rows.class_names[code])} ({counted(int(members[code]), 'row')})" for code in codes[:LISTED]]
        more = f", … ({len(codes)} in all)" if len(codes) > LISTED else ""
        return f"class{'es' * (len(codes) > 1)} {', '.join(listed)}{more}"

    def check_decided(self, rows: Rows) -> None:
        """Look whether what the user has decided for each row agrees. Raises InputError if it contradicts itself."""
        if rows.parts is None and rows.folds is None:
            return
        key = "data.split" if rows.folds is None else "data.fold_column"
        dealt = self.dealt(rows)
        if rows.times is not None:
            raise InputError(f"{key} and data.time: both say which rows validate; leave one of them out")
        validates = rows.parts is not None and "val" in rows.parts
        if validates and rows.folds is not None:
            raise InputError("data.split and data.fold_column: both say which rows validate; leave one of them out")
        if validates and self.folds is not None:
            raise InputError(
                f"{FOLDS}={self.folds}: the column of data.split says which rows validate; use {FOLDS}=null "
                f"{FOLD}=0, or a column that says train and test only"
            )
        if rows.folds is not None:
            if rows.groups is not None:
                raise InputError("data.fold_column and data.group: both say which rows are together; leave one out")
            found = rows.folds[dealt].max() + 1
            if self.folds != found:
                raise InputError(
                    f"{FOLDS}={'null' if self.folds is None else self.folds}: data.fold_column has {found} folds; "
                    f"use {FOLDS}={found}, and '{FOLD}=range({found})' for all of them"
                )
            if self.repeat:
                raise InputError(f"{REPEAT}={self.repeat}: the folds of data.fold_column are dealt already; use 0")
            if len(np.setdiff1d(rows.folds[dealt], -1)) < found:
                raise InputError("data.fold_column: a fold has no row left; give its rows values, or other folds")
            homeless = int((rows.folds[dealt] < 0).sum())
            if homeless:
                raise InputError(
                    f"data.fold_column: {homeless} of {len(dealt)} rows have no fold; give each row one, or "
                    "say by data.split which rows are test rows"
                )
        if (validates or rows.folds is not None) and self.seed != 0:
            raise InputError(f"{SEED}={self.seed}: no row is drawn, {key} decides for each; use {SEED}=0")
        if rows.parts is not None and rows.groups is not None:
            homes = pd.Series(rows.parts).groupby(rows.groups).nunique()
            if homes.max() > 1:
                raise InputError(
                    f"data.split and data.group: {(homes > 1).sum()} of {len(homes)} groups have rows in more than one "
                    "part; leave data.group out, or keep them together in the column of data.split"
                )

    def check_folds(self, left: np.ndarray, rows: Rows) -> None:
        """Look whether there are rows or groups for every fold. Raises InputError if there are not."""
        kind, many = ("row", len(left)) if rows.groups is None else ("group", len(np.unique(rows.groups[left])))
        if rows.folds is None and self.folds is not None and many < self.folds:
            raise InputError(
                f"{FOLDS}={self.folds}: there {'is' if many == 1 else 'are'} {counted(many, kind)} to deal out; "
                f"{f'use {FOLDS}={many}' if many > 1 else f'bring more, or use {TEST}=0'}"
            )

    def apart(self, left: np.ndarray, part: str, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Draw the rows of a part; returns the rows that are left, and those that are drawn."""
        count = self.count(part, rows)
        if count == 0:
            return left, left[:0]
        if rows.times is not None:
            return left[:-count], left[-count:]
        if rows.groups is not None:
            splitter = GroupShuffleSplit(1, test_size=count / len(left), random_state=self.seed)
            kept, taken = next(splitter.split(left, groups=rows.groups[left]))
            return left[kept], left[taken]
        classes = rows.target[left] if rows.class_names else None
        return tuple(train_test_split(left, test_size=count, random_state=self.seed, stratify=classes))

    def of_folds(self, left: np.ndarray, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Deal the rows into folds; returns those that train, and those that validate in this fold."""
        if rows.folds is not None:
            validates = rows.folds[left] == self.fold
            return left[~validates], left[validates]
        dealt = self.seed
        if self.repeat:
            dealt = int(np.random.SeedSequence([self.seed, self.repeat]).generate_state(1)[0])
        if rows.times is not None:
            splitter = TimeSeriesSplit(self.folds)
        else:
            kind = {
                (False, False): KFold,
                (True, False): StratifiedKFold,
                (False, True): GroupKFold,
                (True, True): StratifiedGroupKFold,
            }[bool(rows.class_names), rows.groups is not None]
            splitter = kind(self.folds, shuffle=True, random_state=dealt)
        groups = rows.groups[left] if rows.groups is not None else None
        train, val = list(splitter.split(left, rows.target[left], groups))[self.fold]
        return left[train], left[val]


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def read_parts(column: pd.Series) -> tuple[np.ndarray, str]:
    """Read the part of each row from the words of a column; returns a note that says how it was read, too.

    Its values are train (or training), val (valid, validation, dev) and test (testing), whatever their case. A column
    called by one of these words may be true and false, or 1 and 0: its true rows are that part. The other rows test if
    it is called train, and else train. Raises InputError for any other value, and if no row trains.
    """
    key = f"data.split={shown(column.name)}"
    words = column.map(lambda value: as_word(value).casefold())
    called = WORDS.get(re.sub(r"^(is|in)[ _.-]*", "", str(column.name).strip().casefold()))
    if called is not None and set(words) <= TRUE | FALSE:
        others = "test" if called == "train" else "train"
        parts = words.map(lambda word: called if word in TRUE else others)
    else:
        parts = words.map(WORDS.get)
        strange = column[parts.isna()]
        if len(strange):
            raise InputError(
                f"{key}: {quoted(strange.iloc[0])} in {(words == words[strange.index[0]]).sum()} of {len(column)} rows "
                "is no part; the values must be train (or training), val (valid, validation, dev) and test (testing), "
                "or true and false in a column that is called train, val or test"
            )
    counts = parts.value_counts().reindex(PARTS).dropna().astype(int)
    if "train" not in counts:
        raise InputError(f"{key}: no row of it is for training; at least 2 must be train")
    said = ", ".join(f"{name} {count}" for name, count in counts.items())
    left = [f"no row is said to {verb}" for name, verb in (("test", "test"),) if name not in counts]
    if "val" not in counts:
        left.append(f"of the training rows {VAL} or {FOLDS} takes those that validate")
    return parts.to_numpy(dtype=object), f"{key} has the parts {said}" + "".join(f"; {word}" for word in left) + "."


def read_folds(column: pd.Series) -> tuple[np.ndarray, str]:
    """Read the number of each row's fold from a column; returns a note that names the folds, too.

    The folds are numbered in the order of the values; a gap is -1. Raises InputError if there are fewer than two.
    """
    key = f"data.fold_column={shown(column.name)}"
    numbers, values = pd.factorize(column, sort=True)
    if len(values) < 2:
        raise InputError(f"{key}: it has {len(values)} value{'s' * (len(values) != 1)}, and there must be two folds")
    ends = f"{FOLD}=0 is {shown(as_word(values[0]))}, {FOLD}={len(values) - 1} is {shown(as_word(values[-1]))}"
    return numbers.astype(np.int64), f"{key} has {len(values)} folds: {ends}; only data.split makes a test part."


def as_word(value: object) -> str:
    """Write a value as it stands in the file; a float that is whole as the whole number."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()
