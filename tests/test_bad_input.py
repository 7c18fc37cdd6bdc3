"""What a person may get wrong, through the real command line: one clear message, exit code 1, no traceback, no run."""

import inspect
import sqlite3
from pathlib import Path

import lightning.pytorch as L
import numpy as np
import pandas as pd
import pytest
from conftest import CONF, config, runs, states, tracked_here, train_here, train_py

from shrinkage import rules
from shrinkage.errors import InputError
from shrinkage.runs.identity import fingerprint, params, recorded, run_name, shared_by_lanes, sweep_name
from shrinkage.tracking.store import open_store
from shrinkage.training.lanes_training import lanes_that_fit
from shrinkage.training.run import build
from shrinkage.training.sharing import CannotShare
from shrinkage.training.workshop import Workshop


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
        (["certificate=always"], ["certificate=always: must be end, epoch or exact"]),
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


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("+train=false", "train=False: nothing reads this key"),
        ("++train=false", "train=False: nothing reads this key"),
        ("+early_stopping.monitor=val/r2", "early_stopping.monitor=val/r2: nothing reads this key"),
        ("+tracking.run_name=first", "tracking.run_name=first: nothing reads this key"),
        ("+choices.schedule=cosine", "choices.schedule=constant: nothing reads this key"),
        ("+metrics.f1=true", "metrics.f1=True: nothing reads this key"),
        ("+callbacks={stop: {_target_: a.B}}", "callbacks: nothing reads this key"),
        ("+team=vision", "with 'tags={team: …}'"),
        ("+trainer.logger=true", "trainer.logger=True: runs are recorded by the tracking group; use tracking=mlflow"),
        ("+trainer.callbacks=[{_target_: a.B}]", "a run has callbacks of its own, and takes no others; leave it out"),
        ("+trainer.val_check_interval=0.5", "trainer.val_check_interval=0.5: each part is evaluated whole"),
        ("+trainer.overfit_batches=2", "trainer.overfit_batches=2: .*; use trainer.limit_train_batches=10"),
        ("+trainer.fast_dev_run=true", "use trainer.max_steps=1"),
    ],
)
def test_what_would_change_nothing_is_refused(override: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        rules.check_keys(config(override))


@pytest.mark.parametrize("experiment", sorted(path.stem for path in (CONF / "experiment").glob("*.yaml")))
def test_every_key_of_conf_is_read_or_is_a_setting_of_a_class(experiment: str) -> None:
    sizes = ["scale=large"] if (CONF / "scale/large" / f"{experiment}.yaml").exists() else []
    cfg = config(f"experiment={experiment}", *sizes)
    rules.check_keys(cfg)
    rules.check(cfg)


def test_a_key_that_is_interpolated_is_read(tmp_path: Path) -> None:
    own = ["+size=0.1", "+folder=here"]
    reading = ["optimizer.lr=${size}", "hydra.run.dir=${folder}/a", "trainer.max_epochs=1"]
    assert train_here(*own, *reading, cwd=tmp_path).returncode == 0
    refused(train_here(*own, reading[0], cwd=tmp_path), "folder=here: nothing reads this key")


def test_a_lane_has_no_key_that_nothing_reads(tmp_path: Path, store: Path) -> None:
    done = train_py(
        "-m", "hydra/launcher=lanes", "lambd=1,2", "+team=vision", "tracking=none", cwd=tmp_path, store=store
    )
    refused(done, "team=vision: nothing reads this key")


HONOURED = {  # arguments of Lightning's Trainer beside those of conf/trainer, with what shows that they take effect
    "accumulate_grad_batches": 2,
    "benchmark": True,
    "detect_anomaly": True,
    "deterministic": True,
    "limit_train_batches": 2,
    "max_time": "00:00:00:09",
    "min_epochs": 3,
    "min_steps": 12,
    "profiler": "simple",
}


def test_every_argument_of_the_trainer_takes_effect_or_is_refused() -> None:
    ours = {"_target_", "until_gap"}
    known = (config().trainer.keys() - ours) | HONOURED.keys() | rules.NOT_TAKEN.keys()
    assert known == set(inspect.signature(L.Trainer).parameters)


def steps_of(folder: Path, *overrides: str) -> tuple[int, float]:
    """How many optimiser steps a run of four epochs of four batches takes, and where it ends."""
    cfg = config("trainer.max_epochs=4", "polish=0", *overrides)
    rules.check(cfg)
    training = build(cfg, folder)
    training.run()
    return training.trainer.global_step, training.module.measured["val/loss"]


def test_arguments_of_the_trainer_that_are_honoured(tmp_path: Path) -> None:
    steps, loss = steps_of(tmp_path)
    assert steps == 16
    assert steps_of(tmp_path, "+trainer.accumulate_grad_batches=4", "data.batch_size=5")[0] == 4
    # Four batches of five rows, accumulated, are one of twenty.
    assert steps_of(tmp_path, "+trainer.accumulate_grad_batches=4")[1] == pytest.approx(
        steps_of(tmp_path, "data.batch_size=20")[1], rel=1e-5
    )
    assert steps_of(tmp_path, "+trainer.limit_train_batches=2")[0] == 8
    assert steps_of(tmp_path, "trainer.gradient_clip_val=0.001")[1] != loss
    stopping = ["early_stopping.patience=1", "early_stopping.min_delta=100"]
    assert steps_of(tmp_path, *stopping)[0] == 8
    assert steps_of(tmp_path, *stopping, "+trainer.min_epochs=3")[0] == 12
    assert steps_of(tmp_path, *stopping, "+trainer.min_steps=12")[0] == 12
    for override in ("deterministic", "benchmark", "detect_anomaly"):
        assert steps_of(tmp_path, f"+trainer.{override}=true") == (steps, loss)
    with pytest.raises(InputError, match="not a step fits into it"):
        steps_of(tmp_path, "+trainer.max_time='00:00:00:00'")


def test_lanes_do_not_share_what_each_run_counts_by_itself(tmp_path: Path) -> None:
    cfgs = [config("+trainer.accumulate_grad_batches=2", f"lambd={lambd}") for lambd in (1, 2)]
    with pytest.raises(CannotShare, match=r"trainer\.accumulate_grad_batches=2"):
        lanes_that_fit(cfgs, Workshop(cfgs[0]), tmp_path)


@pytest.mark.parametrize("override", ["+task.positive=1", "+model.bais=true", "+schedule.cold=1", "+optimizer.foo=1"])
def test_a_setting_that_a_class_does_not_have(override: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unexpected keyword argument"):
        build(config(override), tmp_path)


@pytest.mark.parametrize(
    "override",
    [
        "model.bias=no",
        "optimizer.nesterov=off",
        "data=diabetes data.standardize=no",
        "data=digits_images model=cnn model.batch_norm=no",
    ],
)
def test_no_and_off_are_not_taken_for_true(override: str, tmp_path: Path) -> None:
    overrides = override.split()
    key, _, value = overrides[-1].partition("=")
    with pytest.raises(InputError, match=f"{key}={value}: must be true or false; use {key}=true or {key}=false"):
        build(config(*overrides), tmp_path)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ("{a.b: vision}", "a word without a dot"),
        ("{mlflow.user: me}", "a word without a dot"),
        ("{overrides: none}", "none of error, folder, kind, overrides"),
        ("{teams: [a, b]}", "a tag has one value, text or a number"),
        ("vision", "must be words and what they say; use 'tags={team: vision}'"),
    ],
)
def test_tags_that_are_refused(tags: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        rules.check(config(f"tags={tags}"))


def test_tags_are_recorded_and_change_nothing_else(tmp_path: Path, store: Path) -> None:
    arguments = ["tags={team: vision, try: 3, api_token: abcdefgh}", "trainer.max_epochs=1"]
    done = train_py("-m", "lambd=1,2", *arguments, cwd=tmp_path, store=store)
    assert done.returncode == 0, done.stderr
    found = runs(store)
    assert len(found) == 3  # the sweep's own run, and two jobs
    for run in found:
        assert (run.data.tags["team"], run.data.tags["try"], run.data.tags["api_token"]) == ("vision", "3", "***")
        assert {name for name in run.data.tags if "." not in name} <= {*rules.OUR_TAGS, "team", "try", "api_token"}
        assert not [name for name in run.data.params if "team" in name or "tags" in name]
        assert "team" not in run.info.run_name
    plain, tagged = config(), config("tags={team: vision}")
    assert fingerprint(recorded(plain)) == fingerprint(recorded(tagged))
    assert params(recorded(plain)) == params(recorded(tagged))
    assert shared_by_lanes(plain) == shared_by_lanes(tagged)
    assert run_name(tagged, ["tags={team: vision}"]) == run_name(plain, [])


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


def test_a_sweep_is_named_by_what_it_sweeps_over() -> None:
    typed = ["data=diabetes", "+tags={team: vision}", "lambd=0,1", "+api_token=hunter7", "tracking.history=all"]
    assert sweep_name(typed) == "lambd=0,1 data=diabetes +api_token=***"
    assert sweep_name(["data.fold=range(5)", "penalty=l1", "lambd=0,1"]) == "lambd=0,1 data.fold=range(5) penalty=l1"
    assert sweep_name([]) == "sweep"
