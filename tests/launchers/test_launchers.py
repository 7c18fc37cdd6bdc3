"""The same sweep through every launcher: the same numbers, and nothing lost where a process dies on the way.

Ray and submitit are in the extras `ray` and `slurm`; where one is not installed, its tests are skipped, and no others.
SHRINKAGE_REDUCED=1 leaves out clusters that are started beforehand and what is killed, and takes shorter sweeps.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from conftest import IS_REDUCED, ROOT, ROUNDS, results, runs, start_train_py, train_py, wait_for

from shrinkage.errors import InputError
from shrinkage.training.ranks import free_port

pytestmark = pytest.mark.xdist_group("launchers")
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install -e '.[ray]'")
needs_submitit = pytest.mark.skipif(
    find_spec("submitit") is None, reason="submitit is not installed: pip install -e '.[slurm]'"
)
full = pytest.mark.skipif(IS_REDUCED, reason="SHRINKAGE_REDUCED=1 leaves it out")

COMMON = ("penalty=l1", "data=diabetes", "data.batch_size=64")
LAMBDAS = ",".join(str(number / 10) for number in range(2 if IS_REDUCED else 11))
SWEEP = (f"lambd={LAMBDAS}", f"seed={'0' if IS_REDUCED else '0,1,2'}", "trainer.max_epochs=4", *COMMON)
# So long that the head of a cluster is missed, which takes a quarter of a minute, before all have ended.
LONG = ("lambd=0,0.1,1", "seed=0,1", "trainer.max_epochs=5000", *COMMON)
EXACT = (
    "joblib",
    pytest.param("ray", marks=(needs_ray, full)),  # in short its lanes have their numbers compared, its jobs are ended
    pytest.param("submitit_local", marks=(needs_submitit, full)),  # in short Slurm's own tests run the same code
)
ON_RAY = ("hydra/launcher=lanes", "hydra.launcher.engine=ray", "hydra.launcher.max_lanes=3")


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


@needs_ray
def test_lanes_on_ray_come_to_the_same_numbers(tmp_path: Path, basic: dict) -> None:
    store = tmp_path / "mlflow.db"
    done = train_py("-m", *ON_RAY, *SWEEP, cwd=tmp_path, store=store)
    assert done.returncode == 0, done.stderr
    assert_same(results(tmp_path), basic)
    assert_recorded(store, len(basic))


RAY = str(Path(sys.executable).parent / "ray")


@contextmanager
def cluster_of(folder: Path, *options: str) -> Iterator[str]:
    """The address of a cluster that asks for a token, with one node so far. Ray has one cluster on a machine."""
    (folder / "token").write_text("0123456789abcdef" * 4)
    address = f"127.0.0.1:{free_port()}"
    command = [RAY, "start", "--head", f"--port={address.partition(':')[2]}", "--node-ip-address=127.0.0.1", *options]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(folder / "token"))
        subprocess.run([*command, "--include-dashboard=false"], check=True, capture_output=True)
        try:
            yield address
        finally:
            subprocess.run([RAY, "stop", "--force"], check=True, capture_output=True)


@contextmanager
def another_node(address: str, src: Path) -> Iterator[subprocess.Popen]:
    """As on another machine, by an address of its own; its processes import the package from this folder."""
    command = [RAY, "start", f"--address={address}", "--node-ip-address=127.0.0.2", "--num-cpus=1", "--block"]
    node = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(src)}, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: node.poll() is not None or bool(raylets(node)), 60)
        time.sleep(3)  # until the head knows it
        yield node
    finally:
        node.terminate()
        node.wait(60)


def raylets(node: subprocess.Popen) -> list[psutil.Process]:
    return [process for process in psutil.Process(node.pid).children() if process.name() == "raylet"]


@full
@needs_ray
def test_a_sweep_by_a_client_of_a_cluster(tmp_path: Path, basic: dict) -> None:
    store, client = tmp_path / "mlflow.db", free_port()
    with cluster_of(tmp_path, f"--ray-client-server-port={client}", "--num-cpus=2") as address:
        for number, asked in enumerate((address, f"ray://127.0.0.1:{client}")):
            folder = tmp_path / str(number)
            folder.mkdir()
            done = train_py("-m", *ON_RAY, f"hydra.launcher.address={asked}", *SWEEP, cwd=folder, store=store)
            assert done.returncode == 0, done.stderr
            assert_same(results(folder), basic)
            assert_recorded(store, (1 + number) * len(basic))


@full
@needs_ray
def test_a_cluster_of_two_nodes(tmp_path: Path, undisturbed: dict) -> None:
    """One of another version is refused by name; one that dies in the middle leaves its work to the other."""
    store, other = tmp_path / "mlflow.db", tmp_path / "other"
    shutil.copytree(ROOT / "src", other)
    with (other / "shrinkage" / "training" / "norms.py").open("a") as file:
        file.write("# another version\n")
    with cluster_of(tmp_path, "--num-cpus=1") as address:
        on_both = ("-m", *ON_RAY, f"hydra.launcher.address={address}", *LONG)
        with another_node(address, other):
            refused = train_py(*on_both, cwd=tmp_path, store=store)
        (line,) = [line for line in refused.stderr.splitlines() if line.startswith("shrinkage: ")]
        assert refused.returncode == 1 and re.search(
            r"the node \S+ \(\S+:\d+\) has shrinkage \S+ \(\w{8}\) and not \S+ \(\w{8}\), so its", line
        )
        shutil.rmtree(tmp_path / "multirun")
        with another_node(address, ROOT / "src") as node:
            sweep = start_train_py(*on_both, cwd=tmp_path, store=store)
            try:
                wait_for(lambda: len(list(tmp_path.glob("multirun/*/*/*/run.json"))) == 6, 120)
                for process in raylets(node):
                    process.kill()
                out, errors = sweep.communicate(timeout=280)
            finally:
                sweep.kill()
    assert sweep.returncode == 0 and "6 of 6 runs FINISHED" in out, errors
    assert_same(results(tmp_path), undisturbed)
    # The refused sweep is a run too, which had no jobs.
    children = [run for run in runs(store) if "mlflow.parentRunId" in run.data.tags]
    assert len(children) == 6 and {run.info.status for run in children} == {"FINISHED"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    done = train_py("-m", "hydra/launcher=lanes", *LONG, "tracking=none", cwd=folder, store=folder / "mlflow.db")
    assert done.returncode == 0, done.stderr
    return results(folder)


@full
@needs_ray
@pytest.mark.parametrize("number", range(ROUNDS))
def test_lanes_on_ray_survive_a_worker_that_is_killed(number: int, tmp_path: Path, undisturbed: dict) -> None:
    """One of two tasks loses its process in the middle of its training, and is run again from its last checkpoint."""
    store = tmp_path / "mlflow.db"
    code, out, errors = struck("ray::", tmp_path, store)
    assert code == 0, errors
    assert "6 of 6 runs FINISHED" in out
    assert_same(results(tmp_path), undisturbed)
    assert_recorded(store, 6)


@full
@needs_ray
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
            found = [p for p in psutil.Process(sweep.pid).children(recursive=True) if is_at_work(p.name(), name)]
            if found:
                found[0].send_signal(signal.SIGKILL)
                return True
        time.sleep(0.05)
    return False


def is_at_work(process: str, name: str) -> bool:
    """Whether a process has a name that begins so, and is none of Ray's workers that wait for a task."""
    return process.startswith(name) and not process.startswith("ray::IDLE")


@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param(("hydra/launcher=ray",), marks=needs_ray),
        pytest.param(ON_RAY, marks=(needs_ray, full)),
        pytest.param(("hydra/launcher=submitit_local",), marks=(needs_submitit, full)),
    ],
)
def test_ctrl_c_ends_runs_and_processes(launcher: tuple[str, ...], tmp_path: Path) -> None:
    store = tmp_path / "mlflow.db"
    jobs = ("lambd=0,0.1", *COMMON) if IS_REDUCED else LONG
    sweep = start_train_py("-m", *launcher, *jobs, "trainer.max_epochs=1000000", cwd=tmp_path, store=store)
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
        pytest.param(
            ("hydra/launcher=ray", "hydra.launcher.address=127.0.0.1:1"),
            "no cluster of Ray's can be joined there",
            marks=needs_ray,
        ),
        pytest.param(
            ("hydra/launcher=ray", "hydra.launcher.num_cpus=4096"),
            "num_cpus=4096: this machine has",
            marks=(needs_ray, full),
        ),
        (("hydra/launcher=lanes", "hydra.launcher.engine=spark"), "must be null, for this process, or ray"),
        pytest.param(
            ("hydra/launcher=submitit_slurm",),
            'hydra/launcher=submitit_slurm: Could not detect "srun"',
            marks=(needs_submitit, pytest.mark.skipif(bool(shutil.which("srun")), reason="there is a Slurm")),
        ),
    ],
)
def test_a_cluster_that_is_not_there_is_refused_in_one_line(
    overrides: tuple[str, str], words: str, tmp_path: Path
) -> None:
    done = train_py("-m", *overrides, *SWEEP, "tracking=none", cwd=tmp_path, store=tmp_path / "mlflow.db")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("shrinkage: ")]
    assert words in line


@needs_ray
def test_a_node_that_does_not_see_the_sweeps_folder_is_named(tmp_path: Path) -> None:
    from shrinkage.sweeps import cluster

    with (
        cluster.joined(None, tmp_path, {}),
        pytest.raises(InputError, match=r"does not see .*nowhere: a sweep.s folder must"),
    ):
        cluster.check(tmp_path / "nowhere")
