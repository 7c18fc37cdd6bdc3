"""What every study is: a question, answered by training or by computing."""

import pickle
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from omegaconf import DictConfig, OmegaConf

from shrinkage.data.base import Part
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


def varied(cfg: DictConfig, **numbers: object) -> DictConfig:
    """Copy a config with some of its values changed; `data__seed` stands for data.seed."""
    changed = pickle.loads(pickle.dumps(cfg))
    for key, value in numbers.items():
        OmegaConf.update(changed, key.replace("__", "."), value)
    return changed


def trained(cfg: DictConfig, label_noise: float = 0.0) -> Training:
    """Train one run that is not recorded by itself. label_noise: the share of rows whose class is drawn anew."""
    with TemporaryDirectory() as folder:
        training = build(cfg, Path(folder), "training")
        if label_noise:
            train = training.datamodule.parts["train"]
            random = np.random.default_rng(cfg.data.seed)
            anew = random.random(len(train)) < label_noise
            drawn = random.integers(training.datamodule.classes, size=len(train))
            training.datamodule.parts["train"] = Part(train.x, np.where(anew, drawn, train.y))
        training.run()
    return training


def trained_together(cfgs: Sequence[DictConfig]) -> list[Lane]:
    """Train runs together that differ in λ, seed, data.seed or the penalty's own numbers; in their order.

    Raises what went wrong with the first run that failed, and InputError if they cannot share a training.
    """
    lanes: dict[int, Lane] = {}
    with TemporaryDirectory() as folder:
        workshop = Workshop(cfgs[0])
        try:
            lanes_that_fit(cfgs, workshop, Path(folder))
            build_lanes(cfgs, workshop, Path(folder), lambda lane: lanes.setdefault(lane.index, lane)).run()
        except CannotShare as reason:
            raise InputError(
                f"the study trains its runs together, and these cannot share a training: {reason}"
            ) from None
    for lane in lanes.values():
        if lane.error is not None:
            raise lane.error
    return [lanes[index] for index in range(len(cfgs))]
