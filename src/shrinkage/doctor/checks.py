"""What there is to say of a store. Looking changes nothing and leaves no file behind.

MLflow is imported where its tables or a server are asked about, and not before, so that all else is told where it
cannot be imported.
"""

import importlib
import json
import os
import shlex
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from rich.filesize import decimal

from shrinkage.machine.process import is_silent
from shrinkage.tracking.location import sqlite_path
from shrinkage.tracking.story import Story

from .asking import describe, within
from .files import folder_of, has_runs, is_migrated, migration, successor
from .findings import Finding, StoreAddress, error, guarded, warning, well
from .running import Running, running, running_by
from .schema import ServerTables, SQLiteTables, Tables, schema
from .sqlite import damage, has_content, is_locked, is_torn, is_wal, list_processes, lock_holders, looking, write_locks

ANSWER_SECONDS = 5.0  # for a server or a database to answer at all
READ_SECONDS = 30.0  # to list the runs of a server
MOST_NAMED = 5
DRIVERS = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}  # modules: packages


def import_error() -> str | None:
    """Say why MLflow cannot be imported; None where it can."""
    try:
        importlib.import_module("mlflow.tracking")
    except Exception as raised:  # whatever is wrong with it, or with what it imports
        return describe(raised)
    return None


def kind_of_store(uri: str) -> Literal["sqlite", "server", "database", "files", "unknown"]:
    """Tell what kind of store a URI means.

    server: MLflow's; database: one that MLflow uses without a server of its own; files: a path, or file:.
    """
    match urlsplit(uri).scheme.partition("+")[0]:
        case "http" | "https":
            return "server"
        case "postgresql" | "mysql" | "mssql":
            return "database"
        case "" | "file" if uri != "databricks":
            return "files"
        case _:
            return "sqlite" if sqlite_path(uri) is not None else "unknown"


def examine(address: StoreAddress, journals: Mapping[str, Story]) -> Iterator[Finding]:
    """Make the checks of the store. journals: those that are not in the store yet, by their ids."""
    if (path := sqlite_path(address.uri)) is not None:
        yield from sqlite_file(address, path, journals)
        return
    match kind_of_store(address.uri):
        case "server":
            yield from server(address, journals)
        case "database":
            yield from database(address, journals)
        case "files":
            yield from old_store(address)
        case "sqlite" | "unknown":
            kinds = "sqlite:///…, postgresql://…, mysql://…, mssql://… and http(s)://…"
            yield error("store", f"{address.shown} is no store that is known here; there are {kinds}", without(address))


def without(address: StoreAddress) -> str:
    """Build the command that leads to the default store."""
    return "python -m shrinkage.doctor" if address.given else "unset MLFLOW_TRACKING_URI"


# ---- SQLite files


def sqlite_file(address: StoreAddress, path: Path, journals: Mapping[str, Story]) -> Iterator[Finding]:
    """Check a SQLite file: whether it is whole, locked, in WAL mode, of the right schema; and its runs."""
    found = guarded("store", state_of_file, address, path)
    yield from found
    if any(finding.level for finding in found) or not has_content(path):
        return
    locks = guarded("lock", lock, path)
    yield from locks
    yield from guarded("journal mode", journal_mode, address, path)
    try:
        with looking(path) as connection:
            tables = SQLiteTables(connection)
            tables.rows("SELECT 1 FROM sqlite_master")
            yield from guarded("schema", schema_finding, address, tables)
            yield from guarded("runs", runs_findings, address, lambda: running(tables), journals)
    except sqlite3.OperationalError as raised:
        if not any(finding.level for finding in locks):  # else the reason has been said
            again = address.command("shrinkage.doctor")
            yield error("store", f"{path} cannot be read at this moment ({raised})", again)


def state_of_file(address: StoreAddress, path: Path) -> Iterator[Finding]:
    """Check whether a file can be read from its beginning to its end, and be written."""
    if not path.exists():
        yield well("store", f"{path}: none there yet; the first run makes it")
    elif not path.is_file():
        yield error("store", f"{path} is not a file", address.mend("store"))
    elif not os.access(path, os.R_OK | os.W_OK):
        what = "written" if os.access(path, os.R_OK) else "read"
        yield error("store", f"{path} cannot be {what}: permission denied", mine(path))
    elif not has_content(path):
        yield well("store", f"{path}: empty; the first run makes its tables")
    elif (reason := damage(path)) is not None:
        copies = sorted(path.parent.glob(f"{path.name}.backup-*"))
        there = f"; the last copy of it is {copies[-1].name}" if copies else ""
        yield error("store", f"{path}: {reason}{there}", address.mend("store"))
    elif is_torn(path):
        seen = f"{path}: a process died in the middle of a write, which has to be taken back before it can be read"
        yield warning("store", seen, address.mend("wal"))
    else:
        yield well("store", f"{path}: {decimal(path.stat().st_size)}")


def mine(*paths: Path) -> str:
    """Build the command that lets this user read and write there."""
    ours = all(path.stat().st_uid == os.getuid() for path in paths)
    return shlex.join([*(["chmod", "u+rwX"] if ours else ["sudo", "chown", str(os.getuid())]), *map(str, paths)])


def lock(path: Path) -> Iterator[Finding]:
    """Check whether another process has locked the file."""
    if not is_locked(path):
        yield well("lock", "free")
        return
    holders = lock_holders(path)
    by = list_processes(holders)
    seen = f"locked for writing by {by}, while all runs wait; it may be at work: wait for it, or stop it"
    stop = shlex.join(["kill", *map(str, holders)]) if holders else shlex.join(["sudo", "lsof", str(path)])
    yield warning("lock", seen, stop)


def journal_mode(address: StoreAddress, path: Path) -> Iterator[Finding]:
    """Check whether the file is in WAL mode."""
    if is_wal(path):
        yield well("journal mode", "WAL: readers and a writer do not wait for one another")
    else:
        seen = "not WAL: readers and a writer wait for one another, and many runs at once for long"
        yield warning("journal mode", seen, address.mend("wal"))


# ---- MLflow's tables, and runs


def schema_finding(address: StoreAddress, tables: Tables) -> Iterator[Finding]:
    """Check whether the tables are those of the installed MLflow."""
    path = sqlite_path(address.uri)
    # Before the tables are looked at, too: who makes them may be done right after.
    making = write_locks(Path(f"{path}.lock")) if path is not None else set()
    found = schema(tables)
    match found.state:
        case "none":
            yield well("schema", found.seen)
        case "current":
            yield well("schema", found.seen)
            yield from delivery(tables)
        case "newer":
            yield error("schema", found.seen, "python -m pip install --upgrade mlflow")
        case "older" if path is None:
            seen = f"{found.seen}; back the database up first (pg_dump, mysqldump)"
            yield error("schema", seen, upgrade_by_hand(address))
        case "broken" if path is None:
            seen = f"{found.seen}; it takes a new database, or a backup of this one"
            yield error("schema", seen, new_database(address))
        case _ if held := making | write_locks(Path(f"{path}.lock")):
            numbers = ", ".join(map(str, held))
            seen = f"just being made, or mended, by process {numbers}; look again when it is done"
            yield warning("schema", seen, address.command("shrinkage.doctor"))
        case "older":
            yield error("schema", found.seen, address.mend("schema"))
        case "broken":
            yield error("schema", found.seen, address.mend("store"))


def delivery(tables: Tables) -> Iterator[Finding]:
    """Say which way runs that have ended go into the store."""
    from shrinkage.tracking.bulk import hindrance

    reason = hindrance(tables.known_to_sqlalchemy())
    if reason is None:
        yield well("delivery", "runs that have ended are written many at once")
    else:
        yield well("delivery", f"each run by MLflow's API: {reason}")


def upgrade_by_hand(address: StoreAddress) -> str:
    """Build MLflow's command that upgrades the tables."""
    return shlex.join(["mlflow", "db", "upgrade", address.shown])


def new_database(address: StoreAddress) -> str:
    """Build the command that makes a new database beside one that is broken."""
    parts, name = urlsplit(address.uri), f"shrinkage_{time.strftime('%Y%m%d')}"
    host = ["-h", parts.hostname or "localhost"]
    if parts.scheme.startswith("postgresql"):
        return shlex.join(["createdb", *host, "-p", str(parts.port or 5432), name])
    return shlex.join(["mysqladmin", *host, "-P", str(parts.port or 3306), "create", name])


def runs_findings(
    address: StoreAddress, read: Callable[[], list[Running]], journals: Mapping[str, Story]
) -> Iterator[Finding]:
    """Check the runs that are RUNNING. read: returns them."""
    states: dict[str, list[Running]] = {}
    for run in read():
        states.setdefault(run.state(journals), []).append(run)
    if not states:
        yield well("runs", "none is RUNNING")
    if alive := states.get("alive"):
        yield well("runs", f"going on here: {listed(alive)}")
    elsewhere = states.get("elsewhere", [])
    silent = [run for run in elsewhere if is_silent(run.heartbeat)]
    if going := [run for run in elsewhere if run not in silent]:
        yield well("runs", f"going on on other hosts: {listed(going)}")
    if dead := states.get("dead"):
        yield warning("runs", f"RUNNING, and their process has died: {listed(dead)}", address.mend("runs"))
    if late := states.get("waiting"):
        seen = f"RUNNING, and their process has died; journals tell the end: {listed(late)}"
        yield warning("runs", seen, address.command("shrinkage.tracking.sync"))
    if unknown := silent + states.get("unknown", []):
        seen = f"RUNNING, which nobody here can check; where you know that it has ended, say so: {listed(unknown)}"
        yield warning("runs", seen, end_by_hand(address, unknown[:MOST_NAMED]))


def listed(runs: list[Running]) -> str:
    """List the first runs, and say how many more there are."""
    rest = len(runs) - MOST_NAMED
    return "; ".join(run.description for run in runs[:MOST_NAMED]) + (f"; and {rest} more" if rest > 0 else "")


def end_by_hand(address: StoreAddress, runs: list[Running]) -> str:
    # Double quotes, so that the shell's single ones stand around the whole.
    """Build the command that ends runs as KILLED."""
    client, ids = f"c = mlflow.MlflowClient({json.dumps(address.shown)})", json.dumps([run.run_id for run in runs])
    return shlex.join(["python", "-c", f'import mlflow; {client}; [c.set_terminated(run, "KILLED") for run in {ids}]'])


# ---- Servers


def server(address: StoreAddress, journals: Mapping[str, Story]) -> Iterator[Finding]:
    """Check an MLflow server."""
    import mlflow
    from mlflow.tracking import MlflowClient
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    def ask(what: str) -> tuple[int, str]:
        host = get_default_host_creds(address.uri.rstrip("/"))
        answer = http_request(host, what, "GET", max_retries=0, timeout=ANSWER_SECONDS, raise_on_status=False)
        if answer is None:
            raise ConnectionError("no answer")
        return answer.status_code, answer.text.strip()

    look = shlex.join(["curl", "-i", "-m", f"{ANSWER_SECONDS:.0f}", f"{address.shown.rstrip('/')}/health"])
    try:
        (status, _), (_, version) = within(ANSWER_SECONDS, lambda: (ask("/health"), ask("/version")))
    except Exception as raised:  # whatever a network may have to say
        parts = urlsplit(address.uri)
        here = parts.hostname in ("localhost", "127.0.0.1", "::1")
        start = f"mlflow server --port {parts.port or 80}"
        yield error("store", f"{address.shown} does not answer ({at_bottom(raised)})", start if here else look)
        return
    if status != 200:
        yield error("store", f"{address.shown} answers {status}, as MLflow's server does not where it is well", look)
        return
    yield well("store", f"{address.shown} answers: MLflow {version}; here is {mlflow.__version__}")
    client = MlflowClient(tracking_uri=address.uri)
    yield from guarded(
        "runs", runs_findings, address, lambda: within(READ_SECONDS, lambda: running_by(client)), journals
    )


def at_bottom(raised: BaseException) -> str:
    """Describe the error from which others came, which names the reason."""
    while (under := raised.__cause__ or raised.__context__) is not None:
        raised = under
    return describe(raised)


def database(address: StoreAddress, journals: Mapping[str, Story]) -> Iterator[Finding]:
    """Check a database without MLflow's server before it: PostgreSQL, MySQL and others."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    parts = urlsplit(address.uri)
    try:
        engine = create_engine(address.uri, poolclass=NullPool)
        connection = within(ANSWER_SECONDS, engine.connect)
    except ModuleNotFoundError as raised:
        install = shlex.join(["python", "-m", "pip", "install", DRIVERS.get(raised.name or "", raised.name or "")])
        yield error("store", f"{address.shown}: its driver, {raised.name}, is not installed", install)
        return
    except Exception as raised:  # whatever a driver or a network may have to say
        host, port = parts.hostname or "localhost", parts.port
        if parts.scheme.startswith("postgresql"):
            look = shlex.join(["pg_isready", "-h", host, "-p", str(port or 5432)])
        else:
            look = shlex.join(["nc", "-zv", host, str(port or (3306 if parts.scheme.startswith("mysql") else 1433))])
        yield error("store", f"{address.shown} cannot be used ({describe(raised)})", look)
        return
    with connection:
        tables = ServerTables(connection)
        version = ".".join(map(str, engine.dialect.server_version_info or ()))
        yield well("store", f"{address.shown} answers: {engine.dialect.name} {version}")
        yield from guarded("schema", schema_finding, address, tables)
        yield from guarded("runs", runs_findings, address, lambda: running(tables), journals)


# ---- MLflow's old file store


def old_files(address: StoreAddress) -> Iterator[Finding]:
    """Check whether MLflow's old file store has left runs beside the store and in this folder."""
    for folder in dict.fromkeys([address.home / "mlruns", address.root.resolve() / "mlruns"]):
        if not has_runs(folder):
            continue
        if is_migrated(folder):
            seen = f"the runs of {folder} are in {successor(folder).name}, and their files stay where they are"
            yield well("old files", seen)
        else:
            count = sum(1 for _ in folder.glob("*/*/meta.yaml"))
            seen = f"{folder} has {count} runs as MLflow kept them in files, which it no longer reads"
            yield warning("old files", seen, migration(folder))


def old_store(address: StoreAddress) -> Iterator[Finding]:
    """Say what to do with a tracking URI that is a folder of files, or the path of anything."""
    folder = (address.root / folder_of(address.uri)).resolve()
    if folder.is_file():
        yield error("store", f"{address.shown} is a path, and not the address of a store", instead(address, folder))
        return
    seen = f"{address.shown}: MLflow no longer keeps runs in a folder of files"
    if not has_runs(folder):
        yield error("store", f"{seen}, and there are none", without(address))
    elif not is_migrated(folder):
        yield error("store", f"{seen}; they can be moved into a database", migration(folder))
    else:
        yield error("store", f"{seen}; they are in {successor(folder).name} now", instead(address, successor(folder)))


def instead(address: StoreAddress, path: Path) -> str:
    """Build the command that leads to a SQLite file."""
    uri = f"sqlite:///{path}"
    if address.given:
        return shlex.join(["python", "-m", "shrinkage.doctor", "--store", uri])
    return shlex.join(["export", f"MLFLOW_TRACKING_URI={uri}"])
