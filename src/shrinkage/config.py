"""The composed config: what a person may type, and how a run is named and recorded by it.

Light on purpose: a typo is answered before PyTorch is imported.
"""

import math
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig, ListConfig, OmegaConf

from shrinkage.errors import InputError

GROUPS = ("data", "model", "penalty", "optimizer")


def check(cfg: DictConfig) -> None:
    """Raises InputError for the first value that no run can use; a class checks its own arguments when it is built."""
    number(cfg, "lambd", least=0, rule="λ must be ≥ 0", way_out="use penalty=none for no penalty")
    whole(cfg, "seed", least=0, way_out="use seed=0")
    whole(cfg, "threads", least=1, way_out="use threads=null to have it chosen", optional=True)
    number(cfg, "optimizer.lr", above=0, rule="a learning rate must be > 0", way_out="use optimizer.lr=0.01")
    number(
        cfg,
        "optimizer.momentum",
        least=0,
        below=1,
        rule="must be 0 ≤ μ < 1",
        way_out="use optimizer.momentum=0.9",
    )
    whole(cfg, "data.seed", least=0, way_out="use data.seed=0")
    whole(
        cfg,
        "early_stopping.patience",
        least=1,
        way_out="use early_stopping.patience=null for none",
        optional=True,
    )
    whole(cfg, "trainer.max_steps", least=-1, way_out="use trainer.max_steps=-1 to count epochs")
    counted_in_steps = cfg.trainer.max_steps > 0
    whole(cfg, "trainer.max_epochs", least=1, way_out="use trainer.max_epochs=10", optional=counted_in_steps)
    if cfg.trainer.max_steps == 0:
        raise InputError("trainer.max_steps=0: a run must take a step; use trainer.max_steps=-1 to count epochs")


def number(
    cfg: DictConfig,
    key: str,
    *,
    rule: str,
    way_out: str,
    least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> None:
    """Raises InputError unless the value is finite, ≥ least, > above and < below; a missing key is no error."""
    value = OmegaConf.select(cfg, key, default=least if math.isfinite(least) else 1.0)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{key}={value}: {rule}, and a number; {way_out}")
    if not (math.isfinite(value) and value >= least and value > above and value < below):
        raise InputError(f"{key}={value}: {rule}{'' if math.isfinite(value) else ' and finite'}; {way_out}")


def whole(cfg: DictConfig, key: str, *, least: int, way_out: str, optional: bool = False) -> None:
    """Raises InputError unless the value is a whole number ≥ least, or null where it is optional."""
    value = OmegaConf.select(cfg, key, default=least)
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{key}={value}: must be a whole number ≥ {least}; {way_out}")


def root_of(hydra: DictConfig) -> Path:
    """The folder of train.py, told from where Hydra found conf/; the current one where Hydra was given none."""
    found = [source.path for source in hydra.runtime.config_sources if source.provider == "main"]
    return Path(found[0]).parent if found else Path.cwd()


def leaves(node: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every leaf of a resolved config by its dotted key; a list is one leaf."""
    for key, value in node.items():
        if isinstance(value, dict | DictConfig):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(value) if isinstance(value, ListConfig) else value


def params(resolved: dict) -> dict[str, object]:
    """What the run records as its params: the chosen names of the groups, and every leaf of the config."""
    tree = {key: value for key, value in resolved.items() if key != "choices"}
    return resolved["choices"] | dict(leaves(tree)) | {"step_unit": step_unit(OmegaConf.create(resolved))}


def step_unit(cfg: DictConfig) -> str:
    """What a metric's step counts: optimiser steps where trainer.max_steps counts the run, else epochs."""
    steps = cfg.trainer.max_steps
    return "step" if isinstance(steps, int) and steps > 0 else "epoch"


def setting(overrides: list[str]) -> dict[str, str]:
    """Overrides as keys and values: `+a.b=1` is {"a.b": "1"}."""
    return {key.lstrip("+~"): value for key, _, value in (override.partition("=") for override in overrides)}


def strength(lambd: float) -> dict[str, float]:
    """λ as metrics, since params are text to MLflow, which neither sorts nor plots; no logarithm at λ = 0."""
    return {"lambd": float(lambd)} | ({"log10_lambd": math.log10(lambd)} if lambd > 0 else {})


def run_name(cfg: DictConfig, overrides: list[str]) -> str:
    """What differs, readable: `l1 λ=3 seed=0`, the data and model where they were chosen, other overrides."""
    choices = cfg.choices
    chosen = setting(overrides)
    strength = f"{cfg.lambd:g}" if isinstance(cfg.lambd, int | float) else cfg.lambd
    words = [choices[group] for group in ("data", "model") if group in chosen]
    words += [choices.penalty, f"λ={strength}", f"seed={cfg.seed}"]
    told = {*GROUPS, "lambd", "seed", "data.path", "data.target", "experiment"}
    words += [f"{key}={value}" for key, value in chosen.items() if key not in told and not key.startswith("tracking")]
    return " ".join(words)[:250]
