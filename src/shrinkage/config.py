"""The composed config: what a person may type, and how a run is named and recorded by it.

Light on purpose: a typo is answered before PyTorch is imported.
"""

import math
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from shrinkage.errors import InputError

KEYS = {
    "data",
    "task",
    "metrics",
    "model",
    "penalty",
    "optimizer",
    "schedule",
    "trainer",
    "tracking",
    "early_stopping",
    "lambd",
    "seed",
    "study",
    "metric",
    "refit",
    "export",
}
LARGEST = 2**63 - 1  # of whole numbers, to most of those that they are handed to
# What the config of every run has: settings of their own, values, and what is true or false.
BUILT = ("data", "task", "model", "penalty", "optimizer", "schedule", "trainer")
SECTIONS = (*BUILT, "metrics", "tracking", "early_stopping", "choices")
VALUES = (
    "lambd",
    "seed",
    "threads",
    "progress",
    "certificate",
    "polish",
    "dynamics",
    "metric",
    "refit",
    "export",
    "study",
)
BOOLEANS = (
    "progress",
    "tracking.enabled",
    "data.standardize",
    "data.refit",
    "data.tidy",
    "model.bias",
    "optimizer.nesterov",
    "skip_finished",
)
CERTIFICATES = ("end", "epoch", "exact")
GROUPS = ("data", "model", "penalty", "optimizer")


def complete(cfg: DictConfig) -> dict:
    """The config without interpolations. Raises InputError where one leads nowhere, or something is missing."""
    try:
        tree = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        words = " ".join(str(error).split())
        if found := re.search(r"Environment variable '(\w+)' not found.* full_key: (\S+)", words):
            variable, key = found.groups()
            raise InputError(f"{key}: it is read from {variable}, which is not set; export {variable}=…") from None
        raise InputError(f"the config has a value that leads nowhere: {words}") from None
    for key in SECTIONS:
        if not isinstance(tree.get(key), dict):
            raise InputError(
                f"{key}={tree.get(key)}: the config needs the settings of this name; leave them as they are"
            )
    for key in BUILT:
        if not isinstance(target := tree[key].get("_target_"), str):
            raise InputError(f"{key}._target_={target}: must name a class; leave it as conf/{key} has it")
    for key in VALUES:
        if key not in tree:
            raise InputError(f"{key} is missing: the config needs a value of this name; leave it as it is")
    study = tree["study"]
    if study is not None and not (isinstance(study, dict) and "." in str(study.get("_target_"))):
        raise InputError(f"study={study}: the experiments set it; use experiment=… or study=null")
    return tree


def check(cfg: DictConfig) -> None:
    """Raises InputError for the first value that no run can use; a class checks its own arguments when it is built."""
    tree = complete(cfg)
    for key in BOOLEANS:
        boolean(tree, key)
    number(tree, "lambd", least=0, rule="λ must be ≥ 0", way_out="use penalty=none for no penalty")
    whole(tree, "seed", least=0, way_out="use seed=0")
    whole(tree, "threads", least=1, most=1024, way_out="use threads=null to have it chosen", optional=True)
    number(tree, "optimizer.lr", above=0, rule="a learning rate must be > 0", way_out="use optimizer.lr=0.01")
    number(
        tree,
        "optimizer.momentum",
        least=0,
        below=1,
        rule="must be 0 ≤ μ < 1",
        way_out="use optimizer.momentum=0.9",
    )
    betas = value_at(tree, "optimizer.betas", [0.9, 0.999])
    if not (isinstance(betas, list) and len(betas) == 2 and all(type(b) in (int, float) and 0 <= b < 1 for b in betas)):
        raise InputError(f"optimizer.betas={betas}: must be two numbers, 0 ≤ β < 1; use optimizer.betas=[0.9,0.999]")
    number(tree, "optimizer.eps", least=0, rule="must be ≥ 0", way_out="use optimizer.eps=1e-8")
    whole(tree, "data.seed", least=0, most=2**32 - 1, way_out="use data.seed=0")
    whole(
        tree,
        "early_stopping.patience",
        least=1,
        way_out="use early_stopping.patience=null for none",
        optional=True,
    )
    number(
        tree,
        "early_stopping.min_delta",
        least=0,
        rule="a change must be ≥ 0",
        way_out="use early_stopping.min_delta=0",
    )
    whole(tree, "trainer.max_steps", least=-1, way_out="use trainer.max_steps=-1 to count epochs")
    if not (isinstance(cfg.tracking.offline, bool) or cfg.tracking.offline == "auto"):
        raise InputError(
            f"tracking.offline={cfg.tracking.offline}: must be true, false or auto; use tracking.offline=auto"
        )
    if not (isinstance(cfg.dynamics, bool) or cfg.dynamics == "auto"):
        raise InputError(f"dynamics={cfg.dynamics}: must be true, false or auto; use dynamics=auto")
    if cfg.on_error not in ("continue", "stop"):
        raise InputError(f"on_error={cfg.on_error}: must be continue or stop; use on_error=continue")
    devices, accelerator = (tree["trainer"].get(key) for key in ("devices", "accelerator"))
    is_count = type(devices) is int and devices >= 1
    is_named = isinstance(devices, list) and devices and all(type(number) is int and number >= 0 for number in devices)
    if not is_count and not (is_named and accelerator not in ("cpu", "auto")):
        raise InputError(
            f"trainer.devices={devices}: must be how many devices a run is trained on; use trainer.devices=1, or [0] "
            "for the first GPU"
        )
    cores = os.cpu_count() or 1
    if is_count and accelerator == "cpu" and devices > cores:
        raise InputError(
            f"trainer.devices={devices}: each of so many processes takes a core, and this machine has {cores}; use "
            f"trainer.devices={cores}"
        )
    for key, example in (("trainer.accelerator", "cpu"), ("trainer.precision", "32-true")):
        if isinstance(name := value_at(tree, key, example), list | dict):
            raise InputError(f"{key}={name}: must be one of Lightning's names; use {key}={example}")
    algorithm = tree["trainer"].get("gradient_clip_algorithm")
    if algorithm not in (None, "norm", "value"):
        raise InputError(f"trainer.gradient_clip_algorithm={algorithm}: must be norm or value; use null for norm")
    if tree["trainer"].get("gradient_clip_val") is not None:
        number(
            tree, "trainer.gradient_clip_val", above=0, rule="must be > 0", way_out="use trainer.gradient_clip_val=1"
        )
    uri = value_at(tree, "tracking.uri")
    if uri is not None and not isinstance(uri, str):
        raise InputError(f"tracking.uri={uri}: must be a store's address; use tracking.uri=null for mlflow.db here")
    for key in ("tracking.experiment", "metric"):
        if not isinstance(name := value_at(tree, key), str) or not name:
            raise InputError(f"{key}={name}: must be a name, in quotes where it is a number")
    if cfg.tracking.history not in ("thin", "all"):
        raise InputError(
            f"tracking.history={cfg.tracking.history}: must be thin or all; use tracking.history=all for every epoch"
        )
    whole(tree, "polish", least=0, way_out="use polish=20, or polish=0 for none")
    if cfg.certificate not in CERTIFICATES:
        raise InputError(
            f"certificate={cfg.certificate}: must be one of {', '.join(CERTIFICATES)}; use certificate=end"
        )
    if cfg.trainer.until_gap is not None:
        number(tree, "trainer.until_gap", above=0, rule="a gap must be > 0", way_out="use trainer.until_gap=1e-6")
    if cfg.refit not in (None, "min", "1se"):
        raise InputError(f"refit={cfg.refit}: must be min (the λ of the smallest mean) or 1se; use refit=null for none")
    if cfg.export is not None and not re.fullmatch(r"\s*[^/:\s][^/:]*", str(cfg.export)):
        raise InputError(f"export={cfg.export}: a model has a name, with no / and no : in it; use export=houses")
    counted_in_steps = cfg.trainer.max_steps > 0
    whole(tree, "trainer.max_epochs", least=1, way_out="use trainer.max_epochs=10", optional=counted_in_steps)
    if cfg.trainer.max_steps == 0:
        raise InputError("trainer.max_steps=0: a run must take a step; use trainer.max_steps=-1 to count epochs")


def number(
    cfg: Mapping,
    key: str,
    *,
    rule: str,
    way_out: str,
    least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> None:
    """Raises InputError unless the value is finite, ≥ least, > above and < below; a missing key is no error."""
    value = value_at(cfg, key, least if math.isfinite(least) else 1.0)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{key}={value}: {rule}, and a number; {way_out}")
    finite = abs(value) <= sys.float_info.max
    if not (finite and value >= least and value > above and value < below):
        raise InputError(f"{key}={value}: {rule}{'' if finite else ' and finite'}; {way_out}")


def whole(cfg: Mapping, key: str, *, least: int, way_out: str, most: int = LARGEST, optional: bool = False) -> None:
    """Raises InputError unless the value is a whole number ≥ least and ≤ most, or null where it is optional."""
    value = value_at(cfg, key, least)
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{key}={value}: must be a whole number ≥ {least}; {way_out}")
    if value > most:
        raise InputError(f"{key}={value}: must be ≤ {most}; {way_out}")


def boolean(cfg: Mapping, key: str) -> None:
    """Raises InputError unless the value is true or false; no and off are text to Hydra, and so would be true."""
    value = value_at(cfg, key, True)
    if not isinstance(value, bool):
        raise InputError(f"{key}={value}: must be true or false; use {key}=true or {key}=false")


def value_at(cfg: Mapping, key: str, default: object = None) -> object:
    """The value of a dotted key; the default where there is none."""
    for name in key.split("."):
        if not isinstance(cfg, Mapping) or name not in cfg:
            return default
        cfg = cfg[name]
    return cfg


def devices(cfg: DictConfig) -> int:
    """How many devices a run is trained on."""
    given = cfg.trainer.devices
    return given if isinstance(given, int) else len(given)


def root_of(hydra: DictConfig) -> Path:
    """The folder of train.py, told from where Hydra found conf/; the current one where Hydra was given none."""
    found = [source.path for source in hydra.runtime.config_sources if source.provider == "main"]
    return Path(found[0]).parent if found else Path.cwd()


def exports(cfg: Mapping) -> bool:
    """Whether a run ends with a model to take away; where a sweep will refit, only the refitted one does."""
    return cfg["export"] is not None and cfg["refit"] is None


def step_unit(cfg: Mapping) -> str:
    """What a metric's step counts: optimiser steps where trainer.max_steps counts the run, else epochs."""
    steps = cfg["trainer"]["max_steps"]
    return "step" if isinstance(steps, int) and steps > 0 else "epoch"


# Quotes text that would be read back as a number.
