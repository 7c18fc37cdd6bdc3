"""Every block of the README, and of the pages that it leads to first, runs as it stands, one after the other.

They share one folder and one store: `mlflow ui` shows the runs made before it, and a sweep goes on where it was begun.
What `RUN` stands for is a run that was interrupted.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, runs, start_train_py, train_py, wait_for
from sklearn.datasets import dump_svmlight_file

from shrinkage.training.ranks import free_port

pytestmark = pytest.mark.xdist_group("readme")

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [README, *((ROOT / "docs" / f"{name}.md").read_text() for name in ("compose", "own_data", "sweeps", "record"))]
EXTENDING = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
A_PENALTY = EXTENDING.partition("## A penalty\n")[2].partition("\n## ")[0]
TEXT = "\n".join([*PAGES, A_PENALTY])
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = [
    command.strip()
    for language, block in BLOCKS
    if language == "sh"
    for line in block.splitlines()
    for command in line.split(" && ")
    if command.strip()
]
COMMANDS = list({shlex.join(shlex.split(command, comments=True)): command for command in reversed(COMMANDS)}.values())[
    ::-1
]
ADDED = re.findall(r"`([\w/]+\.(?:py|yaml))`:\n\n```(?:python|yaml)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
NOT_RUN = {
    "python train.py -m hydra/sweeper=path penalty=l1 data=diabetes": "the line below it runs two, over folds",
    "python train.py penalty=adamw lambd=0.01 data=digits model=mlp  # AdamW on images of digits": "the README has the "
    "same run in another order of words",
    "pip install -e .": "the tests have been installed so, with the extra `test`",
    "pip install -e '.[test]'": "this is how .ci/run begins, which takes the line from the README",
    "python -m pytest -n 4": "these tests are what it runs",
    "python train.py -m 'lambd=range(0,100)' 'seed=range(0,10)' experiment=d2l hydra/launcher=lanes": "its thousand "
    "records take a minute and a half of the processor; benchmarks/sweep.py --thousand runs it",
    "python train.py -m 'lambd=0,0.001,0.01,0.1,1' seed=0,1,2 data=diabetes hydra/launcher=joblib": "test_launchers.py "
    "holds joblib's jobs to the basic launcher's, and the sweep of the line above it is run",
    "python train.py experiment=choose data=libsvm data.path=x.npz data.target=y.npy penalty=l1,elastic_net": "the "
    "line above it is the same of another format, and test_libsvm.py reads both",
    "python train.py experiment=choose data=table data.sparse=true data.max_categories=100000 data.path=visits.csv "
    "data.target=cost penalty=l1": "test_libsvm.py holds sparse tables to dense ones",
    "python train.py experiment=forum_lambdas                              # a sweep with a name, no -m": ""
    "test_conf.py composes it, and the sweep of two lines above it is run",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the reader works, with the file that the README calls houses.csv, and those that the reader writes."""
    place = tmp_path_factory.mktemp("readme")
    draw = np.random.default_rng(0)
    area, rooms = draw.uniform(40, 200, 120), draw.integers(1, 7, 120)
    town = draw.choice(["Aachen", "Bonn", "Köln"], 120)
    price = 2000 * area + 10_000 * rooms + 30_000 * (town == "Köln") + draw.normal(0, 20_000, 120)
    houses = pd.DataFrame({"area": area, "rooms": rooms, "town": town, "price": price})
    houses.to_csv(place / "houses.csv", index=False)
    dump_svmlight_file(draw.binomial(1, 0.2, (60, 30)), draw.normal(size=60), str(place / "rows.svm"), zero_based=False)
    for name, text in ADDED:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text, encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def interrupted(folder: Path) -> str:
    """The id of a run that was stopped by Ctrl-C."""
    known = {run.info.run_id for run in runs(folder / "mlflow.db")} if (folder / "mlflow.db").exists() else set()
    process = start_train_py("trainer.max_epochs=600", cwd=folder, store=folder / "mlflow.db")
    before = set(folder.glob("outputs/*/*/run.json"))
    wait_for(lambda: process.poll() is not None or set(folder.glob("outputs/*/*/run.json")) > before, 120)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    (run,) = [run for run in runs(folder / "mlflow.db") if run.info.run_id not in known]
    assert run.info.status == "KILLED"
    return run.info.run_id


def started(words: list[str], folder: Path) -> subprocess.CompletedProcess:
    if words[:2] == ["python", "train.py"]:
        return train_py(*words[2:], cwd=folder, store=folder / "mlflow.db")
    about = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    if words[0] == "shrinkage":
        words[:1] = ["python", "-m", "shrinkage"]
    return subprocess.run([sys.executable, *words[1:]], cwd=folder, env=about, capture_output=True, text=True)


def mlflow_ui(words: list[str], folder: Path) -> None:
    """`mlflow ui` finds the store in the folder by itself, and answers with a page."""
    port, about = str(free_port()), dict(os.environ)
    about.pop("MLFLOW_TRACKING_URI", None)
    server = subprocess.Popen(
        [Path(sys.executable).parent / words[0], *words[1:]],
        cwd=folder,
        env=about | {"MLFLOW_PORT": port, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(lambda: server.poll() is not None or answers(f"http://127.0.0.1:{port}/health"), 180)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as page:
            assert b"<title>MLflow</title>" in page.read()
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}/ajax-api/2.0/mlflow/experiments/get?experiment_id=1"
        ) as it:
            assert b'"shrinkage"' in it.read()
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except OSError:
        return False


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_does_what_is_said(command: str, folder: Path, request: pytest.FixtureRequest) -> None:
    words = shlex.split(command, comments=True)
    reasons = [reason for known, reason in NOT_RUN.items() if words == shlex.split(known, comments=True)]
    if reasons:
        pytest.skip(reasons[0])
    if words[0] == "mlflow":
        return mlflow_ui(words, folder)
    if any(word.endswith("=RUN") for word in words):
        run = request.getfixturevalue("interrupted")
        words = [re.sub("=RUN$", f"={run}", word) for word in words]
    done = started(words, folder)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stdout + done.stderr
    for words_of_it in SAID.get(command.partition("  #")[0].strip(), ()):
        assert words_of_it in done.stdout + done.stderr
    return None


# What a command must have printed for the sentences around it to be true.
SAID = {
    "python train.py penalty=l1 lambd=0.03": ("above its optimum",),
    "shrinkage lab": ("Open file://",),
    "python train.py experiment=choose data.path=houses.csv data.target=price refit=1se": (
        "Take penalty=",
        "λ.1se",
        "Refitted at λ.1se",
        "The model is models:/houses/1",
    ),
    "python train.py -m penalty=l1,l2,adamw lambd=0,1,3": ("9 of 9 runs FINISHED",),
    "python train.py --help": ("elastic_net", "lambd: 3"),
    "python train.py rerun=RUN": ("The same: all ",),
    "python -m shrinkage --config-dir conf penalty=beyond_one": ("BeyondOne is no sum of L1 and L2",),
}


def test_every_command_is_run_or_has_a_reason() -> None:
    """The reasons are of commands that are there, and .ci/run takes its command from the README."""
    for known in NOT_RUN:
        assert known in COMMANDS
    for known in SAID:
        assert any(command.startswith(known) for command in COMMANDS)
    assert {language for language, _ in BLOCKS} == {"sh", "python", "yaml"}
    assert len(ADDED) == len([language for language, _ in BLOCKS if language != "sh"]) == 2
    taken = re.search(r"sed -n \"/(.*?)/p\" README.md", (ROOT / ".ci" / "run").read_text(encoding="utf-8")).group(1)
    line = "pip install -e '.[test]' && python -m pytest -n 4"
    assert re.search(taken, line) and line in README.splitlines()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(re.findall(r"\[(\w+)\]'", TEXT)) <= set(extras)
