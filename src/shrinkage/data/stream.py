"""Parquet that need not fit into memory: read again in every epoch, a batch at a time."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import Tensor

from shrinkage.errors import InputError

from .base import EXAMPLE_ROWS, WHOLE, Part, Share
from .parquet import CHUNK, ParquetRows
from .quoting import dropping, quoted, shown
from .reading import named
from .recipe import kind
from .splits import Rows
from .table import TableFile
from .tabular import check_range, names, origins

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class StreamedPart:
    """How many rows a part has, and 16 hexadecimal digits that say of which data, and which rows."""

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

    def __init__(self, *, buffer: int, missing: str, **table: object) -> None:
        super().__init__(missing=missing, drop_classes=None, **table)
        if missing != "error":
            raise InputError(
                f"data.missing={missing}: a stream leaves no row out and fills nothing in; mend the rows, or use "
                "data=table"
            )
        if type(buffer) is not int or buffer < 1:
            raise InputError(f"data.buffer={shown(buffer)}: must be a whole number of rows ≥ 1; use data.buffer=200000")
        self.buffer = buffer

    def make_parts(self) -> dict[str, StreamedPart]:
        self.table = ParquetRows(self.path)
        if not len(self.table):
            raise InputError(f"data.path={shown(self.path)}: there is no row in it; it needs rows")
        columns = named(self.path, self.table.schema.names)
        self.check_roles(columns)
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
        if self.classes is None and self.standardize:
            own = target[self.part_of == 0]
            self.center, self.scale = float(own.mean()), float(own.std())
            self.values = (target - self.center) / self.scale
        digest = hashlib.sha256(f"{self.digest} {self.seed}".encode() + self.part_of.tobytes())
        return {
            name: StreamedPart(count, hashlib.sha256(f"{digest.hexdigest()} {name}".encode()).hexdigest()[:16])
            for name, count in counts.items()
        }

    def placed(self) -> Rows:
        """Target and what places each row, of all rows; sets the classes."""
        frame = self.table.read([self.target, *self.roles.values()])
        gaps = frame[self.target].isna().sum()
        if gaps:
            raise InputError(
                f"column {quoted(self.target)} is missing in {gaps} of {len(frame)} rows, and a stream fills nothing "
                "in; mend the rows"
            )
        self.check_values(frame)
        decided = self.decided(self.set_aside(frame))
        target = frame[self.target]
        values, self.class_names = self.target_of(target)
        self.classes = len(self.class_names) or None
        if self.classes == 1:
            raise InputError(
                f"data.target={shown(self.target)}: it is {shown(target.iloc[0])} in every row, there is nothing to "
                "learn; choose another column"
            )
        if self.classes is None:
            check_range("the target", values)
        return Rows(values, self.class_names, **decided)

    def prepare(self, target: np.ndarray) -> None:
        """What makes features of columns, learned from the training rows; looks at every value on the way."""
        schema = self.table.schema
        text = [c for c in self.columns if is_text(schema.field(c).type)]
        self.numbers = [c for c in self.columns if c not in text]
        for column in self.numbers:
            if not is_number(schema.field(column).type):
                raise InputError(
                    f"column {quoted(column)} has values of type {schema.field(column).type}, and a stream reads "
                    f"numbers, booleans and text; leave it out with {dropping(column)}"
                )
        encode = make_column_transformer(
            (SimpleImputer(), self.numbers),
            (OneHotEncoder(handle_unknown="ignore", sparse_output=False), text),
        )
        categories = self.categories(text)
        longest = max(map(len, categories.values()), default=1)
        example = {c: np.resize(found, longest) for c, found in categories.items()}
        encode.fit(pd.DataFrame(dict.fromkeys(self.numbers, 0.0) | example, index=range(longest))[self.columns])
        scaler, hashes, start = StandardScaler(), [], 0
        smallest, largest = np.full(len(self.numbers), np.inf), np.full(len(self.numbers), -np.inf)
        for frame in self.frames(self.columns):
            self.check(frame)
            hashes.append(pd.util.hash_pandas_object(frame, index=False).to_numpy())
            values = frame[self.numbers].to_numpy()
            if self.numbers:
                smallest, largest = np.minimum(smallest, values.min(axis=0)), np.maximum(largest, values.max(axis=0))
            own = self.part_of[start : start + len(frame)] == 0
            if self.standardize and own.any():
                scaler.partial_fit((values if not text else np.asarray(encode.transform(frame)))[own])
            start += len(frame)
        for column, least, most in zip(self.numbers, smallest, largest, strict=True):
            check_range(f"column {quoted(column)}", np.array([least, most]))
        self.preprocessing = make_pipeline(encode, scaler) if self.standardize else encode
        self.origins = origins(encode)
        self.feature_names = names(self.origins)
        self.example_rows = next(self.table.batches(self.columns)).slice(0, EXAMPLE_ROWS).to_pandas()
        self.kinds, self.fills = {name: kind(column) for name, column in self.example_rows.items()}, False
        self.digest = Part(np.concatenate(hashes), target).digest
        self.plain = not text

    def categories(self, text: list[str]) -> dict[str, list[str]]:
        """Of each text column, the values that it has in training rows."""
        found: dict[str, set[str]] = {column: set() for column in text}
        every: dict[str, set[str]] = {column: set() for column in text}
        start = 0
        for frame in self.frames(text) if text else ():
            own = self.part_of[start : start + len(frame)] == 0
            for column in text:
                found[column].update(frame[column][own].unique())
                every[column].update(frame[column].unique())
                if len(every[column]) > self.max_categories:
                    raise InputError(
                        f"text column {quoted(column)} has more than {self.max_categories} different values: each "
                        f"becomes a column of its own, at most data.max_categories={self.max_categories}; leave it out "
                        f"with {dropping(column)}, or raise the bound"
                    )
            start += len(frame)
        return {column: sorted(values) for column, values in found.items()}

    def check(self, frame: pd.DataFrame) -> None:
        missing = frame.isna().sum()
        for column in missing.index[missing > 0]:
            raise InputError(
                f"column {quoted(column)} has gaps, and a stream fills nothing in; mend the rows, or leave it out with "
                f"{dropping(column)}"
            )
        self.check_values(frame)

    def frames(self, columns: list[str]) -> Iterator[pd.DataFrame]:
        """The rows in their order, some thousands at once: numbers as float64, text as text."""
        for batch in self.table.batches(columns):
            frame = batch.to_pandas()
            yield pd.DataFrame(
                {
                    name: column.astype(object).where(column.notna(), None)
                    if is_text(self.table.schema.field(name).type)
                    else column.to_numpy(dtype=np.float64, na_value=np.nan)
                    for name, column in frame[columns].items()
                }
            )

    def features(self, batch: pa.RecordBatch) -> np.ndarray:
        """float32 or float64 [n, inputs], as the trainer works."""
        dtype = np.float64 if self.dtype == torch.float64 else np.float32
        if not self.plain:
            frame = batch.to_pandas()[self.columns]
            return np.asarray(self.preprocessing.transform(frame)).astype(dtype)
        x = np.empty((batch.num_rows, len(self.columns)), dtype=dtype)
        for number, name in enumerate(self.columns):
            x[:, number] = batch.column(name).to_numpy(zero_copy_only=False)
        if self.standardize:
            scaler = self.preprocessing[-1]
            x -= scaler.mean_.astype(dtype)
            x /= scaler.scale_.astype(dtype)
        return x

    def rows_of(self, part: str, groups: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """A part's rows in some of the row groups, as x and y, some thousands at once."""
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
        for x, y in self.rows_of(part, np.arange(len(self.table.sizes))):
            for start in range(0, len(x), rows):
                own = share.of(torch.arange(start, min(start + rows, len(x)))).numpy()
                yield self.pair(x[own], y[own])

    def pair(self, x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
        target = torch.from_numpy(y)
        return torch.from_numpy(x), target.to(self.dtype) if self.classes is None else target


@dataclass(frozen=True)
class FirstRows:
    """A part's first rows, of a slice that begins at its beginning: what one step takes is measured on them."""

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
    """The training part's batches; each epoch's order is drawn from (seed, epoch) alone."""

    def __init__(self, datamodule: StreamedTable, seed: int) -> None:
        self.datamodule, self.seed, self.epoch = datamodule, seed, 0

    @property
    def sampler(self) -> "StreamedBatches":
        """Where Lightning looks for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
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
        """Batches of which this process has its share."""
        share, size = self.datamodule.share, self.datamodule.batch_rows
        for start in range(0, len(x), size):
            one, its = x[start : start + size], y[start : start + size]
            if len(one) >= share.size > 1:
                one, its = one[share.rank :: share.size], its[share.rank :: share.size]
            yield self.datamodule.pair(one, its)


def shuffled(held: list[tuple[np.ndarray, np.ndarray]], random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """All that is held, in a new order; empties the list, so that it is in memory once."""
    x, y = (np.concatenate(arrays) for arrays in zip(*held, strict=True))
    held.clear()
    order = random.permutation(len(x))
    return x[order], y[order]


def is_text(type: pa.DataType) -> bool:
    value = type.value_type if pa.types.is_dictionary(type) else type
    return pa.types.is_string(value) or pa.types.is_large_string(value)


def is_number(type: pa.DataType) -> bool:
    return pa.types.is_integer(type) or pa.types.is_floating(type) or pa.types.is_boolean(type)
