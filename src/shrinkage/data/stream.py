"""Parquet that need not fit into memory: read again in every epoch, a batch at a time."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.utils.data import Dataset

from shrinkage.checks import Whole, check
from shrinkage.errors import InputError

from .base import EXAMPLE_ROWS, WHOLE, Part, Share
from .column_rules import read_typed
from .features import plan
from .parquet import CHUNK, ParquetRows
from .placing import read_places, take_placing
from .quoting import dropping, quoted, shown
from .reading import list_names
from .recipe import Column, Refused
from .splits import Rows
from .table import TableFile
from .tabular import check_range, learn_levels, name_features, standardized
from .target import read_target
from .usable import check_dates, check_values

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class StreamedPart:
    """A part that is not in memory: how many rows it has, and 16 hexadecimal digits that say which rows."""

    rows: int
    digest: str

    def __len__(self) -> int:
        return self.rows


class StreamedTable(TableFile):
    """Parquet as `TableFile` reads it, split into the same rows, and standardised by the same numbers.

    buffer: rows that are in memory at once to be shuffled. An epoch reads the row groups in an order of its own, and
    draws batches from the buffer: rows that lie far apart in the file may never be in one batch, so a file that is
    sorted is better shuffled once before. Gaps are refused. All lanes follow one order, and no optimum is solved for.
    """

    in_memory = False
    stackable = False

    def __init__(self, *, buffer: int, missing: str, **table: Any) -> None:
        super().__init__(missing=missing, drop_classes=None, **table)
        if missing != "error":
            raise InputError(
                f"data.missing={missing}: a stream leaves no row out and fills nothing in; mend the rows, or use "
                "data=table"
            )
        if len(self.targets) > 1:
            raise InputError(
                f"data.target={self.shown_targets}: a stream has one target; name one column, or use data=table"
            )
        check("data.buffer", buffer, Whole(1), "use data.buffer=200000 for so many rows")
        self.buffer = buffer

    # A streamed part has no arrays; whoever needs them asks `in_memory` first.
    def make_parts(self) -> dict[str, StreamedPart]:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.table = ParquetRows(self.path)
        if not len(self.table):
            raise InputError(f"data.path={shown(self.path)}: there is no row in it; it needs rows")
        columns = list_names(self.path, self.table.schema.names)
        self.find_roles(columns)
        self.target = self.targets[0]
        apart = {self.target, *self.roles.values(), *self.drop}
        self.columns = [column for column in columns if column not in apart]
        if not self.columns:
            raise InputError(f"data.path={shown(self.path)}: no column is left beside the target to learn from")
        placed = self.placed()
        target, rows = placed.target, self.split.parts(placed)
        self.part_of = np.full(len(target), len(PARTS), dtype=np.uint8)
        for name, index in rows.items():
            self.part_of[index] = PARTS.index(name)
        if self.classes is None:
            own = target[self.part_of == 0]
            if np.ptp(own) == 0:
                raise InputError(
                    f"the target is {own[0]:g} in every training row: there is nothing to learn; choose another "
                    "data.target"
                )
        counts = {name: len(index) for name, index in rows.items()}
        del rows, placed
        self.prepare(target)
        self.values = target
        if self.classes is None and self.standardize and not self.own_units:
            own = target[self.part_of == 0]
            self.center, self.scale = float(own.mean()), float(own.std())
            self.values = (target - self.center) / self.scale
        digest = hashlib.sha256(f"{self.digest} {self.seed}".encode() + self.part_of.tobytes())
        return {
            name: StreamedPart(count, hashlib.sha256(f"{digest.hexdigest()} {name}".encode()).hexdigest()[:16])
            for name, count in counts.items()
        }

    def placed(self) -> Rows:
        """Read the target and what places each row, of all rows; sets the classes. Raises InputError for gaps."""
        frame = self.table.read([self.target, *self.roles.values()])
        gaps = frame[self.target].isna().sum()
        if gaps:
            raise InputError(
                f"column {quoted(self.target)} is missing in {gaps} of {len(frame)} rows, and a stream fills nothing "
                "in; mend the rows"
            )
        check_values(frame)
        places, notes = read_places(take_placing(frame, self.roles), self.roles)
        self.notes += notes
        target = frame[self.target]
        values, self.class_names, notes = read_target(target, self.reads_as)
        self.notes += notes
        self.classes = len(self.class_names) or None
        if self.classes == 1:
            raise InputError(
                f"data.target={shown(self.target)}: it is {shown(target.iloc[0])} in every row, there is nothing to "
                "learn; choose another column"
            )
        if self.classes is None:
            check_range("the target", values)
            self.least_target = float(values.min())
        return Rows(values, self.class_names, **places)

    def prepare(self, target: np.ndarray) -> None:
        """Learn the recipe of the features from the training rows, and look at every value on the way.

        Raises InputError for a value that cannot be used.
        """
        schema = self.table.schema
        for name in self.columns:
            if not is_readable(schema.field(name).type):
                raise InputError(
                    f"column {quoted(name)} has values of type {schema.field(name).type}, and a stream reads "
                    f"numbers, booleans, dates and text; leave it out with {dropping(name)}"
                )
        first = next(self.table.batches(self.columns)).to_pandas()
        self.example_rows = first.head(EXAMPLE_ROWS)
        self.rules = [read_typed(first[name])[0] for name in self.columns]
        for column in self.rules:
            check_dates(read_typed(first[column.name])[1], column, self.date_parts)
        self.rules = self.learn_levels()
        recipe = replace(plan(self.rules, self.encoding, self.date_parts), unseen=self.unseen)
        self.feature_names = name_features(recipe.features)
        numbers = [column.name for column in self.rules if column.kind != "text"]
        smallest, largest = np.full(len(numbers), np.inf), np.full(len(numbers), -np.inf)
        scaler, hashes, start = StandardScaler(), [], 0
        unseen: dict[str, dict[str, Counter[str]]] = {name: {} for name in PARTS}
        for values in self.frames(self.rules):
            hashes.append(pd.util.hash_pandas_object(pd.DataFrame(values), index=False).to_numpy())
            for number, name in enumerate(numbers):
                smallest[number] = min(smallest[number], values[name].min())
                largest[number] = max(largest[number], values[name].max())
            parts = self.part_of[start : start + len(hashes[-1])]
            for code, part in enumerate(PARTS[1:], 1):
                own = recipe.count_unseen({name: found[parts == code] for name, found in values.items()})
                for name, counts in own.items():
                    unseen[part].setdefault(name, Counter()).update(counts)
            if self.standardize and (parts == 0).any():
                scaler.partial_fit(recipe.encode(values)[parts == 0])
            start += len(parts)
        for name, least, most in zip(numbers, smallest, largest, strict=True):
            check_range(f"column {quoted(name)}", np.array([least, most]))
        for part, counts in unseen.items():
            self.tell_unseen(recipe, part, counts)
        self.its_recipe = standardized(recipe, scaler.mean_, scaler.scale_) if self.standardize else recipe
        self.digest = Part(np.concatenate(hashes), target).digest
        self.plain = all(column.kind not in ("text", "date") for column in self.rules)

    def learn_levels(self) -> list[Column]:
        """Give the columns the levels that training rows have. Raises InputError if a column has too many."""
        rules = [column for column in self.rules if column.kind in ("text", "date")]
        found: dict[str, set[Any]] = {column.name: set() for column in rules}
        every: dict[str, set[Any]] = {column.name: set() for column in rules}
        start = 0
        for values in self.frames(rules) if rules else ():
            own = self.part_of[start : start + len(values[rules[0].name])] == 0
            for column in rules:
                distinct = values[column.name] if column.kind == "text" else np.floor(values[column.name])
                found[column.name].update(distinct[own])
                every[column.name].update(distinct if column.kind == "text" else ())
                if len(every[column.name]) > self.max_categories:
                    raise InputError(
                        f"text column {quoted(column.name)} has more than {self.max_categories} different values: each "
                        f"becomes a column of its own, at most data.max_categories={self.max_categories}; leave it out "
                        f"with {dropping(column.name)}, or raise the bound"
                    )
            start += len(own)
        return [
            learn_levels(
                column,
                np.array(sorted(found[column.name]), dtype=object if column.kind == "text" else float),
                self.date_parts,
            )
            if column.name in found
            else column
            for column in self.rules
        ]

    def frames(self, rules: Sequence[Column]) -> Iterator[dict[str, np.ndarray]]:
        """Read some columns in the rows' order, some thousands at once. Raises InputError for a gap."""
        for batch in self.table.batches([column.name for column in rules]):
            frame = batch.to_pandas()
            check_values(frame)
            yield self.read(frame, rules)

    def read(self, frame: pd.DataFrame, rules: Sequence[Column]) -> dict[str, np.ndarray]:
        """Read the values of rows. Raises InputError for a gap."""
        try:
            values = {column.name: column.read(frame[column.name]) for column in rules}
        except Refused as error:
            raise InputError(f"data.path={shown(self.path)}: {error}") from None
        for name, found in values.items():
            if pd.isna(found).any():
                raise InputError(
                    f"column {quoted(name)} has gaps, and a stream fills nothing in; mend the rows, or leave it out "
                    f"with {dropping(name)}"
                )
        return values

    def features(self, batch: pa.RecordBatch) -> np.ndarray:
        """Make the features [n, inputs] of rows, float32 or float64 as the trainer works.

        Raises InputError for a gap.
        """
        dtype = np.float64 if self.dtype == torch.float64 else np.float32
        if not self.plain:
            return self.its_recipe.encode(self.read(batch.to_pandas(), self.rules)).astype(dtype)
        x = np.empty((batch.num_rows, len(self.columns)), dtype=dtype)
        for number, name in enumerate(self.columns):
            x[:, number] = batch.column(name).to_numpy(zero_copy_only=False)
        if self.standardize:
            x -= np.array([feature.mean for feature in self.its_recipe.features], dtype)
            x /= np.array([feature.scale for feature in self.its_recipe.features], dtype)
        return x

    def rows_of(self, part: str, groups: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Read a part's rows in some of the row groups, as x and y, some thousands at once."""
        code = PARTS.index(part)
        starts = np.cumsum([0, *self.table.sizes])
        for group in groups:
            start = starts[group]
            for batch in self.table.batches(self.columns, int(group)):
                own = self.part_of[start : start + batch.num_rows] == code
                y = self.values[start : start + batch.num_rows]
                start += batch.num_rows
                if own.any():
                    yield self.features(batch)[own], y[own]

    @property
    def inputs(self) -> int:
        return len(self.feature_names)

    @property
    def rows_at_once(self) -> int:
        return CHUNK

    def tensors(self, part: str) -> "FirstRows":
        return FirstRows(self, part)

    def train_dataloader(self) -> "StreamedBatches":
        return StreamedBatches(self, self.order_seeds[0])

    def evaluation_dataloader(self, part: str, rows: int, share: Share = WHOLE) -> Iterator[tuple[Tensor, Tensor]]:
        """Read a part's rows in batches of so many, as they lie in the files. Raises InputError for a gap."""
        for x, y in self.rows_of(part, np.arange(len(self.table.sizes))):
            for start in range(0, len(x), rows):
                own = share.of(torch.arange(start, min(start + rows, len(x)))).numpy()
                yield self.pair(x[own], y[own])

    def pair(self, x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
        target = torch.from_numpy(y)
        return torch.from_numpy(x), target.to(self.dtype) if self.classes is None else target


@dataclass(frozen=True)
class FirstRows(Dataset[tuple[Tensor, Tensor]]):
    """The first rows of a part, by a slice from its beginning; what one step takes is measured on them."""

    datamodule: StreamedTable
    part: str

    def __getitem__(self, rows: slice) -> tuple[Tensor, Tensor]:
        wanted, xs, ys = rows.stop, [], []
        for x, y in self.datamodule.rows_of(self.part, np.arange(len(self.datamodule.table.sizes))):
            xs.append(x[:wanted])
            ys.append(y[:wanted])
            wanted -= len(xs[-1])
            if not wanted:
                break
        return self.datamodule.pair(np.concatenate(xs), np.concatenate(ys))


class StreamedBatches:
    """The batches of the training part, in an order that is drawn anew for each epoch from (seed, epoch) alone."""

    def __init__(self, datamodule: StreamedTable, seed: int) -> None:
        self.datamodule, self.seed, self.epoch = datamodule, seed, 0

    @property
    def sampler(self) -> "StreamedBatches":
        """Where Lightning looks for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches are drawn next; Lightning calls it before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.datamodule.parts["train"]) // self.datamodule.batch_rows)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        data, size = self.datamodule, self.datamodule.batch_rows
        random = np.random.default_rng([self.seed, self.epoch])
        held: list[tuple[np.ndarray, np.ndarray]] = []
        count = 0
        for x, y in data.rows_of("train", random.permutation(len(data.table.sizes))):
            held.append((x, y))
            count += len(x)
            if count >= max(data.buffer, size):
                x, y = shuffled(held, random)
                whole = count // size * size
                yield from self.cut(x[:whole], y[:whole])
                held, count = [(x[whole:].copy(), y[whole:].copy())], count - whole
        if count:
            yield from self.cut(*shuffled(held, random))

    def cut(self, x: np.ndarray, y: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
        """Cut rows into batches, and take this process's share of each."""
        share, size = self.datamodule.share, self.datamodule.batch_rows
        for start in range(0, len(x), size):
            one, its = x[start : start + size], y[start : start + size]
            if len(one) >= share.size > 1:
                one, its = one[share.rank :: share.size], its[share.rank :: share.size]
            yield self.datamodule.pair(one, its)


def shuffled(held: list[tuple[np.ndarray, np.ndarray]], random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Put all that is held into a new order, and empty the list, so that it is in memory once."""
    x, y = (np.concatenate(arrays) for arrays in zip(*held, strict=True))
    held.clear()
    order = random.permutation(len(x))
    return x[order], y[order]


def is_readable(type: pa.DataType) -> bool:
    value = type.value_type if pa.types.is_dictionary(type) else type
    is_text = pa.types.is_string(value) or pa.types.is_large_string(value)
    is_number = pa.types.is_integer(type) or pa.types.is_floating(type) or pa.types.is_boolean(type)
    return is_text or is_number or pa.types.is_timestamp(type) or pa.types.is_date(type)
