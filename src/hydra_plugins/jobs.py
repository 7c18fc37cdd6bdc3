"""What the launchers have in common: how a sweep begins, and a job in another process."""

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from shrinkage.compose import Composer

log = logging.getLogger(__name__)


class SweepLauncher(Launcher):
    """Composes jobs by `Composer`; a subclass has them done."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        folder = Path(str(self.config.hydra.sweep.dir)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        self.composer = Composer(self.hydra_context, self.config)
        log.info("%d jobs by %s", len(job_overrides), self.config.hydra.runtime.choices["hydra/launcher"])
        return self.launched(dict(enumerate(map(list, job_overrides), start=initial_job_idx)), folder)

    @abstractmethod
    def launched(self, numbered: dict[int, list[str]], folder: Path) -> Sequence[JobReturn]:
        """What each job comes to, in their order. numbered: their overrides by their numbers. folder: the sweep's."""


def run(context: HydraContext, config: DictConfig, task_function: TaskFunction, singletons: Mapping) -> JobReturn:
    """One job, in a process of its own."""
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


def returned(result: JobReturn | Exception, overrides: list[str]) -> JobReturn:
    """What a job came to; a failed one where its process died."""
    if isinstance(result, JobReturn):
        return result
    failed = JobReturn(overrides=overrides, status=JobStatus.FAILED)
    failed.return_value = result
    return failed
