"""Configs that earlier versions recorded, in the names of this one."""

from collections.abc import Mapping

# Where classes stood before they moved, and what a config meant that has no such key. Rows are added, never changed:
# records keep the names that they were written with.
MOVED = {
    "shrinkage.schedules.": "shrinkage.training.schedules.",
    "shrinkage.studies.": "shrinkage_studies.",
}
ADDED = {
    "task": {"_target_": "shrinkage.tasks.auto.task_for", "_partial_": True},
    "metrics": {},
    "tags": None,
}


def in_todays_names(recorded: Mapping[str, object]) -> dict:
    """Translate a recorded config, so that it can be composed of the classes of this version."""
    tree = {key: renamed(value, MOVED) for key, value in recorded.items()}
    return {key: value for key, value in ADDED.items() if key not in tree} | tree


def as_first_recorded(resolved: Mapping[str, object]) -> dict:
    """Translate a config back to the names of the first version, by which records of all versions can be compared."""
    back = {new: old for old, new in MOVED.items()}
    return {key: renamed(value, back) for key, value in resolved.items() if value != ADDED.get(key, ...)}


def renamed(node: object, prefixes: Mapping[str, str]) -> object:
    """A config's node with every `_target_` that begins with a prefix under the prefix's new name."""
    if isinstance(node, Mapping):
        found = {key: renamed(value, prefixes) for key, value in node.items()}
        target = found.get("_target_")
        for old, new in prefixes.items():
            if isinstance(target, str) and target.startswith(old):
                found["_target_"] = new + target.removeprefix(old)
        return found
    return [renamed(each, prefixes) for each in node] if isinstance(node, list) else node
