"""The same sweep through every launcher: the same numbers, and nothing lost where a process dies on the way.

Ray and submitit are in the extras `ray` and `slurm`.
"""

import os
import random
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from conftest import ROUNDS, runs, start_train_py, train_py, wait_for

from shrinkage.errors import InputError
from shrinkage.membership import Membership
from shrinkage.ranks import free_port

MISSING = [name for name in ("joblib", "ray", "submitit") if find_spec(name) is None]
pytestmark = [
    pytest.mark.xdist_group("launchers"),
    pytest.mark.skipif(bool(MISSING), reason=f"they compare all launchers, and {', '.join(MISSING)} is not installed"),
]

COMMON = ("penalty=l1", "data=diabetes", "data.batch_size=64")
LAMBDAS = ",".join(str(number / 10) for number in range(11))
SWEEP = (f"lambd={LAMBDAS}", "seed=0,1,2", "trainer.max_epochs=4", *COMMON)
# So long that the head of a cluster is missed, which takes a quarter of a minute, before all have ended.
LONG = ("lambd=0,0.1,1", "seed=0,1", "trainer.max_epochs=5000", *COMMON)
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
    assert_recorded(store, len(basic))


def test_lanes_on_ray_come_to_the_same_numbers(tmp_path: Path, basic: dict) -> None:
    store = tmp_path / "mlflow.db"
    done = train_py("-m", *ON_RAY, *SWEEP, cwd=tmp_path, store=store)
    assert done.returncode == 0, done.stderr
    assert_same(results(tmp_path), basic)
    assert_recorded(store, len(basic))


def test_a_sweep_by_a_client_of_a_cluster(tmp_path: Path, basic: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which asks for a token."""
    token = tmp_path / "token"
    token.write_text("0123456789abcdef" * 4)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    store = tmp_path / "mlflow.db"
    port, client = free_port(), free_port()
    ray = [str(Path(sys.executable).parent / "ray")]
    head = [
        *ray,
        "start",
        "--head",
        f"--port={port}",
        f"--ray-client-server-port={client}",
        "--node-ip-address=127.0.0.1",
    ]
    subprocess.run([*head, "--include-dashboard=false", "--num-cpus=2"], check=True, capture_output=True)
    try:
        for number, address in enumerate((f"127.0.0.1:{port}", f"ray://127.0.0.1:{client}")):
            folder = tmp_path / str(number)
            folder.mkdir()
            done = train_py("-m", *ON_RAY, f"hydra.launcher.address={address}", *SWEEP, cwd=folder, store=store)
            assert done.returncode == 0, done.stderr
            assert_same(results(folder), basic)
            assert_recorded(store, (1 + number) * len(basic))
    finally:
        subprocess.run([*ray, "stop", "--force"], check=True, capture_output=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    done = train_py("-m", "hydra/launcher=lanes", *LONG, "tracking=none", cwd=folder, store=folder / "mlflow.db")
    assert done.returncode == 0, done.stderr
    return results(folder)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_lanes_on_ray_survive_a_worker_that_is_killed(number: int, tmp_path: Path, undisturbed: dict) -> None:
    """One of two tasks loses its process in the middle of its training, and is run again from its last checkpoint."""
    store = tmp_path / "mlflow.db"
    code, out, errors = struck("ray::there", tmp_path, store)
    assert code == 0, errors
    assert "6 of 6 runs FINISHED" in out
    assert_same(results(tmp_path), undisturbed)
    assert_recorded(store, 6)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_sweep_goes_on_after_the_head_of_its_cluster_was_killed(
    number: int, tmp_path: Path, undisturbed: dict
) -> None:
    store = tmp_path / "mlflow.db"
    code, out, errors = struck("gcs_server", tmp_path, store)
    assert code != 0 and "the head of the Ray cluster has died" in errors and "Traceback" not in errors
    assert "RUNNING" not in {run.info.status for run in runs(store)}
    words = re.search(r"resume_sweep=\S+", out).group()
    done = train_py("-m", *ON_RAY, *LONG, words, cwd=tmp_path, store=store)
    assert done.returncode == 0, done.stderr
    assert_same(results(tmp_path), undisturbed)
    assert_recorded(store, 6)


def struck(name: str, folder: Path, store: Path) -> tuple[int, str, str]:
    """How the long sweep ends, one of whose processes of this name is killed, and what it prints."""
    sweep = start_train_py("-m", *ON_RAY, *LONG, cwd=folder, store=store)
    try:
        assert kill(sweep, name, folder)
        out, errors = sweep.communicate(timeout=240)
    finally:
        sweep.kill()
    return sweep.returncode, out, errors


def kill(sweep: subprocess.Popen, name: str, folder: Path) -> bool:
    """SIGKILL for a process of Ray's of this name, a moment after the runs have begun; whether there was one."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and sweep.poll() is None:
        if len(list(folder.glob("multirun/*/*/*/run.json"))) == 6:
            time.sleep(random.random() / 2)
            found = [p for p in psutil.Process(sweep.pid).children(recursive=True) if p.name().startswith(name)]
            if found:
                found[0].send_signal(signal.SIGKILL)
                return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("launcher", [("hydra/launcher=ray",), ON_RAY, ("hydra/launcher=submitit_local",)])
def test_ctrl_c_ends_runs_and_processes(launcher: tuple[str, ...], tmp_path: Path) -> None:
    store = tmp_path / "mlflow.db"
    sweep = start_train_py("-m", *launcher, *LONG, "trainer.max_epochs=1000000", cwd=tmp_path, store=store)
    try:
        wait_for(lambda: bool(list(tmp_path.glob("multirun/*/*/*/run.json"))), 120)
        time.sleep(1)
        processes = psutil.Process(sweep.pid).children(recursive=True)
        os.killpg(sweep.pid, signal.SIGINT)  # as a terminal does
        out, errors = sweep.communicate(timeout=60)
    finally:
        sweep.kill()
    assert sweep.returncode == 130 and "Traceback" not in errors, errors
    assert "resume_sweep=" in out
    assert {run.info.status for run in runs(store)} == {"KILLED"}
    assert not psutil.wait_procs(processes, timeout=30)[1]


def assert_same(found: dict[str, dict[str, float]], expected: dict[str, dict[str, float]]) -> None:
    """Of lanes, which round otherwise where others share their training."""

    def whole(metrics: dict[str, float]) -> dict[str, float]:
        """With 1 − r2 for r2: that share is what is computed, and its last digits are what is left of an r2 near 0."""
        return {name: 1 - value if name.endswith("r2") else value for name, value in metrics.items()}

    assert found.keys() == expected.keys()
    for job, metrics in found.items():
        assert whole(metrics) == pytest.approx(whole(expected[job]), rel=1e-6, abs=1e-9)


def assert_recorded(store: Path, jobs: int) -> None:
    children = [run for run in runs(store) if "mlflow.parentRunId" in run.data.tags]
    assert len(children) == jobs and {run.info.status for run in runs(store)} == {"FINISHED"}


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
