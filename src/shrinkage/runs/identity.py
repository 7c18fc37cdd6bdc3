"""What a run is: its params, its name, its fingerprint, and which runs may be trained together."""

import hashlib
import json
import math
from collections.abc import Iterator

from omegaconf import DictConfig, ListConfig, OmegaConf

from shrinkage import split
from shrinkage.config import GROUPS, step_unit

from .old_configs import as_first_recorded

# What a command does with runs, and not what a run is: no run records it.
COMMAND = ("resume", "rerun", "resume_sweep", "skip_finished", "on_error")
# What does not change the numbers that a run comes to; threads change their rounding alone.
WITHOUT_EFFECT = (
    *("tracking", "progress", "threads", "metric", "metrics", "refit", "export", "choices", "dynamics", "tags"),
)
# Overrides that a run's name has in words of its own, or that tell no two runs apart.
IN_NAME_ALREADY = {
    *GROUPS,
    *("lambd", "seed", "experiment", "metric", "refit", "export", *COMMAND),
    *("data.path", "data.target", split.FOLDS, *split.OF_FOLDS, "data.refit"),
    *("data.batch_size", "trainer.until_gap", "polish", "model.init", "model.sigma"),
}


def leaves(node: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """List every leaf of a resolved config by its dotted key; a list is one leaf, and so are patterns with values."""
    for key, value in node.items():
        if isinstance(value, dict | DictConfig) and all(str(name).isidentifier() for name in value):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(value) if isinstance(value, ListConfig) else value


def recorded(cfg: DictConfig) -> dict:
    """Resolve a config as a run records it: without interpolations, and without the keys of the command alone."""
    tree = OmegaConf.to_container(cfg, resolve=True)
    return {key: value for key, value in tree.items() if key not in COMMAND}


def fingerprint(resolved: dict) -> str:
    """Compute 16 hexadecimal digits that two recorded configs share if they come to the same numbers."""
    tree = {key: value for key, value in as_first_recorded(resolved).items() if key not in WITHOUT_EFFECT}
    return hashlib.sha256(json.dumps(tree, sort_keys=True, default=str).encode()).hexdigest()[:16]


def params(resolved: dict) -> dict[str, object]:
    """List a run's params: the chosen names of the groups, and every leaf of the config but a person's own tags."""
    tree = {key: value for key, value in resolved.items() if key not in ("choices", "tags")}
    return resolved["choices"] | dict(leaves(tree)) | {"step_unit": step_unit(resolved)}


def own_tags(cfg: DictConfig) -> dict[str, str]:
    """List the tags that a person has given a run, as text."""
    return {str(name): str(value) for name, value in (cfg.tags or {}).items()}


def shared_by_lanes(cfg: DictConfig) -> str:
    """Write what lanes of one training have in common: all but λ, the seed, tags and the penalty's own numbers."""
    tree = OmegaConf.to_container(cfg, resolve=True)
    del tree["lambd"], tree["seed"], tree["tags"]
    tree["penalty"] = {
        key: "a number" if isinstance(value, int | float) and not isinstance(value, bool) else value
        for key, value in tree["penalty"].items()
    }
    return json.dumps(tree, sort_keys=True, default=str)


def setting(overrides: list[str]) -> dict[str, str]:
    """Read overrides as keys and values: `+a.b=1` is {"a.b": "1"}."""
    return {key.lstrip("+~"): value for key, _, value in (override.partition("=") for override in overrides)}


def strength(lambd: float) -> dict[str, float]:
    """Give λ as metrics, since params are text to MLflow, which neither sorts nor plots; no logarithm at λ = 0."""
    return {"lambd": float(lambd)} | ({"log10_lambd": math.log10(lambd)} if lambd > 0 else {})


def run_name(cfg: DictConfig, overrides: list[str]) -> str:
    """Name a run by what was chosen: `l1 λ=3 seed=0`, the data and model if they were chosen, other overrides.

    What the runs of a sweep differ in comes first: a row of MLflow's table shows some twenty characters.
    """
    choices = cfg.choices
    chosen = setting(overrides)
    strength = f"{cfg.lambd:g}" if isinstance(cfg.lambd, float) else cfg.lambd
    words = [choices.penalty, f"λ={strength}"]
    if any(key in chosen for key in split.OF_FOLDS):
        words.append(split.name_fold(cfg.data))
    if cfg.data.get("refit"):
        words.append("refit")
    words += [f"seed={cfg.seed}", *(choices[group] for group in ("data", "model") if group in chosen)]
    if cfg.study is not None:
        words = [cfg.study._target_.split(".")[-2]]  # the study's file
    apart = [key for key in chosen if key not in IN_NAME_ALREADY and key.split(".")[0] not in ("tracking", "tags")]
    words += [f"{key}={chosen[key]}" for key in apart]
    return " ".join(words)[:250]


# What a run that goes on takes from the command that resumes it; all else is as it was.
FROM_COMMAND = ("tracking", "progress", *COMMAND)
