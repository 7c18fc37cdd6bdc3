"""What a person may get wrong, through the real command line: one clear message, exit code 1, no traceback, no run."""

import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import states, tracked_here, train_here, train_py

from shrinkage.tracking.store import open_store


def refused(done, *words: str) -> None:
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr + done.stdout
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["penalty=l3"], ["penalty/l3", "elastic_net"]),
        (["trainer.max_epoch=3"], ["max_epoch", "not in struct"]),
        (["lambd=-1"], ["lambd=-1: λ must be ≥ 0; use penalty=none"]),
        (["hydra.run.dir=/proc/nowhere"], ["hydra.run.dir=/proc/nowhere: cannot be written"]),
        (["-m", "hydra.sweep.dir=/proc/nowhere", "seed=0,1"], ["hydra.sweep.dir=/proc/nowhere: cannot be written"]),
        (
            ["tracking.uri=sqlite:////proc/nowhere/mlflow.db"],
            ["the store sqlite:////proc/nowhere/mlflow.db cannot be used"],
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value[0], str) else None,
)
def test_a_value_that_no_run_can_use(arguments: list[str], words: list[str], tmp_path: Path, store: Path) -> None:
    refused(train_py(*arguments, cwd=tmp_path, store=store), *words)
    assert states(store) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lambd=abc"], ["lambd=abc: λ must be ≥ 0, and a number"]),
        (["lambd=nan"], ["lambd=nan: λ must be ≥ 0 and finite"]),
        (["lambd=inf"], ["lambd=inf: λ must be ≥ 0 and finite"]),
        (["optimizer.lr=0"], ["optimizer.lr=0: a learning rate must be > 0"]),
        (["optimizer.momentum=1"], ["optimizer.momentum=1: must be 0 ≤ μ < 1"]),
        (["trainer.max_epochs=-5"], ["trainer.max_epochs=-5: must be a whole number ≥ 1"]),
        (["seed=abc"], ["seed=abc: must be a whole number ≥ 0"]),
        (["early_stopping.patience=0"], ["early_stopping.patience=0"]),
        (["data=iris"], ["data/iris", "diabetes"]),
        (["certificate=always"], ["certificate=always: must be one of end, epoch, exact"]),
        (["trainer.until_gap=0"], ["trainer.until_gap=0: a gap must be > 0; use trainer.until_gap=1e-6"]),
        (["polish=-1"], ["polish=-1: must be a whole number ≥ 0"]),
        (["experiment=forum_table", "study.seeds=0"], ["study.seeds=0: must be a whole number ≥ 1"]),
        (["experiment=forum_table", "model=mlp", "model.dropout=0.5"], ["cannot share a training", "random numbers"]),
        (["experiment=notebook_1d", "data=digits"], ["unexpected keyword argument 'num_train'", "has no such setting"]),
        (["experiment=forum_table", "lambd=-1"], ["lambd=-1: λ must be ≥ 0"]),
        (["data.batch_size=0"], ["data.batch_size=0: must be a whole number ≥ 1"]),
        (["+optimizer.weight_decay=0.1"], ["optimizer.weight_decay=0.1: λ has one home"]),
        (["penalty=none", "penalty.mode=prox"], ["penalty.mode=prox: NoPenalty can act as loss"]),
        (["trainer.precision=12-true"], ["12-true"]),
        (["optimizer.nesterov=true"], ["momentum"]),
        (["data=table", "data.target=y"], ["data.path is not set"]),
        (["data=table", "data.path=nowhere.csv", "data.target=y"], ["data.path=nowhere.csv: there is no such file"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value[0], str) else None,
)
def test_a_value_that_is_found_out_later(arguments: list[str], words: list[str], tmp_path: Path) -> None:
    refused(train_here(*arguments, cwd=tmp_path), *words)


def write_table(path: Path, kind: str) -> None:
    frame = pd.DataFrame({"x": np.arange(40.0), "y": np.arange(40.0) ** 2})
    match kind:
        case "empty":
            path.write_text("")
            return
        case "one row":
            frame = frame.head(1)
        case "constant":
            frame["y"] = 7
        case "gap":
            frame.loc[:4, "x"] = np.nan
        case "infinite":
            frame.loc[3, "x"] = np.inf
        case "names":
            frame = pd.concat([frame] * 60, ignore_index=True).assign(name=[f"n{i}" for i in range(2400)])
    frame.to_csv(path, index=False)


@pytest.mark.parametrize(
    ("kind", "target", "words"),
    [
        ("empty", "y", ["the file is empty"]),
        ("one row", "y", ["1 row", "at least 2 must be left"]),
        ("constant", "y", ["data.target=y: it is 7 in every row"]),
        ("gap", "y", ["missing values (of 40 rows): 'x' in 5"]),
        ("infinite", "y", ["column 'x' is infinite in 1 of 40 rows"]),
        ("names", "y", ["text column 'name' has 2,400 different values"]),
    ],
)
def test_a_file_that_no_run_can_use(kind: str, target: str, words: list[str], tmp_path: Path) -> None:
    write_table(tmp_path / "data.csv", kind)
    refused(train_here("data=table", "data.path=data.csv", f"data.target={target}", cwd=tmp_path), *words)


def test_a_missing_column_leaves_no_run(tmp_path: Path, store: Path) -> None:
    write_table(tmp_path / "data.csv", "good")
    done = tracked_here("data=table", "data.path=data.csv", "data.target=z", cwd=tmp_path, store=store)
    refused(done, "data.target=z", "no such column, it has x, y")
    assert states(store) == []


def test_a_store_of_a_newer_schema(tmp_path: Path, store: Path) -> None:
    open_store(f"sqlite:///{store}", "shrinkage", tmp_path)
    with sqlite3.connect(store) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    refused(tracked_here(cwd=tmp_path, store=store), "made by another version of MLflow", "install that MLflow")


def test_every_bad_job_of_a_sweep_fails_by_itself(tmp_path: Path, store: Path) -> None:
    done = train_py(
        "-m", "lambd=-1,abc,nan,inf,1", "data.batch_size=0,5", "trainer.max_epochs=1", cwd=tmp_path, store=store
    )
    refused(done, "lambd=-1: λ must be ≥ 0", "lambd=abc: ", "lambd=inf: ", "data.batch_size=0: ")
    found = [status for status, _ in states(store)]
    assert sorted(found) == ["FAILED"] * 10 + ["FINISHED"]  # nine jobs and the parent; the tenth job is right
    assert "1 of 10 runs FINISHED" in done.stdout
