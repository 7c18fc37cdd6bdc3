"""The configs of a sweep's jobs, composed once for each choice of groups instead of once for each job.

Composing takes Hydra tens of milliseconds, and the jobs of a sweep over λ and seeds differ in nothing but numbers. So
a job's config is the first one's with the same choices, with its own numbers set: plain data, which share all that the
jobs of a kind have in common. Where a job is run by Hydra it is a copy of the composed config, made by pickling, which
is several times faster than `copy.deepcopy`.
"""

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from shrinkage import rules
from shrinkage.config import as_dict, root_of, value_at
from shrinkage.runs.folder import RunLocation

NUMBER = "${hydra.job.num}"


@dataclass(frozen=True)
class Template:
    """What jobs with the same choices share.

    whole, task, hydra: the config of the first of them, and its part for the task and for Hydra, pickled. resolved: its
    part for the task as plain data; None where something is interpolated, which may hang on a job's numbers. root: the
    folder of train.py. folder: the sweep's, None where more than its number decides on the folder of a job. subfolder:
    a job's in it, with NUMBER in place of its number.
    """

    whole: bytes
    task: bytes
    hydra: bytes
    resolved: dict[str, Any] | None
    root: Path
    folder: Path | None
    subfolder: str


class Composer:
    """Composes jobs as `load_sweep_config` does; numbers that are set plainly (key=0.1) cost no composition."""

    def __init__(self, hydra_context: HydraContext, master: DictConfig) -> None:
        self.loader, self.master = hydra_context.config_loader, master
        self.parser = OverridesParser.create(config_loader=self.loader)
        self.templates: dict[tuple[str, ...], Template] = {}
        self.checked: set[int] = set()  # the templates whose keys are all read, by id
        self.parsed: dict[str, tuple[Override, bool]] = {}
        self.groups: dict[str, bool] = {}

    def template(self, overrides: Sequence[str]) -> Template:
        """Find the template of a job, which is composed for the first job of its kind. Raises what Hydra raises."""
        key = tuple(
            override.key_or_group if is_number else line
            for line, (override, is_number) in zip(overrides, map(self.parse, overrides), strict=True)
        )
        if key not in self.templates:
            whole = self.loader.load_sweep_config(self.master, list(overrides))
            own = [str(name) for name in whole if name != "hydra"]
            task, hydra = OmegaConf.masked_copy(whole, own), OmegaConf.masked_copy(whole, ["hydra"])
            for part in (task, hydra):
                OmegaConf.copy_cache(whole, part)  # the sweep's own ${now:…}
            text = OmegaConf.to_yaml(task).replace("${hydra:runtime.choices.", "")
            resolved = None if "${" in text else resolve(task, hydra)
            if any(value_at(resolved or {}, name, ...) is ... for name, _ in self.numbers(overrides)):
                resolved = None  # one of the numbers stands in a list
            sweep = as_dict(hydra.hydra.sweep, resolve=False)
            is_plain = "${hydra" not in sweep["dir"] and "${" not in sweep["subdir"].replace(NUMBER, "")
            self.templates[key] = Template(
                whole=pickle.dumps(whole),
                task=pickle.dumps(task),
                hydra=pickle.dumps(hydra),
                resolved=resolved,
                root=root_of(hydra.hydra),
                folder=Path(hydra.hydra.sweep.dir).absolute() if is_plain else None,
                subfolder=sweep["subdir"],
            )
        return self.templates[key]

    def whole(self, overrides: Sequence[str], number: int) -> DictConfig:
        """Compose the config of the job of this number, Hydra's own part included."""
        config = pickle.loads(self.template(overrides).whole)
        self.set_numbers(config, overrides)
        self.set_job(config, overrides, number)
        return config

    def task(self, overrides: Sequence[str]) -> DictConfig:
        """Compose a job's config without Hydra's part."""
        config = pickle.loads(self.template(overrides).task)
        self.set_numbers(config, overrides)
        return config

    def hydra(self, overrides: Sequence[str], number: int) -> DictConfig:
        """Compose Hydra's part of a job's config alone."""
        config = pickle.loads(self.template(overrides).hydra)
        self.set_job(config, overrides, number)
        return config

    def location(self, overrides: Sequence[str], number: int) -> RunLocation:
        """Find where the job of this number stands."""
        template = self.template(overrides)
        own = [line for line in overrides if not self.parse(line)[0].is_hydra_override()]
        if template.folder is not None:
            folder = template.folder / template.subfolder.replace(NUMBER, str(number))
        else:
            sweep = self.hydra(overrides, number).hydra.sweep
            folder = Path(sweep.dir, sweep.subdir).absolute()
        return RunLocation(template.root, folder, own)

    def resolved(self, overrides: Sequence[str], number: int) -> dict[str, Any]:
        """Compose a job's config without Hydra's part, every interpolation resolved, as plain data.

        It shares what it has in common with other jobs, so nobody may change what is in it. Raises InputError where it
        lacks what a run needs, and for a key that nothing reads, which could not be told any more of a resolved config.
        """
        template = self.template(overrides)
        if id(template) not in self.checked:
            task = pickle.loads(template.task)
            rules.check_keys(task)
            rules.check_overrides(task, overrides)
            if template.resolved is not None:
                rules.complete(DictConfig(template.resolved))
            self.checked.add(id(template))
        if template.resolved is None:
            return rules.complete(DictConfig(resolve(self.task(overrides), self.hydra(overrides, number))))
        config: Mapping[str, Any] = template.resolved
        for key, value in self.numbers(overrides):
            config = with_value(config, key.split("."), value)
        return dict(config)

    def numbers(self, overrides: Sequence[str]) -> list[tuple[str, Any]]:
        """List the numbers that a job sets, by their dotted keys."""
        return [(each.key_or_group, each.value()) for each, is_number in map(self.parse, overrides) if is_number]

    def set_numbers(self, config: DictConfig, overrides: Sequence[str]) -> None:
        for key, value in self.numbers(overrides):
            OmegaConf.update(config, key, value, merge=True)

    def set_job(self, config: DictConfig, overrides: Sequence[str], number: int) -> None:
        parsed = [override for override, _ in map(self.parse, overrides) if not override.is_hydra_override()]
        names = config.hydra.job.config.override_dirname
        with open_dict(config.hydra):
            config.hydra.job.id = config.hydra.job.num = number
            config.hydra.overrides.task = [override.input_line for override in parsed]
            config.hydra.job.override_dirname = get_overrides_dirname(
                overrides=parsed, kv_sep=names.kv_sep, item_sep=names.item_sep, exclude_keys=names.exclude_keys
            )

    def parse(self, line: str) -> tuple[Override, bool]:
        """Parse an override; tell whether it sets one number of the config and changes nothing else."""
        if line not in self.parsed:
            (override,) = self.parser.parse_overrides([line])
            self.parsed[line] = override, self.is_number(override)
        return self.parsed[line]

    def is_number(self, override: Override) -> bool:
        value = override.value()
        return (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and not (override.is_add() or override.is_delete() or override.is_force_add() or override.package)
            and not override.is_hydra_override()
            and not self.is_group(override.key_or_group)
        )

    def is_group(self, key: str) -> bool:
        if key not in self.groups:
            self.groups[key] = bool(self.loader.get_group_options(key.replace(".", "/")))
        return self.groups[key]


def with_value(tree: Mapping[str, Any], names: Sequence[str], value: object) -> dict[str, Any]:
    """Return a tree with another value at the end of a path of names; all beside the path is shared with the first."""
    first, *others = names
    return {**tree, first: with_value(tree[first], others, value) if others else value}


def resolve(task: DictConfig, hydra: DictConfig) -> dict[str, Any]:
    """Resolve the interpolations of a task's config; ${hydra:…} looks into the job's own Hydra config."""
    singleton = vars(HydraConfig.instance())  # its `set_config` would copy the config, which costs most of all this
    before, singleton["cfg"] = singleton["cfg"], hydra
    try:
        return as_dict(task)
    finally:
        singleton["cfg"] = before
