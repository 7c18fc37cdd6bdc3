"""Which rows of a table train, validate and test."""

from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    TimeSeriesSplit,
    train_test_split,
)

from shrinkage.errors import InputError

from .quoting import quoted


@dataclass(frozen=True)
class Rows:
    """What a split must respect, an entry a row.

    target [n]: class codes where class_names are given. groups [n]: rows of one group stay in one part. times [n]: what
    validates is later than what trains, and what tests is latest.
    """

    target: np.ndarray
    class_names: tuple[str, ...] = ()
    groups: np.ndarray | None = None
    times: np.ndarray | None = None


@dataclass(frozen=True)
class Split:
    """Shares of the rows, drawn from seed; or one of several folds.

    val and test are shares of all rows, test=0 for no test part; stratified by class. With folds=K the rows that are
    not test rows are dealt into K folds, of which number `fold` validates; `repeat` deals anew, and the test rows stay
    what they are. Runs of folds have no test part: it waits for the model that is chosen by them. refit: the validation
    rows join the training part, and there is no validation part.
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
                f"data.val={self.val} data.test={self.test}: shares of the rows, val > 0, test ≥ 0, together under 1; "
                "use data.val=0.2 data.test=0.2"
            )
        if self.folds is None:
            if self.fold != 0 or self.repeat != 0:
                raise InputError(
                    f"data.fold={self.fold} data.repeat={self.repeat}: there are no folds; use data.folds=5 as well"
                )
            return
        if not isinstance(self.folds, int) or self.folds < 2:
            raise InputError(f"data.folds={self.folds}: must be a whole number ≥ 2; use data.folds=5, or null for none")
        if not isinstance(self.fold, int) or not 0 <= self.fold < self.folds:
            raise InputError(
                f"data.fold={self.fold}: data.folds={self.folds} are numbered from 0 to {self.folds - 1}; "
                f"use 'data.fold=range({self.folds})' for all of them"
            )
        if not isinstance(self.repeat, int) or self.repeat < 0:
            raise InputError(f"data.repeat={self.repeat}: must be a whole number ≥ 0; use data.repeat=0")

    def parts(self, rows: Rows) -> dict[str, np.ndarray]:
        """The row numbers of each part. Raises InputError where the rows cannot be split so."""
        self.check(rows)
        left = np.arange(len(rows.target))
        if rows.times is not None:
            left = np.argsort(rows.times, kind="stable")
        try:
            val, test = left[:0], left[:0]
            if self.folds is not None:
                left, test = self.apart(left, self.test, rows)
                if not self.refit:
                    left, val = self.of_folds(left, rows)
            elif rows.times is not None:
                left, test = self.apart(left, self.test, rows)
                left, val = self.apart(left, self.val, rows)
            else:
                left, val = self.apart(left, self.val, rows)
                left, test = self.apart(left, self.test, rows)
        except ValueError as error:
            raise InputError(f"the rows cannot be split with every class in every part: {error}") from error
        if self.refit:
            left, val = np.concatenate([left, val]), val[:0]
        if rows.class_names and len(set(rows.target[left])) < len(rows.class_names):
            missing = sorted(set(range(len(rows.class_names))) - set(rows.target[left].tolist()))
            raise InputError(
                f"class {quoted(rows.class_names[missing[0]])} is in no training row: all its rows lie in one group, "
                "or at one end of the time; bring more of them, or choose another data.seed"
            )
        found = {"train": left, "val": val, "test": test if self.folds is None or self.refit else test[:0]}
        return {name: index for name, index in found.items() if len(index)}

    def check(self, rows: Rows) -> None:
        """Raises InputError for too few rows, groups or members of a class."""
        total = len(rows.target)
        if rows.groups is not None and rows.times is not None:
            raise InputError("data.group and data.time: rows are kept together by one of them; leave the other one out")
        if rows.times is not None and self.repeat:
            raise InputError(f"data.repeat={self.repeat}: folds in the order of time cannot be dealt anew; use 0")
        left = total - int(np.ceil(self.test * total))
        if self.folds is None:
            left -= int(np.ceil(self.val * total))
        if left < 2:
            raise InputError(
                f"{total} row{'s' * (total != 1)} for data.val={self.val} data.test={self.test}: at least 2 must be "
                "left to train on; bring more rows or smaller shares"
            )
        kinds, many = ("rows", left) if rows.groups is None else ("groups", len(np.unique(rows.groups)) - 1)
        if self.folds is not None and many < self.folds:
            raise InputError(f"data.folds={self.folds}: there are {many} {kinds} to deal out; use data.folds={many}")
        if rows.class_names and rows.groups is None and rows.times is None:
            members = np.bincount(rows.target, minlength=len(rows.class_names))
            needed = 2 if self.folds is None else self.folds + (self.test > 0)
            if members.min() < needed:
                raise InputError(
                    f"class {quoted(rows.class_names[members.argmin()])} has {members.min()} row(s): every class needs "
                    "at least one in each part; bring more of its rows, or take them out"
                )

    def apart(self, left: np.ndarray, share: float, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """The rows left, and a share of all rows taken from them."""
        count = int(np.ceil(share * len(rows.target)))
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
        """The rows that train and those that validate in this fold."""
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
