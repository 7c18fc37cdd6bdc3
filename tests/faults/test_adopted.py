"""Processes that are killed around the adoption of a run: what was decided is what comes about, once."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROUNDS, wait_for
from faults import FULL

from shrinkage.tracking.journal import NOT_ADOPTED
from shrinkage.tracking.store import JOURNAL, open_store

pytestmark = pytest.mark.xdist_group("faults")

# A run's record without its training, under the run that `mlflow run` would name. The writer, or this process, or both
# are killed as soon as the decision is there, before anything of it is delivered; or at some time after that.
RUN = """
import os, signal, subprocess, sys, time
from pathlib import Path
from shrinkage.tracking.client import Client

folder, run_id, killed, delay = Path(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])
client = Client(f"sqlite:///{folder}/mlflow.db", "shrinkage", folder)
while not client.is_ready:
    client.hear(60)

def kill():
    found = subprocess.run(["pgrep", "-f", "shrinkage.tracking" + ".writer"], capture_output=True, text=True)
    for pid in map(int, found.stdout.split()):
        if "writer" in killed and os.readlink(f"/proc/{pid}/cwd") == str(folder):
            os.kill(pid, signal.SIGKILL)

ask = client.ask_to_adopt
def ask_and_kill(*question):
    answered = ask(*question)
    if delay == 0:
        kill()
    return answered

client.ask_to_adopt = ask_and_kill
journal = client.begin("a run", {}, params={"lambd": "3.0"}, adopt=run_id, folder=folder / "run")
journal.metrics({"val/loss": 0.5}, 1)
if delay:
    time.sleep(delay)
    kill()
if "training" in killed:
    os.kill(os.getpid(), signal.SIGKILL)
client.end(journal, "FINISHED")
client.wait_for(journal)
"""


def in_folder(folder: Path, *command: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=200)


@pytest.mark.parametrize("number", range(ROUNDS))
@pytest.mark.parametrize("killed", ["training and writer", *(["writer", "training"] if FULL else [])])
def test_killed_between_decision_and_delivery(killed: str, number: int, tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/mlflow.db", "shrinkage", tmp_path / "mlartifacts")
    client = store.client
    running, ended = (client.create_run("0", tags={"mlflow.project.entryPoint": "main"}).info.run_id for _ in range(2))
    client.set_terminated(ended)
    before = client.get_run(ended).to_dictionary()
    processes = []
    for delay, run_id in ((0, running), (random.random(), ended)):
        command = [sys.executable, "-c", RUN, str(tmp_path), run_id, killed, str(delay)]
        processes.append(subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True))
        _, errors = processes[-1].communicate(timeout=100)
        assert processes[-1].returncode == (-signal.SIGKILL if "training" in killed else 0), errors
        assert ("; so this is a run of its own" in errors) == (run_id == ended)
    if client.get_run(running).info.status == "RUNNING":  # as `mlflow run` does when its command has ended
        client.set_terminated(running, "FAILED")
    sync = [sys.executable, "-m", "shrinkage.tracking.sync", "--store", store.uri]
    subprocess.run(sync, cwd=tmp_path, check=True, capture_output=True, timeout=100)
    wait_for(lambda: not list((tmp_path / "journals").glob("*.journal")), 60)
    found = client.search_runs(["0", store.experiment_id], f"tags.`{JOURNAL}` LIKE '%'", order_by=["start_time"])
    adopted, own = found
    assert adopted.info.run_id == running and NOT_ADOPTED not in adopted.data.tags
    assert own.info.run_id != ended and f"MLFLOW_RUN_ID={ended}: " in own.data.tags[NOT_ADOPTED]
    for run in found:
        assert run.info.status == ("KILLED" if "training" in killed else "FINISHED") and run.info.run_name == "a run"
        assert run.data.params["lambd"] == "3.0" and run.data.metrics == {"val/loss": 0.5}
    assert client.get_run(ended).to_dictionary() == before
