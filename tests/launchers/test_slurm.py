"""A real Slurm of one node: the numbers of the basic launcher, and jobs that are preempted, cancelled or refused.

Debian's slurm-wlm, the extra `slurm` and root are needed; where they are not there, this is skipped. With
SHRINKAGE_REDUCED=1 sweeps are shorter, and a job is preempted before it has a checkpoint.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import IS_REDUCED, results, runs, start_train_py, train_py, wait_for
from mlflow.tracking import MlflowClient

from shrinkage.training.ranks import free_port

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "scancel", "squeue", "sinfo")
pytestmark = [
    pytest.mark.xdist_group("slurm"),
    pytest.mark.skipif(
        find_spec("submitit") is None or not all(map(shutil.which, PROGRAMS)) or os.geteuid() != 0,
        reason="needs the extra `slurm`, Slurm's programs and root",
    ),
]

COMMON = ("penalty=l1", "data=diabetes", "data.batch_size=64")
ON_SLURM = ("-m", "hydra/launcher=submitit_slurm", "hydra.launcher.mem_gb=1")


@pytest.fixture(scope="module", autouse=True)
def slurm() -> Iterator[None]:
    """Without accounts and without authentication, on this machine alone."""
    host, cores = socket.gethostname().partition(".")[0], os.cpu_count()
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        for part in ("state", "spool"):
            (folder / part).mkdir()
        settings = {
            "ClusterName": "test",
            "SlurmctldHost": f"{host}(127.0.0.1)",
            "SlurmctldPort": free_port(),
            "SlurmdPort": free_port(),
            "SlurmUser": "root",
            "AuthType": "auth/none",
            "AuthInfo": "cred_expire=10",  # so long, not two minutes, a job waits after it was preempted
            "SchedulerParameters": "sched_interval=2",
            "CredType": "cred/none",
            "StateSaveLocation": folder / "state",
            "SlurmdSpoolDir": folder / "spool",
            "SlurmctldPidFile": folder / "ctld.pid",
            "SlurmdPidFile": folder / "d.pid",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core",
            "ReturnToService": 2,
            "MpiDefault": "none",
            "SwitchType": "switch/none",
        }
        lines = [f"{key}={value}" for key, value in settings.items()]
        lines.append(f"NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=4096 State=UNKNOWN")
        lines.append(f"PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP")
        (folder / "slurm.conf").write_text("\n".join(lines) + "\n")
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        with (folder / "log").open("w") as log:
            processes = [
                subprocess.Popen([program, "-D", "-f", folder / "slurm.conf"], stdout=log, stderr=log)
                for program in ("slurmctld", "slurmd")
            ]
            try:
                wait_for(lambda: "idle" in said("sinfo", "--noheader", "--format=%T"), 60)
                yield
            finally:
                subprocess.run(["scancel", "--full", "--user=root"])
                time.sleep(1)
                for process in reversed(processes):
                    process.terminate()
                    process.wait(60)


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def test_jobs_come_to_the_same_numbers_bit_for_bit(tmp_path: Path) -> None:
    jobs = ("lambd=0,0.1", f"seed={'0' if IS_REDUCED else '0,1'}", "trainer.max_epochs=4", *COMMON)
    found = {}
    for launcher in (("-m",), ON_SLURM):
        folder = tmp_path / str(len(launcher))
        folder.mkdir()
        done = train_py(*launcher, *jobs, cwd=folder, store=folder / "mlflow.db")
        assert done.returncode == 0, done.stderr
        found[launcher] = results(folder)
        assert {run.info.status for run in runs(folder / "mlflow.db")} == {"FINISHED"}
    assert found["-m",] == found[ON_SLURM] and len(found[ON_SLURM]) == (2 if IS_REDUCED else 4)


def long(folder: Path, epochs: int) -> subprocess.Popen:
    """A sweep of two jobs, both of which train."""
    jobs = ("lambd=0,0.1", f"trainer.max_epochs={epochs}", *COMMON)
    sweep = start_train_py(*ON_SLURM, *jobs, cwd=folder, store=folder / "mlflow.db")
    wait_for(lambda: sweep.poll() is not None or len(list(folder.glob("multirun/*/*/*/run.json"))) == 2, 120)
    assert sweep.poll() is None, sweep.communicate()
    return sweep


def test_a_job_that_is_preempted_goes_on_in_its_run(tmp_path: Path) -> None:
    epochs = 600 if IS_REDUCED else 6000
    sweep = long(tmp_path, epochs)
    try:
        if not IS_REDUCED:
            wait_for(lambda: len(list(tmp_path.glob("multirun/*/*/*/checkpoints/last.ckpt"))) == 2, 60)
        job = said("squeue", "--noheader", "--format=%i").split()[0]
        subprocess.run(["scancel", "--signal=USR2", job], check=True)
        wait_for(lambda: int(said("squeue", "--noheader", f"--job={job}", "--Format=RestartCnt") or 0) == 1, 60)
        out, errors = sweep.communicate(timeout=400)
    finally:
        sweep.kill()
    assert sweep.returncode == 0 and "2 of 2 runs FINISHED" in out, errors
    results(tmp_path)
    children = [run for run in runs(tmp_path / "mlflow.db") if "mlflow.parentRunId" in run.data.tags]
    assert [run.info.status for run in children] == ["FINISHED"] * 2
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    for run in children:
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "val/loss")]
        assert steps == list(range(epochs + 1))


def test_ctrl_c_cancels_the_jobs(tmp_path: Path) -> None:
    sweep = long(tmp_path, 1_000_000)
    try:
        os.killpg(sweep.pid, signal.SIGINT)
        out, errors = sweep.communicate(timeout=60)
    finally:
        sweep.kill()
    assert sweep.returncode == 130 and "resume_sweep=" in out and "Traceback" not in errors, errors
    assert {run.info.status for run in runs(tmp_path / "mlflow.db")} == {"KILLED"}
    wait_for(lambda: not said("squeue", "--noheader"), 30)


def test_a_partition_that_is_not_there_is_refused_in_one_line(tmp_path: Path) -> None:
    words = ("lambd=0,0.1", "hydra.launcher.slurm_partition=nowhere", "tracking=none", *COMMON)
    done = train_py(*ON_SLURM, *words, cwd=tmp_path, store=tmp_path / "mlflow.db")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("shrinkage: ")]
    assert "Slurm takes no jobs" in line and "invalid partition specified: nowhere" in line
