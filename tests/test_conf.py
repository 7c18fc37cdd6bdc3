"""Every file of conf/ is composed by Hydra as a command would choose it; its classes exist and take its settings."""

import inspect
from collections.abc import Iterator

import pytest
from conftest import CONF, choices
from hydra import compose, initialize_config_dir
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

# What others have among their defaults is no choice by itself.
SHARED = {"data/split", "penalty/base", "train"}
CHOICES = {path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.rglob("*.yaml")} - SHARED


def chosen(file: str) -> list[str]:
    """The overrides that choose a file of conf/: a metric is one of a list, and a scale is one of an experiment."""
    group, _, name = file.rpartition("/")
    match group:
        case "metrics":
            return [f"metrics=[{name}]"]
        case "scale":
            return ["experiment=equilibrium", f"scale={name}"]
        case "scale/large":
            return [f"experiment={name}", "scale=large"]
    return [f"{group}={name}"]


def composed(overrides: list[str]) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides, return_hydra_config=True)


def built(node: object) -> Iterator[dict]:
    """The nodes with a `_target_`."""
    if isinstance(node, dict):
        if node.get("_target_") is not None:
            yield node
        for inner in node.values():
            yield from built(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from built(inner)


@pytest.mark.parametrize("file", sorted(CHOICES))
def test_every_choice_is_composed_and_its_classes_take_its_settings(file: str) -> None:
    nodes = list(built(OmegaConf.to_container(composed(chosen(file)), resolve=False)))
    own = OmegaConf.to_container(OmegaConf.load(CONF / f"{file}.yaml"), resolve=False)
    assert {node["_target_"] for node in built(own)} <= {node["_target_"] for node in nodes}
    for node in nodes:
        ours = {"until_gap", "gap"} if node["_target_"] == "lightning.pytorch.Trainer" else set()
        settings = {name: value for name, value in node.items() if not name.startswith("_") and name not in ours}
        inspect.signature(get_object(node["_target_"])).bind_partial(**settings)


def test_every_choice_of_the_groups_that_build_something_is_found() -> None:
    assert {"adamw", "l1", "none"} <= set(choices("penalty")) and "base" not in choices("penalty")
    assert {"cifar10", "fashion_mnist", "table"} <= set(choices("data")) and "split" not in choices("data")
