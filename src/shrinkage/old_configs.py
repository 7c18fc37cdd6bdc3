"""Configs that earlier versions recorded, in the names of this one.

The tables are frozen: rows are added, never changed, since records keep the names that they were written with.
"""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

# Where classes stood before they moved, by the beginnings of their names.
MOVED = {
    "shrinkage.schedules.": "shrinkage.training.schedules.",
    "shrinkage.studies.": "shrinkage_studies.",
}
# Keys that a config did not have once, with the values that mean what was done then.
TASK = {"_target_": "shrinkage.tasks.auto.task_for", "_partial_": True}
ADDED: dict[str, object] = {
    "task": TASK,
    "metrics": {},
    "tags": None,
}
# The same of `data`, by its class. All categories of a text column were features, also where there are two.
ADDED_TO_DATA: dict[str, dict[str, object]] = {
    "shrinkage.data.table.TableFile": {
        **{"split": None, "fold_column": None, "drop_classes": None, "missing_target": "error", "tidy": False},
        **{"encoding": "all", "unseen": "zero", "dates": "error"},
        **{"weight": None, "class_weight": None, "offset": None, "exposure": None},
        **{"event": None, "sparse": False, "strata": None},
    },
    "shrinkage.data.stream.StreamedTable": {
        **{"split": None, "fold_column": None, "encoding": "all", "unseen": "zero", "dates": "error"},
    },
}
# The same of `task`, by what makes it.
ADDED_TO_TASK: dict[str, dict[str, object]] = {"shrinkage.tasks.cox.Cox.for_target": {"times": []}}
# The same of `penalty`, where it has the keys that all shipped penalties share.
ADDED_TO_PENALTY: dict[str, object] = {"factor": None}
# A CSV had commas between its cells and points in its numbers; a Parquet file has no such signs.
ADDED_OF_CSV = {"separator": "comma", "decimal": "point", "thousands": "none", "comment": "none"}
PARQUET = (".parquet", ".pq", "")  # how files of the other kind end, and folders of them


def in_todays_names(recorded: Mapping[str, object]) -> dict[str, Any]:
    """Translate a recorded config, so that it can be composed of the classes of this version."""
    tree = ADDED | {key: renamed(value, MOVED) for key, value in recorded.items()}
    if isinstance(data := tree.get("data"), Mapping):
        tree["data"] = {**data, **missing_from_data(recorded)}
    if isinstance(task := tree.get("task"), Mapping):
        tree["task"] = ADDED_TO_TASK.get(str(task.get("_target_")), {}) | dict(task)
    if isinstance(penalty := tree.get("penalty"), Mapping) and "groups" in penalty:
        tree["penalty"] = ADDED_TO_PENALTY | dict(penalty)
    return tree


def params_in_todays_names(params: Mapping[str, str]) -> dict[str, str]:
    """Translate the params that an earlier version recorded, so that they can be compared with those of this one."""
    found = dict(params)
    for key in params:
        if key.endswith("_target_"):
            found[key] = new_name(params[key], MOVED)
    data = {key.removeprefix("data."): value for key, value in params.items() if key.startswith("data.")}
    for key, value in missing_from_data({"data": data}).items():
        found[f"data.{key}"] = str(value)
    if "task._target_" not in params:
        found |= {f"task.{key}": str(value) for key, value in TASK.items()}
    for key, value in ADDED_TO_TASK.get(found["task._target_"], {}).items():
        found.setdefault(f"task.{key}", str(value))
    return found


def missing_from_data(recorded: Mapping[str, object]) -> dict[str, object]:
    """Find the keys that a recorded config's `data` lacks, with the values that mean what was done then."""
    data = recorded.get("data")
    if not isinstance(data, Mapping):
        return {}
    meant = ADDED_TO_DATA.get(str(data.get("_target_")), {})
    if "missing_target" in meant and PurePath(str(data.get("path"))).suffix.lower() not in PARQUET:
        meant = meant | ADDED_OF_CSV
    return {key: value for key, value in meant.items() if key not in data}


def as_first_recorded(resolved: Mapping[str, object]) -> dict[str, Any]:
    """Translate a config back to the names of the first version, by which records of all versions can be compared."""
    back = {new: old for old, new in MOVED.items()}
    tree = {key: renamed(value, back) for key, value in resolved.items() if value != ADDED.get(key, ...)}
    if isinstance(penalty := tree.get("penalty"), Mapping):
        tree["penalty"] = {key: value for key, value in penalty.items() if value != ADDED_TO_PENALTY.get(key, ...)}
    return tree


def renamed(node: object, prefixes: Mapping[str, str]) -> object:
    """A config's node with every `_target_` that begins with a prefix under the prefix's new name."""
    if isinstance(node, Mapping):
        found = {key: renamed(value, prefixes) for key, value in node.items()}
        target = found.get("_target_")
        if isinstance(target, str):
            found["_target_"] = new_name(target, prefixes)
        return found
    return [renamed(each, prefixes) for each in node] if isinstance(node, list) else node


def new_name(target: str, prefixes: Mapping[str, str]) -> str:
    """The name of a class, with another beginning where it begins with one of the prefixes."""
    for old, new in prefixes.items():
        if target.startswith(old):
            return new + target.removeprefix(old)
    return target
