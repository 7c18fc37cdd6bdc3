"""Runs read from a SQLite store's own file: a SELECT a table, where MLflow makes an object of each row.

Whatever is not plain here (no such file, other tables, nothing under that name) is left to `read.py`, which asks MLflow
and says what is wrong.
"""

import sqlite3
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pandas as pd

from .jobs_table import JOBS, ROWS, read_rows, without_runs, without_sweeps
from .location import sqlite_path
from .outcome import Outcome
from .source import LOSSES, OUTCOME, PARENT, FolderSource, Found, RunSummary, Source

if TYPE_CHECKING:
    from . import read

CURVE = "SELECT step, value, is_nan FROM metrics WHERE run_uuid = ? AND key = ? ORDER BY timestamp, step, value"
AT_ONCE = 1000  # runs, after which it is told how many there have been
RUN = "SELECT run_uuid, name, status FROM runs WHERE lifecycle_stage = 'active' AND experiment_id = ? AND "
FINISHED = f"{RUN} status = 'FINISHED'"
CHILDREN = f"{RUN} run_uuid IN (SELECT run_uuid FROM tags WHERE key = '{PARENT}' AND value = ?)"
TABLES = f"SELECT run_uuid FROM ({RUN} 1) WHERE run_uuid IN (SELECT run_uuid FROM tags WHERE key = ?)"
IN_ORDER = " ORDER BY start_time DESC, run_uuid"  # MLflow's own


class StoreFile(Source):
    """Reads runs, their files and curves from the SQLite store of an address, whose file is at a path."""

    def __init__(self, uri: str, path: Path) -> None:
        self.uri = uri
        self.in_folders = FolderSource()  # for jobs that are no runs
        self.connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)

    @cached_property
    def by_mlflow(self) -> "read.StoreSource":
        """Reads files that do not lie on this disk."""
        from . import read  # two seconds for MLflow

        return read.StoreSource(read.open_to_read(self.uri))

    def find(self, target: str, told: Callable[[int], None]) -> Found | None:
        """Read the runs that `read.find` would; None where there are none of this id or name, or several.

        Raises InputError where a sweep's table of jobs is gone.
        """
        parent = self.connection.execute(
            "SELECT name, experiment_id FROM runs WHERE run_uuid = ?", (target,)
        ).fetchone()
        if parent is not None:
            name, experiment = parent
            runs = self.runs(CHILDREN, (experiment, target), told)
            runs += without_runs(self.rows(target), runs)
            return Found(name or target, target, str(experiment), runs) if runs else None
        experiments = self.connection.execute(
            "SELECT name, experiment_id FROM experiments WHERE lifecycle_stage = 'active' AND "
            "? IN (name, CAST(experiment_id AS TEXT))",
            (target,),
        ).fetchall()
        if len(experiments) != 1:
            return None
        ((name, experiment),) = experiments
        runs = self.runs(FINISHED, (experiment,), told)
        tables = self.connection.execute(TABLES, (experiment, ROWS)).fetchall()
        rows = [row for (sweep,) in tables for row in self.rows(sweep) if row["status"] == "FINISHED"]
        return Found(name, None, str(experiment), without_sweeps(runs) + without_runs(rows, runs))

    def rows(self, sweep: str) -> list[RunSummary]:
        """Read the jobs that a sweep's own run keeps as rows of a table; none where it keeps none.

        Raises InputError where the table is gone.
        """
        if self.connection.execute("SELECT 1 FROM tags WHERE run_uuid = ? AND key = ?", (sweep, ROWS)).fetchone():
            path = self.artifact(sweep, JOBS)
            return read_rows(path) if path is not None else self.by_mlflow.rows(sweep)
        return []

    def artifact(self, run_id: str, file: str) -> Path | None:
        """Find where an artifact of a run lies, or would lie, on this disk; None where it is elsewhere."""
        (uri,) = self.connection.execute("SELECT artifact_uri FROM runs WHERE run_uuid = ?", (run_id,)).fetchone()
        place = urlsplit(uri)
        return Path(url2pathname(place.path)) / file if place.scheme in ("", "file") else None

    def runs(self, statement: str, values: tuple[str, ...], told: Callable[[int], None]) -> list[RunSummary]:
        """Read the runs that a statement selects."""
        texts: dict[str, str] = {}  # what many runs have in common is kept once
        found: dict[str, RunSummary] = {}
        for run_id, name, status in self.connection.execute(statement + IN_ORDER, values):
            found[run_id] = RunSummary(
                name=name, status=status, run_id=run_id, folder=None, params={}, metrics={}, tags={}, error=None
            )
            if len(found) % AT_ONCE == 0:
                told(len(found))
        these = statement.replace(", name, status", "", 1)
        for table in ("params", "tags"):
            for run_id, key, value in self.connection.execute(
                f"SELECT run_uuid, key, value FROM {table} WHERE run_uuid IN ({these})", values
            ):
                column = found[run_id]["params"] if table == "params" else found[run_id]["tags"]
                column[texts.setdefault(key, key)] = texts.setdefault(value, value)
        for run_id, key, value, is_nan in self.connection.execute(
            f"SELECT run_uuid, key, value, is_nan FROM latest_metrics WHERE run_uuid IN ({these})", values
        ):
            found[run_id]["metrics"][texts.setdefault(key, key)] = float("nan") if is_nan else value
        for run_id, run in found.items():
            run["name"] = run["name"] or run["tags"].get("mlflow.runName") or run_id
            run["error"] = run["tags"].get("error")
        return list(found.values())

    def coefficients(self, run: RunSummary) -> pd.DataFrame | None:
        if run["run_id"] is None:
            return self.in_folders.coefficients(run)
        path = self.artifact(run["run_id"], "coefficients.csv")
        if path is None:
            return self.by_mlflow.coefficients(run)
        return pd.read_csv(path, keep_default_na=False) if path.exists() else None

    def outcome(self, run: RunSummary) -> Outcome | None:
        if run["run_id"] is None:
            return self.in_folders.outcome(run)
        path = self.artifact(run["run_id"], OUTCOME)
        if path is None:
            return self.by_mlflow.outcome(run)
        return Outcome.from_json(path.read_text(encoding="utf-8")) if path.exists() else None

    def history(self, run: RunSummary) -> list[tuple[int, dict[str, float]]]:
        if run["run_id"] is None:
            return self.in_folders.history(run)
        steps: dict[int, dict[str, float]] = {}
        for name in LOSSES:
            for step, value, is_nan in self.connection.execute(CURVE, (run["run_id"], name)):
                steps.setdefault(step, {})[name] = float("nan") if is_nan else value
        return sorted(steps.items())


def find_in_file(
    uri: str, target: str, told: Callable[[int], None] = lambda count: None
) -> tuple[Found, Source] | None:
    """Read the runs of a sweep or an experiment from a SQLite store; None where MLflow has to be asked.

    told hears how many runs have been read so far. Raises InputError where a sweep's table of jobs is gone.
    """
    path = sqlite_path(uri)
    if path is None or not path.is_file():
        return None
    try:
        store = StoreFile(uri, path)
        found = store.find(target, told)
    except sqlite3.Error:  # no database, other tables, a lock
        return None
    return None if found is None else (found, store)
