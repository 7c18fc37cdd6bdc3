"""What every study is: a question, answered by training or by computing."""

import pickle
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from omegaconf import DictConfig, OmegaConf

from shrinkage.data.base import DataModule, Part
from shrinkage.data.d2l import D2L
from shrinkage.errors import InputError
from shrinkage.report.findings import Findings
from shrinkage.training.lane import Lane
from shrinkage.training.lanes_training import build_lanes, lanes_that_fit
from shrinkage.training.run import Training, build
from shrinkage.training.sharing import CannotShare
from shrinkage.training.workshop import Workshop


class Study(ABC):
    """A question and how it is answered. A subclass is a frozen dataclass of its own numbers."""

    @abstractmethod
    def run(self, cfg: DictConfig) -> Findings:
        """Answer the question for the problem of a config. Raises InputError if the config does not fit it."""


def require(cfg: DictConfig, needed: Mapping[str, object], words: str) -> None:
    """Require values of the config that a study is about. words: why, in the error of the first other value.

    Raises InputError.
    """
    for key, value in needed.items():
        given, name = OmegaConf.select(cfg, key), key.removeprefix("choices.")
        if given != value:
            raise InputError(f"{name}={given}: {words} {value}; use {name}={value}")


def vary(cfg: DictConfig, **numbers: object) -> DictConfig:
    """Copy a config with some of its values changed; `data__seed` stands for data.seed."""
    changed = pickle.loads(pickle.dumps(cfg))
    for key, value in numbers.items():
        OmegaConf.update(changed, key.replace("__", "."), value)
    return changed


def known_linear_data(cfg: DictConfig) -> D2L:
    """Draw data whose true coefficients are known, as data=d2l has them. Raises InputError for other data."""
    if cfg.data._target_ != f"{D2L.__module__}.{D2L.__name__}":
        raise InputError(f"data={cfg.choices.data}: the study must know the true coefficients; use data=d2l")
    datamodule = Workshop(cfg).datamodule
    assert isinstance(datamodule, D2L)
    return datamodule


def train_one(cfg: DictConfig, label_noise: float = 0.0) -> Training:
    """Train one run that is not recorded by itself.

    label_noise: the share of training rows whose class is drawn anew. Raises InputError if the data have no classes.
    """
    with TemporaryDirectory() as folder:
        training = build(cfg, Path(folder), "training")
        if label_noise:
            draw_labels_anew(training.datamodule, label_noise, cfg.data.seed)
        training.run()
    return training


def draw_labels_anew(datamodule: DataModule, share: float, seed: int) -> None:
    """Give a share of the training rows a class that is drawn at random. Raises InputError if the data have none."""
    if datamodule.classes is None:
        raise InputError(f"label_noise={share}: these data have no classes to draw from; use data that have some")
    train = datamodule.parts["train"]
    random = np.random.default_rng(seed)
    anew = random.random(len(train)) < share
    drawn = random.integers(datamodule.classes, size=len(train))
    datamodule.parts = {**datamodule.parts, "train": Part(train.x, np.where(anew, drawn, train.y))}


def train_together(cfgs: Sequence[DictConfig]) -> list[Lane]:
    """Train runs together that differ in λ, seed, data.seed or the penalty's own numbers; in their order.

    Raises what went wrong with the first run that failed, and InputError if they cannot share a training.
    """
    lanes: dict[int, Lane] = {}

    def keep(lane: Lane) -> None:
        lanes[lane.index] = lane

    with TemporaryDirectory() as folder:
        workshop = Workshop(cfgs[0])
        try:
            lanes_that_fit(cfgs, workshop, Path(folder))
            build_lanes(cfgs, workshop, Path(folder), keep).run()
        except CannotShare as reason:
            raise InputError(
                f"the study trains its runs together, and these cannot share a training: {reason}"
            ) from None
    for lane in lanes.values():
        if lane.error is not None:
            raise lane.error
    return [lanes[index] for index in range(len(cfgs))]
