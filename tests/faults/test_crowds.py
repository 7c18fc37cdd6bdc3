"""Many processes at once on one store, its first use among them: none fails, nothing is lost, nothing comes twice."""

import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROUNDS
from faults import FULL

pytestmark = pytest.mark.xdist_group("faults")

MANY = 16 if FULL else 3
STEPS = 40

# A run's record without its training: what is tried is the store.
WRITER = """
import sys
from pathlib import Path
from shrinkage.tracking.client import connect

folder, number, steps = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
client = connect(f"sqlite:///{folder}/mlflow.db", "shrinkage", folder, 0, "auto")
client.wait_until_ready()
journal = client.begin(f"run {number}", {}, folder=folder / "runs" / str(number))
journal.params({"number": number})
journal.append("dataset", name="d2l", digest="1", context="training", source={}, profile={})
for step in range(steps):
    journal.metrics({"val/loss": number + step / steps, "train/loss": step}, step)
client.end(journal, "FINISHED")
assert client.wait_for(journal)
"""


def processes(folder: Path, numbers: range) -> list[subprocess.Popen]:
    commands = [[sys.executable, "-c", WRITER, str(folder), str(number), str(STEPS)] for number in numbers]
    store = f"sqlite:///{folder}/mlflow.db"
    for module in ("shrinkage.tracking.sync", "shrinkage.doctor"):
        commands.append([sys.executable, "-m", module, "--store", store])
    return [
        subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for command in commands
    ]


@pytest.mark.parametrize("number", range(min(ROUNDS, 10)))
def test_many_first_uses_then_many_more_beside_a_doctor_and_a_sync(number: int, tmp_path: Path) -> None:
    for numbers in (range(MANY), range(MANY, 2 * MANY)):
        for process in processes(tmp_path, numbers):
            output, _ = process.communicate(timeout=300)
            is_doctor = "doctor" in " ".join(process.args)
            assert process.returncode in ((0, 1) if is_doctor else (0,)), output
            assert "Traceback" not in output, output
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        states = connection.execute("SELECT name, status FROM runs").fetchall()
        points = connection.execute("SELECT count(*), count(DISTINCT run_uuid) FROM metrics").fetchone()
        (datasets,) = connection.execute("SELECT count(*) FROM datasets").fetchone()
        (inputs,) = connection.execute("SELECT count(*) FROM inputs WHERE source_type = 'DATASET'").fetchone()
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    assert sorted(states) == sorted((f"run {number}", "FINISHED") for number in range(2 * MANY))
    assert points == (2 * MANY * 2 * STEPS, 2 * MANY)
    assert (datasets, inputs, mode) == (1, 2 * MANY, "wal")
    assert not list((tmp_path / "journals").iterdir())
