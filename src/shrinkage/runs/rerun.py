"""A run done again from what it recorded, and whether it comes to the same numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from omegaconf import DictConfig, OmegaConf, open_dict

from shrinkage.errors import InputError
from shrinkage.tracking.journal import Reader
from shrinkage.tracking.location import home, store_uri

from . import identity, resume, yaml_text
from .folder import Place
from .old_configs import in_todays_names
from .record import Record

# Tags that tell under which circumstances a run came to its numbers.
CIRCUMSTANCES = ("version.", "mlflow.source.git.commit", "git.clean", "data.")
WORDS = {"mlflow.source.git.commit": "git commit", "git.clean": "a tree without uncommitted changes"}


@dataclass
class Original:
    """What a run recorded, to be compared with when it is done again.

    config, overrides; metrics: the last value of each; tags; digests: of each part of its data.
    """

    name: str
    id: str
    config: dict
    overrides: list[str]
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    def cfg(self, command: DictConfig) -> DictConfig:
        """Build the config with which the run is done again: its own, with what the command decides."""
        cfg = OmegaConf.create(self.config)
        with open_dict(cfg):
            for key in identity.FROM_COMMAND:
                cfg[key] = command[key]
        return cfg


def original(command: DictConfig, place: Place) -> Original:
    """Read the run that `rerun=` names, from its own folder, and where that is gone from the store.

    Raises InputError where there is no such run, or it cannot be done again.
    """
    resume.refuse_values(place.overrides, "rerun")
    root = place.root
    target, uri = str(command.rerun), store_uri(command.tracking.uri, root)
    try:
        earlier = resume.find(target, uri, root)
        journal = earlier.journal(home(uri, root))
    except InputError:
        journal = None
    if journal is None:
        found = of_store(target, uri)
    else:
        found = Original(earlier.name, earlier.id, earlier.recorded, earlier.place(root).overrides)
        for event in Reader(journal).events():
            match event["event"]:
                case "run" | "tags":
                    found.tags |= event["tags"]
                case "metrics":
                    found.metrics |= event["metrics"]
                case "dataset":
                    found.digests[event["context"]] = event["digest"]
    if found.config["study"] is not None:
        raise InputError(f"rerun={target}: a study is done again by its experiment, {found.name}")
    if not found.metrics:
        raise InputError(f"rerun={target}: {found.name} has no metrics to compare with")
    return found


def of_store(target: str, uri: str) -> Original:
    """Read a run from the store. Raises InputError where it is not there, or has no config among its artifacts."""
    from tempfile import TemporaryDirectory

    from shrinkage.tracking import read

    client = read.open_to_read(uri)
    run = read.one(client, uri, target)
    with TemporaryDirectory() as folder:
        texts = [read.text_of(client, run.info.run_id, file, folder) for file in ("config.yaml", "overrides.yaml")]
    if None in texts:
        raise InputError(f"rerun={target}: {run.info.run_name} has no config.yaml among its artifacts")
    digests = {entry.tags[0].value: entry.dataset.digest for entry in run.inputs.dataset_inputs}
    recorded, overrides = map(yaml_text.from_yaml, texts)
    config = in_todays_names(recorded)
    return Original(run.info.run_name, run.info.run_id, config, overrides, run.data.metrics, run.data.tags, digests)


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
    if original.tags.get("git.clean") == "false":
        found.append("The run was made from a tree with uncommitted changes, which nobody has recorded.")
    return found + [
        f"What differs: the {part} data ({original.digests.get(part)} then, {digest} now)."
        for part, digest in digests.items()
        if original.digests.get(part) != digest
    ]
