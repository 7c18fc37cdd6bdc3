"""Jobs composed from one of their kind, against Hydra's own composition."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import CONF
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import setup_globals
from hydra.errors import ConfigCompositionException
from hydra.types import HydraContext, RunMode
from omegaconf import OmegaConf, open_dict

from hydra_plugins.shrinkage.path_sweeper import PathSweeper
from shrinkage.runs import yaml_text
from shrinkage.sweeps.compose import Composer, resolve
from shrinkage.sweeps.path import LambdaPath, jobs_along


@pytest.fixture
def loader() -> Iterator[ConfigLoaderImpl]:
    setup_globals()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


JOBS = [
    ["lambd=0", "seed=1"],
    ["lambd=1e-3", "seed=2"],
    ["lambd=3", "seed=7"],
    ["penalty=elastic_net", "lambd=0.5", "penalty.l1_ratio=0.25"],
    ["penalty=elastic_net", "lambd=1.5", "penalty.l1_ratio=0.75"],
    ["penalty=adamw", "data=digits", "lambd=1", "optimizer.lr=0.1"],
    ["penalty=adamw", "data=digits", "lambd=2", "optimizer.lr=0.2"],
    ["lambd=0.1", "model.sigma=0.5", "trainer.precision=64-true", "+trainer.min_epochs=2"],
    ["lambd=0.2", "model.sigma=1", "trainer.precision=64-true", "+trainer.min_epochs=3"],
    ["lambd=abc"],
    ["lambd=[1]"],
    ["early_stopping.patience=3", "early_stopping.min_delta=${lambd}", "lambd=0.3"],
    ["early_stopping.patience=4", "early_stopping.min_delta=${lambd}", "lambd=0.4"],
]


def test_copies_with_other_numbers_are_what_hydra_composes(loader: ConfigLoaderImpl) -> None:
    master = loader.load_configuration("train", ["hydra.job.name=train"], RunMode.MULTIRUN)
    sweep_folder = master.hydra.sweep.dir  # has the time of its first reading, in all jobs
    composer = Composer(HydraContext(loader, Callbacks()), master)
    for number, overrides in enumerate(JOBS):
        expected = loader.load_sweep_config(master, overrides)
        with open_dict(expected):
            expected.hydra.job.id = expected.hydra.job.num = number
        whole, hydra = composer.whole(overrides, number), composer.hydra(overrides, number)
        task = OmegaConf.masked_copy(expected, [key for key in expected if key != "hydra"])
        assert OmegaConf.to_yaml(whole) == OmegaConf.to_yaml(expected)
        assert OmegaConf.to_yaml(hydra) == OmegaConf.to_yaml(OmegaConf.masked_copy(expected, "hydra"))
        assert hydra.hydra.sweep.dir == whole.hydra.sweep.dir == sweep_folder
        assert composer.task(overrides) == task and OmegaConf.to_yaml(composer.task(overrides)) == OmegaConf.to_yaml(
            task
        )
        assert composer.resolved(overrides, number) == resolve(task, hydra)
        place = composer.location(overrides, number)
        assert place.folder == Path(sweep_folder, str(number)).absolute() and place.overrides == overrides
    assert len(composer.templates) < len(JOBS)


def test_a_path_that_is_solved_costs_one_composition_a_kind(loader: ConfigLoaderImpl) -> None:
    master = loader.load_configuration("train", [], RunMode.MULTIRUN)

    def found(*asked: str) -> tuple[list[LambdaPath], int]:
        sweeper = PathSweeper(num=3, ratio=None, max=None, zero=False, max_batch_size=None, params=None)
        sweeper.composer, sweeper.chosen_launcher = Composer(HydraContext(loader, Callbacks()), master), None
        jobs = [
            ["data=diabetes", f"penalty={name}", f"seed={seed}", *asked] for name in ("l1", "l2") for seed in (0, 1)
        ]
        paths = sweeper.find_paths(jobs)
        for job in jobs_along(jobs, paths):
            sweeper.composer.template(job)
        return paths, len(sweeper.composer.templates)

    solved, by_steps = found(), found("trainer.max_epochs=3")
    assert solved[0] == by_steps[0] and (solved[1], by_steps[1]) == (2, 4)


def test_what_hydra_refuses_is_refused(loader: ConfigLoaderImpl) -> None:
    composer = Composer(HydraContext(loader, Callbacks()), loader.load_configuration("train", [], RunMode.MULTIRUN))
    for overrides in (["penalty=l22"], ["lamdb=3"], ["lambd=1", "optimizer.learning_rate=3"]):
        with pytest.raises(ConfigCompositionException):
            composer.template(overrides)


def test_yaml_is_read_back_as_it_was(loader: ConfigLoaderImpl) -> None:
    whole = loader.load_configuration("train", ["penalty=adamw", "data=table", "data.path='naïve λ.csv'"], RunMode.RUN)
    for tree in (
        whole,
        OmegaConf.create({"a": "1e-3", "b": "on", "c": "1", "d": None, "e": ["x: y", "${f}"], "f": 1e-9}),
    ):
        read = OmegaConf.create(yaml_text.yaml_text(tree))
        assert OmegaConf.to_yaml(read) == OmegaConf.to_yaml(tree)
