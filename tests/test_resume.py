"""Runs and lanes that are killed anywhere and resumed from their checkpoint, against those that never were: bitwise."""

import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from conftest import config
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig
from torch import Tensor

from shrinkage import checkpoints
from shrinkage.errors import InputError
from shrinkage.lanes import Lane
from shrinkage.studies.base import varied
from shrinkage.training import LanesTraining, Training, Workshop, build, build_lanes


@pytest.fixture(scope="module", autouse=True)
def a_checkpoint_an_epoch() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "EVERY_SECONDS", -1.0)
        yield


class Killed(SystemExit):
    """What a signal raises, and nobody else."""


class Kill(L.Callback):
    """Ends the training after so many batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def on_train_batch_end(self, *_: object) -> None:
        self.left -= 1
        if not self.left:
            raise Killed


def kill(training: Training | LanesTraining, batches: int | None, checkpoint: Path | None) -> None:
    """Run it, and end it after so many batches, or None for as soon as it polishes."""

    def polishing(done: int, lanes: int) -> None:
        raise Killed

    if batches is None:
        training.module.on_polish = polishing
    else:
        training.trainer.callbacks.append(Kill(batches))
    with suppress(Killed):  # a training that has no so many batches left runs to its end
        training.run(checkpoint)


def disturb() -> None:
    """What another process would have in the place of the random states."""
    torch.manual_seed(999)
    np.random.seed(999)
    random.seed(999)


def assert_same(ours: object, theirs: object, at: str = "") -> None:
    """To the last bit; NaN equals NaN."""
    assert type(ours) is type(theirs), at
    if isinstance(ours, dict):
        assert list(ours) == list(theirs), at
        for key in ours:
            assert_same(ours[key], theirs[key], f"{at}.{key}")
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs), at
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            assert_same(*pair, f"{at}[{number}]")
    elif isinstance(ours, Tensor):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape, at
        assert torch.equal(ours.nan_to_num(nan=1.25), theirs.nan_to_num(nan=1.25)), at
    else:
        assert ours == theirs or (ours != ours and theirs != theirs), f"{at}: {ours} {theirs}"


def end_of(training: Training) -> dict[str, object]:
    """All that a run comes to, and its files."""
    module, kept = training.module, training.checkpoints
    files = {path.name: torch.load(path, weights_only=True) for path in kept.files}
    return {
        "weights": dict(module.model.state_dict()),
        "history": module.history,
        "path": module.path,
        "measured": module.measured,
        "test": training.test,
        "conclusion": training.conclusion,
        "verdict": training.verdict(),
        "best": (kept.best, kept.best_measured, training.best_metrics()),
        "files": files,
    }


def whole(cfg: DictConfig, folder: Path) -> Training:
    training = build(cfg, folder)
    training.run()
    return training


def resumed(cfg: DictConfig, folder: Path, kills: list[int | None]) -> Training:
    """Killed again and again, and resumed."""
    last = folder / "checkpoints" / "last.ckpt"
    for batches in [*kills, 0]:
        training = build(cfg, folder)
        if last.exists():
            disturb()
        checkpoint = last if last.exists() else None
        if batches == 0:
            training.run(checkpoint)
            return training
        kill(training, batches, checkpoint)


def assert_resumes(cfg: DictConfig, *kills: int | None) -> Training:
    with TemporaryDirectory() as folder:
        expected = end_of(whole(cfg, Path(folder) / "whole"))
        training = resumed(cfg, Path(folder) / "killed", list(kills))
        assert_same(end_of(training), expected)
    return training


MODELS = (
    ["model=linear"],
    ["model=linear", "model.init=torch", "certificate=epoch"],
    ["model=mlp", "model.widths=[5]", "model.dropout=0.5"],
)
OPTIMIZERS = (
    ["optimizer=sgd", "optimizer.lr=0.01", "optimizer.momentum=0.8"],
    ["optimizer=sgd", "optimizer.lr=0.01", "penalty=l1", "penalty.mode=prox"],
    ["optimizer=adam", "optimizer.lr=0.01"],
    ["penalty=adamw", "optimizer.lr=0.01"],
)
LENGTHS = (
    ["trainer.max_epochs=6"],
    ["trainer.max_steps=22"],
    ["trainer.max_epochs=12", "early_stopping.patience=1", "early_stopping.min_delta=1e-3"],
    ["trainer.max_epochs=12", "trainer.until_gap=3e-3"],
)
AXES = (
    MODELS,
    OPTIMIZERS,
    LENGTHS,
    (["schedule=constant"], ["schedule=cosine", "schedule.warmup=0.25"]),
    (["trainer.precision=32-true"], ["trainer.precision=64-true"]),
    (["data=d2l", "data.batch_size=5"], ["data=d2l", "data.batch_size=8"], ["data=d2l", "data.batch_size=null"]),
    ([], ["polish=20"]),
    (["lambd=0.1"], ["lambd=1"]),
)


@st.composite
def runs(draw: st.DrawFn) -> list[str]:
    return [override for axis in AXES for override in draw(st.sampled_from(axis))]


@given(runs(), st.lists(st.integers(1, 25), min_size=1, max_size=3))
@settings(max_examples=6, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
def test_a_run_that_is_killed_ends_as_one_that_never_was(overrides: list[str], kills: list[int]) -> None:
    assert_resumes(config(*overrides), *kills)


def together(cfgs: list[DictConfig], folder: Path) -> tuple[LanesTraining, dict[int, Lane], Path]:
    """Lanes to be trained, those that have been handed over, and their checkpoint."""
    ended: dict[int, Lane] = {}
    checkpoint = folder / "lanes.ckpt"
    training = build_lanes(
        cfgs, Workshop(cfgs[0]), folder, lambda lane: ended.update({lane.index: lane}), checkpoint=checkpoint
    )
    return training, ended, checkpoint


def end_of_lane(lane: Lane) -> dict[str, object]:
    """All but the time of day."""
    history = [(step, measured) for step, _, measured in lane.history]
    return vars(lane) | {"history": history, "error": str(lane.error)}


def assert_lanes_resume(cfgs: list[DictConfig], *kills: int | None) -> None:
    with TemporaryDirectory() as folder:
        training, expected, _ = together(cfgs, Path(folder) / "whole")
        training.run()
        recorded: dict[int, Lane] = {}
        for batches in [*kills, 0]:
            training, ended, checkpoint = together(cfgs, Path(folder) / "killed")
            before = torch.load(checkpoint, weights_only=True)["lanes"] if checkpoint.exists() else None
            if before is not None:
                disturb()
            start = checkpoint if before is not None else None
            if batches == 0:
                training.run(start)
            else:
                kill(training, batches, start)
            if before is not None:
                assert set(ended) <= set(before["index"][before["running"]].tolist())
            for index in ended.keys() & recorded.keys():
                assert_same(end_of_lane(ended[index]), end_of_lane(recorded[index]), f"again {index}")
            recorded |= ended
        assert set(recorded) == set(expected) == set(range(len(cfgs)))
        for index, lane in recorded.items():
            assert_same(end_of_lane(lane), end_of_lane(expected[index]), str(index))
