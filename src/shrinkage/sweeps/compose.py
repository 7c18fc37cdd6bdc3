"""The configs of a sweep's jobs, composed once for each choice of groups instead of once for each job.

Composing takes Hydra tens of milliseconds, and the jobs of a sweep over λ and seeds differ in nothing but numbers. So
a job's config is a copy of the first one with the same choices, with its own numbers set. Copies are made by pickling,
which is several times faster than `copy.deepcopy` of a config.
"""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from shrinkage import rules


@dataclass(frozen=True)
class Template:
    """What jobs with the same choices share, pickled: the config, and its part for the task and for Hydra."""

    whole: bytes
    task: bytes
    hydra: bytes
    resolved: bytes | None  # None where something is interpolated, which may hang on a job's numbers


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
            override.key_or_group if is_number else override.input_line
            for override, is_number in map(self.parse, overrides)
        )
        if key not in self.templates:
            whole = self.loader.load_sweep_config(self.master, list(overrides))
            own = [name for name in whole if name != "hydra"]
            task, hydra = OmegaConf.masked_copy(whole, own), OmegaConf.masked_copy(whole, ["hydra"])
            for part in (task, hydra):
                OmegaConf.copy_cache(whole, part)  # the sweep's own ${now:…}
            text = OmegaConf.to_yaml(task).replace("${hydra:runtime.choices.", "")
            resolved = None if "${" in text else pickle.dumps(resolve(task, hydra))
            self.templates[key] = Template(pickle.dumps(whole), pickle.dumps(task), pickle.dumps(hydra), resolved)
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

    def resolved(self, overrides: Sequence[str], hydra: DictConfig) -> DictConfig:
        """Compose a job's config without Hydra's part, and resolve every interpolation in it.

        Raises InputError for a key that nothing reads, which could not be told any more of a resolved config.
        """
        template = self.template(overrides)
        if id(template) not in self.checked:
            rules.check_keys(pickle.loads(template.task))
            self.checked.add(id(template))
        resolved = template.resolved
        if resolved is None:
            return resolve(self.task(overrides), hydra)
        config = pickle.loads(resolved)
        self.set_numbers(config, overrides)
        return config

    def set_numbers(self, config: DictConfig, overrides: Sequence[str]) -> None:
        for override, is_number in map(self.parse, overrides):
            if is_number:
                OmegaConf.update(config, override.key_or_group, override.value(), merge=True)

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


def resolve(task: DictConfig, hydra: DictConfig) -> DictConfig:
    """Resolve the interpolations of a task's config; ${hydra:…} looks into the job's own Hydra config."""
    singleton = HydraConfig.instance()
    before, singleton.cfg = singleton.cfg, hydra
    try:
        return OmegaConf.create(OmegaConf.to_container(task, resolve=True))
    finally:
        singleton.cfg = before
