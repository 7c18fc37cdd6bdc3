"""From a person's file to columns, so that no cell is shifted, cut or renamed without a word."""

import csv
import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

import pandas as pd
from pandas.api import types
from pyarrow import ArrowException

from shrinkage.errors import InputError

from .memory import check_memory
from .parquet import SUFFIXES, ParquetRows
from .quoting import quoted, shown

BLOCK = 1 << 20  # bytes that are looked at together
GAPS = (  # cells without a value
    *("", "NA", "N/A", "n/a", "#N/A", "#NA", "#N/A N/A", "<NA>", "NaN", "nan", "-NaN", "-nan", "NULL", "null", "None"),
    *("1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf(inity)?", re.ASCII | re.IGNORECASE)


def read_file(path: Path) -> pd.DataFrame:
    """A CSV (UTF-8, commas, plain or gzipped) or Parquet file, or a folder of Parquet files, each column with a name.

    An empty cell, and the words of GAPS, are no value. A CSV's column is numbers where all its other cells are, with a
    decimal point, and booleans where they are true and false. Raises InputError where it is no such file.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # a pipe would be waited for
            raise InputError(
                f"data.path={shown(path)}: it is no file on a disk; give the path of a CSV or Parquet file"
            )
        frame = read_parquet(path) if path.is_dir() or path.suffix.lower() in SUFFIXES else read_csv(path)
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
    if frame.empty:
        raise InputError(f"data.path={shown(path)}: there is a header and no row; it needs rows")
    return frame


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
    with path.open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"  # whatever the file is called
    open_file = gzip.open if is_gzip else open
    with open_file(path, "rb") as blocks:
        while block := blocks.read(BLOCK):
            if b"\0" in block:
                raise InputError(
                    f"data.path={shown(path)}: cannot be read, since it has NUL bytes, as spreadsheets, UTF-16 and "
                    "damaged files do; save it as CSV in UTF-8"
                )
    with open_file(path, "rt", encoding="utf-8-sig", newline="") as lines:
        names, rows = checked(path, lines)
    settings = {
        **{"compression": "gzip" if is_gzip else None, "header": 0, "names": names, "index_col": False},
        **{"keep_default_na": False, "na_values": GAPS, "low_memory": False},
    }
    frame = pd.read_csv(path, **settings)
    texts = frame.columns[[not types.is_numeric_dtype(frame[name]) for name in names]]
    # Of whole numbers too large for 64 bits pandas makes Python's, to which 1_000 is one too, or text, gaps included.
    huge = [name for name in texts if types.infer_dtype(frame[name]) == "integer" or frame[name].isin(GAPS).any()]
    if huge:
        frame = pd.read_csv(path, **settings, dtype=dict.fromkeys(huge, str))
    if len(frame) != rows:
        raise InputError(
            f"data.path={shown(path)}: it has {rows} rows or {len(frame)}, by how its quotes and line ends are read; "
            "write it anew, with quotes around cells that have a comma, a quote or a line's end in them"
        )
    return frame.apply(numbers)


def checked(path: Path, lines: TextIO) -> tuple[list[str], int]:
    """The names of a CSV's columns and the number of its rows, in each of which every column has a cell.

    pandas would take the first cells of longer rows for the rows' names, which shifts all others; fill up shorter rows;
    give another name to the second column of a name; and read on to the next quote where one is not closed.
    """
    reader = csv.reader(lines, strict=True)
    rows = (row for row in reader if len(row) > 1 or row == [""] or "".join(row).strip(" \t"))
    count = 0
    try:
        header = next(rows, None)
        if header is None:
            raise InputError(f"data.path={shown(path)}: the file is empty; it needs a header and rows")
        names = named(path, (name or f"Unnamed: {number}" for number, name in enumerate(header)))
        for row in rows:
            count += 1
            if len(row) != len(names):
                raise InputError(
                    f"data.path={shown(path)}: line {reader.line_num} has {len(row)} cell{'s' * (len(row) != 1)} and "
                    f"the header has {len(names)}; mend the line, with quotes around a cell that has a comma in it"
                )
    except csv.Error as error:
        raise InputError(
            f"data.path={shown(path)}: line {reader.line_num} cannot be read ({error}); close each quote, and write a "
            "quote inside of quotes twice"
        ) from None
    return names, count


def named(path: Path, names: Iterable[str]) -> list[str]:
    """The names of a file's columns, each once."""
    found = list(names)
    for name, count in Counter(found).items():
        if count > 1:
            raise InputError(
                f"data.path={shown(path)}: {count} columns are called {quoted(name)}; give each a name of its own"
            )
    return found


def numbers(column: pd.Series) -> pd.Series:
    """A CSV's column as pandas reads it; as float64 where it has whole numbers of any size, or spaces for a gap."""
    if types.is_numeric_dtype(column):
        return column
    cells = column.dropna()
    if not all(NUMBER.fullmatch(text) for cell in cells if (text := str(cell).strip())):
        return column
    values = {index: float(text) for index, cell in cells.items() if (text := str(cell).strip())}
    return pd.Series(values, dtype="float64").reindex(column.index) if values else column
