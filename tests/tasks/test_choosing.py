"""A loss that is chosen by `task=`: what target it takes, what it trains to, and what is refused in one line."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import config

from shrinkage.data.target import FEW
from shrinkage.errors import InputError
from shrinkage.optimum.certifier import Certifier
from shrinkage.training.lanes_training import build_lanes
from shrinkage.training.run import Training, build
from shrinkage.training.workshop import Workshop


def rows(y: np.ndarray | list) -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame({"a": random.normal(size=len(y)), "b": random.normal(size=len(y)), "y": y})


def counts() -> pd.DataFrame:
    """Few different whole numbers, which would be read as classes where nothing else is asked for."""
    frame = rows(np.zeros(60))
    return frame.assign(y=np.random.default_rng(1).poisson(np.exp(frame.a / 2)))


def chosen(frame: pd.DataFrame, folder: Path, *overrides: str) -> list[str]:
    frame.to_csv(folder / "rows.csv", index=False)
    return ["data=table", f"data.path={folder / 'rows.csv'}", "data.target=y", *overrides]


def trained(frame: pd.DataFrame, folder: Path, *overrides: str) -> Training:
    training = build(config(*chosen(frame, folder, *overrides)), folder)
    training.run()
    return training


@pytest.mark.parametrize(
    ("task", "y", "words"),
    [
        (
            "poisson",
            [-1, 2, 3, 0],
            "task=poisson: the target has a value of -1, and counts are 0 or more; mend the rows",
        ),
        ("gamma", [0, 2.5, 3, 1], "task=gamma: the target has a value of 0, and a gamma .* numbers above 0; mend the"),
        ("poisson", ["u", "v", "u", "v"], "the column has text, such as"),
        ("huber", ["u", "v", "u", "v"], "task=huber: the target of these data is one of 2 classes; use task=auto"),
        (
            "poisson data.task=classification",
            [0, 1, 2, 3],
            "task=poisson: the target of these data is one of some classes",
        ),
        ("huber task.threshold=0", [0.5, 1, 2, 4], "task.threshold=0: must be a number > 0; use task.threshold=1.345"),
        ("huber task.threshold=a", [0.5, 1, 2, 4], "task.threshold=a: must be a number > 0; use task.threshold=1.345"),
        (
            "poisson polish=5",
            [0, 1, 2, 3],
            "polish=5: the loss of Poisson is curved without bound, .* use trainer=exact",
        ),
        ("gamma metrics=[f1]", [0.5, 1, 2, 4], "metrics=f1: it measures predictions of classes"),
    ],
)
def test_a_target_that_a_loss_does_not_take(task: str, y: list, words: str, tmp_path: Path) -> None:
    """Also where the row that is wrong is in no training part."""
    for order in (y, y[::-1]):
        cfg = config(*chosen(rows(order * 10), tmp_path, *f"task={task}".split()))
        with pytest.raises(InputError, match=words):
            build(cfg, tmp_path)


def test_counts_of_0_alone_have_nothing_to_learn(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it is 0 in every row, there is nothing to learn"):
        build(config(*chosen(rows([0] * 40), tmp_path, "task=poisson")), tmp_path)


@pytest.mark.parametrize("task", ["poisson", "gamma", "huber"])
def test_a_run_without_steps_is_certified_and_one_of_steps_tends_to_the_same_optimum(task: str, tmp_path: Path) -> None:
    frame = counts() if task != "gamma" else counts().assign(y=lambda frame: frame.y + 0.5)
    common = [f"task={task}", "penalty=l2", "lambd=0.1", "data.task=regression", "certificate=exact"]
    exact = trained(frame, tmp_path, *common, "trainer=exact")
    assert exact.verdict().startswith("converged") and isinstance(exact.module.certifier, Certifier)
    steps = ["data.batch_size=null", "optimizer.lr=0.3", "trainer.max_epochs=300", "trainer.precision=64-true"]
    stepped = trained(frame, tmp_path, *common, *steps)
    loss = stepped.module.measured["train/objective"]
    assert loss == pytest.approx(exact.module.measured["train/objective"], rel=1e-9)
    assert stepped.conclusion["optimum/gap"] <= 1e-9 and stepped.conclusion["optimum/weight_distance"] <= 1e-4
    assert not any(name.startswith("equivalent.") for name in exact.tags)  # those of other losses


def test_counts_are_read_as_numbers_without_asking_and_lanes_are_the_runs(tmp_path: Path) -> None:
    """Few different whole numbers would be classes where the task is left to the data."""
    assert counts().y.nunique() <= FEW
    overrides = chosen(counts(), tmp_path, "task=poisson", "trainer.max_epochs=3", "lambd=0.1", "optimizer.lr=0.05")
    cfgs = [config(*overrides, f"seed={seed}", f"data.seed={seed}") for seed in (0, 1)]
    ended = []
    build_lanes(cfgs, Workshop(cfgs[0]), tmp_path, ended.append).run()
    for cfg, lane in zip(cfgs, sorted(ended, key=lambda lane: lane.index), strict=True):
        training = build(cfg, tmp_path)
        training.run()
        assert training.datamodule.classes is None and training.datamodule.scale == 1
        for name in ("train/objective", "val/deviance", "val/d2", "val/mae"):
            assert lane.measured[name] == pytest.approx(training.module.measured[name], rel=1e-5)


def test_counts_that_only_one_kind_of_rows_has_are_refused_without_a_penalty(tmp_path: Path) -> None:
    frame = counts().assign(b=lambda frame: frame.b > 0).assign(y=lambda frame: np.where(frame.b, frame.y, 0))
    training = build(config(*chosen(frame, tmp_path, "task=poisson", "trainer=exact", "penalty=none")), tmp_path)
    with pytest.raises(InputError, match=r"weights can lower the rates of some .*; use penalty=l2 lambd="):
        training.run()
