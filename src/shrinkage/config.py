"""What the composed config says: values that several rooms ask it for. What it must be is in `rules.py`.

Light on purpose: a typo is answered before PyTorch is imported.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from hydra.conf import HydraConf

BUILT = ("data", "task", "model", "penalty", "optimizer", "schedule", "trainer")  # sections that name a class
GROUPS = ("data", "model", "penalty", "optimizer")  # whose choices tell what a run is, and are recorded as params

# What only steps read: where trainer=exact solves a problem without any, these change nothing and are not recorded.
OF_STEPS = (
    *("optimizer", "schedule", "early_stopping", "polish", "dynamics", "data.batch_size", "model.init", "model.sigma"),
    *("penalty.mode", "penalty.rate", "trainer.max_epochs", "trainer.max_steps", "trainer.until_gap"),
    *("trainer.gradient_clip_val", "trainer.gradient_clip_algorithm", "trainer.accumulate_grad_batches"),
    *("trainer.limit_train_batches", "trainer.max_time", "trainer.min_epochs", "trainer.min_steps"),
)


def as_dict(cfg: Mapping[str, Any], *, resolve: bool = True, throw_on_missing: bool = False) -> dict[str, Any]:
    """Turn a config into plain dicts and lists; its interpolations stay as they are written unless `resolve`.

    A config that is one already is taken as it is. Raises OmegaConf's errors for an interpolation that leads nowhere,
    and with throw_on_missing for a value that is missing.
    """
    if not isinstance(cfg, DictConfig):
        return dict(cfg)
    tree = OmegaConf.to_container(cfg, resolve=resolve, throw_on_missing=throw_on_missing)
    assert isinstance(tree, dict)  # as of every DictConfig
    return {str(key): value for key, value in tree.items()}


def value_at(cfg: Mapping[str, Any], key: str, default: object = None) -> object:
    """Look up the value of a dotted key; the default if there is none."""
    value: Any = cfg
    for name in key.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return default
        value = value[name]
    return value


def is_exact(cfg: Mapping[str, Any]) -> bool:
    """Whether a run is solved by an exact engine, and not trained by steps (trainer=exact)."""
    return "gap" in cfg["trainer"]


@functools.cache
def is_of_steps(key: str) -> bool:
    """Whether only a training by steps reads a dotted key."""
    return any(key == each or key.startswith(f"{each}.") for each in OF_STEPS)


def devices(cfg: Mapping[str, Any]) -> int:
    """Count the devices that a run is trained on."""
    given = cfg["trainer"]["devices"]
    return given if isinstance(given, int) else len(given)


def root_of(hydra: "DictConfig | HydraConf") -> Path:
    """Find the folder beside whose conf/ a train.py stands; the current folder for the command `shrinkage`."""
    sources = hydra.runtime.config_sources
    found = [source.path for source in sources if source.provider == "main" and source.schema == "file"]
    return Path(found[0]).parent if found else Path.cwd()


def config_flags(hydra: "DictConfig | HydraConf") -> list[str]:
    """List the flags by which a person has added a folder of configs, or chosen another config than train.yaml."""
    added = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    flags = [f"--config-dir={path}" for path in added]
    return flags if hydra.job.config_name == "train" else [*flags, f"--config-name={hydra.job.config_name}"]


def exports(cfg: Mapping[str, Any]) -> bool:
    """Whether a run ends with a model to take away; of a sweep that refits only the refitted one does."""
    return cfg["export"] is not None and cfg["refit"] is None


def step_unit(cfg: Mapping[str, Any]) -> str:
    """Say what a metric's step counts: optimiser steps if trainer.max_steps counts the run, else epochs."""
    steps = cfg["trainer"]["max_steps"]
    return "step" if isinstance(steps, int) and steps > 0 else "epoch"
