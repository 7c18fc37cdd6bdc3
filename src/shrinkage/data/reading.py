"""From a person's file to columns, so that no cell is shifted, cut or renamed without a word."""

import csv
import gzip
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TextIO

import pandas as pd
import pyarrow as pa
from pandas.api import types
from pyarrow import ArrowException
from pyarrow import csv as arrow_csv

from shrinkage.errors import InputError

from .memory import check_memory
from .parquet import SUFFIXES, ParquetRows
from .quoting import quoted, shown
from .recipe import Column, read_typed, read_written

BLOCK = 1 << 20  # bytes that are looked at together
ROWS = 10_000  # of a CSV, that are turned into columns together


def read_file(path: Path) -> tuple[pd.DataFrame, dict[str, Column]]:
    """The values of a CSV (UTF-8, commas, plain or gzipped) or Parquet file, or of a folder of Parquet files.

    Also the rules by which each column was read: `recipe.read_written` says how a CSV's cells are read, and
    `recipe.read_typed` how Parquet's are. Raises InputError where it is no such file.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # a pipe would be waited for
            raise InputError(
                f"data.path={shown(path)}: it is no file on a disk; give the path of a CSV or Parquet file"
            )
        is_parquet = path.is_dir() or path.suffix.lower() in SUFFIXES
        cells = read_parquet(path) if is_parquet else read_csv(path)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(
            f"data.path={shown(path)}: there is no such file in {shown(Path.cwd())}; give its path from here, "
            "or a full one"
        ) from None
    except (OSError, ValueError, EOFError, zlib.error, ArrowException) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"data.path={shown(path)}: cannot be read ({shown(reason)}); it must be CSV (UTF-8), gzipped CSV or Parquet"
        ) from None
    found = [(read_typed if is_parquet else read_written)(cells[name]) for name in cells]
    frame = pd.DataFrame({column.name: values for column, values in found})
    if frame.empty:
        raise InputError(f"data.path={shown(path)}: there is a header and no row; it needs rows")
    return frame, {column.name: column for column, _ in found}


def read_parquet(path: Path) -> pd.DataFrame:
    try:
        table = ParquetRows(path)
        check_memory(len(table), len(table.schema), "data=stream reads it a batch at a time", copies=1)
        frames = [pd.read_parquet(file, partitioning=None) for file in table.files]
        frame = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    except (LookupError, TypeError, AttributeError) as error:  # where what it says of itself to pandas is damaged
        raise ValueError(f"{type(error).__name__}: {error}") from None
    frame.columns = named(path, map(str, frame.columns))
    decimals = [name for name in frame if types.infer_dtype(frame[name]) == "decimal"]
    return frame.astype(dict.fromkeys(decimals, "float64"))


def read_csv(path: Path) -> pd.DataFrame:
    """The cells of a CSV as they are written, all of them text."""
    with path.open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"  # whatever the file is called
    open_file = gzip.open if is_gzip else open
    has_quotes = False
    with open_file(path, "rb") as blocks:
        while block := blocks.read(BLOCK):
            has_quotes = has_quotes or b'"' in block
            if b"\0" in block:
                raise InputError(
                    f"data.path={shown(path)}: cannot be read, since it has NUL bytes, as spreadsheets, UTF-16 and "
                    "damaged files do; save it as CSV in UTF-8"
                )
    with open_file(path, "rt", encoding="utf-8-sig", newline="") as lines:
        rows = read_rows(path, lines)
        names = next(rows)
        count = sum(1 for _ in rows) if has_quotes else None
    with open_file(path, "rb") as content:
        cells = split_fast(content, names)
    if cells is None or count not in (None, len(cells)):
        with open_file(path, "rt", encoding="utf-8-sig", newline="") as lines:
            cells = read_cells(read_rows(path, lines))
    return cells


def read_rows(path: Path, lines: TextIO) -> Iterator[list[str]]:
    """The names of a CSV's columns, and then the cells of each row; blank lines are skipped.

    Raises InputError for rows of other lengths than the header's, names that stand twice and quotes that stay open.
    """
    reader = csv.reader(lines, strict=True)
    rows = (row for row in reader if len(row) > 1 or row == [""] or "".join(row).strip(" \t"))
    try:
        header = next(rows, None)
        if header is None:
            raise InputError(f"data.path={shown(path)}: the file is empty; it needs a header and rows")
        names = named(path, (name or f"Unnamed: {number}" for number, name in enumerate(header)))
        yield names
        for row in rows:
            if len(row) != len(names):
                raise InputError(
                    f"data.path={shown(path)}: line {reader.line_num} has {len(row)} cell{'s' * (len(row) != 1)} and "
                    f"the header has {len(names)}; mend the line, with quotes around a cell that has a comma in it"
                )
            yield row
    except csv.Error as error:
        raise InputError(
            f"data.path={shown(path)}: line {reader.line_num} cannot be read ({error}); close each quote, and write a "
            "quote inside of quotes twice"
        ) from None


def split_fast(content: BinaryIO, names: list[str]) -> pd.DataFrame | None:
    """The cells of a CSV by Arrow, some ten times as fast as by `csv`; None where Arrow finds other columns or fails.

    Arrow says nothing of text after a quote, or of a quote that stays open: a file with quotes is checked beforehand.
    """
    try:
        table = arrow_csv.read_csv(
            content,
            arrow_csv.ReadOptions(use_threads=False, column_names=names, skip_rows=0),
            arrow_csv.ParseOptions(newlines_in_values=True),
            arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.large_string()), strings_can_be_null=False),
        )
    except (ArrowException, ValueError):
        return None
    header = [cell.as_py() or f"Unnamed: {number}" for number, (cell, *_) in enumerate(table.slice(0, 1).columns)]
    is_sure = header == names and len(names) > 1  # of one column, a line of blanks is a row to Arrow
    return table.slice(1).to_pandas() if is_sure else None


def read_cells(rows: Iterator[list[str]]) -> pd.DataFrame:
    """The cells of rows, the first of which has the columns' names; all of them text."""
    names = next(rows)
    tables = [as_table(names, [])]
    while block := list(islice(rows, ROWS)):
        tables.append(as_table(names, block))
    return pa.concat_tables(tables).to_pandas()


def as_table(names: list[str], rows: list[list[str]]) -> pa.Table:
    """Rows of text as columns, in far less memory."""
    columns = zip(*rows, strict=True) if rows else [[] for _ in names]
    return pa.table([pa.array(cells, pa.large_string()) for cells in columns], names)


def named(path: Path, names: Iterable[str]) -> list[str]:
    """The names of a file's columns, each once."""
    found = list(names)
    for name, count in Counter(found).items():
        if count > 1:
            raise InputError(
                f"data.path={shown(path)}: {count} columns are called {quoted(name)}; give each a name of its own"
            )
    return found
