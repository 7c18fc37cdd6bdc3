"""Runs, sweeps and lanes that are killed at a random moment: nobody says RUNNING, and what goes on ends bitwise as what
was never interrupted."""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, ROUNDS, states, wait_for
from faults import FULL, Recorded, recorded, run_ids

pytestmark = pytest.mark.xdist_group("kills")

# train.py, with a checkpoint as often as every half second.
OFTEN = f"""
import runpy, sys
import shrinkage.training.checkpoints
shrinkage.training.checkpoints.EVERY_SECONDS = 0.5
sys.argv[0] = "train.py"
runpy.run_path({str(ROOT / "train.py")!r}, run_name="__main__")
"""
COMMANDS = {
    "a run": (
        "penalty=l1",
        "lambd=0.03",
        "optimizer.momentum=0.9",
        "schedule=cosine",
        f"trainer.max_epochs={1500 if FULL else 600}",
    ),
    "jobs": ("-m", "penalty=l1", "lambd=0.03", f"trainer.max_epochs={400 if FULL else 150},4"),
    "joblib": (
        "-m",
        "penalty=l1",
        "lambd=0.03",
        f"trainer.max_epochs={400 if FULL else 150},4",
        "hydra/launcher=joblib",
    ),
    "lanes": (
        "-m",
        "penalty=l1",
        "lambd=0,0.03,0.1",
        "seed=0,1",
        f"trainer.max_epochs={900 if FULL else 400}",
        "hydra/launcher=lanes",
    ),
}
SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}
SOME = [("a run", signal.SIGKILL)]  # in the suite
KILLS = [(what, signum) for what in COMMANDS for signum in SIGNALS] if FULL else SOME


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", OFTEN, *arguments],
        cwd=folder,
        env=os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=200)
    return process.returncode, output, errors


def names(store: Path) -> dict[str, str]:
    """Runs by their names, but for the sweep's own."""
    with contextlib.closing(sqlite3.connect(store)) as connection:
        found = connection.execute("SELECT name, run_uuid FROM runs").fetchall()
    assert len(found) == len(dict(found))  # none was made twice
    return {name: run for name, run in found if "λ=" in name}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Recorded]]:
    """What each command records, by the names of its runs; made when it is asked for."""
    known: dict[str, dict[str, Recorded]] = {}

    class Known(dict):
        def __missing__(self, what: str) -> dict[str, Recorded]:
            if what == "joblib":  # as one after the other
                return self["jobs"]
            folder = tmp_path_factory.mktemp("undisturbed")
            code, _, errors = ended(start(folder, *COMMANDS[what]))
            assert code == 0, errors
            store = folder / "mlflow.db"
            self[what] = {name: recorded(store, folder, run) for name, run in names(store).items()}
            return self[what]

    return Known(known)


@pytest.mark.parametrize("number", range(ROUNDS))
@pytest.mark.parametrize(("what", "signum"), KILLS)
def test_killed_and_taken_up_again(
    what: str, signum: int, number: int, undisturbed: dict[str, dict[str, Recorded]], tmp_path: Path
) -> None:
    expected = undisturbed[what]
    store = tmp_path / "mlflow.db"
    process = start(tmp_path, *COMMANDS[what])
    wait_for(lambda: ("RUNNING", True) in states(store) or list(tmp_path.rglob("stack.ckpt")), 120)
    time.sleep(2 * random.random())
    is_sweep = what != "a run"
    if is_sweep and signum != signal.SIGTERM:  # as a terminal does, and whoever kills all there is
        os.killpg(process.pid, signum)
    else:
        process.send_signal(signum)
    code, output, errors = ended(process)
    assert code == SIGNALS[signum], output + errors
    assert "Traceback" not in errors, errors
    wait_for(lambda: "RUNNING" not in dict(states(store)), 60)
    before = {run: state for run, (state, _) in zip(run_ids(store), states(store), strict=True)}
    assert "KILLED" in before.values()
    whole = {run: recorded(store, tmp_path, run) for run, state in before.items() if state == "FINISHED"}

    if is_sweep:
        code, output, errors = ended(start(tmp_path, *COMMANDS[what], "skip_finished=true"))
    else:
        (run,) = before
        code, output, errors = ended(start(tmp_path, f"resume={run}"))
    assert code == 0 and "Traceback" not in errors, output + errors
    assert set(before) <= set(run_ids(store))
    assert {run: recorded(store, tmp_path, run) for run in whole} == whole  # taken as they are
    assert set(dict(states(store))) == {"FINISHED"}
    found = {name: recorded(store, tmp_path, run) for name, run in names(store).items()}
    assert found.keys() == expected.keys()
    for name, run in found.items():
        if what == "lanes":  # a lane's thinned curve has the points of its killed part besides
            assert run.points.keys() >= expected[name].points.keys() and set(run.points.values()) == {1}
        else:
            run.assert_same(expected[name])
