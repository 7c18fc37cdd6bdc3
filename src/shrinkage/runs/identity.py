"""What a run is: its params, its name, its fingerprint, and which runs may be trained together."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, ListConfig

from shrinkage import split
from shrinkage.config import GROUPS, as_dict, is_exact, is_of_steps, step_unit
from shrinkage.machine.secrets import masked_override
from shrinkage.old_configs import as_first_recorded

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


def leaves(node: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """List every leaf of a resolved config by its dotted key; a list is one leaf, and so are patterns with values."""
    for key, value in node.items():
        if isinstance(value, dict | DictConfig) and all(str(name).isidentifier() for name in value):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(value) if isinstance(value, ListConfig) else value


def recorded(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Resolve a config as a run records it: without interpolations, and without the keys of the command alone."""
    return {key: value for key, value in as_dict(cfg).items() if key not in COMMAND}


def fingerprint(resolved: dict[str, Any]) -> str:
    """Compute 16 hexadecimal digits that two recorded configs share if they come to the same numbers."""
    tree = {key: value for key, value in as_first_recorded(resolved).items() if key not in WITHOUT_EFFECT}
    return hashlib.sha256(json.dumps(tree, sort_keys=True, default=str).encode()).hexdigest()[:16]


def params(resolved: dict[str, Any]) -> dict[str, object]:
    """List a run's params: the chosen names of the groups, and every leaf of the config but a person's own tags.

    Of a run that an exact engine solves they leave out what only steps read.
    """
    tree = {key: value for key, value in resolved.items() if key not in ("choices", "tags")}
    found: dict[str, object] = resolved["choices"] | dict(leaves(tree)) | {"step_unit": step_unit(resolved)}
    if is_exact(resolved):
        found = {key: value for key, value in found.items() if not is_of_steps(key)}
        found["solver"] = "exact"
    return found


def own_tags(cfg: Mapping[str, Any]) -> dict[str, str]:
    """List the tags that a person has given a run, as text."""
    return {str(name): str(value) for name, value in (cfg["tags"] or {}).items()}


def shared_by_lanes(cfg: Mapping[str, Any]) -> str:
    """Write what lanes of one training have in common: all but λ, the seed, tags and the penalty's own numbers."""
    tree = as_dict(cfg)
    del tree["lambd"], tree["seed"], tree["tags"]
    tree["penalty"] = {
        key: "a number" if isinstance(value, int | float) and not isinstance(value, bool) else value
        for key, value in tree["penalty"].items()
    }
    return json.dumps(tree, sort_keys=True, default=str)


def setting(overrides: list[str]) -> dict[str, str]:
    """Read overrides as keys and values: `+a.b=1` is {"a.b": "1"}."""
    return {key.lstrip("+~"): value for key, _, value in (override.partition("=") for override in overrides)}


def without_sweep(overrides: list[str]) -> list[str]:
    """List the overrides of a sweep's job by which it is trained once more, apart from its folds and its sweep."""
    left_out = (*split.OF_FOLDS, "refit", "export", *COMMAND)
    return [line for line, key in zip(overrides, setting(overrides), strict=True) if key not in left_out]


def strength(lambd: float) -> dict[str, float]:
    """Give λ as metrics, since params are text to MLflow, which neither sorts nor plots; no logarithm at λ = 0."""
    return {"lambd": float(lambd)} | ({"log10_lambd": math.log10(lambd)} if lambd > 0 else {})


def run_name(cfg: Mapping[str, Any], overrides: list[str]) -> str:
    """Name a run by what was chosen: `l1 λ=3 seed=0`, the data and model if they were chosen, other overrides.

    What the runs of a sweep differ in comes first: a row of MLflow's table shows some twenty characters.
    """
    choices, lambd = cfg["choices"], cfg["lambd"]
    chosen = setting(overrides)
    words = [choices["penalty"], f"λ={lambd:g}" if isinstance(lambd, float) else f"λ={lambd}"]
    if any(key in chosen for key in split.OF_FOLDS):
        words.append(split.name_fold(cfg["data"]))
    if cfg["data"].get("refit"):
        words.append("refit")
    words += [f"seed={cfg['seed']}", *(choices[group] for group in ("data", "model") if group in chosen)]
    if cfg["study"] is not None:
        words = [cfg["study"]["_target_"].split(".")[-2]]  # the study's file
    apart = [key for key in chosen if key not in IN_NAME_ALREADY and key.split(".")[0] not in ("tracking", "tags")]
    if is_exact(cfg) and "trainer" in apart:
        apart.remove("trainer")
    words += [f"{key}={chosen[key]}" for key in apart]
    return " ".join(words)[:250]


def sweep_name(overrides: list[str]) -> str:
    """Name a sweep by its command, secrets hidden, first what it compares: `lambd=0,1,3 data=diabetes seed=0,1`."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    apart = [each for each in parsed if each.key_or_group.split(".")[0] not in ("tracking", "tags", *COMMAND)]
    repeats = (*split.KEYS, "seed")
    apart.sort(key=lambda each: not each.is_sweep_override() or each.key_or_group in repeats)
    return " ".join(masked_override(str(each.input_line)) for each in apart)[:250] or "sweep"


# What a run that goes on takes from the command that resumes it; all else is as it was.
FROM_COMMAND = ("tracking", "progress", *COMMAND)
