"""What the launchers that start a sweep's jobs in other processes have in common."""

from collections.abc import Mapping

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


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
