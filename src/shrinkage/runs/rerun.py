"""A run done again from what it recorded, and whether it comes to the same numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shrinkage.errors import InputError
from shrinkage.old_configs import in_todays_names
from shrinkage.tracking.location import home, store_uri
from shrinkage.tracking.story import Reader

from . import identity, resume, yaml_text
from .folder import RunLocation
from .record import Record

# Tags that tell under which circumstances a run came to its numbers.
CIRCUMSTANCES = ("version.", "mlflow.source.git.commit", "git.", "data.")
WORDS = {"mlflow.source.git.commit": "git commit", "git.clean": "a tree without uncommitted changes"}


@dataclass
class Original:
    """What a run recorded, to be compared with when it is done again.

    config, overrides; metrics: the last value of each; tags; digests: of each part of its data.
    """

    name: str
    id: str
    config: dict[str, Any]
    overrides: list[str]
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    def cfg(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Build the config with which the run is done again: its own, with what the command decides."""
        return self.config | {key: command[key] for key in identity.FROM_COMMAND}


def original(command: Mapping[str, Any], place: RunLocation) -> Original:
    """Read the run that `rerun=` names, from its own folder, and where that is gone from the store.

    Raises InputError where there is no such run, or it cannot be done again.
    """
    resume.refuse_values(place.overrides, "rerun")
    target, uri = str(command["rerun"]), store_uri(command["tracking"]["uri"], place.root)
    found = of_folder(target, uri, place.root) or of_store(target, uri)
    if found.config["study"] is not None:
        raise InputError(f"rerun={target}: a study is done again by its experiment, {found.name}")
    if not found.metrics:
        raise InputError(f"rerun={target}: {found.name} has no metrics to compare with")
    return found


def of_folder(target: str, uri: str, root: Path) -> Original | None:
    """Read a run from its own folder; None where that is gone, or the run was not tracked.

    Raises InputError where the folder itself is named and is no run's, and where a script has recorded the run.
    """
    try:
        earlier = resume.find(target, uri, root)
        journal = earlier.journal(home(uri, root))
    except InputError:
        if resume.existing_folder(target) is not None:
            raise
        return None
    if earlier.is_script:
        resume.refuse_script(target, earlier.name)
    if earlier.id is None or journal is None:
        return None
    found = Original(earlier.name, earlier.id, earlier.recorded, earlier.place(root).overrides)
    for event in Reader(journal).events():
        match event["event"]:
            case "run" | "tags":
                found.tags |= event["tags"]
            case "metrics":
                found.metrics |= event["metrics"]
            case "dataset":
                found.digests[event["context"]] = event["digest"]
            case _:
                pass
    return found


def of_store(target: str, uri: str) -> Original:
    """Read a run from the store. Raises InputError where it is not there, or has no config among its artifacts."""
    from tempfile import TemporaryDirectory

    from shrinkage.tracking import read

    client = read.open_to_read(uri, "tracking.uri=")
    run = read.one(client, uri, target)
    name = run.info.run_name or run.info.run_id
    if run.data.tags.get("kind") == "script":
        resume.refuse_script(target, name)
    with TemporaryDirectory() as folder:
        config = read.text_of(client, run.info.run_id, "config.yaml", folder)
        overrides = read.text_of(client, run.info.run_id, "overrides.yaml", folder)
    if config is None or overrides is None:
        raise InputError(f"rerun={target}: {name} has no config.yaml among its artifacts")
    datasets = run.inputs.dataset_inputs if run.inputs is not None else []
    return Original(
        name=name,
        id=run.info.run_id,
        config=in_todays_names(yaml_text.from_yaml(config)),
        overrides=yaml_text.from_yaml(overrides),
        metrics=run.data.metrics,
        tags=run.data.tags,
        digests={entry.tags[0].value: entry.dataset.digest for entry in datasets},
    )


def verdict(original: Original, record: Record, digests: Mapping[str, str]) -> tuple[bool, str]:
    """Compare a run that was done again with its original: whether all numbers are the same to the last digit, and a
    sentence that says what may be the reason where they are not.
    """
    ours = record.metrics
    shared = [name for name in original.metrics if name in ours]
    differing = {name: abs(ours[name] - original.metrics[name]) for name in shared if not same(ours, original, name)}
    if not differing:
        return True, f"The same: all {len(shared)} numbers are those of {original.name} to the last digit."
    worst = max(differing, key=lambda name: differing[name] / max(abs(original.metrics[name]), 1e-300))
    words = [
        f"Not the same: {len(differing)} of {len(shared)} numbers differ from those of {original.name}, most of all "
        f"{worst}: {original.metrics[worst]!r} then, {ours[worst]!r} now."
    ]
    changed = circumstances(original, record.origin | record.tags, digests)
    words += changed or ["Nothing that was recorded differs: look at uncommitted changes, threads and the device."]
    return False, "\n".join(words)


def same(ours: Mapping[str, float], original: Original, name: str) -> bool:
    """Tell whether a metric has the same value in both runs; NaN equals NaN."""
    then, now = original.metrics[name], ours[name]
    return then == now or (then != then and now != now)  # both NaN


def circumstances(original: Original, tags: Mapping[str, str], digests: Mapping[str, str]) -> list[str]:
    """Which recorded things differ, a sentence each."""
    names = sorted({name for name in (*original.tags, *tags) if name.startswith(CIRCUMSTANCES)})
    found = [
        f"What differs: {WORDS.get(name, name)}: {original.tags.get(name)} then, {tags.get(name)} now."
        for name in names
        if original.tags.get(name) != tags.get(name)
    ]
    if any(name.startswith("git.clean") and value == "false" for name, value in original.tags.items()):
        found.append("The run was made from a tree with uncommitted changes, which nobody has recorded.")
    return found + [
        f"What differs: the {part} data ({original.digests.get(part)} then, {digest} now)."
        for part, digest in digests.items()
        if original.digests.get(part) != digest
    ]
