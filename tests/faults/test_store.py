"""Whatever befalls the store while a run trains: the run goes on, and the store has all of it in the end, once."""

import contextlib
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROUNDS, config, train_here, wait_for
from faults import FULL, Gate, Recorded, Server, recorded, run_ids, seconds_of_training, tmpfs
from mlflow.tracking import MlflowClient

from shrinkage.fit import fit
from shrinkage.tracking import client as clients
from shrinkage.tracking.client import Client
from shrinkage.tracking.journal import NOT_ADOPTED
from shrinkage.tracking.store import JOURNAL, open_store

pytestmark = pytest.mark.xdist_group("faults")

TRAINING = ("data=diabetes", "penalty=l1", "lambd=0.05", "data.batch_size=null")
EPOCHS = 3000 if FULL else 150
IGNORE = ("tracking.uri",)
LONG = 60.0 if FULL else 4.0  # seconds that the store is locked
TIMED = 5 if FULL else 1  # undisturbed trainings, of which times are compared with the median


def train(uri: str, folder: Path) -> None:
    """One run in this process, from a folder; it returns when the bounded wait at its end is over."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        fit(config("tracking=mlflow", f"tracking.uri={uri}", f"trainer.max_epochs={EPOCHS}", *TRAINING))
    finally:
        os.chdir(before)


@contextlib.contextmanager
def during_training(folder: Path, fault: Callable[[], None]) -> Iterator[None]:
    """The fault comes at a random moment of a run's first second of training."""

    def strike() -> None:
        wait_for(lambda: any(path.stat().st_size > 20_000 for path in folder.rglob("*.journal")), 60)
        time.sleep(random.random())
        fault()

    thread = threading.Thread(target=strike)
    thread.start()
    yield
    thread.join()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recorded, float]:
    """What a run records, and how long it trains: the median of several where that is measured."""
    seconds = []
    for _ in range(TIMED):
        folder = tmp_path_factory.mktemp("undisturbed")
        train(f"sqlite:///{folder}/mlflow.db", folder)
        (run,) = run_ids(folder / "mlflow.db")
        seconds.append(seconds_of_training(folder / "mlflow.db", run))
    return recorded(folder / "mlflow.db", folder, run), median(seconds, "undisturbed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    found = Server(folder / "mlflow.db", folder / "mlartifacts")
    yield found
    found.kill()


@pytest.fixture(scope="module")
def beside_a_server(
    server: Server, undisturbed: tuple[Recorded, float], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Recorded, float]:
    """The same where a server, which is not disturbed, takes its share of the same processors."""
    if not FULL:
        return undisturbed
    seconds = []
    for _ in range(TIMED):
        known = set(run_ids(server.store))
        train(f"http://127.0.0.1:{server.port}", tmp_path_factory.mktemp("beside"))
        (run,) = set(run_ids(server.store)) - known
        seconds.append(seconds_of_training(server.store, run))
    return undisturbed[0], median(seconds, "beside a server that is not disturbed")


def median(seconds: list[float], what: str) -> float:
    if FULL:
        print(f"{what}: {' '.join(f'{each:.2f}' for each in sorted(seconds))} s")
    return statistics.median(seconds)


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a run hardly waits for a store that is away."""
    monkeypatch.setattr(clients, "END_SECONDS", 1.0)
    monkeypatch.setattr(clients, "NEVER_SECONDS", 1.0)


def assert_whole(store: Path, artifacts: Path, run: str, undisturbed: tuple[Recorded, float], fault: str) -> None:
    expected, seconds = undisturbed
    recorded(store, artifacts, run).assert_same(expected, IGNORE)
    if FULL:
        print(f"{fault}: training took {seconds_of_training(store, run) / seconds:.2f} of an undisturbed one's time")


def wait_until_none_waits(folder: Path) -> None:
    """Until the writer has carried all journals."""
    wait_for(lambda: not list((folder / "journals").glob("*.journal")), 90)


@pytest.mark.parametrize("number", range(ROUNDS))
@pytest.mark.parametrize("fault", ["killed", "500", "slow", "never there", *(["shut"] if FULL else [])])
def test_a_server_that_is(
    fault: str, number: int, server: Server, beside_a_server: tuple[Recorded, float], tmp_path: Path, short_waits: None
) -> None:
    gate = Gate(server)
    known = set(run_ids(server.store))

    def strike() -> None:
        if fault == "killed":
            server.kill()
            time.sleep(2 * random.random())
            server.start()
        else:
            gate.mode, gate.slow = fault, 30.0 if FULL else 3.0
            time.sleep(2)
            gate.mode = "open"

    if fault == "never there":
        gate.mode = "shut"
        train(gate.uri, tmp_path)
        gate.mode = "open"
    else:
        with during_training(tmp_path, strike):
            train(gate.uri, tmp_path)
    wait_until_none_waits(tmp_path)
    (run,) = set(run_ids(server.store)) - known
    assert_whole(server.store, server.artifacts, run, beside_a_server, fault)


def test_a_server_that_is_away_when_a_run_asks_whether_it_may_adopt(
    server: Server, tmp_path: Path, short_waits: None
) -> None:
    """The delivery asks: `mlflow run` has ended its run by then, which holds what that has written, and no more."""
    there = MlflowClient(f"http://127.0.0.1:{server.port}")
    tags = {"mlflow.project.entryPoint": "main"}
    free, used = (there.create_run("0", tags=tags).info.run_id for _ in range(2))
    there.log_param(free, "lambd", "3")
    there.log_metric(used, "val/loss", 7.0)
    gate = Gate(server)
    client = Client(gate.uri, "shrinkage", tmp_path)
    while not client.is_ready:
        client.hear(60)
    gate.mode = "shut"
    journals = {
        run: client.begin("a run", {}, params={"lambd": "3.0"}, adopt=run, folder=tmp_path / run)
        for run in (free, used)
    }
    for run, journal in journals.items():
        client.end(journal, "FINISHED")
        there.set_terminated(run, "FAILED")
    assert not client.wait_for(journal)
    gate.mode = "open"
    wait_until_none_waits(tmp_path)
    assert client.wait_for(journals[used])
    client.writers = clients.MOST_WRITERS  # no other one takes over
    client.process.stdin.close()
    adopted, left = (there.get_run(run) for run in (free, used))
    assert adopted.info.status == "FINISHED" and adopted.data.tags[JOURNAL] == journals[free].id
    assert left.info.status == "FAILED" and JOURNAL not in left.data.tags and "lambd" not in left.data.params
    (own,) = there.search_runs([client.opened[journals[used].id]["experiment_id"]], f"tags.`{NOT_ADOPTED}` LIKE '%'")
    assert own.data.params == {"lambd": "3.0"} and "has metrics already" in own.data.tags[NOT_ADOPTED]


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_locked_sqlite_store(
    number: int, undisturbed: tuple[Recorded, float], tmp_path: Path, short_waits: None
) -> None:
    uri, store = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "mlflow.db"
    open_store(uri, "shrinkage", tmp_path / "mlartifacts")
    lock = (
        f"import sqlite3, time; c = sqlite3.connect({str(store)!r}); c.execute('BEGIN EXCLUSIVE'); time.sleep({LONG})"
    )
    others: list[subprocess.Popen] = []
    with during_training(tmp_path, lambda: others.append(subprocess.Popen([sys.executable, "-c", lock]))):
        train(uri, tmp_path)
    others[0].wait()
    wait_until_none_waits(tmp_path)
    assert_whole(store, tmp_path, *run_ids(store), undisturbed, "locked")


@pytest.mark.parametrize("number", range(ROUNDS))
@pytest.mark.parametrize("fault", ["full", "read-only artifacts"])
def test_a_disk_that_is(
    fault: str, number: int, undisturbed: tuple[Recorded, float], tmp_path: Path, short_waits: None
) -> None:
    place = tmp_path / "disk"
    home = place if fault == "full" else tmp_path
    artifacts = home / "mlartifacts"
    with tmpfs(place if fault == "full" else artifacts, "20m") as disk:
        uri, store = f"sqlite:///{home}/mlflow.db", home / "mlflow.db"
        open_store(uri, "shrinkage", artifacts)

        def strike() -> None:
            if fault == "full":
                filler = disk / "filler"
                with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                    while True:
                        file.write(b"\0" * 4096)
                time.sleep(1.5)
                filler.unlink()
            else:
                subprocess.run(["mount", "-o", "remount,ro", disk], check=True)

        with during_training(home, strike):
            train(uri, home)
        if fault == "read-only artifacts":
            assert list((home / "journals").glob("*.journal"))  # not all of it can be there
            subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        wait_until_none_waits(home)
        assert_whole(store, artifacts, *run_ids(store), undisturbed, fault)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_writer_that_is_killed(
    number: int, undisturbed: tuple[Recorded, float], tmp_path: Path, short_waits: None
) -> None:
    uri, store = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "mlflow.db"
    killed: list[int] = []

    def strike() -> None:
        found = subprocess.run(["pgrep", "-f", "shrinkage.tracking.writer"], capture_output=True, text=True)
        for pid in map(int, found.stdout.split()):
            if os.readlink(f"/proc/{pid}/cwd") == str(tmp_path):  # noqa: PTH115 no file
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    with during_training(tmp_path, strike):
        train(uri, tmp_path)
    assert killed
    wait_until_none_waits(tmp_path)
    assert_whole(store, tmp_path, *run_ids(store), undisturbed, "killed writer")


def test_offline_until_sync(undisturbed: tuple[Recorded, float], tmp_path: Path) -> None:
    """tracking.offline=true starts no writer. sync brings in all of it, also into another store, and never twice."""
    done = train_here(
        *("tracking=mlflow", "tracking.offline=true", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"),
        *(f"trainer.max_epochs={EPOCHS}", "progress=false", *TRAINING),
        cwd=tmp_path,
    )
    assert done.returncode == 0 and "python -m shrinkage.tracking.sync" in done.stdout, done.stderr
    assert not (tmp_path / "mlflow.db").exists()
    # This process made the run and lives on, as none does that is started for a run.
    (journal,) = (tmp_path / "journals").glob("*.journal")
    (folder,) = (tmp_path / "outputs").glob("*/*")
    journal.rename(folder / "run.journal")
    store = tmp_path / "other.db"
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "shrinkage.tracking.sync", "--store", f"sqlite:///{store}", "outputs"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0 and "1 runs brought into" in done.stdout, done.stdout + done.stderr
    (run,) = run_ids(store)
    recorded(store, tmp_path, run).assert_same(undisturbed[0], (*IGNORE, "tracking.offline"))
