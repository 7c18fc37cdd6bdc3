"""The same sweep through every launcher: the same numbers, and nothing lost where a process dies on the way.

Ray and submitit are in the extras `ray` and `slurm`.
"""

import re
import shutil
import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from conftest import runs, start_train_py, train_py

from shrinkage.errors import InputError
from shrinkage.membership import Membership

MISSING = [name for name in ("joblib", "ray", "submitit") if find_spec(name) is None]
pytestmark = [
    pytest.mark.xdist_group("launchers"),
    pytest.mark.skipif(bool(MISSING), reason=f"they compare all launchers, and {', '.join(MISSING)} is not installed"),
]

SWEEP = ("lambd=0,0.1,1", "seed=0,1", "penalty=l1", "data=diabetes", "data.batch_size=64", "trainer.max_epochs=4")
EXACT = ("joblib", "ray", "submitit_local")
ON_RAY = ("hydra/launcher=lanes", "hydra.launcher.engine=ray", "hydra.launcher.max_lanes=3")


def results(folder: Path) -> dict[str, dict[str, float]]:
    """The metrics that each job has told, by the fingerprint of its config."""
    (sweep,) = folder.glob("multirun/*/*")
    told = Membership.of(sweep).results()
    assert {result["status"] for result in told} == {"FINISHED"}
    return {result["fingerprint"]: result["metrics"] for result in told}


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    folder = tmp_path_factory.mktemp("basic")
    done = train_py("-m", *SWEEP, "tracking=none", cwd=folder, store=folder / "mlflow.db")
    assert done.returncode == 0, done.stderr
    return results(folder)


@pytest.mark.parametrize("launcher", EXACT)
def test_jobs_come_to_the_same_numbers_bit_for_bit(launcher: str, tmp_path: Path, basic: dict) -> None:
    store = tmp_path / "mlflow.db"
    done = train_py("-m", f"hydra/launcher={launcher}", *SWEEP, cwd=tmp_path, store=store)
    assert done.returncode == 0, done.stderr
    assert results(tmp_path) == basic
    children = [run for run in runs(store) if "mlflow.parentRunId" in run.data.tags]
    assert len(children) == len(basic) and {run.info.status for run in runs(store)} == {"FINISHED"}


def test_lanes_on_ray_survive_a_worker_that_is_killed(tmp_path: Path, basic: dict) -> None:
    """One of two tasks loses its process in the middle of its training, and is run again from its last checkpoint."""
    store = tmp_path / "mlflow.db"
    long = [line.replace("max_epochs=4", "max_epochs=400") for line in SWEEP]
    alone = train_py("-m", "hydra/launcher=lanes", *long, "tracking=none", cwd=tmp_path, store=store)
    assert alone.returncode == 0, alone.stderr
    undisturbed = results(tmp_path)
    shutil.rmtree(tmp_path / "multirun")
    sweep = start_train_py("-m", *ON_RAY, *long, cwd=tmp_path, store=store)
    try:
        killed = kill_a_worker(sweep, tmp_path)
        out, errors = sweep.communicate(timeout=240)
    finally:
        sweep.kill()
    assert sweep.returncode == 0, errors
    assert killed and "6 of 6 runs FINISHED" in out
    found = results(tmp_path)
    assert found.keys() == undisturbed.keys()
    for job, metrics in found.items():
        assert metrics == pytest.approx(undisturbed[job], rel=1e-6, abs=1e-9)
    children = [run for run in runs(store) if "mlflow.parentRunId" in run.data.tags]
    assert len(children) == 6 and {run.info.status for run in runs(store)} == {"FINISHED"}


def kill_a_worker(sweep: subprocess.Popen, folder: Path) -> bool:
    """SIGKILL for a process of Ray's that trains, once its runs have begun; whether there was one."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and sweep.poll() is None:
        if len(list(folder.glob("multirun/*/*/*/run.json"))) == 6:
            workers = [
                p for p in psutil.Process(sweep.pid).children(recursive=True) if p.name().startswith("ray::there")
            ]
            if workers:
                workers[0].send_signal(signal.SIGKILL)
                return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("hydra/launcher=ray", "hydra.launcher.address=127.0.0.1:1"), "no cluster of Ray's can be joined there"),
        (("hydra/launcher=lanes", "hydra.launcher.engine=spark"), "must be null, for this process, or ray"),
        (("hydra/launcher=submitit_slurm", "hydra.launcher.slurm_partition=nowhere"), "submitit_slurm|Slurm refuses"),
    ],
)
def test_a_cluster_that_is_not_there_is_refused_in_one_line(
    overrides: tuple[str, str], words: str, tmp_path: Path
) -> None:
    done = train_py("-m", *overrides, *SWEEP, "tracking=none", cwd=tmp_path, store=tmp_path / "mlflow.db")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("shrinkage: ")]
    assert any(word in line for word in words.split("|"))


def test_a_node_that_cannot_do_the_work_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shrinkage import cluster

    real = cluster.versions()
    with (
        cluster.joined(None, tmp_path),
        pytest.raises(InputError, match=r"does not see .*nowhere: a sweep.s folder must"),
    ):
        cluster.check(tmp_path / "nowhere")
    monkeypatch.setattr(cluster, "versions", lambda: real | {"torch": "1.0"})
    with (
        pytest.raises(InputError, match=re.escape(f"has torch {real['torch']} and not 1.0, so its")),
        cluster.joined(None, tmp_path),
    ):
        pass
