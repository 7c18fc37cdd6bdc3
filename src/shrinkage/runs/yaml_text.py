"""Configs as YAML text, written and read by the fast library in C."""

from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf._utils import get_yaml_loader, is_float, is_int, yaml_is_bool

if TYPE_CHECKING or not yaml.__with_libyaml__:
    from yaml import SafeDumper, SafeLoader
else:
    from yaml import CSafeDumper as SafeDumper
    from yaml import CSafeLoader as SafeLoader


WRITTEN: dict[str, str] = {}  # parts of configs as YAML, by their contents
MOST_WRITTEN = 4096


class Dumper(SafeDumper):
    """OmegaConf's way of writing YAML, by the library in C: several times faster than `OmegaConf.to_yaml`."""


def represent_text(dumper: Dumper, text: str) -> yaml.ScalarNode:
    """Write text as YAML, in quotes where it would be read back as a number, or as true or false."""
    looks_otherwise = yaml_is_bool(text) or is_int(text) or is_float(text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'" if looks_otherwise else None)


Dumper.add_representer(str, represent_text)


def yaml_text(tree: object) -> str:
    """Write a config, or a list, as YAML that OmegaConf reads back as it was; interpolations stay as they are."""
    if isinstance(tree, DictConfig | ListConfig):
        tree = OmegaConf.to_container(tree, resolve=False, enum_to_str=True)
    if isinstance(tree, dict) and len(tree) > 1:
        return "".join(yaml_of_part({key: value}) for key, value in tree.items())
    return yaml.dump(tree, Dumper=Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False)


def yaml_of_part(part: dict[Any, Any]) -> str:
    """Write one key of a config as YAML, which the configs of a sweep's runs mostly have in common."""
    known = repr(part)
    if known not in WRITTEN:
        if len(WRITTEN) >= MOST_WRITTEN:
            WRITTEN.clear()
        WRITTEN[known] = yaml_text(part)
    return WRITTEN[known]


class Loader(SafeLoader):
    """The same for reading; it knows 1e-06 for a number, as OmegaConf does."""


Loader.yaml_implicit_resolvers = dict(get_yaml_loader().yaml_implicit_resolvers)


def from_yaml(text: str) -> Any:
    """Read what `yaml_text` has written: a config as a dict, overrides as a list."""
    return yaml.load(text, Loader=Loader)
