"""Experiments at their larger size, which take hours: that they would begin."""

import pytest
from conftest import CONF, config
from omegaconf import OmegaConf

from shrinkage.training.workshop import make

LARGE = sorted(path.stem for path in (CONF / "scale/large").glob("*.yaml"))


@pytest.mark.parametrize("experiment", LARGE)
def test_only_sizes_differ_and_they_are_taken(experiment: str) -> None:
    small, large = (config(f"experiment={experiment}", *scale) for scale in ([], ["scale=large"]))
    assert small == config(f"experiment={experiment}", "scale=small") and small != large
    changes = OmegaConf.load(CONF / f"scale/large/{experiment}.yaml")
    assert OmegaConf.merge(small, changes) == large
    assert make(large.study).seeds > small.study.seeds


def test_every_experiment_on_networks_has_a_larger_size() -> None:
    scaled = [path.stem for path in (CONF / "experiment").glob("*.yaml") if "/scale: small" in path.read_text("utf-8")]
    assert sorted(scaled) == LARGE
