"""Runs that have ended, written into MLflow's own tables many at once.

MLflow's API spends some 60 ms of processor on the rows of one small run, nearly all of it in Python; here a hundred
runs are one transaction, for a few milliseconds each. The rows are the same (`ended.py`). It is done where this process
opens the database itself, by the class that is known here, and where its tables are those that are known here; whatever
is not certain goes by the API (`delivery.py`).
"""

import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

from mlflow.store.db.base_sql_model import Base
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import append_to_uri_path, is_local_uri
from sqlalchemy import Connection, Engine, Table, insert, inspect, select
from sqlalchemy.engine.default import DefaultDialect

from shrinkage.errors import StoreAway, StoreRefuses
from shrinkage.machine.disk import write_into

from .answers import asking
from .delivery import CONTEXT, SOURCE_TYPE, Waiting, put_away
from .ended import TABLES, DatasetRow, EndedRun, ForTheAPI, InputRow, InputTagRow, MetricRow, Row, TextRow
from .journal import locked
from .own_files import opened
from .store import JOURNAL, Store
from .story import Story

RUNS, BYTES = 100, 16_000_000  # of journals in a transaction, at most; larger ones are no cheaper a run
LONGEST_URI = 200  # characters of the place of a run's artifacts, where the database counts them
LOCK_MILLISECONDS = 20_000  # how long MLflow itself waits for another process's transaction
# How a transaction begins, so that no other process adds what this one has looked for, in the databases that this has
# been tried with.
BEGINNINGS = {
    "sqlite": ("PRAGMA foreign_keys = ON", f"PRAGMA busy_timeout = {LOCK_MILLISECONDS}", "BEGIN IMMEDIATE"),
    "postgresql": (f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}", "LOCK TABLE datasets IN SHARE ROW EXCLUSIVE MODE"),
}


@dataclass(frozen=True)
class Carried:
    """A journal whose run is in the store now. lost, damaged: the files that were gone, how many lines were no use."""

    path: Path
    lost: list[str]
    damaged: int


def table(name: str) -> Table:
    """Find MLflow's definition of a table."""
    return Base.metadata.tables[name]


def hindrance(connection: Connection) -> str | None:
    """Say why runs cannot be written many at once into a database; None if they can.

    The columns must be those that are known here, and they, the keys and NOT NULL the same in MLflow's definitions and
    in the database.
    """
    if connection.dialect.name not in BEGINNINGS:
        return f"only SQLite and PostgreSQL are written to in another way, and this is {connection.dialect.name}"
    there = inspect(connection)
    for name, row in TABLES.items():
        if name not in Base.metadata.tables:
            return f"this MLflow has no table {name}"
        known = table(name)
        columns = {column.name: bool(column.nullable) for column in known.columns}
        if columns.keys() != set(row._fields):
            return f"this MLflow has other columns in {name}"
        if {column["name"]: column["nullable"] for column in there.get_columns(name)} != columns:
            return f"the store has other columns in {name} than MLflow"
        if set(there.get_pk_constraint(name)["constrained_columns"]) != {column.name for column in known.primary_key}:
            return f"the store has another key of {name} than MLflow"
    return None


def open_bulk(store: Store) -> "Bulk | None":
    """Find the way to write many runs at once into a store that has been opened; None where only the API may."""
    opened = getattr(getattr(store.client, "_tracking_client", None), "store", None)
    # A subclass may do more than the tables show. An active model would have a share in a run's metrics.
    if type(opened) is not SqlAlchemyStore or os.environ.get("MLFLOW_ACTIVE_MODEL_ID"):
        return None
    with asking(), opened.engine.connect() as connection:
        return Bulk(store, opened.engine) if hindrance(connection) is None else None


class Bulk:
    """The way of many runs at once into a store's tables."""

    def __init__(self, store: Store, engine: Engine) -> None:
        self.store, self.engine = store, engine
        self.statements = {name: statement(name, row, engine) for name, row in TABLES.items()}

    def carry(self, journals: Mapping[Path, bool], said: Callable[..., None] = lambda **fields: None) -> list[Carried]:
        """Deliver journals whose runs have ended; returns those whose runs are in the store now.

        journals: whether nobody else can have begun to deliver it. said: hears of each run's place in the store. Left
        as they are, for the API, are those that are in the store already, or need the API for another reason. Raises
        StoreAway or StoreRefuses where the store took none of them, or where that is not known.
        """
        with ExitStack() as held, asking():
            ready = self.store_artifacts(list(self.hold(journals, held)))
            taken = self.write(ready, journals)
            self.store.check_in_place()
            for run in taken:
                said(opened=run.id, run_id=run.run_id, experiment_id=run.experiment_id)
                put_away(run.path, run.folder)
        return [Carried(run.path, run.lost, run.damaged) for run in taken]

    def hold(self, journals: Iterable[Path], held: ExitStack) -> Iterator[EndedRun]:
        """Lock journals, and read those that can be delivered here."""
        for path in journals:
            with suppress(ForTheAPI, Waiting, StoreRefuses, OSError):
                held.enter_context(locked(path, wait=False))
                with asking():
                    run = EndedRun.read(path, self.store)
                yield run

    def store_artifacts(self, runs: Sequence[EndedRun]) -> list[tuple[EndedRun, str]]:
        """Store the files of runs; returns the runs that have all of them there, and the URI of each one's artifacts.

        Before the rows are written, so that a run that is in the store is whole. One whose files cannot be stored goes
        by the API, which brings them later.
        """
        with self.engine.connect() as connection:
            active = active_experiments(connection, runs)
        ready = []
        for run in runs:
            place = active.get(run.experiment_id)
            if place is None or not is_local_uri(place):
                continue
            uri = append_to_uri_path(place, run.run_id, SqlAlchemyStore.ARTIFACTS_FOLDER_NAME)
            if self.engine.dialect.name != "sqlite" and len(uri) > LONGEST_URI:  # SQLite does not count
                continue
            root = local_file_uri_to_path(uri)
            with suppress(OSError):
                for source, folder in run.artifacts:
                    with opened(source, run.folder, run.path) as file:
                        copy(file, Path(root, folder), source.name)
                ready.append((run, uri))
        return ready

    def write(self, ready: Sequence[tuple[EndedRun, str]], journals: Mapping[Path, bool]) -> list[EndedRun]:
        """Write the rows of runs in one transaction; returns those that were not in the store before, and are now."""
        if not ready:
            return []
        with self.engine.connect() as connection:
            begin(connection)
            active = active_experiments(connection, [run for run, _ in ready])
            # Of any state and in any experiment: the API knows what to do with them.
            known = known_journals(connection, [run.id for run, _ in ready if not journals[run.path]])
            new = [(run, uri) for run, uri in ready if run.experiment_id in active and run.id not in known]
            runs = [run for run, _ in new]
            rows = {
                "runs": [run.run_row(uri) for run, uri in new],
                "params": [TextRow(*item, run.run_id) for run in runs for item in run.params.items()],
                "tags": [TextRow(*item, run.run_id) for run in runs for item in run.tags.items()],
                **point_rows(runs),
                **dataset_rows(runs, known_datasets(connection, runs)),
            }
            for name, (sql, in_order) in self.statements.items():
                if rows[name]:
                    connection.exec_driver_sql(sql, list(map(in_order, rows[name])))
            connection.commit()
        return runs


def statement(name: str, row: type[Row], engine: Engine) -> tuple[str, Callable[[Row], tuple[Any, ...]]]:
    """Compile the statement that inserts rows into a table; returns it and what puts a row into its order."""
    dialect = cast(type[DefaultDialect], type(engine.dialect))
    by_place = dialect(paramstyle="qmark" if dialect.name == "sqlite" else "format")
    compiled = insert(table(name)).compile(dialect=by_place)
    return str(compiled), itemgetter(*(row._fields.index(column) for column in compiled.positiontup or ()))


def begin(connection: Connection) -> None:
    """Begin a transaction, as soon as no other process writes what this one is going to."""
    for words in BEGINNINGS[connection.dialect.name]:
        connection.exec_driver_sql(words)


def active_experiments(connection: Connection, runs: Iterable[EndedRun]) -> dict[str, str | None]:
    """Find where those experiments of runs that are not deleted have their artifacts, by the experiments' ids."""
    columns = table("experiments").c
    query = select(columns.experiment_id, columns.artifact_location).where(
        columns.experiment_id.in_({int(run.experiment_id) for run in runs}), columns.lifecycle_stage == "active"
    )
    query = query.with_for_update(read=True)  # as long as the transaction goes on, nobody deletes one
    return {str(identifier): place for identifier, place in connection.execute(query)}


def known_journals(connection: Connection, journals: Sequence[str]) -> set[str]:
    """Find those of the journals, by their ids, that have a run in the store."""
    columns = table("tags").c
    query = select(columns.value).where(columns.key == JOURNAL, columns.value.in_(journals))
    return set(connection.scalars(query)) if journals else set()


def known_datasets(connection: Connection, runs: Iterable[EndedRun]) -> dict[tuple[int, str, str], str]:
    """Find the ids of the runs' data sets that are in the store, by experiment, name and digest."""
    columns = table("datasets").c
    query = select(columns.experiment_id, columns.name, columns.digest, columns.dataset_uuid).where(
        columns.experiment_id.in_({int(run.experiment_id) for run in runs}),
        columns.digest.in_({used.digest for run in runs for used in run.datasets}),
    )
    return {(experiment, name, digest): found for experiment, name, digest, found in connection.execute(query)}


def point_rows(runs: Sequence[EndedRun]) -> dict[str, list[MetricRow]]:
    """Build the rows of the runs' metrics."""
    points = [run.points() for run in runs]
    return {
        "metrics": [row for curve, _ in points for row in curve],
        "latest_metrics": [row for _, latest in points for row in latest],
    }


def dataset_rows(runs: Iterable[EndedRun], known: Mapping[tuple[int, str, str], str]) -> dict[str, list[Any]]:
    """Build the rows of the runs' data sets, of those that are not known, and of what each run uses them for."""
    ids, datasets = dict(known), list[DatasetRow]()
    inputs, tags = list[InputRow](), list[InputTagRow]()
    for run in runs:
        for used in run.used():
            key = (int(run.experiment_id), used.name, used.digest)
            if key not in ids:
                ids[key] = uuid.uuid4().hex
                datasets.append(DatasetRow(ids[key], *key, SOURCE_TYPE, used.source, None, used.profile))
            inputs.append(InputRow(uuid.uuid4().hex, "DATASET", ids[key], "RUN", run.run_id, 0))
            tags.append(InputTagRow(inputs[-1].input_uuid, CONTEXT, used.context))
    # In one order, so that two that insert the same ones at once do not wait for each other.
    return {"datasets": sorted(datasets, key=lambda row: row[1:4]), "inputs": inputs, "input_tags": tags}


def copy(file: int, folder: Path, name: str) -> None:
    """Copy an open file into a folder, whole or not at all, by a name that MLflow does not show until it is whole.

    Not as a hard link: who edits the one would change the other.
    """
    # As text: a sweep has thousands of small files, and a path costs as much as one of them.
    source, part = f"/dev/fd/{file}", f"{folder}/.artifact.uploading.{name}"
    write_into(folder, lambda: shutil.copyfile(source, part))
    shutil.copystat(source, part)
    os.replace(part, f"{folder}/{name}")  # noqa: PTH105


def carry_ended(bulk: Bulk | None, stories: Iterable[Story]) -> Iterator[list[Carried]]:
    """Deliver those runs that have ended, if many can be written at once; yields what each transaction has taken."""
    if bulk is None:
        return
    for batch in batches(story.path for story in stories if story.status != "RUNNING"):
        try:
            yield bulk.carry(dict.fromkeys(batch, False))
        except (StoreAway, StoreRefuses):  # which of them it is about, and why, the delivery of each will say
            yield []


def batches(journals: Iterable[Path]) -> Iterator[list[Path]]:
    """Divide journals into as many as one transaction takes, by their number and size."""
    batch, size = list[Path](), 0
    for path in journals:
        bytes_of_it = path.stat().st_size if path.exists() else 0
        if batch and (len(batch) == RUNS or size + bytes_of_it > BYTES):
            yield batch
            batch, size = [], 0
        batch.append(path)
        size += bytes_of_it
    if batch:
        yield batch
