"""What the tests share: configs composed as train.py composes them, and stores of their own."""

import contextlib
import functools
import gzip
import hashlib
import io
import json
import os
import runpy
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, TextIO
from unittest import mock

import mlflow
import numpy as np
import pytest
import torch
from forked import Writer
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from omegaconf import DictConfig, OmegaConf
from threadpoolctl import threadpool_limits

from shrinkage.runs.membership import Membership
from shrinkage.tracking import client as clients
from shrinkage.training.run import Training

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"

# How often each fault is tried: `SHRINKAGE_ROUNDS=20 python -m pytest … -n 0 -s` makes twenty rounds, at full length.
ROUNDS = int(os.environ.get("SHRINKAGE_ROUNDS", "1"))

# Whether the tests of launchers take their short form: `SHRINKAGE_REDUCED=1 python -m pytest …`.
IS_REDUCED = os.environ.get("SHRINKAGE_REDUCED") == "1"

# Tests run side by side on few cores, on tiny models: a second thread only waits, here and in what they start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)
threadpool_limits(1)


@functools.cache
def choices(group: str) -> list[str]:
    """The choices of a config group that name a class once Hydra has composed them; the others are shared by these."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        names = GlobalHydra.instance().config_loader().get_group_options(group)
        return [name for name in names if "_target_" in compose("train", [f"{group}={name}"])[group]]


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
    """`python train.py ARGUMENTS` from another folder, recording into a store of its own; in a fork of `warm.py`."""
    about = {
        "arguments": arguments,
        "cwd": str(cwd),
        "environment": os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{store}"} | environment,
    }
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        code = forked(about, output.fileno(), errors.fileno())
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(arguments, code, output.read().decode(), errors.read().decode())


def forked(about: dict, *descriptors: int) -> int:
    """The exit code of the command, which is killed after ten minutes."""
    requests, answers, _ = warm()
    socket.send_fds(requests, [json.dumps(about).encode()], descriptors)
    child = int(answers.readline())
    try:
        return int(answers.readline())
    except TimeoutError:
        os.kill(child, signal.SIGKILL)
        warm.cache_clear()  # this one would still have the answer to tell
        raise


@functools.cache
def warm() -> tuple[socket.socket, io.BufferedReader, socket.socket]:
    """The process of `warm.py`, which ends with this one; started when it is first needed. With it the socket of
    `forked.Writer`."""
    ours, theirs = socket.socketpair()
    forker, requests = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    passed = [theirs.fileno(), forker.fileno(), requests.fileno()]
    command = [sys.executable, str(Path(__file__).with_name("warm.py")), *map(str, passed)]
    subprocess.Popen(command, pass_fds=passed, stdin=subprocess.DEVNULL)
    theirs.close()
    requests.close()
    ours.settimeout(600)
    return ours, ours.makefile("rb"), forker


def start_writer(
    command: list[str], *, stderr: TextIO, env: dict[str, str], **arguments: object
) -> Writer | subprocess.Popen:
    """The writer of a run in this process: a fork, but where faults look for its process."""
    if "faults/" in os.environ["PYTEST_CURRENT_TEST"]:
        return subprocess.Popen(command, stderr=stderr, env=env, **arguments)
    return Writer(warm()[2], stderr, env)


clients.subprocess = SimpleNamespace(PIPE=subprocess.PIPE, Popen=start_writer)


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


def train_here(*arguments: str, cwd: Path, script: Path = ROOT / "train.py") -> subprocess.CompletedProcess:
    """The same command line run in this process, untracked: what has been imported need not be again.

    script: somebody's own train.py.
    """
    flags = [word for word in arguments if word.startswith("-")]  # of Hydra's, which stand before overrides
    words = [*flags, "tracking=none", *(word for word in arguments if word not in flags)]
    output, errors, before = io.StringIO(), io.StringIO(), Path.cwd()
    GlobalHydra.instance().clear()
    try:
        os.chdir(cwd)
        with (
            mock.patch.object(sys, "argv", ["train.py", *words]),
            mock.patch.dict(os.environ),  # a sweep names itself there, for its jobs, and no later test is one of them
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(errors),
        ):
            runpy.run_path(str(script), run_name="__main__")
        code = 0
    except SystemExit as end:  # as the interpreter takes it: a message means 1
        code = end.code if isinstance(end.code, int) else 1
        errors.write(end.code if isinstance(end.code, str) else "")
    finally:
        os.chdir(before)
        GlobalHydra.instance().clear()
    return subprocess.CompletedProcess(arguments, code, output.getvalue(), errors.getvalue())


def tracked_here(
    *arguments: str, cwd: Path, store: Path, script: Path = ROOT / "train.py"
) -> subprocess.CompletedProcess:
    """The same, recording into a store of its own."""
    recorded = ("tracking=mlflow", f"tracking.uri=sqlite:///{store}", "progress=false")
    return train_here(*recorded, *arguments, cwd=cwd, script=script)


def gradients(training: Training, optimizer: torch.optim.Optimizer, number: int) -> Iterator[None]:
    """Gradients of an untrained run's data loss, so many, each to be followed by a step; a scheduler's follows that."""
    module = training.module
    training.datamodule.trainer = training.trainer  # which knows the precision
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: module.schedule(step, number))
    epoch, step = 0, 0
    while True:
        loader = training.datamodule.train_dataloader()
        loader.sampler.set_epoch(epoch)
        for x, y in loader:
            if step == number:
                return
            optimizer.zero_grad()
            x, y = training.trainer.precision_plugin.convert_input((x, y))
            module.task.loss(module.model(x), y).backward()
            yield
            scheduler.step()
            step += 1
        epoch += 1


def runs(store: Path) -> list[Run]:
    """The runs of the experiment, newest first."""
    client = MlflowClient(f"sqlite:///{store}")
    experiment = client.get_experiment_by_name("shrinkage")
    return client.search_runs([experiment.experiment_id], max_results=1000)


def family(store: Path) -> tuple[Run, list[Run]]:
    """The parent of the one sweep in a store, and its children."""
    everyone = runs(store)
    (parent,) = [run for run in everyone if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in everyone if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} <= {parent.info.run_id}
    return parent, children


def statuses(children: list[Run]) -> dict[str, int]:
    """How many runs have each status."""
    found = [run.info.status for run in children]
    return {status: found.count(status) for status in set(found)}


def results(folder: Path) -> dict[str, dict[str, float]]:
    """What each job of the one sweep that was started here has told, by the fingerprint of its config; all FINISHED."""
    (sweep,) = folder.glob("multirun/*/*")
    told = Membership.of(sweep).results()
    assert {result["status"] for result in told} == {"FINISHED"}
    return {result["fingerprint"]: result["metrics"] for result in told}


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


def wait_for(condition: Callable[[], bool], seconds: float, every: float = 0.2) -> None:
    """Until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(every)


def in_openmls_format(folder: Path, data_id: int, pixels: np.ndarray, labels: np.ndarray) -> None:
    """Files as scikit-learn keeps what it has fetched from openml.org: JSON and ARFF, gzipped."""
    root = folder / "openml" / "openml.org"
    names = [f"pixel{number}" for number in range(pixels.shape[1])]
    rows = [",".join(map(str, [*x, y])) for x, y in zip(pixels, labels, strict=True)]
    columns = [*(f"@ATTRIBUTE {name} REAL" for name in names), "@ATTRIBUTE class {0,1,2,3,4,5,6,7,8,9}"]
    arff = "\n".join(["@RELATION images", *columns, "@DATA", *rows]) + "\n"
    about = {
        **{
            "id": str(data_id),
            "name": "images",
            "version": "1",
            "format": "ARFF",
            "status": "active",
            "file_id": str(data_id),
        },
        **{
            "default_target_attribute": "class",
            "description": "",
            "md5_checksum": hashlib.md5(arff.encode()).hexdigest(),
        },
        "url": f"https://api.openml.org/data/v1/download/{data_id}/images.arff",
    }
    kinds = [{"name": name, "data_type": "numeric", "is_target": "false"} for name in names]
    kinds.append({"name": "class", "data_type": "nominal", "is_target": "true"})
    for number, kind in enumerate(kinds):
        kind |= {"index": str(number)}
        kind |= {"is_ignore": "false", "is_row_identifier": "false", "number_of_missing_values": "0"}
    qualities = {"NumberOfInstances": len(rows), "NumberOfFeatures": len(kinds), "NumberOfMissingValues": 0}
    qualities |= {"NumberOfInstancesWithMissingValues": 0, "NumberOfClasses": 10}
    files = {
        f"api/v1/json/data/{data_id}.gz": {"data_set_description": about},
        f"api/v1/json/data/features/{data_id}.gz": {"data_features": {"feature": kinds}},
        f"api/v1/json/data/qualities/{data_id}.gz": {
            "data_qualities": {"quality": [{"name": name, "value": str(value)} for name, value in qualities.items()]}
        },
    }
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(json.dumps(content).encode()))
    path = root / f"data/v1/download/{data_id}/images.arff.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(arff.encode()))


@contextlib.contextmanager
def mlflow_at(uri: str | None) -> Iterator[None]:
    """MLflow in this process looks at this store. Its own setter tells the environment too, so that what a later test
    starts would look there as well."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


@pytest.fixture(autouse=True)
def store_of_nobody() -> Iterator[None]:
    """What a test, or the code in it, has told MLflow of its store is forgotten with it."""
    with mlflow_at(os.environ.get("MLFLOW_TRACKING_URI")):
        yield


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A SQLite file that does not exist yet."""
    return tmp_path / "mlflow.db"


def has_postgresql() -> bool:
    """Whether PostgreSQL's programs are here, and a driver."""
    programs = shutil.which("initdb") or list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return bool(programs) and find_spec("psycopg") is not None


def chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("SHRINKAGE_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """Chromium, started once for all tests of the group `browser`, which look at pages as a person does."""
    program = chromium()
    if "SHRINKAGE_CHROMIUM" not in os.environ:
        pytest.importorskip("playwright", reason="playwright is not installed: pip install -e '.[browser]'")
        if program is None:
            pytest.skip("there is no Chromium: apt-get install chromium, or name one in SHRINKAGE_CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


def found_by_axe(page: "Page") -> list[str]:
    """What axe-core finds on a page that keeps somebody from reading or using it: each rule with the first place."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install -e '.[browser]'")
    found = axe.Axe().run(page).response["violations"]
    return [f"{it['id']}: {it['nodes'][0]['html']}" for it in found if it["impact"] in ("serious", "critical")]
