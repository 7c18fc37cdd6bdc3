"""What the composed config says: values that several rooms ask it for. What it must be is in `rules.py`.

Light on purpose: a typo is answered before PyTorch is imported.
"""

from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig

BUILT = ("data", "task", "model", "penalty", "optimizer", "schedule", "trainer")  # sections that name a class
GROUPS = ("data", "model", "penalty", "optimizer")  # whose choices tell what a run is, and are recorded as params


def value_at(cfg: Mapping, key: str, default: object = None) -> object:
    """Look up the value of a dotted key; the default if there is none."""
    for name in key.split("."):
        if not isinstance(cfg, Mapping) or name not in cfg:
            return default
        cfg = cfg[name]
    return cfg


def devices(cfg: DictConfig) -> int:
    """Count the devices that a run is trained on."""
    given = cfg.trainer.devices
    return given if isinstance(given, int) else len(given)


def root_of(hydra: DictConfig) -> Path:
    """Find the folder of train.py, where Hydra's conf/ is; the current folder if Hydra was given none."""
    found = [source.path for source in hydra.runtime.config_sources if source.provider == "main"]
    return Path(found[0]).parent if found else Path.cwd()


def exports(cfg: Mapping) -> bool:
    """Whether a run ends with a model to take away; of a sweep that refits only the refitted one does."""
    return cfg["export"] is not None and cfg["refit"] is None


def step_unit(cfg: Mapping) -> str:
    """Say what a metric's step counts: optimiser steps if trainer.max_steps counts the run, else epochs."""
    steps = cfg["trainer"]["max_steps"]
    return "step" if isinstance(steps, int) and steps > 0 else "epoch"
