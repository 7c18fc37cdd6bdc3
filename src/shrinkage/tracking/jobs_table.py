"""The jobs of a sweep as the rows of one file, `jobs.parquet`, which is kept with the sweep's own run.

tracking.jobs=table asks for it, for sweeps of more jobs than anybody wants runs of. The columns are named as in
MLflow's `search_runs`: name, status, run_id, folder and error, then params.KEY, metrics.KEY and tags.KEY. A cell is
null where a job has no such value; NaN is a value.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shrinkage.errors import InputError
from shrinkage.names import encodable

from .source import PARENT, RunSummary

JOBS = "jobs.parquet"
KNOWN = ("name", "status", "run_id", "folder", "error")
ROWS = "jobs.table"  # the tag of a sweep's own run that has the file: how many rows


def write_rows(runs: Sequence[RunSummary], path: Path) -> None:
    """Write a row for each run."""
    columns = {key: texts(run[key] for run in runs) for key in KNOWN}
    for kind, to_array in (("params", texts), ("metrics", numbers), ("tags", texts)):
        for key in dict.fromkeys(key for run in runs for key in run[kind]):
            columns[f"{kind}.{encodable(key)}"] = to_array(run[kind].get(key) for run in runs)
    pq.write_table(pa.table(columns), path)


def texts(values: Iterable[str | None]) -> pa.Array:
    """Make a column of texts."""
    return pa.array([None if value is None else encodable(value) for value in values], pa.string())


def numbers(values: Iterable[float | None]) -> pa.Array:
    """Make a column of numbers."""
    return pa.array(list(values), pa.float64())


def read_rows(path: Path) -> list[RunSummary]:
    """Read the runs that `write_rows` has written. Raises InputError where the file is gone, or is no such table."""
    try:
        table = pq.read_table(path)
        known = {name: cells(table[name]) for name in KNOWN}
    except (OSError, pa.ArrowException, KeyError) as error:
        raise InputError(f"{path}: the jobs of a sweep cannot be read from it ({error})") from error
    runs = [
        RunSummary(name=name, status=status, run_id=run_id, folder=folder, params={}, metrics={}, tags={}, error=wrong)
        for name, status, run_id, folder, wrong in zip(*known.values(), strict=True)
    ]
    for column in table.column_names:
        kind, _, key = column.partition(".")
        if kind in ("params", "metrics", "tags"):
            for run, value in zip(runs, cells(table[column]), strict=True):
                if value is not None:
                    run[kind][key] = value
    return runs


def cells(column: pa.ChunkedArray) -> list[Any]:
    """List the cells of a column, equal texts as one object: jobs differ in little."""
    if not pa.types.is_string(column.type):
        return column.to_pylist()
    encoded = column.combine_chunks().dictionary_encode()
    known = encoded.dictionary.to_pylist()
    return [None if index is None else known[index] for index in encoded.indices.to_pylist()]


def without_runs(rows: Iterable[RunSummary], runs: Iterable[RunSummary]) -> list[RunSummary]:
    """Keep the rows of jobs that have not become runs, which are known by their folders."""
    there = {run["tags"].get("folder") for run in runs}
    return [row for row in rows if row["folder"] not in there]


def without_sweeps(runs: Sequence[RunSummary]) -> list[RunSummary]:
    """Keep the runs that are no sweep's own: those under which none of them stands, and which have no rows."""
    parents = {run["tags"].get(PARENT) for run in runs}
    return [run for run in runs if run["run_id"] not in parents and ROWS not in run["tags"]]
