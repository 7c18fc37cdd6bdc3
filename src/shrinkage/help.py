"""What `--help` prints: the choices of each group, and each key with the comment that its YAML file has beside it."""

import re
import shutil
import textwrap
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.utils import get_args_parser

from shrinkage.boundary import leave
from shrinkage.errors import InputError
from shrinkage.machine.invocation import invocation

PACKAGE = "pkg://"
NOT_KEYS = ("defaults", "hydra", "choices", "_target_", "_partial_")
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML has been built with it
JOBLIB = "hydra_plugins.hydra_joblib_launcher"  # brings a choice of a launcher, if it is installed


def show_help(arguments: Sequence[str], config_path: str, config_name: str) -> bool:
    """Print the help if the command line asks for it. Return whether it did.

    config_path, config_name: those of the command, as `hydra.main` has them.
    """
    args = get_args_parser().parse_args(list(arguments))
    if not args.help:
        return False
    try:
        found = Configs.of(args, config_path, config_name)
        if found.text(found.name) is None:
            return False  # Hydra says so
        lines = found.help(dict(part.partition("=")[::2] for part in args.overrides))
    except yaml.YAMLError:
        return False  # Hydra says where
    print("\n".join(lines))
    return True


def check_settings(arguments: Sequence[str], config_path: str, config_name: str) -> None:
    """Exit with one line where a command gives a choice a setting that only another choice of its group has.

    config_path, config_name: as `show_help` has them.
    """
    args = get_args_parser().parse_args(list(arguments))
    try:
        Configs.of(args, config_path, config_name).check_settings(args.overrides)
    except yaml.YAMLError:
        return  # Hydra says where
    except InputError as error:
        leave(error)


@dataclass(frozen=True)
class Configs:
    """The YAML files that a command composes: their folders, of which the first that has a file counts, and the name of
    the primary one."""

    folders: Sequence[Path]
    name: str

    @classmethod
    def of(cls, args: Namespace, config_path: str, config_name: str) -> "Configs":
        """Find the folders of a command line: the command's own, those that its config adds, and --config-dir."""
        first = cls([folder_of(args.config_path or config_path)], args.config_name or config_name)
        added = first.content(first.name).get("hydra", {}).get("searchpath", [])
        folders = [*first.folders, *map(folder_of, added), *([Path(args.config_dir)] if args.config_dir else [])]
        return cls(folders, first.name)

    def text(self, name: str) -> str | None:
        """Read a file by its name without .yaml; None if there is none."""
        paths = [folder / f"{name}.yaml" for folder in self.folders]
        return next((path.read_text(encoding="utf-8") for path in paths if path.is_file()), None)

    def content(self, name: str) -> dict[str, Any]:
        """Read what a file says; {} if there is none."""
        return yaml.load(self.text(name) or "{}", Loader=LOADER) or {}

    def defaults(self, name: str) -> tuple[list[str], dict[str, str]]:
        """List the files that a file includes, and what it chooses of each group."""
        included: list[str] = []
        chosen: dict[str, str] = {}
        for entry in self.content(name).get("defaults", []):
            if isinstance(entry, str) and entry != "_self_":
                included.append(entry.partition("@")[0])
            elif isinstance(entry, Mapping):
                chosen |= {key.removeprefix("override ").removeprefix("/"): value for key, value in entry.items()}
        return included, chosen

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """The choices of each group, but for files that others of their group include and that build nothing alone."""
        found: dict[str, set[str]] = {}
        for folder in self.folders:
            for path in [*folder.glob("*/*.yaml"), *folder.glob("hydra/*/*.yaml")]:
                found.setdefault(path.parent.relative_to(folder).as_posix(), set()).add(path.stem)
        if find_spec(JOBLIB) is not None:
            found.setdefault("hydra/launcher", set()).add("joblib")
        return {group: sorted(names - self.shared(group, names)) for group, names in sorted(found.items())}

    def shared(self, group: str, names: set[str]) -> set[str]:
        """Find the files of a group that name no class themselves and are included by one that does."""
        builds = {name for name in names if "_target_" in self.content(f"{group}/{name}")}
        return {each for name in builds for each in self.defaults(f"{group}/{name}")[0]} - builds

    def chosen(self, name: str) -> dict[str, str]:
        """Tell what a config chooses of each group, with the configs that it includes."""
        included, own = self.defaults(name)
        found: dict[str, str] = {}
        for each in included:
            found |= self.chosen(each)
        return found | own

    def keys(self, name: str, group: str = "") -> dict[str, str]:
        """Give the text of each key of a file and of those that it includes, with the comments that belong to it."""
        text = self.text(name) or ""
        found: dict[str, str] = {}
        for each in self.defaults(name)[0]:
            found |= self.keys(f"{group}/{each}" if group else each, group)
        own = blocks(text)
        if "@package _global_" in text and group in own:
            own = blocks(textwrap.dedent(own[group].partition("\n")[2]))
        for key, block in own.items():
            found[key] = commented(block, found.get(key, ""))
        return {key: block for key, block in found.items() if key not in NOT_KEYS}

    def chosen_with(self, said: Mapping[str, str]) -> dict[str, str]:
        """Tell what a command chooses of each group. said: the choices that are typed."""
        chosen = self.chosen(self.name) | dict(said)
        for group, choice in list(chosen.items()):  # which may choose of other groups, as adamw does an optimiser
            chosen |= self.defaults(f"{group}/{choice}")[1] | dict(said)
        return chosen

    def check_settings(self, overrides: Sequence[str]) -> None:
        """Refuse a setting that another choice of its group has, and the one that is chosen has not.

        Raises InputError for the first. What no choice has is left to Hydra.
        """
        typed = [part.partition("=")[::2] for part in overrides]
        said = {key: value for key, value in typed if self.text(f"{key}/{value.partition(',')[0]}") is not None}
        unknown = [
            (override, key)
            for override, (key, _) in zip(overrides, typed, strict=True)
            if re.fullmatch(r"\w+\.\w+(\..*)?", key) and not self.has(key, said)
        ]
        if not unknown:
            return
        chosen = self.chosen_with(said)
        experiment = self.content(f"experiment/{chosen.get('experiment')}")
        for override, key in unknown:
            group, name = key.split(".")[:2]
            if group not in chosen or self.has(key, chosen) or name in (experiment.get(group) or {}):
                continue
            others = [f"{group}={each}" for each in self.groups[group] if self.has(key, {group: each})]
            if others:
                uses = " or ".join(others)
                raise InputError(
                    f"{override}: {group}={chosen[group]} has no setting of this name; use {uses}, which has, or leave "
                    "it out"
                )

    def has(self, key: str, chosen: Mapping[str, str]) -> bool:
        """Tell whether every choice of a setting's group has the setting, by its dotted key."""
        group, name = key.split(".")[:2]
        return group in chosen and all(
            name in self.keys(f"{group}/{choice}", group) for choice in str(chosen[group]).split(",")
        )

    def help(self, typed: Mapping[str, str]) -> list[str]:
        """Write the help's lines. typed: the overrides of the command, of which choices of groups count."""
        about = next(each["help"] for each in self.with_help(self.name))
        command = " ".join(invocation().typed)
        chosen = self.chosen_with({key: value for key, value in typed.items() if key in self.groups})
        lines = [about["header"].replace("python train.py", command), "Choices, as group=choice:", ""]
        width = max(shutil.get_terminal_size((100, 24)).columns, 60)
        for group, names in self.groups.items():
            default = f" ({chosen[group]})" if isinstance(chosen.get(group), str) else ""
            lines += textwrap.wrap(
                f"{group}{default}: {', '.join(names)}", width, subsequent_indent="    ", break_on_hyphens=False
            )
        lines += ["", "Keys, as key=value:", "", "\n".join(self.keys(self.name).values()).strip()]
        for group in self.groups:
            choice = chosen.get(group)
            keys = self.keys(f"{group}/{choice}", group) if isinstance(choice, str) and group != "experiment" else {}
            if keys:
                lines += ["", f"{group}:  # {choice}", *(textwrap.indent(block, "  ") for block in keys.values())]
        if experiment := chosen.get("experiment"):
            lines += ["", f"experiment={experiment} sets:", "", (self.text(f"experiment/{experiment}") or "").rstrip()]
        return [*lines, "", about["footer"].rstrip()]

    def with_help(self, name: str) -> list[dict[str, Any]]:
        """Find Hydra's sections of a config and of those that it includes which have a help, its own first."""
        own = self.content(name).get("hydra", {})
        found = [own] if "help" in own else []
        return found + [each for include in self.defaults(name)[0] for each in self.with_help(include)]


def folder_of(path: str) -> Path:
    """Find the folder of a source of configs: a path, perhaps with file://, or pkg:// and a package's name."""
    if path.startswith(PACKAGE):
        spec = find_spec(path.removeprefix(PACKAGE))
        return Path(spec.origin).parent if spec is not None and spec.origin else Path(path)
    return Path(path.removeprefix("file://"))


def blocks(text: str) -> dict[str, str]:
    """Cut a YAML file into the text of each of its keys, with the comments above it, but those that begin the file."""
    found: dict[str, str] = {}
    key, above = "", list[str]()
    for line in text.splitlines():
        if begins := re.match(r"(\w+):", line):
            key = begins.group(1)
            found[key] = "\n".join([*(above if found else []), line])
            above = []
        elif line.startswith(" ") and found:
            found[key] += f"\n{line}"
        else:
            above.append(line)
    return found


def commented(block: str, included: str) -> str:
    """Give a key that has no comment the comment of the key that it replaces."""
    comment = re.search(r"\s+#.*", included, re.DOTALL)
    return block if "#" in block or comment is None else block + comment.group()
