"""Text as bytes, for language models."""

import os
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from shrinkage.checks import Whole, check
from shrinkage.errors import InputError

from .base import NUMBERS_AT_ONCE, DataModule, Part
from .quoting import shown
from .recipe import Recipe

BYTES = 256  # of which a token is one
BLOCK = 1 << 20  # bytes that are copied together


class Windows(Dataset[tuple[Tensor, Tensor]]):
    """Windows of a text as x [batch, context], int64, with the byte y [batch, context] that follows each."""

    def __init__(self, part: Part) -> None:
        self.part = part

    def __getitem__(self, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
        index = rows if isinstance(rows, slice) else rows.numpy()  # NumPy takes a tensor of one row for a number
        x, y = (torch.from_numpy(np.asarray(of[index], dtype=np.int64)) for of in (self.part.x, self.part.y))
        return x, y


class TextFiles(DataModule):
    """The bytes of text files, for a model that predicts the next one.

    path: a file, taken as it is, or a folder, whose files that match `pattern` are taken in the order of their
    names. None: the source of Python's standard library, as it is installed (the top folder's *.py).

    A row is a window of `context` bytes, x, with the byte that follows each, y; the windows lie one after the other.
    The last `test` share of the text is the test part, the `val` share before it validates. An epoch is `epoch_rows`
    windows of the training part, drawn anew each time (None: all). Each part is measured on `measured_rows` windows,
    evenly spread (None: all).

    The text is mapped into memory, and read from the disk where it is used.
    """

    kind = "language"
    stackable = False

    def __init__(
        self,
        *,
        path: str | None,
        pattern: str,
        context: int,
        val: float,
        test: float,
        seed: int,
        batch_size: int | None,
        epoch_rows: int | None,
        measured_rows: int | None,
        order_seed: int,
    ) -> None:
        super().__init__(seed=seed, batch_size=batch_size, order_seed=order_seed)
        for name, value in (("context", context), ("epoch_rows", epoch_rows), ("measured_rows", measured_rows)):
            optional = name != "context"
            way_out = f"use data.{name}=null for all" if optional else "use data.context=64"
            check(f"data.{name}", value, Whole(1, or_null=optional), way_out)
        shares = all(type(share) in (int, float) for share in (val, test))
        if not (shares and 0 < val < 1 and 0 <= test < 1 and val + test < 1):
            raise InputError(
                f"data.val={val} data.test={test}: shares of the text, val > 0, test ≥ 0, together under 1; use "
                "data.val=0.1 data.test=0"
            )
        self.path, self.pattern, self.context = None if path is None else Path(str(path)), str(pattern), context
        self.shares = {"val": val, "test": test}
        self.epoch_rows, self.measured_rows = epoch_rows, measured_rows
        self.title = None if self.path is None else self.path.name

    def make_parts(self) -> dict[str, Part]:
        self.classes = BYTES
        text = self.mapped()
        lengths = {name: int(share * len(text)) for name, share in self.shares.items()}
        lengths = {"train": len(text) - sum(lengths.values())} | {name: n for name, n in lengths.items() if n}
        parts, start = {}, 0
        for name, length in lengths.items():
            count = (length - 1) // self.context
            if count < 1:
                raise InputError(
                    f"data.context={self.context}: the {name} part of the text has {length:,} bytes, and a window "
                    f"takes {self.context + 1}; use data.context={max(length // 2, 1)}, or more text"
                )
            x, y = (text[start + shift :][: count * self.context].reshape(count, -1) for shift in (0, 1))
            parts[name] = Part(x, y)
            start += length
        return parts

    def mapped(self) -> np.ndarray:
        """Map all the text into memory, uint8 [bytes], from the file or from a copy of all files in one.

        Raises InputError if there is no text.
        """
        path, pattern = (self.path, self.pattern) if self.path else (Path(sysconfig.get_path("stdlib")), "*.py")
        if not os.path.exists(path):  # noqa: PTH110 it may be longer than a file's name
            raise InputError(f"data.path={shown(path)}: there is no such file or folder in {shown(Path.cwd())}")
        if path.is_file():
            file = path.open("rb")
        else:
            file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as its mapping
            for block in blocks(path, pattern):
                file.write(block)
            file.flush()
        with file:
            if not file.seek(0, 2):
                raise InputError(
                    f"data.path={shown(path)}: there is no text in it"
                    + ("; give a file that is not empty" if path.is_file() else f", in no file {pattern}")
                )
            return np.memmap(file, dtype=np.uint8, mode="r")

    @property
    def inputs(self) -> tuple[int]:
        return (self.context,)

    def tensors(self, part: str) -> Windows:
        return Windows(self.parts[part])

    @property
    def rows_at_once(self) -> int:
        return max(NUMBERS_AT_ONCE // (BYTES * self.context), 1)  # of logits

    def measured(self, part: str) -> torch.Tensor:
        count = len(self.parts[part])
        measured = min(self.measured_rows or count, count)
        return torch.arange(measured) * count // measured

    def recipe(self) -> Recipe:
        raise InputError(
            "export: a model that predicts from rows of a table is written, and text is none; leave it out"
        )

    def example(self) -> pd.DataFrame:
        raise TypeError("text has no columns")


def blocks(folder: Path, pattern: str) -> Iterator[bytes]:
    """Read the content of the files, one after the other, in blocks."""
    for found in sorted(folder.glob(pattern)):
        if found.is_file():
            with found.open("rb") as file:
                while block := file.read(BLOCK):
                    yield block
