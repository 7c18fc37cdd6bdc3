"""Sweeps through the real command line: one parent, one child a job, the truth about each."""

import math
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CONF, ROOT, family, start_train_py, statuses, train_py
from hydra import compose, initialize_config_dir
from hydra.types import RunMode
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from shrinkage.runs.membership import RESULTS, Membership
from shrinkage.sweeps.telling import BestRun, show_failures


def test_a_whole_sweep(tmp_path: Path, store: Path) -> None:
    done = train_py(
        "-m",
        "lambd=0,1,2",
        "seed=0,1",
        "hydra/launcher=joblib",
        "trainer.max_epochs=2",
        cwd=tmp_path,
        store=store,
    )
    assert done.returncode == 0, done.stderr
    parent, children = family(store)
    assert parent.info.status == "FINISHED" and statuses(children) == {"FINISHED": 6}
    assert {run.info.run_name for run in children} >= {"l2 λ=0 seed=0 trainer.max_epochs=2"}
    assert len({(run.data.params["lambd"], run.data.params["seed"]) for run in children}) == 6
    client = MlflowClient(f"sqlite:///{store}")
    artifacts = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert artifacts == {
        "report.html", "answer.json", "runs.csv",
        "validation.png", "weights.png", "coefficients.png", "learning_curves.png",
    }  # fmt: skip
    assert not any(file.path == "figures" for file in client.list_artifacts(children[0].info.run_id))
    assert "6 of 6 runs FINISHED" in done.stdout and "← λ.min" in done.stdout
    (folder,) = (tmp_path / "multirun").glob("*/*")
    assert len(Membership.of(folder).results()) == 6


def test_a_sweep_that_is_interrupted_while_it_reports_says_where_it_is(tmp_path: Path, store: Path) -> None:
    """Its page is a pipe, in which the report stands still: the page is larger than what a pipe holds."""
    page = tmp_path / "sweep" / "report.html"
    page.parent.mkdir()
    os.mkfifo(page)
    pipe = os.open(page, os.O_RDONLY | os.O_NONBLOCK)
    arguments = ("-m", "lambd=0,1", "trainer.max_epochs=2", f"hydra.sweep.dir={page.parent}")
    process = start_train_py(*arguments, cwd=tmp_path, store=store)
    if not select.select([pipe], [], [], 120)[0]:
        process.kill()
        pytest.fail(process.communicate()[1])
    process.send_signal(signal.SIGINT)
    os.set_blocking(pipe, True)
    with os.fdopen(pipe, "rb") as reader:
        reader.read()
    shown, errors = process.communicate(timeout=120)
    parent, children = family(store)
    assert process.returncode == 130 and "Traceback" not in errors
    assert parent.info.status == "KILLED" and statuses(children) == {"FINISHED": 2}
    assert "2 of 2 runs FINISHED" in shown and not (page.parent / "answer.json").exists()
    assert f"The sweep is KILLED. Run {parent.info.run_id}" in shown
    assert f"python -m shrinkage.report {parent.info.run_id}" in shown and "resume_sweep=" in shown


def test_runs_without_a_validation_part_have_nothing_to_choose_by(tmp_path: Path, store: Path) -> None:
    arguments = ["-m", "data=diabetes", "data.refit=true", "lambd=0.1,1", "trainer.max_epochs=1"]
    done = train_py(*arguments, cwd=tmp_path, store=store)
    assert done.returncode == 0 and "2 of 2 runs FINISHED" in done.stdout
    assert "note: every run has data.refit=true" in done.stderr and "no validation part to choose by" in done.stderr
    assert "no run has FINISHED" not in done.stderr


def test_a_cause_of_many_failures_is_told_once(capsys: pytest.CaptureFixture) -> None:
    failed = [{"name": f"l1 λ={number}", "error": "no such file"} for number in range(200)]
    show_failures([*failed[:100], {"name": "l2 λ=1", "error": "it diverged"}, *failed[100:]], Path("sweep"))
    assert capsys.readouterr().err.splitlines() == [
        "FAILED, 200 runs: no such file (l1 λ=0, l1 λ=1, l1 λ=2, l1 λ=3, l1 λ=4 and 195 more)",
        "FAILED: l2 λ=1: it diverged",
    ]


def test_of_many_causes_the_first_are_told(capsys: pytest.CaptureFixture) -> None:
    show_failures([{"name": f"l2 λ={n}", "error": f"λ={n}: it diverged"} for n in range(5000)], Path("sweep"))
    *first, last = capsys.readouterr().err.splitlines()
    assert first[-1] == "FAILED: l2 λ=9: λ=9: it diverged" and len(first) == 10
    assert last == "FAILED, 4,990 more runs for other reasons, which sweep/results.jsonl has"


def test_a_sweep_with_a_name_needs_no_m() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        whole = compose("train", ["experiment=forum_lambdas"], return_hydra_config=True)
    assert whole.hydra.mode == RunMode.MULTIRUN and whole.optimizer.lr == 0.003
    assert whole.hydra.sweeper.params.lambd == "0,1,2,3,4,5,6,7,8,9,10"


def mlflow_run(store: Path, *arguments: str) -> subprocess.CompletedProcess:
    mlflow = Path(sys.executable).parent / "mlflow"
    return subprocess.run(
        [mlflow, "run", ROOT, "--env-manager", "local", *arguments],
        cwd=store.parent,
        env=os.environ
        | {
            "MLFLOW_TRACKING_URI": f"sqlite:///{store}",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )


def everything(store: Path) -> list[Run]:
    client = MlflowClient(f"sqlite:///{store}")
    return client.search_runs([e.experiment_id for e in client.search_experiments()], max_results=1000)


def test_mlflow_run_makes_one_run_and_not_two(store: Path) -> None:
    done = mlflow_run(store, "-P", "penalty=l1", "-P", "lambd=3.0", "-P", "max_epochs=2")
    assert done.returncode == 0, done.stderr
    (run,) = everything(store)
    assert run.info.status == "FINISHED" and run.info.run_name == "l1 λ=3 seed=0 d2l linear trainer.max_epochs=2"
    assert run.data.params["lambd"] == "3.0" and run.data.params["penalty.mode"] == "prox"
    assert run.data.metrics["weight/zeros"] == 1
    experiment = MlflowClient(f"sqlite:///{store}").get_experiment(run.info.experiment_id)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_mlflow_run_of_a_sweep_is_its_parent(store: Path) -> None:
    done = mlflow_run(store, "-e", "sweep", "-P", "lambd=0,1,3", "-P", "max_epochs=2")
    assert done.returncode == 0, done.stderr
    everyone = everything(store)
    (parent,) = [run for run in everyone if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in everyone if run is not parent]
    assert parent.info.status == "FINISHED" and parent.data.params["lambd"] == "0,1,3"
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert statuses(children) == {"FINISHED": 3}
    assert {run.info.experiment_id for run in children} == {parent.info.experiment_id}


def test_jobs_that_have_ended_are_counted_as_they_tell(tmp_path: Path) -> None:
    """Each once, though a job may tell twice; not from a line that is still being written."""
    sweep = Membership(tmp_path, None)
    ended = sweep.ended()
    assert next(ended) == 0
    for folders in (["a", "b"], ["b"], [], ["c", "a", "d"]):
        for folder in folders:
            sweep.report(folder=folder, status="FINISHED")
        assert next(ended) == len(sweep.results())
    path = tmp_path / RESULTS
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"folder": "e", "sta')
    assert next(ended) == len(sweep.results()) == 4
    path.write_bytes(whole + b'{"folder": "e", "status": "FAILED"}\n')
    assert next(ended) == len(sweep.results()) == 5


def test_the_best_run_so_far_is_told_beside_the_progress(tmp_path: Path) -> None:
    """By the metric's own direction; of those that FINISHED, with a number."""
    sweep, loss, r2 = Membership(tmp_path, None), BestRun("val/loss"), BestRun("val/r2")
    for folder, (status, value) in enumerate(
        [("FINISHED", math.nan), ("FINISHED", 0.5), ("FAILED", 0.1), ("FINISHED", 0.25), ("FINISHED", 0.75)]
    ):
        metrics, tags = {"val/loss": value, "val/r2": value}, {"metrics.larger_is_better": "val/r2 test/r2"}
        sweep.report(folder=str(folder), status=status, fingerprint=str(folder), metrics=metrics, tags=tags)
    sweep.amend("4", status="FINISHED", fingerprint="4", run_id="1", tags={}, error=None)
    assert [next(sweep.ended(best.hear)) for best in (loss, r2)] == [5, 5]
    assert (loss.words, r2.words) == (", best val/loss 0.25", ", best val/r2 0.75")


def test_what_changes_when_the_store_has_a_run_is_added_to_its_report(tmp_path: Path) -> None:
    sweep = Membership(tmp_path, None)
    for folder in ("a", "b"):
        sweep.report(
            folder=folder, status="FINISHED", fingerprint=folder, run_id=None, tags={}, metrics={"val/loss": 1.0}
        )
    sweep.amend("a", status="FAILED", fingerprint="a", run_id="1", tags={"model.uri": "models:/m"}, error="refused")
    first, second = sweep.results()
    assert first == {
        "folder": "a", "status": "FAILED", "fingerprint": "a", "run_id": "1", "tags": {"model.uri": "models:/m"},
        "metrics": {"val/loss": 1.0}, "error": "refused",
    }  # fmt: skip
    assert second["status"] == "FINISHED" and next(sweep.ended()) == 2


def test_a_job_that_was_stopped_before_it_had_a_run_is_no_job_of_its_own(tmp_path: Path) -> None:
    """Begun again it has another folder, and is known by its config."""
    first, again = Membership(tmp_path, None), Membership(tmp_path, None, times=2)
    for folder, status in (("0", "KILLED"), ("1", "KILLED"), ("2", "FINISHED")):
        first.report(folder=folder, status=status, fingerprint=folder)
    assert {result["status"] for result in again.results()} == {"KILLED", "FINISHED"}
    for folder in ("0", "1"):
        again.report(folder=f"again-{folder}", status="FINISHED", fingerprint=folder)
    assert [result["folder"] for result in again.results()] == ["2", "again-0", "again-1"]
    assert next(again.ended()) == 3
