"""The wheel: what it brings with it is enough, in a folder that has nothing of the repository."""

import os
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, wait_for
from mlflow.tracking import MlflowClient

from shrinkage.__main__ import COMMANDS

pytestmark = pytest.mark.xdist_group("wheel")
Command = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example of a project."""
    return shutil.copytree(ROOT / "examples" / "own_project", tmp_path_factory.mktemp("own") / "own_project")


PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this clone."""
    root = tmp_path_factory.mktemp("wheel")
    subprocess.run([*PIP, "wheel", "--no-deps", "--wheel-dir", root, ROOT], check=True)
    (built,) = root.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def command(project: Path, wheel: Path) -> Command:
    """The command `shrinkage` of an environment with the wheel and the packages of this one, but not its shrinkage."""
    root = wheel.parent
    venv.create(root / "venv", with_pip=False)
    python = root / "venv" / "bin" / "python"
    subprocess.run([*PIP, "--python", python, "install", "--no-deps", wheel], check=True)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(root / "venv"), "platbase": str(root / "venv")}))
    # As paths alone: what is installed there by reference, such as the clone, is not found.
    others = [path for path in sys.path if path.endswith("site-packages")]
    (own / "others.pth").write_text("\n".join([*others, str(project)]))

    def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess:
        elsewhere = ("PYTHONPATH", "MLFLOW_TRACKING_URI")  # not the folder's own
        environment = {name: value for name, value in os.environ.items() if name not in elsewhere}
        done = subprocess.run(
            [python.with_name("shrinkage"), *arguments], cwd=cwd, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done

    return run


def test_a_run_and_a_sweep_leave_their_record_in_the_folder_where_they_are_started(
    command: Command, tmp_path: Path
) -> None:
    command("penalty=l1", "lambd=0.03", "trainer.max_epochs=2", cwd=tmp_path)
    command("-m", "hydra/launcher=lanes", "lambd=0,1", "trainer.max_epochs=2", cwd=tmp_path)
    wait_for(lambda: not list((tmp_path / "journals").glob("*.journal")), 60)  # a busy machine's writer comes later
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("shrinkage").experiment_id])
    assert sorted(run.data.params.get("lambd", "sweep") for run in runs) == ["0", "0.03", "1", "sweep"]
    assert {run.data.tags["mlflow.source.name"] for run in runs} == {"shrinkage"}
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_a_project_of_its_own_is_used_from_a_folder_that_has_nothing(
    command: Command, project: Path, tmp_path: Path
) -> None:
    """A sweep over its penalty's λ and folds in lanes, and a refit by a command that finds the project again."""
    conf = project / "conf"
    assert (
        "penalty (leaning): adamw, "
        in command(f"--config-dir={conf}", "experiment=mine", "--help", cwd=tmp_path).stdout
    )
    sweep = ("hydra/launcher=lanes", "lambd=0.01,0.1", "data.folds=2", "data.fold=range(2)", "trainer.max_epochs=2")
    done = command(f"--config-dir={conf}", "-m", "experiment=mine", *sweep, "refit=1se", cwd=tmp_path)
    assert "4 of 4 runs FINISHED" in done.stdout
    assert f"refit at 1se: shrinkage --config-dir={conf} experiment=mine" in done.stdout
    assert "Refitted at λ.1se" in done.stdout and "The model is models:/visits/1" in done.stdout


@pytest.mark.parametrize("word", COMMANDS)
def test_the_other_commands_are_words_of_it(word: str, command: Command, tmp_path: Path) -> None:
    assert f"usage: python -m {COMMANDS[word]}" in command(word, "--help", cwd=tmp_path).stdout


@pytest.mark.skipif("SHRINKAGE_FULL_INSTALL" not in os.environ, reason="installs every package anew, for minutes")
def test_pip_installs_all_that_a_run_needs(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    begun = time.monotonic()
    subprocess.run([*PIP, "--python", python, "install", wheel], check=True)
    size = sum(path.lstat().st_size for path in (tmp_path / "venv").rglob("*"))
    print(f"installed in {time.monotonic() - begun:.0f} s, {size / 2**20:.0f} MiB")
    one = [python.with_name("shrinkage"), "penalty=l1", "lambd=0.03", "trainer.max_epochs=2"]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    assert "FINISHED. Run" in subprocess.run(one, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout
