"""From a person's file to columns, so that no cell is shifted, cut or renamed without a note."""

import csv
import gzip
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import IO, TextIO

import pandas as pd
import pyarrow as pa
from pandas.api import types
from pyarrow import ArrowException
from pyarrow import csv as arrow_csv

from shrinkage.errors import InputError

from .column_rules import NUMBER, read_typed, read_words, read_written
from .memory import check_memory
from .notation import DECIMALS, PLAIN, THOUSANDS, Notation, Numerals, find_notations, name_of
from .parquet import SUFFIXES, ParquetRows
from .quoting import quoted, shown
from .recipe import GAPS, Column, as_plain

BLOCK = 1 << 20  # bytes that are looked at together
ROWS = 10_000  # of a CSV, that are turned into columns together
HEAD = 1000  # lines by which the separator is found out
SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
COMMENTS = {"none": "", "hash": "#"}
SIGNS = {"separator": SEPARATORS, "decimal": DECIMALS, "thousands": THOUSANDS, "comment": COMMENTS}
LISTED = 5  # the most columns that a note names


@dataclass(frozen=True)
class CsvFormat:
    """How a CSV is written; `auto` means that it is found out, if there is no doubt.

    separator: what is between cells. decimal: the sign before decimals. thousands: the sign between thousands.
    comment: how lines begin that are left out. Each is a name of `SIGNS` or the sign itself.
    """

    separator: str = "auto"
    decimal: str = "auto"
    thousands: str = "auto"
    comment: str = "auto"

    def __post_init__(self) -> None:
        for key, names in SIGNS.items():
            value = getattr(self, key)
            is_sign = (
                key in ("separator", "comment") and isinstance(value, str) and len(value) == 1 and value not in "\r\n"
            )
            if not (isinstance(value, str) and (value in ("auto", *names, *names.values()) or is_sign)):
                raise InputError(f"data.{key}={shown(value)}: must be one of auto, {', '.join(names)}; use auto")
        if self.sign("decimal") is not None and self.sign("decimal") == self.sign("thousands"):
            raise InputError(
                f"data.decimal={self.decimal} data.thousands={self.thousands}: the signs must differ; leave one out"
            )

    def sign(self, key: str) -> str | None:
        """Give the sign that the user has named; None if it is to be found out."""
        value = getattr(self, key)
        return None if value == "auto" else SIGNS[key].get(value, value)


@dataclass(frozen=True)
class Contents:
    """A file's columns: their values, and the rules by which they were read.

    notes: how the file was read, if that is not plain. doubts: what to do about columns whose numbers can be read in
    two ways. gap_words: the words that were read as gaps in each column, by their rows. codes: of columns of numbers, a
    cell that begins with a 0, which is lost.
    """

    frame: pd.DataFrame
    columns: dict[str, Column]
    notes: Sequence[str] = ()
    doubts: Mapping[str, str] = field(default_factory=dict)
    gap_words: Mapping[str, pd.Series] = field(default_factory=dict)
    codes: Mapping[str, str] = field(default_factory=dict)


def read_file(path: Path, csv_format: CsvFormat) -> Contents:
    """Read a CSV (UTF-8, plain or gzipped) or Parquet file, or a folder of Parquet files.

    `column_rules.read_written` says how a CSV's cells are read, and `column_rules.read_typed` how Parquet's are. Raises
    InputError if it is no such file.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # a pipe would be waited for
            raise InputError(
                f"data.path={shown(path)}: it is no file on a disk; give the path of a CSV or Parquet file"
            )
        is_parquet = path.is_dir() or path.suffix.lower() in SUFFIXES
        if is_parquet and csv_format != CsvFormat():
            raise InputError(
                f"data.path={shown(path)}: data.separator, data.decimal, data.thousands and data.comment say how a CSV "
                "is written, and this is Parquet; leave them out"
            )
        contents = as_contents(read_parquet(path)) if is_parquet else read_csv(path, csv_format)
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
    if contents.frame.empty:
        raise InputError(f"data.path={shown(path)}: there is a header and no row; it needs rows")
    return contents


def read_parquet(path: Path) -> pd.DataFrame:
    try:
        table = ParquetRows(path)
        check_memory(len(table), len(table.schema), "data=stream reads it a batch at a time", copies=1)
        frames = [pd.read_parquet(file, partitioning=None) for file in table.files]
        frame = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    except (LookupError, TypeError, AttributeError) as error:  # where what it says of itself to pandas is damaged
        raise ValueError(f"{type(error).__name__}: {error}") from None
    frame.columns = list_names(path, map(str, frame.columns))
    decimals = [name for name in frame if types.infer_dtype(frame[name]) == "decimal"]
    return frame.astype(dict.fromkeys(decimals, "float64"))


def as_contents(cells: pd.DataFrame) -> Contents:
    """Find the values and the rules of columns that have types of their own."""
    found = [read_typed(cells[name]) for name in cells]
    texts = {name: cells[name] for name in cells if types.infer_dtype(cells[name], skipna=True) == "string"}
    return Contents(
        pd.DataFrame({column.name: values for column, values in found}),
        {column.name: column for column, _ in found},
        gap_words=find_gap_words(texts),
    )


def read_csv(path: Path, csv_format: CsvFormat) -> Contents:
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
        layout = find_layout(path, list(islice(lines, HEAD)), csv_format)
    remarks: list[int] = []
    with open_file(path, "rt", encoding="utf-8-sig", newline="") as lines:
        rows = read_rows(path, lines, layout, remarks)
        names = next(rows)
        count = sum(1 for _ in rows) if has_quotes else None
    cells = None
    if not layout.comment:
        with open_file(path, "rb") as content:
            cells = split_fast(content, names, layout)
    if cells is None or count not in (None, len(cells)):
        remarks.clear()
        with open_file(path, "rt", encoding="utf-8-sig", newline="") as lines:
            cells = read_cells(read_rows(path, lines, layout, remarks))
    found = {name: read_written(cells[name]) for name in cells}
    plain = [name for name, (column, _) in found.items() if column.kind in ("integer", "number")]
    numerals = find_numerals(cells, plain, csv_format)
    for name, notation in numerals.notations.items():
        if notation != PLAIN and (notation is not None or name in plain):
            found[name] = read_column(cells[name], notation)
    columns = {name: column for name, (column, _) in found.items()}
    note = describe_format(csv_format, layout, len(remarks), columns)
    whole = [name for name in plain if columns[name].kind == "integer"]
    codes = {name: find_codes(cells[name]) for name in whole}
    return Contents(
        pd.DataFrame({name: values for name, (_, values) in found.items()}),
        columns,
        notes=[f"data.path={shown(path)}: {note}."] if note else [],
        doubts=numerals.doubts,
        gap_words=find_gap_words({name: cells[name] for name, (_, values) in found.items() if values.hasnans}),
        codes={name: texts.iloc[0].strip() for name, texts in codes.items() if len(texts)},
    )


@dataclass(frozen=True)
class Layout:
    """How the lines of a CSV are cut into cells.

    comment: how lines begin that are left out, "" for none. first: how many lines before the header are left out.
    is_said: whether the user has named the comment; a line among the rows is then left out even if it has as many cells
    as the header.
    """

    separator: str
    comment: str = ""
    first: int = 0
    is_said: bool = False


def find_layout(path: Path, head: Sequence[str], csv_format: CsvFormat) -> Layout:
    """Find the layout of a file from its first lines, some thousand. Raises InputError if two are as good.

    A separator is good if it cuts all lines into as many cells as the header, two or more. Lines before the header that
    begin with # are left out, unless the last of them is the header.
    """
    comment, known = csv_format.sign("comment"), csv_format.sign("separator")
    candidates = list(SEPARATORS.values()) if known is None else [known]
    first = 0
    if comment != "":
        first = next((k for k, line in enumerate(head) if line.strip() and not line.startswith(comment or "#")), 0)
    if first and comment is None:
        last = max(k for k in range(first) if head[k].startswith("#"))
        rows = next((found for sign in candidates if is_even(found := cut(head[last:], sign))), None)
        if rows is not None and has_number(rows[1]):
            first = last  # numbers follow it at once, so that it is the header, though it begins with #
        elif rows is not None and not any(map(has_number, rows)):
            raise InputError(
                f"data.path={shown(path)}: {quoted(head[last].strip())} may be the header or a remark; say which by "
                "data.comment=none or data.comment=hash"
            )
    rows_by = {sign: cut(head[first:], sign) for sign in candidates}
    good = [sign for sign, rows in rows_by.items() if is_even(rows)]
    if len(good) > 1:
        ways = " or ".join(f"data.separator={name_of(sign, SEPARATORS)}" for sign in good)
        raise InputError(f"data.path={shown(path)}: its cells may be separated in {len(good)} ways; use {ways}")
    wide = [sign for sign, rows in rows_by.items() if rows and len(rows[0]) > 1]
    if not good and "," not in wide and len(wide) == 1:  # some line is not cut evenly, which is said when it is read
        good = wide
    begins = comment if comment is not None else "#" * any(line.startswith("#") for line in head[:first])
    return Layout(known or (good[0] if good else ","), begins, first, is_said=bool(comment))


def cut(lines: Sequence[str], separator: str) -> list[list[str]]:
    """Cut a file's first lines into rows, without remarks and without a last row that may be unfinished."""
    try:
        rows = [row for row in csv.reader(lines, delimiter=separator) if "".join(row).strip()]
    except csv.Error:
        return []
    if len(lines) > HEAD // 2:
        rows = rows[:-1]
    return [row for row in rows if row is rows[0] or not row[0].startswith("#") or len(row) == len(rows[0])]


def is_even(rows: Sequence[Sequence[str]]) -> bool:
    return len(rows) > 1 and len(rows[0]) > 1 and all(len(row) == len(rows[0]) for row in rows)


def has_number(row: Sequence[str]) -> bool:
    return any(NUMBER.fullmatch(cell.strip()) for cell in row)


def read_rows(path: Path, lines: TextIO, layout: Layout, remarks: list[int]) -> Iterator[list[str]]:
    """Read the names of a CSV's columns, and then the cells of each row; blank lines are skipped.

    The numbers of lines that are left out as remarks are added to `remarks`. Raises InputError for rows of other
    lengths than the header's, names that stand twice and quotes that stay open.
    """
    remarks += [number for number, line in enumerate(islice(lines, layout.first), start=1) if line.strip()]
    reader = csv.reader(lines, delimiter=layout.separator, strict=True)
    rows = (row for row in reader if len(row) > 1 or row == [""] or "".join(row).strip(" \t"))
    try:
        header = next(rows, None)
        if header is None:
            raise InputError(f"data.path={shown(path)}: the file is empty; it needs a header and rows")
        names = list_names(path, (name or f"Unnamed: {number}" for number, name in enumerate(header)))
        yield names
        for row in rows:
            is_even = len(row) == len(names)
            if layout.comment and row[0].startswith(layout.comment) and (layout.is_said or not is_even):
                remarks.append(reader.line_num)
                continue
            if not is_even:
                raise InputError(describe_uneven(path, layout, layout.first + reader.line_num, row, names))
            yield row
    except csv.Error as error:
        raise InputError(
            f"data.path={shown(path)}: line {layout.first + reader.line_num} cannot be read ({error}); close each "
            "quote, and write a quote inside of quotes twice"
        ) from None


def describe_uneven(path: Path, layout: Layout, line: int, row: Sequence[str], names: Sequence[str]) -> str:
    """Say that a row has not as many cells as the header, and what may be the way out."""
    word = name_of(layout.separator, SEPARATORS)
    ways = [f"mend the line, with quotes around a cell that has a {word} in it"]
    ways += [
        f"use data.separator={name} if that is what is between cells"
        for name, sign in SEPARATORS.items()
        if sign != layout.separator and sign in "".join(names)
    ]
    if row[0].startswith("#"):
        ways.append("use data.comment=hash if it is a remark")
    if len(row) == len(names) + 1:
        ways.append("begin the header with a name more if each line begins with its row's name")
    return (
        f"data.path={shown(path)}: line {line} has {len(row)} cell{'s' * (len(row) != 1)} and the header has "
        f"{len(names)}, cut at each {word}; {', or '.join(ways)}"
    )


def find_distinct(cells: pd.Series) -> list[str]:
    """List the different cells of a column, without gaps and without blanks at their ends."""
    texts = cells.drop_duplicates().str.strip()
    return texts[~texts.isin(GAPS)].tolist()


def find_numerals(cells: pd.DataFrame, plain: Sequence[str], csv_format: CsvFormat) -> Numerals:
    """Find how columns write their numbers.

    Columns of plain numbers are looked at only if another column has other signs, or the user has named some.
    """
    decimal, thousands = csv_format.sign("decimal"), csv_format.sign("thousands")
    others = {name: find_distinct(cells[name]) for name in cells if name not in plain}
    numerals = find_notations(others, decimal, thousands)
    if decimal == "," or thousands or any(numerals.notations.values()) or numerals.doubts:
        pointed = [name for name in plain if cells[name].str.contains(".", regex=False).any()]
        numerals = find_notations({name: find_distinct(cells[name]) for name in pointed} | others, decimal, thousands)
    return numerals


def read_column(cells: pd.Series, notation: Notation | None) -> tuple[Column, pd.Series]:
    """Find the rules and the values of a column whose numbers are so written; notation None: it has none."""
    if notation is None:
        return read_words(str(cells.name), cells.mask(cells.str.strip().isin(GAPS)))
    signs = notation.decimal, notation.thousands
    known = {text: as_plain(text, *signs) for text in find_distinct(cells)}
    column, values = read_written(cells.map(lambda text: known.get(text.strip(), text)).astype("str"))
    return replace(column, decimal=signs[0], thousands=signs[1]), values


def describe_format(csv_format: CsvFormat, layout: Layout, left_out: int, columns: Mapping[str, Column]) -> str:
    """Say how a CSV was read, if that was found out and is not the plain way; else ""."""
    said, overrides = [], []
    if csv_format.separator == "auto" and layout.separator != ",":
        word = name_of(layout.separator, SEPARATORS)
        said.append(f"its cells are separated by {word}s")
        overrides.append(f"data.separator={word}")
    if csv_format.comment == "auto" and left_out:
        said.append(f"{left_out} line{'s' * (left_out != 1)} with # before anything else left out")
        overrides.append("data.comment=hash")
    for key, plain in (("decimal", "."), ("thousands", "")):
        signs: dict[str, list[str]] = {}
        for name, column in columns.items():
            if getattr(column, key) != plain:
                signs.setdefault(name_of(getattr(column, key), SIGNS[key]), []).append(name)
        for sign, found in signs.items() if getattr(csv_format, key) == "auto" else ():
            listed = ", ".join(map(quoted, found[:LISTED])) + ", …" * (len(found) > LISTED)
            said.append(f"the {key} sign of {listed} is the {sign}")
            overrides.append(f"data.{key}={sign}")
    return f"{', '.join(said)} ({' '.join(overrides)})" if said else ""


def find_codes(cells: pd.Series) -> pd.Series:
    """Find the cells of a column of whole numbers that are digits after a 0, as in 01234."""
    begin = cells[cells.str.lstrip().str.startswith("0")]  # nearly none of them, and so cheap
    return begin[begin.str.fullmatch(r"\s*0\d+\s*")]


def find_gap_words(columns: Mapping[str, pd.Series]) -> dict[str, pd.Series]:
    """Find the words that were read as gaps, by their rows, in each column that has some."""
    found = {}
    for name in columns:
        texts = columns[name].dropna().str.strip()
        words = texts[texts.isin(GAPS - {""})]
        if len(words):
            found[name] = words
    return found


def split_fast(content: IO[bytes] | gzip.GzipFile, names: list[str], layout: Layout) -> pd.DataFrame | None:
    """Cut a CSV into cells by Arrow, some ten times as fast as by `csv`; None if Arrow finds other columns or fails.

    Arrow says nothing of text after a quote, or of a quote that stays open: a file with quotes is checked beforehand.
    """
    try:
        table = arrow_csv.read_csv(
            content,
            arrow_csv.ReadOptions(use_threads=False, column_names=names, skip_rows=0),
            arrow_csv.ParseOptions(delimiter=layout.separator, newlines_in_values=True),
            arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.large_string()), strings_can_be_null=False),
        )
    except (ArrowException, ValueError):
        return None
    header = [cell.as_py() or f"Unnamed: {number}" for number, (cell, *_) in enumerate(table.slice(0, 1).columns)]
    is_sure = header == names and len(names) > 1  # of one column, a line of blanks is a row to Arrow
    return table.slice(1).to_pandas() if is_sure else None


def read_cells(rows: Iterator[list[str]]) -> pd.DataFrame:
    """Collect the cells of rows, the first of which has the columns' names; all of them are text."""
    names = next(rows)
    tables = [as_table(names, [])]
    while block := list(islice(rows, ROWS)):
        tables.append(as_table(names, block))
    return pa.concat_tables(tables).to_pandas()


def as_table(names: list[str], rows: list[list[str]]) -> pa.Table:
    """Store rows of text as columns, in far less memory."""
    columns = zip(*rows, strict=True) if rows else [[] for _ in names]
    return pa.table([pa.array(cells, pa.large_string()) for cells in columns], names)


def list_names(path: Path, names: Iterable[str]) -> list[str]:
    """List the names of a file's columns. Raises InputError if two are the same."""
    found = list(names)
    for name, count in Counter(found).items():
        if count > 1:
            raise InputError(
                f"data.path={shown(path)}: {count} columns are called {quoted(name)}; give each a name of its own"
            )
    return found
