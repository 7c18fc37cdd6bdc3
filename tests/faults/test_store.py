"""Whatever befalls the store while a run trains: the run goes on, and the store has all of it in the end, once.

Training waits for no store: one that is away, locked or slow stays so until the last epoch has been trained.
"""

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import ROUNDS, config, tracked_here, train_here, wait_for
from faults import FULL, Gate, Recorded, Server, recorded, run_ids, tmpfs
from mlflow.tracking import MlflowClient

from shrinkage.boundary import Refused
from shrinkage.fit import fit
from shrinkage.machine import disk
from shrinkage.tracking import client as clients
from shrinkage.tracking.client import Client
from shrinkage.tracking.journal import NOT_ADOPTED
from shrinkage.tracking.store import JOURNAL, open_store
from shrinkage.tracking.sync import sync

pytestmark = pytest.mark.xdist_group("faults")

TRAINING = ("data=diabetes", "penalty=l1", "lambd=0.05", "data.batch_size=null")
EPOCHS = 3000 if FULL else 150
IGNORE = ("tracking.uri",)
LONG = 60.0 if FULL else 4.0  # seconds that the store stays locked when all is trained
SLOW = 30.0 if FULL else 3.0  # seconds an answer
HALF_A_STORE = 400_000  # bytes of a SQLite file that has MLflow's tables in it


SCRIPT_STEPS, EVERY = 4000, 50  # of anyone's script; Lightning logs each so many
SCRIPT = f"""
import lightning.pytorch as L, torch
from torch.utils.data import DataLoader, TensorDataset
import shrinkage

class Line(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(3, 1)

    def training_step(self, batch, index):
        self.log("square", float(self.global_step) ** 2)
        return self.net(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

rows = DataLoader(TensorDataset(torch.ones(1000, 3)))
trainer = L.Trainer(max_steps={SCRIPT_STEPS}, accelerator="cpu", logger=shrinkage.JournalLogger(experiment="mine"))
trainer.fit(Line(), rows)
"""


def train(uri: str, folder: Path) -> None:
    """One run in this process, from a folder; it returns when the bounded wait at its end is over."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        fit(config("tracking=mlflow", f"tracking.uri={uri}", f"trainer.max_epochs={EPOCHS}", *TRAINING))
    finally:
        os.chdir(before)


def has_trained(folder: Path, epoch: int) -> bool:
    """Whether the run of this folder has measured this epoch, by its journal."""
    return any(b'"step": %d,' % epoch in path.read_bytes() for path in folder.rglob("*.journal"))


@contextlib.contextmanager
def during_training(folder: Path, fault: Callable[[], None]) -> Iterator[None]:
    """The fault comes when a run has trained some of its epochs, and raises here what it raises."""
    epoch = random.randrange(1, 100)

    def strike() -> None:
        wait_for(lambda: has_trained(folder, epoch), 120, every=0.01)
        fault()

    with ThreadPoolExecutor(1) as pool:
        striking = pool.submit(strike)
        yield
        striking.result()


def until_trained(folder: Path) -> None:
    """Return when the run has trained its last epoch, as it does whatever the store does."""
    wait_for(lambda: has_trained(folder, EPOCHS), 300)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """What a run records."""
    folder = tmp_path_factory.mktemp("undisturbed")
    train(f"sqlite:///{folder}/mlflow.db", folder)
    return recorded(folder / "mlflow.db", folder, *run_ids(folder / "mlflow.db"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    found = Server(folder / "mlflow.db", folder / "mlartifacts")
    yield found
    found.kill()


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a run hardly waits for a store that is away."""
    monkeypatch.setattr(clients, "END_SECONDS", 1.0)
    monkeypatch.setattr(clients, "NEVER_SECONDS", 1.0)


def assert_whole(store: Path, artifacts: Path, run: str, undisturbed: Recorded) -> None:
    recorded(store, artifacts, run).assert_same(undisturbed, IGNORE)


def wait_until_none_waits(folder: Path) -> None:
    """Until the writer has carried all journals."""
    wait_for(lambda: not list((folder / "journals").glob("*.journal")), 90)


@pytest.mark.parametrize("number", range(ROUNDS))
@pytest.mark.parametrize("fault", ["killed", "500", "slow", "never there", *(["shut"] if FULL else [])])
def test_a_server_that_is(
    fault: str, number: int, server: Server, undisturbed: Recorded, tmp_path: Path, short_waits: None
) -> None:
    gate = Gate(server)
    gate.slow = SLOW
    known = set(run_ids(server.store))

    def strike() -> None:
        if fault == "killed":
            server.kill()
            try:
                until_trained(tmp_path)
            finally:
                server.start()
            return
        for wait in (lambda: time.sleep(0.2), lambda: until_trained(tmp_path)):  # it is back for a moment
            gate.mode = fault
            try:
                wait()
            finally:
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
    assert_whole(server.store, server.artifacts, run, undisturbed)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_script_whose_server_is_killed(number: int, server: Server, tmp_path: Path) -> None:
    """A plain script of Lightning's with a JournalLogger trains to its end meanwhile, and all of it is there once."""
    known, step = set(run_ids(server.store)), random.randrange(EVERY, SCRIPT_STEPS - EVERY, EVERY) - 1
    script = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env=os.environ | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{server.port}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: has_trained(tmp_path, step), 120, every=0.01)
    server.kill()
    try:
        wait_for(lambda: any(b'"event": "end"' in path.read_bytes() for path in tmp_path.rglob("*.journal")), 120)
    finally:
        server.start()
    _, errors = script.communicate(timeout=120)
    assert script.returncode == 0, errors
    wait_until_none_waits(tmp_path)
    (run,) = set(run_ids(server.store)) - known
    found = recorded(server.store, server.artifacts, run)
    steps = range(EVERY - 1, SCRIPT_STEPS, EVERY)
    expected = [point for step in steps for point in (("square", step, step**2), ("epoch", step, step // 1000))]
    assert found.status == "FINISHED" and found.points == Counter(expected)
    assert {Path(name).name for name in found.artifacts} == {f"epoch=3-step={SCRIPT_STEPS}.ckpt"}


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
def test_a_locked_sqlite_store(number: int, undisturbed: Recorded, tmp_path: Path, short_waits: None) -> None:
    uri, store = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "mlflow.db"
    open_store(uri, "shrinkage", tmp_path / "mlartifacts")

    def strike() -> None:
        with contextlib.closing(sqlite3.connect(store, timeout=60)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            until_trained(tmp_path)
            time.sleep(LONG)

    with during_training(tmp_path, strike):
        train(uri, tmp_path)
    wait_until_none_waits(tmp_path)
    assert_whole(store, tmp_path, *run_ids(store), undisturbed)


@pytest.mark.parametrize("number", range(ROUNDS))
@pytest.mark.parametrize("fault", ["full", "read-only artifacts"])
def test_a_disk_that_is(fault: str, number: int, undisturbed: Recorded, tmp_path: Path, short_waits: None) -> None:
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
        assert_whole(store, artifacts, *run_ids(store), undisturbed)


@pytest.mark.parametrize("number", range(ROUNDS))
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
def test_a_writer_that_is_killed_or_stopped(
    signum: int, number: int, undisturbed: Recorded, tmp_path: Path, short_waits: None
) -> None:
    uri, store = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "mlflow.db"
    struck: list[int] = []

    def strike() -> None:
        found = subprocess.run(["pgrep", "-f", "shrinkage.tracking.writer"], capture_output=True, text=True)
        for pid in map(int, found.stdout.split()):
            if os.readlink(f"/proc/{pid}/cwd") == str(tmp_path):  # noqa: PTH115 no file
                os.kill(pid, signum)
                struck.append(pid)
        if signum == signal.SIGSTOP:
            until_trained(tmp_path)
            time.sleep(LONG)
            for pid in struck:
                os.kill(pid, signal.SIGCONT)

    with during_training(tmp_path, strike):
        train(uri, tmp_path)
    assert struck
    wait_until_none_waits(tmp_path)
    assert_whole(store, tmp_path, *run_ids(store), undisturbed)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_sqlite_store_that_is_deleted(number: int, undisturbed: Recorded, tmp_path: Path, short_waits: None) -> None:
    """The file that was opened takes all that is written, and is nowhere: the run makes a new one, with all of it."""
    uri, store = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "mlflow.db"
    open_store(uri, "shrinkage", tmp_path / "mlartifacts")

    def strike() -> None:
        for path in tmp_path.glob("mlflow.db*"):
            path.unlink()

    with during_training(tmp_path, strike):
        train(uri, tmp_path)
    wait_until_none_waits(tmp_path)
    assert_whole(store, tmp_path, *run_ids(store), undisturbed)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_sqlite_store_that_is_replaced_by_what_is_none(
    number: int, undisturbed: Recorded, tmp_path: Path, short_waits: None
) -> None:
    """The run fails with its last word, which says where its record lies; that goes into another store."""
    store, next_one = tmp_path / "mlflow.db", tmp_path / "next.db"
    uri = f"sqlite:///{store}"
    open_store(uri, "shrinkage", tmp_path / "mlartifacts")
    other = random.choice([Path.mkdir, lambda path: path.write_bytes(random.randbytes(5000))])

    def strike() -> None:
        store.unlink()
        other(store)

    with pytest.raises(Refused) as ended, during_training(tmp_path, strike):
        train(uri, tmp_path)
    (journal,) = (tmp_path / "journals").glob("*.journal")
    assert "cannot be used" in str(ended.value) and f"its record lies in {journal}" in str(ended.value)
    (folder,) = (tmp_path / "outputs").glob("*/*")
    journal.rename(folder / "run.journal")  # this process, whose run it was, lives on
    shutil.rmtree(tmp_path / "mlartifacts")
    assert sync([folder], f"sqlite:///{next_one}", None) == 0
    assert_whole(next_one, tmp_path / "mlartifacts", *run_ids(next_one), undisturbed)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_working_directory_that_is_deleted(number: int, undisturbed: Recorded, tmp_path: Path) -> None:
    """What lies elsewhere is whole: here the store, and the runs' folders, which `outputs` is a link to."""
    work, store = tmp_path / "work", tmp_path / "mlflow.db"
    for folder in (work, tmp_path / "elsewhere"):
        folder.mkdir()
    (work / "outputs").symlink_to(tmp_path / "elsewhere")

    def strike() -> None:
        wait_for(lambda: run_ids(store), 60)  # MLflow cannot be imported where there is no working directory
        shutil.rmtree(work)

    with during_training(tmp_path, strike):
        done = tracked_here(*TRAINING, f"trainer.max_epochs={EPOCHS}", cwd=work, store=store)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert not work.exists()
    assert_whole(store, tmp_path / "mlartifacts", *run_ids(store), undisturbed)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_journal_that_is_deleted(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the run could not write any more is said in its last word; it is no run that has FINISHED."""
    store = tmp_path / "mlflow.db"
    open_store(f"sqlite:///{store}", "shrinkage", tmp_path / "mlartifacts")
    monkeypatch.setattr(disk, "SECONDS", 0.5)
    with during_training(tmp_path, lambda: [path.unlink() for path in (tmp_path / "journals").iterdir()]):
        done = tracked_here(*TRAINING, f"trainer.max_epochs={EPOCHS}", cwd=tmp_path, store=store)
    *_, last = done.stderr.strip().splitlines()
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "cannot be written (No such file or directory)" in last and "of the record are lost" in last
    assert "FAILED." in done.stdout and "FINISHED" not in done.stdout


@pytest.mark.parametrize("number", range(ROUNDS))
def test_killed_while_it_makes_the_store(number: int, tmp_path: Path) -> None:
    """MLflow cannot go on with migrations of which a part is done: the store is there as a whole, or not at all."""
    store, unfinished = tmp_path / "mlflow.db", tmp_path / "mlflow.db.new"
    program = (
        "from pathlib import Path; from shrinkage.tracking.store import open_store; "
        f"open_store('sqlite:///{store}', 'shrinkage', Path('{tmp_path}', 'mlartifacts'))"
    )
    size = random.randrange(HALF_A_STORE)
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL) as process:
        while not unfinished.exists() or unfinished.stat().st_size <= size:
            assert process.poll() is None and not store.exists()
            time.sleep(0.001)
        process.kill()
    assert unfinished.exists() and not store.exists()
    assert open_store(f"sqlite:///{store}", "shrinkage", tmp_path / "mlartifacts").client.search_experiments()
    assert not list(tmp_path.glob("mlflow.db.new*"))


def test_offline_until_sync(undisturbed: Recorded, tmp_path: Path) -> None:
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
    recorded(store, tmp_path, run).assert_same(undisturbed, (*IGNORE, "tracking.offline"))
