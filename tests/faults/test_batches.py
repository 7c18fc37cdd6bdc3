"""A process that brings runs into the store is killed in the middle of it: nothing is lost, and nothing comes twice.

Both where it writes many at once and where it has only MLflow's API.
"""

import contextlib
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROUNDS, wait_for
from faults import FULL

pytestmark = pytest.mark.xdist_group("faults")

RUNS = 400 if FULL else 40
STEPS = 30

# Runs that have ended, of a process that has, too.
TRAINING = """
import sys
from pathlib import Path
from shrinkage.tracking.journal import Journal

folder, runs, steps = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
for number in range(runs):
    home = folder / "runs" / str(number)
    home.mkdir(parents=True)
    (home / "config.yaml").write_text("lambd: 3")
    store = f"sqlite:///{folder}/mlflow.db"
    journal = Journal.new(folder / "journals", f"run {number}", {}, store=store, experiment="shrinkage", home=home)
    journal.params({"number": number})
    journal.append("dataset", name="d2l", digest=str(number % 3), context="training", source={}, profile={})
    for step in range(steps):
        journal.metrics({"val/loss": number + step / steps}, step)
    journal.artifact(home / "config.yaml")
    journal.end("FINISHED")
"""

SYNC = """
from shrinkage.tracking import bulk, sync

bulk.BEGINNINGS = {{name: bulk.BEGINNINGS[name] for name in {dialects}}}
sync.main()
"""
WAYS = {"many at once": ("sqlite",), "one by one": ()}


@pytest.mark.parametrize("number", range(ROUNDS))
@pytest.mark.parametrize("way", WAYS)
def test_killed_in_the_middle_of_a_delivery(way: str, number: int, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", TRAINING, str(tmp_path), str(RUNS), str(STEPS)], check=True)
    program = SYNC.format(dialects=WAYS[way])
    sync = [sys.executable, "-c", program, "--store", f"sqlite:///{tmp_path}/mlflow.db"]
    with subprocess.Popen(sync, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        # The first files are there; of those that are written many at once, the rows are still to come.
        wait_for(lambda: process.poll() is not None or list(tmp_path.glob("mlartifacts/*")), 120, every=0.005)
        time.sleep(random.random())
        process.kill()
    done = subprocess.run(sync, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        states = connection.execute("SELECT name, status FROM runs").fetchall()
        counts = {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("params", "metrics", "latest_metrics", "datasets", "inputs", "input_tags")
        }
        places = [uri for (uri,) in connection.execute("SELECT artifact_uri FROM runs")]
    assert sorted(states) == sorted((f"run {number}", "FINISHED") for number in range(RUNS))
    assert counts == {
        "params": RUNS,
        "metrics": RUNS * STEPS,
        "latest_metrics": RUNS,
        "datasets": 3,
        "inputs": RUNS,
        "input_tags": RUNS,
    }
    assert all(Path(uri.removeprefix("file://"), "config.yaml").read_text() == "lambd: 3" for uri in places)
    assert not list((tmp_path / "journals").iterdir()) and not list(tmp_path.rglob(".artifact.uploading*"))
