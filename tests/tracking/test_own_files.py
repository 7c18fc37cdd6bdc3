"""What a journal names goes into the store only where it is the run's own, and belongs to whoever brings it in."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from shrinkage.errors import InputError
from shrinkage.tracking.journal import KEPT, Journal
from shrinkage.tracking.left_behind import waiting
from shrinkage.tracking.own_files import NotOwn, opened
from shrinkage.tracking.sync import sync

SECRET = "what nobody is to see"
NOBODY = 65534  # the user of this number
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run, with a file of its own, beside a file that is none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret.txt").write_text(SECRET)
    folder = tmp_path / "outputs/run"
    (folder / "figures").mkdir(parents=True)
    (folder / "own.txt").write_text("own")
    return folder


def journal(run: Path, *files: Path | str) -> Journal:
    """The journal of a run that has ended, with files."""
    made = Journal.new(run.parents[1] / "journals", "a run", {}, store=uri(run), experiment="shrinkage", home=run)
    for file in files:
        made.append("artifact", path=str(file), folder="")
    made.end("FINISHED")
    return made


def bring(run: Path) -> int:
    """Bring in what waits; journals of this process, which have been silent for long."""
    folder = run.parents[1] / "journals"
    for path in folder.iterdir():
        os.utime(path, (1, 1), follow_symlinks=False)
    return sync([folder], uri(run), None)


def uri(run: Path) -> str:
    return f"sqlite:///{run.parents[1]}/mlflow.db"


def kept(run: Path, *files: Path | str) -> Path:
    """The same journal, in the run's own folder."""
    return Path(shutil.move(journal(run, *files).path, run / KEPT))


def stored(run: Path) -> dict[str, str]:
    """The files in the store, by their names."""
    artifacts = run.parents[1] / "mlartifacts"
    return {path.name: path.read_text() for path in artifacts.rglob("*") if path.is_file()}


def lost(run: Path) -> str:
    """What the store says of the one run's files."""
    client = MlflowClient(uri(run))
    (found,) = client.search_runs([client.get_experiment_by_name("shrinkage").experiment_id])
    assert found.info.status == "FINISHED"
    return found.data.tags.get("lost.artifacts", "")


def link(run: Path) -> Path:
    (run / "link.txt").symlink_to("../../outside/secret.txt")
    return run / "link.txt"


def link_on_the_way(run: Path) -> Path:
    (run / "linked").symlink_to("../../outside")
    return run / "linked/secret.txt"


def pipe(run: Path) -> Path:
    os.mkfifo(run / "pipe")
    return run / "pipe"


FOREIGN: dict[str, tuple[Callable[[Path], Path | str], str]] = {
    "elsewhere": (lambda run: run.parents[1] / "outside/secret.txt", "not in the run's own folder"),
    "by way of ..": (lambda run: f"{run}/../../outside/secret.txt", "not in the run's own folder"),
    "a link": (link, "a link is on the way to it"),
    "a link on the way": (link_on_the_way, "a link is on the way to it"),
    "a folder": (lambda run: run / "figures", "it is no file"),
    "a pipe": (pipe, "it is no file"),
    "a device": (lambda run: "/dev/zero", "not in the run's own folder"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_that_is_not_the_runs_own_is_left_and_said(
    run: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make, why = FOREIGN[kind]
    file = make(run)
    journal(run, run / "own.txt", file)
    assert bring(run) == 0
    assert stored(run) == {"own.txt": "own"}
    assert why in lost(run) and why in capsys.readouterr().err


def test_a_kept_journal_has_the_files_beside_it_wherever_it_says_that_it_was(run: Path) -> None:
    """A run that was moved is whole; one that names another folder as its own has nothing of it."""
    outside = run.parents[1] / "outside"
    path = kept(run, run / "own.txt")
    moved = run.rename(run.with_name("moved"))
    assert sync([moved], uri(run), None) == 0 and stored(run) == {"own.txt": "own"} and not lost(run)
    forged = kept(outside, outside / "secret.txt")
    shutil.move(forged, moved / path.name)
    with pytest.raises(FileNotFoundError), opened(outside / "secret.txt", outside, moved / KEPT):
        pass
    with pytest.raises(NotOwn), opened(moved / "own.txt", None, run.parents[1] / "a.journal"):
        pass


def test_what_is_stored_is_what_was_looked_at(run: Path) -> None:
    """A file that is replaced by a link after it has been opened is stored as it was."""
    made = journal(run, run / "own.txt")
    with opened(run / "own.txt", run, made.path) as file:
        (run / "own.txt").unlink()
        link(run).rename(run / "own.txt")
        assert Path(f"/dev/fd/{file}").read_text() == "own"


def test_a_model_of_another_folder_is_not_stored(run: Path) -> None:
    outside = run.parents[1] / "outside"
    for name in ("model.pt2", "preprocessing.json", "recipe.py", "example.json"):
        (outside / name).write_text(SECRET)
    made = Journal.new(run.parents[1] / "journals", "a run", {}, store=uri(run), experiment="shrinkage", home=run)
    made.append("model", path=str(outside), register=None, metrics={})
    made.end("FINISHED")
    assert bring(run) == 0
    assert stored(run) == {}
    client = MlflowClient(uri(run))
    (found,) = client.search_runs([client.get_experiment_by_name("shrinkage").experiment_id])
    assert "it is not in the run's own folder" in found.data.tags["model.error"]


@as_root
@pytest.mark.parametrize("whose", ["journal", "folder", "both"])
def test_another_users_journal_is_left_and_said(run: Path, whose: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = journal(run, run / "own.txt").path
    for each in {"journal": [path], "folder": [run], "both": [path, run, run / "own.txt"]}[whose]:
        os.chown(each, NOBODY, -1)
    before = path.read_bytes()
    assert bring(run) == 1
    assert path.read_bytes() == before and stored(run) == {}
    assert f"belongs to user {NOBODY} and this is user 0" in capsys.readouterr().err
    (left,) = waiting(run.parents[1])
    assert isinstance(left, InputError)


@as_root
def test_another_users_file_is_left_and_said(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "theirs.txt").write_text(SECRET)
    os.chown(run / "theirs.txt", NOBODY, -1)
    journal(run, run / "own.txt", run / "theirs.txt")
    assert bring(run) == 0
    assert stored(run) == {"own.txt": "own"}
    assert f"user {NOBODY} owns theirs.txt, and user 0 the journal" in lost(run)
    assert "theirs.txt" in capsys.readouterr().err


def test_a_journal_that_is_a_link_is_left_and_said(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = journal(run, run / "own.txt").path
    path.rename(run / "hidden")
    path.symlink_to(run / "hidden")
    assert bring(run) == 1 and stored(run) == {}
    assert "it is a link or no file, and is left" in capsys.readouterr().err
