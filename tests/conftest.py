"""What the tests share: configs composed as train.py composes them, and stores of their own."""

import contextlib
import io
import os
import runpy
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from omegaconf import DictConfig, OmegaConf

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"

# Tests run side by side on few cores, on tiny models: a second thread only waits.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def choices(group: str) -> list[str]:
    """The choices of a config group, as Hydra finds them; a file without a class of its own is shared by others."""
    files = sorted((CONF / group).glob("*.yaml"))
    return [file.stem for file in files if "_target_" in file.read_text(encoding="utf-8")]


def config(*overrides: str) -> DictConfig:
    """The config of `python train.py OVERRIDES`, resolved and untracked unless the overrides say otherwise."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        whole = compose("train", ["tracking=none", "progress=false", *overrides], return_hydra_config=True)
    HydraConfig.instance().set_config(whole)
    try:
        tree = OmegaConf.to_container(OmegaConf.masked_copy(whole, [k for k in whole if k != "hydra"]), resolve=False)
        resolved = OmegaConf.create(tree)
        resolved.choices = {group: whole.hydra.runtime.choices[group] for group in tree["choices"]}
        OmegaConf.resolve(resolved)
        return resolved
    finally:
        HydraConfig.instance().cfg = None


def train_py(*arguments: str, cwd: Path, store: Path, **environment: str) -> subprocess.CompletedProcess:
    """`python train.py ARGUMENTS` from another folder, recording into a store of its own."""
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=cwd,
        env=os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{store}"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def start_train_py(*arguments: str, cwd: Path, store: Path) -> subprocess.Popen:
    """The same, and not waited for; in a session of its own, so that its process group can be signalled."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=cwd,
        env=os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{store}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def train_here(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    """The same command line run in this process, untracked: what has been imported need not be again."""
    output, errors, before = io.StringIO(), io.StringIO(), Path.cwd()
    GlobalHydra.instance().clear()
    try:
        os.chdir(cwd)
        with (
            mock.patch.object(sys, "argv", ["train.py", "tracking=none", *arguments]),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(errors),
        ):
            runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
        code = 0
    except SystemExit as end:  # as the interpreter takes it: a message means 1
        code = end.code if isinstance(end.code, int) else 1
        errors.write(end.code if isinstance(end.code, str) else "")
    finally:
        os.chdir(before)
        GlobalHydra.instance().clear()
    return subprocess.CompletedProcess(arguments, code, output.getvalue(), errors.getvalue())


def tracked_here(*arguments: str, cwd: Path, store: Path) -> subprocess.CompletedProcess:
    """The same, recording into a store of its own."""
    return train_here("tracking=mlflow", f"tracking.uri=sqlite:///{store}", "progress=false", *arguments, cwd=cwd)


def runs(store: Path) -> list[Run]:
    """The runs of the experiment, newest first."""
    client = MlflowClient(f"sqlite:///{store}")
    experiment = client.get_experiment_by_name("shrinkage")
    return client.search_runs([experiment.experiment_id], max_results=1000)


def states(store: Path) -> list[tuple[str, bool]]:
    """Each run's status and whether it has a loss by now, oldest first; [] while the store is still being made.

    Read without MLflow, whose client would take part in making it.
    """
    query = """SELECT status, EXISTS(SELECT 1 FROM latest_metrics m WHERE m.run_uuid = r.run_uuid AND key = 'val/loss')
               FROM runs r ORDER BY start_time"""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
            return [(status, bool(loss)) for status, loss in connection.execute(query)]
    except sqlite3.OperationalError:
        return []


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    """Until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A SQLite file that does not exist yet."""
    return tmp_path / "mlflow.db"
