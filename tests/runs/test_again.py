"""Runs and sweeps by name, id or folder: done again, gone on with, or refused in one line."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from conftest import runs, train_here, train_py

from shrinkage.errors import InputError
from shrinkage.runs.folder import Earlier
from shrinkage.runs.membership import Membership
from shrinkage.tracking.journal import KEPT, Journal

RUN = ("data=diabetes", "penalty=l1", "lambd=0.1", "trainer.max_epochs=3")


def again(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    store = f"tracking.uri=sqlite:///{folder}/mlflow.db"
    return train_here("tracking=mlflow", store, "progress=false", *arguments, cwd=folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one tracked run in it."""
    folder = tmp_path_factory.mktemp("again")
    done = again(folder, *RUN)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_run_done_again_says_whether_it_is_the_same(finished: Path) -> None:
    (run,) = runs(finished / "mlflow.db")
    done = again(finished, f"rerun={run.info.run_id}")
    assert done.returncode == 0 and "The same: all " in done.stdout, done.stdout + done.stderr
    rerun = runs(finished / "mlflow.db")[0]
    assert rerun.data.tags["rerun.of"] and rerun.data.tags["rerun.same"] == "true"
    assert rerun.data.metrics == run.data.metrics
    assert rerun.info.run_name == run.info.run_name and rerun.data.params["lambd"] == "0.1"


def test_a_run_that_does_not_come_out_the_same_says_what_differs(finished: Path, tmp_path: Path) -> None:
    """Its record is another one's: of another library, on other data."""
    folder = min((finished / "outputs").glob("*/*"))
    other = tmp_path / "other"
    other.mkdir()
    journal = Journal.new(other, "another", {"version.torch": "1.0", "git.clean": "false"}, home=other)
    journal.metrics({"train/loss": 0.1, "lambd": 0.1}, 3)
    journal.append("dataset", name="x", digest="0", context="training", source={}, profile={})
    journal.end("FINISHED")
    journal.path.rename(other / KEPT)
    for file in ("config.yaml", "overrides.yaml"):
        (other / file).write_text((folder / file).read_text())
    about = json.loads((folder / "run.json").read_text()) | {"id": journal.id, "name": "another"}
    (other / "run.json").write_text(json.dumps(about))
    done = again(finished, f"rerun={other}")
    assert done.returncode == 0, done.stderr
    assert "Not the same: 1 of 2 numbers differ from those of another, most of all train/loss: 0.1 then" in done.stdout
    assert "version.torch: 1.0 then, " in done.stdout and "the training data (0 then" in done.stdout
    assert "uncommitted changes" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["resume={run}"], "the run is FINISHED; rerun="),
        (["resume=nobody"], "nobody: no run has this id or name"),
        (["resume={run}", "lambd=3"], "lambd=3: resume=… takes every value from what the run recorded"),
        (["rerun={run}", "seed=3"], "seed=3: rerun=… takes every value"),
        (["resume=outputs"], "no run has left run.json there"),
        (["hydra.mode=MULTIRUN", "lambd=1,2", "resume={run}"], "resume and rerun are for one run"),
        (["hydra.mode=MULTIRUN", "lambd=1,2", "resume_sweep={run}"], "is no sweep's"),
        (["on_error=nothing"], "on_error=nothing: must be continue or stop"),
        (["tracking.offline=maybe"], "tracking.offline=maybe: must be true, false or auto"),
    ],
)
def test_what_cannot_go_on_is_refused_in_one_line(finished: Path, arguments: list[str], words: str) -> None:
    run = runs(finished / "mlflow.db")[-1].info.run_id
    done = again(finished, *(argument.format(run=run) for argument in arguments))
    assert done.returncode == 1 and words in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and done.stderr.strip().count("\n") == 0


def test_a_sweep_stops_at_a_failure_and_goes_on_with_more(tmp_path: Path, store: Path) -> None:
    common = ("trainer.max_epochs=2", "penalty=l1")
    done = train_py("-m", "lambd=0.3,-1,0.2", "on_error=stop", *common, cwd=tmp_path, store=store)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert sorted(run.info.status for run in runs(store)) == ["FAILED", "FAILED", "FINISHED"]  # one of them the sweep
    (sweep,) = [run for run in runs(store) if "mlflow.parentRunId" not in run.data.tags]
    done = train_py("-m", "lambd=0.3,0.2,0.1", f"resume_sweep={sweep.info.run_id}", *common, cwd=tmp_path, store=store)
    assert done.returncode == 0, done.stderr
    assert "1 runs had FINISHED and are taken as they are" in done.stdout
    found = {run.data.params.get("lambd", "sweep"): run for run in runs(store)}
    assert {value: run.info.status for value, run in found.items()} == {
        **dict.fromkeys(("0.3", "0.2", "0.1"), "FINISHED"),
        **dict.fromkeys(("-1", "sweep"), "FAILED"),
    }
    (folder,) = (tmp_path / "multirun").glob("*/*")
    assert {result["status"] for result in Membership.of(folder).results()} == {"FINISHED", "FAILED"}


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("run.json", "[1, 2]", "run.json: it cannot be read"),
        (
            "run.json",
            '{"id": "../../x", "name": "a", "fingerprint": "b", "sweep": null}',
            "id=../../x is none of a journal",
        ),
        ("run.json", '{"id": 3, "name": 4, "fingerprint": 5, "sweep": 6}', "run.json: it cannot be read"),
        ("config.yaml", None, "config.yaml: it cannot be read"),
        ("config.yaml", "- a list", "it holds no dict"),
        ("config.yaml", "{a: [", "config.yaml: it cannot be read"),
    ],
)
def test_a_folder_that_holds_no_run_is_refused_in_a_sentence(
    file: str, content: str | None, words: str, tmp_path: Path
) -> None:
    about = {"id": None, "name": "a", "fingerprint": "b", "sweep": None}
    (tmp_path / "run.json").write_text(json.dumps(about))
    (tmp_path / "config.yaml").write_text("lambd: 3")
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(content)
    with pytest.raises(InputError, match=re.escape(words)) as raised:
        Earlier.of(tmp_path).cfg({})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("key", ["resume", "rerun"])
def test_a_folder_of_no_run_is_refused_whatever_leads_to_it(key: str, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    about = {"id": "../../../etc/passwd", "name": "a", "fingerprint": "b", "sweep": "/etc"}
    (theirs / "run.json").write_text(json.dumps(about))
    for target, words in (("../..", "no run has left"), ("/", "no run has left"), (theirs, "id=../../../etc/passwd")):
        done = train_here(f"{key}={target}", cwd=tmp_path)
        assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr, done.stderr
        assert [line for line in done.stderr.splitlines() if line.strip()] == [done.stderr.strip()]
    assert list(theirs.iterdir()) == [theirs / "run.json"]
