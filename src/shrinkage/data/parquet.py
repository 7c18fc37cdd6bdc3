"""Parquet as rows in one order: a file, or a folder of files, as clusters write a table."""

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import ArrowException

from shrinkage.errors import InputError

from .quoting import quoted, shown

SUFFIXES = (".parquet", ".pq")
CHUNK = 65_536  # rows that are read at once


class ParquetRows:
    """The rows of a Parquet file, or of a folder's files in the order of their names, read when they are asked for.

    schema: of the columns, without those that pandas wrote as a frame's index. sizes: the rows of each row group.
    Raises InputError if there is no such file, or a folder's files are not parts of one table.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.files = path, list_files(path)
        schemas, self.metadata = zip(*(read_header(path, file) for file in self.files), strict=True)
        self.schema = schemas[0]
        for file, schema in zip(self.files, schemas, strict=True):
            for ours, theirs in zip_longest(map(words, self.schema), map(words, schema), fillvalue="no further column"):
                if ours != theirs:
                    raise InputError(
                        f"data.path={shown(path)}: {shown(self.files[0].name)} has {ours} where {shown(file.name)} has "
                        f"{theirs}; the files of a folder are one table, and need the same columns in the same order"
                    )
        self.groups = [(n, group) for n, about in enumerate(self.metadata) for group in range(about.num_row_groups)]
        self.sizes = [self.metadata[n].row_group(group).num_rows for n, group in self.groups]

    def __len__(self) -> int:
        return sum(self.sizes)

    def batches(self, columns: list[str], group: int | None = None) -> Iterator[pa.RecordBatch]:
        """Read all the rows in their order, or those of a row group, some thousands at once."""
        wanted = self.groups if group is None else [self.groups[group]]
        for number in dict.fromkeys(number for number, _ in wanted):
            # A reader of its own, since a second iteration over one changes the first one's size.
            file = pq.ParquetFile(self.files[number], metadata=self.metadata[number], pre_buffer=False)
            own = [group for n, group in wanted if n == number]
            yield from file.iter_batches(CHUNK, columns=columns, row_groups=own, use_threads=False)

    def read(self, columns: list[str]) -> pd.DataFrame:
        """Read all the rows of some columns."""
        batches = pa.Table.from_batches(self.batches(columns), pa.schema([self.schema.field(c) for c in columns]))
        return batches.to_pandas(self_destruct=True)


def list_files(path: Path) -> list[Path]:
    """List the Parquet files of a folder by name, or the file itself. Raises InputError if other files lie there.

    Names that begin with . or _ are left out: clusters write such files beside the table.
    """
    if not path.is_dir():
        return [path]
    inside = sorted(file for file in path.iterdir() if not file.name.startswith(("_", ".")))
    found = [file for file in inside if file.suffix.lower() in SUFFIXES and file.is_file()]
    if not found:
        raise InputError(
            f"data.path={shown(path)}: it is a folder without a Parquet file; give the path of a file, or of a folder "
            "of Parquet files"
        )
    if others := [file.name for file in inside if file not in found]:
        raise InputError(
            f"data.path={shown(path)}: {shown(others[0])} is no Parquet file; give a folder with nothing but Parquet "
            "files, side by side"
        )
    return found


def read_header(path: Path, file: Path) -> tuple[pa.Schema, pq.FileMetaData]:
    """Read which columns a file has, without those of an index, and where its rows are.

    path: what was asked for. Raises InputError if it is no Parquet file.
    """
    try:
        with pq.ParquetFile(file, pre_buffer=False) as found:
            index = (found.schema_arrow.pandas_metadata or {}).get("index_columns", [])
            return pa.schema([field for field in found.schema_arrow if field.name not in index]), found.metadata
    except FileNotFoundError:
        raise InputError(
            f"data.path={shown(path)}: there is no such file in {shown(Path.cwd())}; give its path from here, "
            "or a full one"
        ) from None
    except (ArrowException, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        # The last ones where what it says of itself to pandas is damaged.
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        which = "it" if file == path else shown(file.name)
        raise InputError(
            f"data.path={shown(path)}: {which} is no Parquet file ({shown(reason)}); data=table reads CSV too, and "
            "pandas.read_csv(…).to_parquet(…) makes Parquet of it"
        ) from None


def words(field: pa.Field) -> str:
    return f"{quoted(field.name)} ({field.type})"
