"""The user's own sparse rows: a file in the format of libsvm (svmlight), or a matrix that SciPy has saved."""

import bz2
import gzip
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array, load_npz
from sklearn.datasets import load_svmlight_file

from shrinkage.errors import InputError

from .base import EXAMPLE_ROWS, DataModule, Part
from .quoting import quoted, shown
from .recipe import Column, Feature, Recipe
from .splits import Rows, as_word
from .tabular import LARGEST, SplitData
from .target import read_target

OPENERS = {".gz": gzip.open, ".bz2": bz2.open}
FORMAT = "each line is a label and index:value pairs, as 1 3:0.5 17:2"


@dataclass(frozen=True)
class Loaded:
    """All the rows of a file, whatever their split: their features [n, p], what a split must know, and notes."""

    x: csr_array
    rows: Rows
    digest: str
    notes: tuple[str, ...]


class SparseFile(SplitData):
    """The user's own sparse rows, whose zeros are never written.

    path: a file of lines `label index:value …`, with indices from 1 in increasing order (plain, .gz or .bz2); rows of
    one qid stay in one part. Or the .npz of `scipy.sparse.save_npz`; then target names the file of the labels: .npy, or
    a text with one a line. task: how labels are read, as `TableFile` has it. Features are called by their numbers from
    1. They are divided by their standard deviations and not centred (`SplitData`).
    """

    def __init__(self, *, path: str | None, target: str | None, task: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.is_sparse = True
        if path is None:
            raise InputError("data.path is not set: a file of sparse rows is needed; use data.path=rows.svm")
        if task not in ("auto", "regression", "classification"):
            raise InputError(
                f"data.task={shown(task)}: must be one of auto, regression, classification; use data.task=auto"
            )
        self.path, self.target, self.task = Path(str(path)), target, task
        self.title = self.path.name
        is_matrix = self.path.suffix.lower() == ".npz"
        if is_matrix and target is None:
            raise InputError(
                f"data.path={shown(path)}: a matrix has no labels, and data.target is not set; use data.target=y.npy, "
                "a file with one label a row"
            )
        if not is_matrix and target is not None:
            raise InputError(
                f"data.target={shown(target)}: in {shown(path)} the label stands first in each line; leave it out"
            )
        self.asked = (self.path, self.target, self.task)
        self.loaded: Loaded | None = None
        self.keeps_loaded = False

    def share_reading(self, earlier: DataModule | None) -> None:
        self.keeps_loaded = True
        if isinstance(earlier, SparseFile) and (earlier.asked, earlier.own_units) == (self.asked, self.own_units):
            self.loaded = earlier.loaded

    def make_parts(self) -> dict[str, Part]:
        loaded = self.loaded or self.load()
        self.loaded = loaded if self.keeps_loaded else None
        self.notes += loaded.notes
        rows, x = self.split_rows(loaded.rows), loaded.x
        self.digest = loaded.digest
        self.scales = np.ones(x.shape[1])
        self.feature_names = tuple(map(str, range(1, x.shape[1] + 1)))
        self.example_rows = x[rows["train"][:EXAMPLE_ROWS]]
        if self.standardize:
            self.scales = self.scaler(x[rows["train"]], None).scale_
        return self.as_parts(x, loaded.rows)

    def load(self) -> Loaded:
        """Load all the rows. Raises InputError on bad input."""
        x, labels, groups = read_matrix(self.path, Path(str(self.target))) if self.target else read_lines(self.path)
        if not x.shape[0] or not x.nnz:
            raise InputError(
                f"data.path={shown(self.path)}: there {'is no number but 0' if x.shape[0] else 'are no rows'} in it"
            )
        check_numbers(self.path, x)
        if labels.nunique() == 1:
            raise InputError(
                f"data.path={shown(self.path)}: the label is {as_word(labels.iloc[0])} in every row, there is nothing "
                "to learn; bring rows with others"
            )
        are_numbers = labels.dtype.kind == "f"
        if are_numbers:
            bad = np.flatnonzero(~np.isfinite(labels.to_numpy()))
            if len(bad):
                raise InputError(
                    f"data.path={shown(self.path)}: the label of row {bad[0] + 1} is {labels.iloc[bad[0]]:g}; it must "
                    "be a finite number"
                )
        reads_as = "regression" if self.own_units and self.task == "auto" else self.task
        if not are_numbers and reads_as == "regression":
            raise InputError(
                f"data.target={shown(self.target)}: labels such as {quoted(labels.iloc[0])} are no numbers; use "
                "data.task=classification"
            )
        target, names, notes = read_target(labels, reads_as)
        return Loaded(x, Rows(target, names, groups), Part(x, target).digest, tuple(notes))

    def as_parts(self, x: Any, given: Rows, weight: np.ndarray | None = None) -> dict[str, Part]:
        parts = super().as_parts(x, given, weight)
        for part in parts.values():
            part.x.data /= np.repeat(self.scales, np.diff(part.x.indptr))
        return parts

    def recipe(self) -> Recipe:
        return self.recipe_of(range(len(self.feature_names)))

    def recipe_of(self, features: Sequence[int]) -> Recipe:
        named = [(self.feature_names[place], float(self.scales[place])) for place in features]
        return Recipe(
            tuple(Column(name, "number", has_gaps=True, gap=0.0) for name, _ in named),
            tuple(Feature(name, name, scale=scale) for name, scale in named),
        )

    @cached_property
    def units(self) -> tuple[Sequence[str], np.ndarray, np.ndarray]:
        return self.feature_names, np.zeros(len(self.scales)), self.scales

    def names_of_features(self) -> list[tuple[str, str, str]]:
        return [(name, name, name) for name in self.feature_names]

    def example(self) -> pd.DataFrame:
        return pd.DataFrame(self.example_rows.toarray(), columns=list(self.feature_names))


def read_lines(path: Path) -> tuple[csr_array, pd.Series, np.ndarray | None]:
    """Read the lines of a file: the features [n, p], the labels, and the groups of the rows if they have any.

    Raises InputError for a file or a line that cannot be read.
    """
    try:
        x, labels, queries = load_svmlight_file(str(path), zero_based=False, query_id=True)
    except (ValueError, OverflowError, OSError, EOFError) as error:
        if isinstance(error, FileNotFoundError):
            raise missing("path", path) from None
        reason = find_bad_line(path) or shown(" ".join(str(error).split()))
        raise InputError(f"data.path={shown(path)}: {reason}; {FORMAT}") from None
    if len(queries) not in (0, len(labels)):
        raise InputError(
            f"data.path={shown(path)}: {len(queries)} of {len(labels)} rows have a qid, by which rows are kept "
            "together; give each one, or none"
        )
    return csr_array(x), pd.Series(labels, name="label"), queries if len(queries) else None


def find_bad_line(path: Path) -> str | None:
    """Say which line is the first that is malformed, and in what; None if none is found."""
    try:
        with OPENERS.get(path.suffix.lower(), open)(path, "rb") as file:
            return next((f"line {at}: {why}" for at, line in enumerate(file, 1) if (why := fault_of(line))), None)
    except (OSError, EOFError):
        return None


def fault_of(line: bytes) -> str | None:
    """Say in what a line is malformed; None if it is not."""
    words = line.decode("utf-8", "replace").partition("#")[0].split()
    if not words:
        return None
    if not is_float(words[0]):
        return f"the label {quoted(words[0])} is no number"
    pairs = [word.partition(":") for word in words[1:]]
    indices: list[int] = []
    for index, colon, value in pairs:
        pair = quoted(f"{index}{colon}{value}")
        if index == "qid" and not indices:
            continue
        if not colon or not index.removeprefix("-").isdigit() or not is_float(value):
            return f"{pair} is no index:value"
        if not 1 <= int(index) < 2**31:
            return f"the index in {pair} must be from 1 to {2**31 - 1}"
        indices.append(int(index))
    for before, after in pairwise(indices):
        if before >= after:
            return f"the index {after} comes after {before}, and indices must increase"
    return None


def is_float(text: str) -> bool:
    """Whether a text is a number as Python reads it."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_matrix(path: Path, target: Path) -> tuple[csr_array, pd.Series, None]:
    """Read a sparse matrix, and the labels of its rows from a file of their own. Raises InputError if one is none."""
    try:
        x = csr_array(load_npz(path), dtype=np.float64)
        x.sum_duplicates()
    except FileNotFoundError:
        raise missing("path", path) from None
    except (ValueError, KeyError, OSError, zipfile.BadZipFile, TypeError) as error:
        reason = shown(" ".join(str(error).split()))
        raise InputError(
            f"data.path={shown(path)}: cannot be read ({reason}); it must be what scipy.sparse.save_npz writes"
        ) from None
    try:
        if target.suffix.lower() == ".npy":
            labels = pd.Series(np.load(target, allow_pickle=False), name="label")
        else:
            labels = read_labels(target.read_text(encoding="utf-8").splitlines())
    except FileNotFoundError:
        raise missing("target", target) from None
    except (ValueError, OSError) as error:
        reason = shown(" ".join(str(error).split()))
        raise InputError(
            f"data.target={shown(target)}: cannot be read ({reason}); it must be a .npy with one label a row, or a "
            "text with one a line"
        ) from None
    if len(labels) != x.shape[0]:
        raise InputError(f"data.target={shown(target)}: {len(labels)} labels for {x.shape[0]} rows; give one for each")
    return x, labels.astype(np.float64) if labels.dtype.kind in "iu" else labels, None


def read_labels(lines: Sequence[str]) -> pd.Series:
    """Read labels as numbers, if all are."""
    words = [line.strip() for line in lines]
    return pd.Series(list(map(float, words)) if all(map(is_float, words)) else words, name="label")


def check_numbers(path: Path, x: csr_array) -> None:
    """Look whether the features can be squared. Raises InputError for one that cannot."""
    bad = np.flatnonzero(~(np.abs(x.data) <= LARGEST))
    if len(bad):
        row = int(np.searchsorted(x.indptr, bad[0], side="right"))
        raise InputError(
            f"data.path={shown(path)}: feature {x.indices[bad[0]] + 1} of row {row} is {x.data[bad[0]]:g}; numbers "
            f"must be finite, and under {LARGEST:g}"
        )


def missing(key: str, path: Path) -> InputError:
    """Make the error of a file that is not there."""
    return InputError(
        f"data.{key}={shown(path)}: there is no such file in {shown(Path.cwd())}; give its path from here, or a full "
        "one"
    )
