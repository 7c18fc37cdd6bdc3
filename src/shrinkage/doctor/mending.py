"""What the doctor mends by itself. Before it changes a SQLite file it makes a copy beside it."""

import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from shrinkage.errors import InputError
from shrinkage.machine.process import died
from shrinkage.tracking.location import sqlite_path

from .asking import describe
from .checks import kind_of_store, upgrade_by_hand
from .findings import StoreAddress
from .journals import stories
from .running import Running, running_by
from .schema import Schema, SQLiteTables, schema, upgrade
from .sqlite import (
    LOCK_SECONDS,
    aside,
    back_up,
    damage,
    has_content,
    is_locked,
    is_torn,
    is_wal,
    list_processes,
    lock_holders,
    looking,
    parts,
    restore,
    users,
    writing,
)

COPIES_OF_A_MIGRATION = 3  # of the file: the backup, the tables that are made anew, and SQLite's log of both


def mend(name: str, address: StoreAddress) -> Iterator[str]:
    """Do one mend; yields what was done.

    Raises InputError where it cannot be done, or there is no need to.
    """
    path = sqlite_path(address.uri)
    if kind_of_store(address.uri) in ("files", "unknown"):
        raise InputError(f"--mend {name}: {address.shown} is no store; python -m shrinkage.doctor says what is")
    if name == "runs":
        yield from mend_runs(address, path)
    elif path is None:
        way = f"; back the database up, and run `{upgrade_by_hand(address)}` where it is" if name == "schema" else ""
        raise InputError(f"--mend {name} is for SQLite files, and the store is {address.shown}{way}")
    elif not path.exists():
        raise InputError(f"--mend {name}: there is no {path} yet; the first run makes it")
    else:
        yield from {"schema": mend_schema, "store": mend_store, "wal": mend_wal}[name](path)


def mend_wal(path: Path) -> Iterator[str]:
    """Set a SQLite file to WAL mode."""
    check_readable("wal", path)
    refuse_if_locked(path)
    if is_wal(path):
        raise InputError(f"--mend wal: {path} is in WAL mode already")
    yield f"Backed up to {back_up(path)}"
    with writing(path) as connection:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        except sqlite3.OperationalError as error:
            raise InputError(
                f"{path}: {error}, by {list_processes(lock_holders(path))}; try again when it is not"
            ) from error
    if mode != "wal":
        raise InputError(f"{path}: its file system does not serve WAL mode; move the store to a disk of this machine")
    yield f"{path} is in WAL mode now"


def mend_schema(path: Path) -> Iterator[str]:
    """Bring a SQLite file to the schema of the installed MLflow."""
    check_readable("schema", path)
    with first_use_held(path):
        refuse_if_locked(path)
        before = schema_of(path)
        if before.state != "older":
            raise InputError(f"--mend schema is for a schema that is older, and that of {path} is not: {before.seen}")
        refuse_if_used(path)
        copy = back_up(path, room=COPIES_OF_A_MIGRATION)
        yield f"Backed up to {copy}"
        try:
            with closing(sqlite3.connect(path, timeout=LOCK_SECONDS)) as connection:
                upgrade(connection)
        except Exception as error:  # whatever a migration stumbles over
            restore(copy, path)
            raise InputError(
                f"{path}: MLflow's upgrade failed ({describe(error)}), and the store is as it was; install the MLflow "
                "that made it, or move it away and begin a new one"
            ) from error
        yield f"{path}: its schema is {schema_of(path).seen}"


def mend_store(path: Path) -> Iterator[str]:
    """Move a SQLite file that is broken aside."""
    with first_use_held(path):
        if has_content(path) and damage(path) is None:
            found = schema_of(path)
            if found.state != "broken":
                raise InputError(f"--mend store: {path} is not broken, and stays; its schema: {found.seen}")
        refuse_if_used(path)
        kept = aside(path, "broken")
        for part in parts(path):
            part.rename(part.with_name(part.name.replace(path.name, kept.name, 1)))
    yield f"Moved to {kept}; nothing was deleted"
    yield "The next run makes a new store; python -m shrinkage.tracking.sync outputs multirun brings runs in again"


def mend_runs(address: StoreAddress, path: Path | None) -> Iterator[str]:
    """End the runs whose process has died on this host, as KILLED, at their last sign of life."""
    from mlflow.tracking import MlflowClient

    if path is not None:
        check_readable("runs", path)
        refuse_if_locked(path)
        found = schema_of(path)
        if found.state != "current":
            raise InputError(f"--mend runs: {path} has to be mended first; its schema: {found.seen}")
    client = MlflowClient(tracking_uri=address.uri)
    runs = running_by(client)
    journals = stories(address)  # after the runs: one that has been resumed has a journal before it is RUNNING again
    dead = [run for run in runs if run.state(journals) == "dead"]
    if not dead:
        raise InputError("--mend runs: no run is RUNNING whose process has died on this host")
    if path is not None:
        yield f"Backed up to {back_up(path)}"
    for run in dead:
        seen = client.get_run(run.run_id)  # it may have been resumed meanwhile
        run = Running(run.run_id, run.name, run.began, seen.data.tags)
        if seen.info.status == "RUNNING" and run.state(stories(address)) == "dead":
            client.set_terminated(run.run_id, status="KILLED", end_time=died(0, run.heartbeat))
            yield f"KILLED: {run.description}"


def check_readable(name: str, path: Path) -> None:
    """Raise InputError where a file cannot be mended because it holds no store, or is damaged."""
    if not has_content(path):
        raise InputError(f"--mend {name}: {path} holds no store yet; the first run makes it")
    if (reason := damage(path)) is not None:
        raise InputError(f"--mend {name}: {path}: {reason}; python -m shrinkage.doctor says what mends it")
    if name != "wal" and is_torn(path):
        raise InputError(f"--mend {name}: {path} has a half-done write in it; take it back with --mend wal first")


def schema_of(path: Path) -> Schema:
    """Read how a file's tables stand to those of the installed MLflow."""
    with looking(path) as connection:
        return schema(SQLiteTables(connection))


@contextmanager
def first_use_held(path: Path) -> Generator[None]:
    """Keep runs from opening the store meanwhile, and from making tables in it. Raises InputError where one does."""
    try:
        with FileLock(f"{path}.lock", timeout=LOCK_SECONDS):
            yield
    except Timeout:
        raise InputError(f"{path}: a run is just opening it; try again when it has") from None


def refuse_if_locked(path: Path) -> None:
    """Raise InputError where another process has locked the file."""
    try:
        if is_locked(path):
            raise InputError(f"{path} is locked by {list_processes(lock_holders(path))}; try again when it is not")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
            raise


def refuse_if_used(path: Path) -> None:
    """Raise InputError where another process has the file open."""
    if used := users(path):
        raise InputError(f"{path} is open in {list_processes(used)}; stop that first, and try again")
