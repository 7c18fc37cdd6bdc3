"""What the launchers have in common: how a sweep begins, and a job in another process."""

import logging
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from shrinkage.runs.folder import RunLocation
from shrinkage.sweeps.compose import Composer

log = logging.getLogger(__name__)


class SweepLauncher(Launcher):
    """A launcher that composes jobs by `Composer`; a subclass has them done."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives a launcher."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config
        self.composer = Composer(hydra_context, config)  # a sweeper of ours gives its own, which has composed already

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Compose the jobs, have them done, and return what each comes to."""
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        folder = Path(str(self.config.hydra.sweep.dir)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        log.info("%d jobs by %s", len(job_overrides), self.config.hydra.runtime.choices["hydra/launcher"])
        return self.run_jobs(dict(enumerate(map(list, job_overrides), start=initial_job_idx)), folder)

    @abstractmethod
    def run_jobs(self, numbered: dict[int, list[str]], folder: Path) -> Sequence[JobReturn]:
        """Have the jobs done; returns what each comes to, in their order.

        numbered: their overrides by their numbers. folder: the sweep's.
        """


def run(
    context: HydraContext, config: DictConfig, task_function: TaskFunction, singletons: Mapping[type, object]
) -> JobReturn:
    """Run one job, in a process of its own."""
    setup_globals()
    Singleton.set_state(singletons)
    HydraConfig.instance().set_config(config)
    return run_job(
        hydra_context=context,
        task_function=task_function,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )


def as_job_return(result: JobReturn | Exception, overrides: list[str]) -> JobReturn:
    """Turn a result into what Hydra expects of a job; where its process died it is a failed one."""
    if isinstance(result, JobReturn):
        return result
    failed = JobReturn(overrides=overrides, status=JobStatus.FAILED)
    failed.return_value = result
    return failed


@dataclass(frozen=True)
class Group:
    """Jobs that are trained together.

    numbers: their own, None for a lane that no job asks for any more. goes_on: whether they were trained before, and
    were interrupted.
    """

    numbers: Sequence[int | None]
    cfgs: Sequence[Mapping[str, Any]]
    places: Sequence[RunLocation]
    goes_on: bool = False

    def parts(self, most: int) -> "Iterator[Group]":
        """Split the group into some of at most so many jobs; a training that goes on stays whole."""
        for start in range(0, len(self.cfgs), len(self.cfgs) if self.goes_on else most):
            own = slice(start, None if self.goes_on else start + most)
            yield Group(self.numbers[own], self.cfgs[own], self.places[own], self.goes_on)
