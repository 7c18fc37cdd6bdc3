"""Jobs of a sweep as rows of a table: nothing of them is lost, and every reader finds them where runs would be."""

import json
import math
from pathlib import Path

import pytest
from conftest import runs, train_py
from hypothesis import given
from hypothesis import strategies as st
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from shrinkage.errors import InputError
from shrinkage.report.__main__ import find
from shrinkage.tracking import read
from shrinkage.tracking.jobs_table import JOBS, ROWS, read_rows, write_rows
from shrinkage.tracking.source import RunSummary
from shrinkage.tracking.sync import sync

pytestmark = pytest.mark.xdist_group("jobs_table")
KEYS = st.sampled_from(["lambd", "data.n", "a.b", "val/loss", "."])
TEXTS = st.text(max_size=8) | st.just("nan") | st.just("\udcff")
RUNS = st.builds(
    RunSummary,
    name=TEXTS,
    status=st.sampled_from(["FINISHED", "FAILED"]),
    run_id=st.none() | TEXTS,
    folder=st.none() | TEXTS,
    params=st.dictionaries(KEYS, TEXTS, max_size=3),
    metrics=st.dictionaries(KEYS, st.floats(), max_size=3),
    tags=st.dictionaries(KEYS, TEXTS, max_size=3),
    error=st.none() | TEXTS,
)


def as_text(runs: list[RunSummary]) -> str:
    """All of the runs as text, in which NaN is equal to itself, as a table can hold it."""
    ordered = [
        {key: sorted(run[key].items()) if isinstance(run[key], dict) else run[key] for key in run} for run in runs
    ]
    return repr(ordered).replace("'\\udcff'", "'\\\\udcff'")


@given(found=st.lists(RUNS, max_size=4))
def test_what_is_written_is_read_again(found: list[RunSummary], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / JOBS
    write_rows(found, path)
    assert as_text(read_rows(path)) == as_text(found)


def test_a_file_that_is_no_table_is_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / JOBS).write_bytes(b"PAR1 and nothing else")
    for path in (tmp_path / JOBS, tmp_path / "gone"):
        with pytest.raises(InputError, match="the jobs of a sweep cannot be read"):
            read_rows(path)


SWEEP = ("-m", "hydra/launcher=lanes", "penalty=l1,l2", "lambd=0.1,1,10", "seed=0,1", "trainer.max_epochs=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the same sweep has been made twice, into stores of their own: as runs, and as a table."""
    folder = tmp_path_factory.mktemp("both")
    for kind in ("runs", "table"):
        (folder / kind).mkdir()
        done = train_py(*SWEEP, f"tracking.jobs={kind}", cwd=folder / kind, store=folder / kind / "mlflow.db")
        assert done.returncode == 0, done.stderr
    return folder


def parent(folder: Path) -> Run:
    (sweep,) = [run for run in runs(folder / "mlflow.db") if "mlflow.parentRunId" not in run.data.tags]
    return sweep


def answer(folder: Path) -> dict:
    (path,) = folder.glob("multirun/*/*/answer.json")
    return json.loads(path.read_text())


def test_the_answer_is_that_of_runs(folder: Path) -> None:
    assert answer(folder / "table") == answer(folder / "runs")


def test_only_what_the_answer_takes_becomes_a_run(folder: Path) -> None:
    everyone, sweep = runs(folder / "table" / "mlflow.db"), parent(folder / "table")
    others = [run for run in everyone if run.info.run_id != sweep.info.run_id]
    best = answer(folder / "table")["settings"][0]
    assert {float(run.data.params["lambd"]) for run in others} == {best["lambd.min"], best["lambd.1se"]} - {None}
    assert {run.data.tags["mlflow.parentRunId"] for run in others} == {sweep.info.run_id}
    assert {run.info.status for run in others} == {"FINISHED"}
    assert sweep.data.tags[ROWS] == "12" and sweep.info.status == "FINISHED"


def same_runs(one: list[RunSummary], other: list[RunSummary]) -> bool:
    """Whether both hold the same jobs with the same numbers, wherever each is kept."""

    def known(found: list[RunSummary]) -> list[tuple]:
        return sorted(
            (run["name"], run["status"], sorted(run["metrics"].items()), run["params"]["penalty"]) for run in found
        )

    return len(one) == 12 and known(one) == known(other)


def test_every_reader_finds_the_rows(folder: Path) -> None:
    stores = {kind: f"sqlite:///{folder / kind / 'mlflow.db'}" for kind in ("runs", "table")}
    for target in ("sweep", "experiment"):
        found = {
            kind: parent(folder / kind).info.run_id if target == "sweep" else "shrinkage" for kind in ("runs", "table")
        }
        expected, _ = find(stores["runs"], found["runs"], lambda count: None)
        in_file, source = find(stores["table"], found["table"], lambda count: None)
        client = MlflowClient(stores["table"])
        by_mlflow = read.find(client, stores["table"], found["table"])
        assert same_runs(in_file.runs, expected.runs) and same_runs(by_mlflow.runs, expected.runs)
    for other in (source, read.StoreSource(client)):
        for run in in_file.runs:
            assert len(other.coefficients(run)) == 201 and not math.isnan(other.history(run)[-1][1]["val/loss"])


def test_sync_makes_a_run_of_a_row(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, uri = folder / "table", f"sqlite:///{folder / 'table' / 'mlflow.db'}"
    monkeypatch.chdir(place)
    there = {run.data.tags["folder"] for run in runs(place / "mlflow.db") if "folder" in run.data.tags}
    row = next(run for run in read_rows(*place.glob(f"multirun/*/*/{JOBS}")) if run["folder"] not in there)
    assert sync([Path(row["folder"])], uri, None) == 0
    (run,) = [run for run in runs(place / "mlflow.db") if run.data.tags.get("folder") == row["folder"]]
    assert run.data.tags["mlflow.parentRunId"] == parent(place).info.run_id and run.info.status == "FINISHED"
    assert run.data.params == row["params"] and run.data.metrics == row["metrics"]
    found, _ = find(uri, parent(place).info.run_id, lambda count: None)
    assert len(found.runs) == 12


def test_a_sweep_that_goes_on_stays_what_it_is(folder: Path) -> None:
    (sweep,) = (folder / "table").glob("multirun/*/*")
    for kind, code in (("runs", 1), ("table", 0)):
        done = train_py(
            *SWEEP,
            f"tracking.jobs={kind}",
            f"resume_sweep={sweep}",
            cwd=folder / "table",
            store=folder / "table" / "mlflow.db",
        )
        assert done.returncode == code, done.stderr
    assert "12 runs had FINISHED" in done.stdout
