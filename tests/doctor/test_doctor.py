"""The doctor, on stores that are broken in the ways that stores break, and its commands, which have to mend them."""

import contextlib
import os
import shlex
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest
from alembic import command as alembic
from alembic.config import Config
from conftest import wait_for
from mlflow.cli import cli as mlflow_command
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase
from mlflow.tracking import MlflowClient
from sqlalchemy import create_engine

from shrinkage.doctor import __main__ as doctor
from shrinkage.doctor import checks, sqlite
from shrinkage.doctor.findings import Level, guarded
from shrinkage.doctor.schema import migrations, revisions
from shrinkage.doctor.sqlite import is_wal
from shrinkage.errors import StoreRefuses
from shrinkage.machine.clock import now
from shrinkage.machine.process import SILENT_MILLISECONDS, Process
from shrinkage.tracking import sync
from shrinkage.tracking.journal import JOURNALS
from shrinkage.tracking.location import ENVIRONMENT
from shrinkage.tracking.read import open_to_read
from shrinkage.tracking.store import open_store

WELL, WARNING, ERROR = 0, 1, 2
ASK = "python -m shrinkage.doctor"
BEHIND = 12  # revisions


class Visit:
    """What the doctor said."""

    def __init__(self, code: int, said: str, errors: str) -> None:
        self.code, self.said, self.errors = code, said, errors
        self.commands = [line.strip() for line in said.splitlines() if line.startswith("    ")]

    def line(self, subject: str) -> str:
        (line,) = [line for line in self.said.splitlines() if line[2:].startswith(f"{subject}: ")]
        return line

    def refuses(self, *words: str) -> None:
        assert self.code == ERROR, self.said
        assert self.errors.startswith("shrinkage: ") and self.errors.count("\n") == 1, self.errors
        for word in words:
            assert word in self.errors


@pytest.fixture
def visit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., Visit]:
    """`python -m shrinkage.doctor ARGUMENTS` in the test's folder, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name, value in (ENVIRONMENT | doctor.QUIET).items():
        monkeypatch.setenv(name, value)  # undone afterwards, as what is set by default would not be

    def call(*arguments: str, main: Callable[[], None] = doctor.main) -> Visit:
        monkeypatch.setattr(sys, "argv", ["command", *arguments])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        return Visit(code, *capsys.readouterr())

    return call


@pytest.fixture
def obey(tmp_path: Path, visit: Callable[..., Visit]) -> Callable[[str], None]:
    """Do what a finding says."""

    def call(command: str) -> None:
        words = shlex.split(command)
        if words[:3] == ["python", "-m", "shrinkage.doctor"]:
            done = visit(*words[3:])
            assert done.code == 0, done.errors
        elif words[:3] == ["python", "-m", "shrinkage.tracking.sync"]:
            assert visit(*words[3:], main=sync.main).code == 0
        elif words[0] == "mlflow":
            mlflow_command.main(words[1:], standalone_mode=False)
        else:
            subprocess.run(command, shell=True, cwd=tmp_path, check=True)

    return call


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store as a run makes it."""
    folder = tmp_path_factory.mktemp("made")
    open_store(f"sqlite:///{folder / 'mlflow.db'}", "shrinkage", folder / "mlartifacts")
    return folder / "mlflow.db"


@pytest.fixture
def good(made: Path, store: Path) -> Path:
    """A copy of it that nobody has open."""
    copy(made, store)
    return store


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store as an MLflow of some releases ago made it, with an experiment in it."""
    path = tmp_path_factory.mktemp("older") / "mlflow.db"
    engine = create_engine(f"sqlite:///{path}")
    InitialBase.metadata.create_all(engine)
    engine.dispose()
    config = Config()
    config.set_main_option("script_location", migrations())
    config.set_main_option("sqlalchemy.url", f"sqlite:///{path}")
    alembic.upgrade(config, revisions()[BEHIND])
    change(path, "INSERT INTO experiments (name, lifecycle_stage) VALUES ('kept', 'active')", "PRAGMA journal_mode=WAL")
    return path


def copy(source: Path, target: Path) -> None:
    with contextlib.closing(sqlite3.connect(source)) as a, contextlib.closing(sqlite3.connect(target)) as b:
        a.backup(b)


def change(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def contents(folder: Path) -> dict[str, bytes]:
    """Of all files but SQLite's index of a log, which every reader writes its locks into."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.endswith("-shm")}


@contextlib.contextmanager
def process(code: str, *arguments: str) -> Iterator[subprocess.Popen]:
    """A Python process that has come to its print()."""
    started = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert started.stdout.readline()
        yield started
    finally:
        started.kill()
        started.communicate()


LOCKS = """import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN " + sys.argv[2])
print("locked", flush=True)
time.sleep(100)"""
OPENS = """import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1])
connection.execute("SELECT 1 FROM runs").fetchall()
print("open", flush=True)
time.sleep(100)"""


# ---- Looking


def test_where_there_is_no_store_yet_all_is_well_and_none_is_made(tmp_path: Path, visit: Callable[..., Visit]) -> None:
    seen = visit()
    assert seen.code == WELL, seen.said
    assert "none there yet" in seen.line("store")
    assert not list(tmp_path.iterdir())


def test_a_good_store_is_left_as_it_is(good: Path, visit: Callable[..., Visit]) -> None:
    before = contents(good.parent)
    seen = visit()
    assert (seen.code, seen.commands) == (WELL, []), seen.said
    assert "All is well." in seen.said
    assert f"revision {revisions()[0]}" in seen.line("schema")
    assert contents(good.parent) == before


def test_what_a_killed_process_has_left_is_left_as_it_is(good: Path, visit: Callable[..., Visit]) -> None:
    insert = "INSERT INTO experiments (name, lifecycle_stage) VALUES ('late', 'active')"
    die = f"import os, sqlite3; c = sqlite3.connect({str(good)!r}); c.execute({insert!r}); c.commit(); os._exit(0)"
    subprocess.run([sys.executable, "-c", die], check=True)
    before = contents(good.parent)
    assert before["mlflow.db-wal"]
    seen = visit()
    assert (seen.code, seen.commands) == (WELL, []), seen.said
    assert contents(good.parent) == before


def test_help_names_the_mends(visit: Callable[..., Visit]) -> None:
    seen = visit("--help")
    assert seen.code == 0
    for word in (*doctor.MENDS, "Exit code", "MLFLOW_TRACKING_URI"):
        assert word in seen.said


def test_a_check_that_breaks_is_an_error_and_the_rest_is_said() -> None:
    def check() -> Iterator[str]:
        yield "seen"
        raise ZeroDivisionError("division by zero")

    seen, failed = guarded("store", check)
    assert seen == "seen"
    assert (failed.level, failed.subject) == (Level.ERROR, "store")
    assert "ZeroDivisionError: division by zero" in failed.seen


# ---- The file


@pytest.mark.parametrize("kind", ["text", "half", "folder"])
def test_a_file_that_is_no_store_is_moved_aside(
    kind: str, good: Path, visit: Callable[..., Visit], obey: Callable[[str], None]
) -> None:
    whole = good.read_bytes()
    match kind:
        case "text":
            good.write_text("no database" * 100)
        case "half":
            good.write_bytes(whole[: len(whole) // 2])
        case "folder":
            good.unlink()
            good.mkdir()
    broken = None if kind == "folder" else good.read_bytes()
    seen = visit()
    assert (seen.code, seen.commands) == (ERROR, [f"{ASK} --mend store"]), seen.said
    obey(seen.commands[0])
    (kept,) = good.parent.glob("mlflow.db.broken-*")
    assert kind == "folder" or kept.read_bytes() == broken
    assert visit().code == WELL


def test_a_write_that_was_broken_off_is_taken_back(
    store: Path, visit: Callable[..., Visit], obey: Callable[[str], None]
) -> None:
    change(store, "CREATE TABLE experiments_of_mine (x)")
    change(store, *["INSERT INTO experiments_of_mine VALUES (zeroblob(1000))"] * 200)
    die = f"""import os, sqlite3; c = sqlite3.connect({str(store)!r}); c.execute("PRAGMA cache_size=2")
c.execute("UPDATE experiments_of_mine SET x = 1"); os._exit(0)"""
    subprocess.run([sys.executable, "-c", die], check=True)
    seen = visit()
    assert (seen.code, seen.commands) == (WARNING, [f"{ASK} --mend wal"]), seen.said
    obey(seen.commands[0])
    assert visit().code == WELL
    with contextlib.closing(sqlite3.connect(store)) as connection:
        assert connection.execute("SELECT count(*) FROM experiments_of_mine WHERE x != 1").fetchone() == (200,)


def test_wal_mode_is_set(good: Path, visit: Callable[..., Visit], obey: Callable[[str], None]) -> None:
    change(good, "PRAGMA journal_mode=DELETE")
    before = good.read_bytes()
    seen = visit()
    assert (seen.code, seen.commands) == (WARNING, [f"{ASK} --mend wal"]), seen.said
    assert good.read_bytes() == before
    obey(seen.commands[0])
    assert is_wal(good)
    (backup,) = good.parent.glob("mlflow.db.backup-*")
    assert not is_wal(backup)
    assert visit().code == WELL
    visit("--mend", "wal").refuses("is in WAL mode already")


@pytest.mark.parametrize(("mode", "kind"), [("WAL", "IMMEDIATE"), ("DELETE", "IMMEDIATE"), ("DELETE", "EXCLUSIVE")])
def test_who_locks_the_store_is_said(
    mode: str,
    kind: str,
    good: Path,
    visit: Callable[..., Visit],
    obey: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sqlite, "LOCK_SECONDS", 0.1)
    change(good, f"PRAGMA journal_mode={mode}")
    with process(OPENS, str(good)), process(LOCKS, str(good), kind) as locker:
        before = contents(good.parent)
        seen = visit()
        assert seen.code == WARNING, seen.said
        assert f"(process {locker.pid})" in seen.line("lock")
        assert seen.commands[0] == f"kill {locker.pid}"
        visit("--mend", "runs").refuses("locked by", str(locker.pid))
        assert contents(good.parent) == before
        obey(seen.commands[0])
        locker.wait()
        assert "free" in visit().line("lock")


# ---- The schema


def test_an_older_schema_is_upgraded(
    older: Path, store: Path, visit: Callable[..., Visit], obey: Callable[[str], None]
) -> None:
    copy(older, store)
    seen = visit()
    assert (seen.code, seen.commands) == (ERROR, [f"{ASK} --mend schema"]), seen.said
    assert "older, " in seen.line("schema")
    obey(seen.commands[0])
    assert visit().code == WELL
    (backup,) = store.parent.glob("mlflow.db.backup-*")
    assert "older, " in visit("--store", f"sqlite:///{backup}").line("schema")
    client = MlflowClient(f"sqlite:///{store}")
    assert client.get_experiment_by_name("kept") is not None


def test_nobody_else_upgrades_an_older_schema(older: Path, store: Path, tmp_path: Path) -> None:
    """MLflow does it unasked where a table is missing, without a copy, and leaves it broken where it is stopped."""
    uri = f"sqlite:///{store}"

    def content() -> list[str]:
        with contextlib.closing(sqlite3.connect(store)) as connection:
            return list(connection.iterdump())

    copy(older, store)
    before = content()
    for open_it in (partial(open_store, uri, "any", tmp_path), partial(open_to_read, uri)):
        with pytest.raises(StoreRefuses, match=f"has no table .* {ASK}"):
            open_it()
    assert content() == before


def test_an_upgrade_that_fails_leaves_the_store_as_it_was(
    older: Path, store: Path, visit: Callable[..., Visit]
) -> None:
    copy(older, store)
    change(
        store,
        "CREATE TRIGGER stop BEFORE UPDATE ON alembic_version WHEN EXISTS (SELECT 1 FROM experiments) "
        "BEGIN SELECT RAISE(ABORT, 'not with these rows'); END",
    )
    before = list(sqlite3.connect(store).iterdump())
    visit("--mend", "schema").refuses("upgrade failed", "not with these rows", "as it was")
    assert list(sqlite3.connect(store).iterdump()) == before


def test_an_upgrade_that_was_broken_off_is_completed(
    older: Path, store: Path, visit: Callable[..., Visit], obey: Callable[[str], None]
) -> None:
    copy(older, store)
    change(store, *[f"CREATE TABLE _alembic_tmp_{table} (x)" for table in ("experiments", "runs", "model_versions")])
    seen = visit()
    assert (seen.code, seen.commands) == (ERROR, [f"{ASK} --mend schema"]), seen.said
    assert "half-migrated, " in seen.line("schema")
    obey(seen.commands[0])
    assert visit().code == WELL
    assert MlflowClient(f"sqlite:///{store}").get_experiment_by_name("kept") is not None


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM alembic_version",
        "DROP TABLE alembic_version",
        "INSERT INTO alembic_version VALUES ('451aebb31d03')",
        "ALTER TABLE webhooks DROP COLUMN description",
        f"UPDATE alembic_version SET version_num = '{revisions()[1]}'",  # its tables are of a later one
    ],
    ids=["no revision", "no table of revisions", "two revisions", "no column", "too early a revision"],
)
def test_a_half_migrated_store_is_moved_aside(
    statement: str, good: Path, visit: Callable[..., Visit], obey: Callable[[str], None]
) -> None:
    change(good, statement)
    seen = visit()
    assert (seen.code, seen.commands) == (ERROR, [f"{ASK} --mend store"]), seen.said
    assert "half-migrated" in seen.line("schema")
    obey(seen.commands[0])
    assert not good.exists()
    assert visit().code == WELL


def test_a_broken_store_that_is_in_use_stays(good: Path, visit: Callable[..., Visit]) -> None:
    change(good, "DELETE FROM alembic_version")
    visit("--mend", "schema").refuses("half-migrated")
    visit("--mend", "runs").refuses("half-migrated")
    with process(OPENS, str(good)) as other:
        visit("--mend", "store").refuses("is open in", str(other.pid))
    assert good.exists()


def test_a_newer_schema_names_its_revision(good: Path, visit: Callable[..., Visit]) -> None:
    change(good, "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    seen = visit()
    assert (seen.code, seen.commands) == (ERROR, ["python -m pip install --upgrade mlflow"]), seen.said
    assert "ffffffffffff" in seen.line("schema")
    visit("--mend", "store").refuses("is not broken")


def test_a_store_that_is_just_being_made_is_left_alone(good: Path, visit: Callable[..., Visit]) -> None:
    change(good, "DELETE FROM alembic_version")
    hold = "import filelock, sys, time\nwith filelock.FileLock(sys.argv[1]): print(flush=True); time.sleep(100)"
    with process(hold, f"{good}.lock") as other:
        seen = visit()
        assert (seen.code, seen.commands) == (WARNING, [ASK]), seen.said
        assert str(other.pid) in seen.line("schema")
        visit("--mend", "store").refuses("is just opening it")


def test_what_is_not_broken_is_not_mended(good: Path, visit: Callable[..., Visit]) -> None:
    before = contents(good.parent)
    visit("--mend", "store").refuses("is not broken")
    visit("--mend", "schema").refuses("is not")
    visit("--mend", "runs").refuses("no run is RUNNING")
    visit("--mend", "wal", "--store", "http://127.0.0.1:9").refuses("for SQLite files")
    visit("--mend", "wal", "--store", f"sqlite:///{good.parent / 'none.db'}").refuses("there is no")
    assert {name: value for name, value in contents(good.parent).items() if name in before} == before
    assert not list(good.parent.glob("*.backup-*"))


# ---- Runs


def dead() -> Process:
    """A process of this host that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return replace(Process.this(), pid=ended.pid)


def tags(process: Process, heartbeat: int) -> dict[str, str]:
    fields = asdict(process) | {"heartbeat": heartbeat}
    return {f"process.{name}": str(value) for name, value in fields.items()}


def test_dead_runs_are_ended_and_no_others(
    good: Path, visit: Callable[..., Visit], obey: Callable[[str], None]
) -> None:
    client = MlflowClient(f"sqlite:///{good}")
    experiment = client.get_experiment_by_name("shrinkage").experiment_id
    long_ago = now() - 3 * SILENT_MILLISECONDS
    here = Process.this()
    elsewhere = replace(here, host="elsewhere")
    kinds = {
        "dead": tags(dead(), now() - 5000),
        "restarted": tags(replace(here, boot="another"), long_ago),
        "alive": tags(here, long_ago),
        "just restarted": tags(replace(here, boot="another"), now()),
        "there": tags(elsewhere, now()),
        "silent": tags(elsewhere, long_ago),
        "plain": {},
    }
    runs = {name: client.create_run(experiment, tags=kind, run_name=name).info.run_id for name, kind in kinds.items()}
    seen = visit()
    assert seen.code == WARNING, seen.said
    assert seen.commands[0] == f"{ASK} --mend runs"
    told = {
        name: line for line in seen.said.splitlines() for name in runs if f"{name}, " in line or f"{name} on" in line
    }
    assert "going on here" in told["alive"] and "going on on other hosts" in told["there"]
    assert "has died" in told["dead"] and "nobody here can check" in told["plain"]
    assert "last sign of life 30 minutes ago" in told["silent"]

    obey(seen.commands[0])
    ended = {name for name, run in runs.items() if client.get_run(run).info.status == "KILLED"}
    assert ended == {"dead", "restarted"}
    for name in ended:
        assert client.get_run(runs[name]).info.end_time == int(kinds[name]["process.heartbeat"])
    (backup,) = good.parent.glob("mlflow.db.backup-*")
    with contextlib.closing(sqlite3.connect(backup)) as connection:
        assert connection.execute("SELECT count(*) FROM runs WHERE status = 'RUNNING'").fetchone() == (7,)

    (by_hand,) = visit().commands
    assert shlex.split(by_hand)[:2] == ["python", "-c"]
    exec(shlex.split(by_hand)[2], {})
    assert client.get_run(runs["plain"]).info.status == client.get_run(runs["silent"]).info.status == "KILLED"
    assert visit().code == WELL


# ---- Journals

BEGINS = """import sys, time
from pathlib import Path
from shrinkage.tracking.journal import Journal
journal = Journal.new(Path(sys.argv[1]), "left", {}, store=sys.argv[2], experiment="shrinkage")
journal.metrics({"val/loss": 1.0}, step=0)
print(journal.path, flush=True)
time.sleep(100 if "stay" in sys.argv else 0)"""


def test_journals_that_wait_are_brought_in(
    good: Path, visit: Callable[..., Visit], obey: Callable[[str], None]
) -> None:
    folder = good.parent / JOURNALS
    left = subprocess.run(
        [sys.executable, "-c", BEGINS, str(folder), f"sqlite:///{good}"], check=True, capture_output=True, text=True
    )
    path = Path(left.stdout.strip())
    with path.open("ab") as file:
        file.write(b"00000000 {}\n")
    (folder / "cut.journal").write_text("0000")
    client = MlflowClient(f"sqlite:///{good}")
    experiment = client.get_experiment_by_name("shrinkage").experiment_id
    run = client.create_run(experiment, tags={"shrinkage.journal": path.stem} | tags(dead(), now())).info.run_id

    with process(BEGINS, str(folder), f"sqlite:///{good}", "stay"):
        seen = visit()
        assert seen.code == ERROR, seen.said
        assert "1 damaged line to be left out" in seen.said
        assert "on their way into the store: 1 " in seen.said
        assert "journals tell the end" in seen.line("runs")
        visit("--mend", "runs").refuses("no run is RUNNING whose process has died")
        sync_it = "python -m shrinkage.tracking.sync"
        assert set(seen.commands) == {
            sync_it,
            shlex.join(["mv", f"{folder}/cut.journal", f"{folder}/cut.journal.damaged"]),
        }
        for command in sorted(set(seen.commands)):
            obey(command)
        assert visit().code == WELL, visit().said
    assert client.get_run(run).info.status == "KILLED"
    assert client.get_run(run).data.metrics["val/loss"] == 1.0


def test_a_journal_for_another_store_names_it(good: Path, visit: Callable[..., Visit]) -> None:
    other = "http://user:open-sesame@nowhere.example"
    subprocess.run([sys.executable, "-c", BEGINS, str(good.parent / JOURNALS), other], check=True, capture_output=True)
    seen = visit()
    assert (seen.code, seen.commands) == (
        WARNING,
        ["python -m shrinkage.tracking.sync --store 'http://***@nowhere.example'"],
    )
    assert "open-sesame" not in seen.said


# ---- What runs need beside a store


def test_packages_that_are_not_as_required(
    tmp_path: Path, visit: Callable[..., Visit], monkeypatch: pytest.MonkeyPatch
) -> None:
    information = tmp_path / "elsewhere" / "shrinkage-0.1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: shrinkage\nVersion: 0.1.0\nRequires-Python: >=3.7,<3.9\n"
        "Requires-Dist: psutil<1,>=0.5\nRequires-Dist: no-such-package>=2\nRequires-Dist: rich>=13\n"
        'Requires-Dist: nor-this; extra == "test"\n'
    )
    monkeypatch.syspath_prepend(information.parent)
    seen = visit()
    assert seen.code == ERROR
    assert seen.commands == [
        "python3.8 -m venv .venv",
        "python -m pip install 'psutil<1,>=0.5' 'no-such-package>=2'",
    ]
    assert "no-such-package is missing" in seen.line("packages") and "nor-this" not in seen.said


def test_it_works_where_mlflow_cannot_be_imported(good: Path, tmp_path: Path) -> None:
    (tmp_path / "shadow" / "mlflow").mkdir(parents=True)
    (tmp_path / "shadow" / "mlflow" / "__init__.py").write_text("raise ImportError('libssl is not there')")
    change(good, "PRAGMA journal_mode=DELETE")
    MlflowClient(f"sqlite:///{good}").create_run("0")
    done = subprocess.run(
        [sys.executable, "-m", "shrinkage.doctor", "--store", f"sqlite:///{good}"],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "shadow")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == ERROR and not done.stderr, done.stderr
    seen = Visit(done.returncode, done.stdout, done.stderr)
    assert "libssl is not there" in seen.line("MLflow") and "libssl" in seen.line("schema")
    assert "nobody here can check" in seen.line("runs") and "not WAL" in seen.line("journal mode")


def test_a_folder_that_cannot_be_made(tmp_path: Path, visit: Callable[..., Visit]) -> None:
    (tmp_path / "file").write_text("")
    seen = visit("--store", f"sqlite:///{tmp_path}/file/here/mlflow.db")
    assert seen.code == ERROR
    assert "cannot be made" in seen.line("folder")


# ---- Stores of other kinds


def test_runs_of_the_old_file_store(
    tmp_path: Path, visit: Callable[..., Visit], obey: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlruns" / "1" / "some run" / "artifacts").mkdir(parents=True)  # as beside a database
    assert visit().code == WELL
    shutil.rmtree(tmp_path / "mlruns")
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        client = MlflowClient((tmp_path / "mlruns").as_uri())
        run = client.create_run("0", run_name="old")
        client.log_metric(run.info.run_id, "loss", 0.5)
    seen = visit()
    assert seen.code == WARNING, seen.said
    assert "1 runs" in seen.line("old files")
    (move,) = seen.commands

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:./mlruns")
    assert visit().commands == [move, move]
    obey(move)
    (lead,) = visit().commands
    name, _, value = lead.removeprefix("export ").partition("=")
    monkeypatch.setenv(name, value)
    assert MlflowClient(value).get_run(run.info.run_id).data.metrics == {"loss": 0.5}
    seen = visit()
    assert "their files stay" in seen.line("old files")
    assert not any("old files" in line for line in seen.said.splitlines() if not line.startswith("✓"))
    assert visit("--store", "mlruns.db").commands == [f"{ASK} --store sqlite:///{tmp_path}/mlruns.db"]


@pytest.mark.parametrize(
    ("uri", "words", "command"),
    [
        ("http://me:open-sesame@127.0.0.1:{port}", ["does not answer", "refused"], "mlflow server --port {port}"),
        ("sqlserver://me:open-sesame@there", ["no store that is known"], ASK),
        ("databricks", ["no store that is known"], ASK),
        ("./runs", ["folder of files", "there are none"], ASK),
        (
            "postgresql+nosuch://me:open-sesame@127.0.0.1:{port}/x",
            ["cannot be used"],
            "pg_isready -h 127.0.0.1 -p {port}",
        ),
    ],
)
def test_a_store_that_is_not_there(
    uri: str, words: list[str], command: str, visit: Callable[..., Visit], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:  # bound, and not listening
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        begun = time.monotonic()
        seen = visit("--store", uri.format(port=port))
        assert time.monotonic() - begun < 8
        assert seen.code == ERROR, seen.said
        for word in words:
            assert word in seen.line("store")
        assert seen.commands == [command.format(port=port)]
        assert "open-sesame" not in seen.said
        done = visit("--store", uri.format(port=port), "--mend", "runs")
        done.refuses("")
        assert "open-sesame" not in done.errors


def test_a_server_that_keeps_silent_is_not_waited_for(
    visit: Callable[..., Visit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "ANSWER_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        begun = time.monotonic()
        seen = visit("--store", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - begun < 10
    assert seen.code == ERROR
    assert "does not answer" in seen.line("store")


def test_a_server(good: Path, visit: Callable[..., Visit], obey: Callable[[str], None]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    run = MlflowClient(f"sqlite:///{good}").create_run("0", tags=tags(dead(), 1000), run_name="left")
    with (good.parent / "server.log").open("w") as log:
        server = subprocess.Popen(
            shlex.split(
                f"{sys.executable} -m mlflow server --port {port} --workers 1 --backend-store-uri sqlite:///{good}"
            ),
            stdout=log,
            stderr=log,
            cwd=good.parent,
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # eight more processes, for nothing here
            start_new_session=True,
        )
    try:
        wait_for(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 120)
        seen = visit("--store", uri)
        assert f"{uri} answers: MLflow" in seen.line("store")
        assert seen.commands == [f"{ASK} --mend runs --store {uri}"]
        obey(seen.commands[0])
        assert visit("--store", uri).code == WELL
    finally:
        os.killpg(server.pid, 9)
        server.wait()
    ended = MlflowClient(f"sqlite:///{good}").get_run(run.info.run_id).info
    assert (ended.status, ended.end_time) == ("KILLED", 1000)
