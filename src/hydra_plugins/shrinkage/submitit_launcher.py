"""Launchers that hand each job of a sweep to Slurm, or start it here in a process of its own, as Slurm would:
hydra/launcher=submitit_slurm and hydra/launcher=submitit_local
"""

import logging
import os
import subprocess
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.shrinkage.jobs import SweepLauncher, as_job_return, run
from shrinkage.errors import InputError

if TYPE_CHECKING:
    import submitit

log = logging.getLogger(__name__)
LOOK_SECONDS = 1.0  # between two looks at the jobs
END_SECONDS = 15.0  # that jobs have to end in, where the sweep is left


class Job:
    """A job as submitit calls it. Where Slurm preempts it, or its time is over, it is queued again, and goes on."""

    def __call__(
        self,
        context: HydraContext,
        config: DictConfig,
        task_function: TaskFunction,
        singletons: Mapping[type, object],
    ) -> JobReturn:
        return run(context, config, task_function, singletons)

    def checkpoint(self, *arguments: object) -> "submitit.helpers.DelayedSubmission":
        """Build what is queued again where Slurm stops the job."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, *arguments)


class SubmititLauncher(SweepLauncher):
    """The launcher of hydra/launcher=submitit_slurm and submitit_local.

    cluster: slurm or local. at_once: how many jobs may run side by side, None for as many as there are cores here.
    max_num_timeout: how often a job whose time is over is queued again. parameters: those of submitit's executors.
    """

    def __init__(self, cluster: str, at_once: int | None, max_num_timeout: int, **parameters: object) -> None:
        self.cluster, self.max_num_timeout, self.parameters = cluster, max_num_timeout, parameters
        self.at_once = at_once or os.cpu_count() or 1

    def run_jobs(self, numbered: dict[int, list[str]], folder: Path) -> list[JobReturn]:
        from shrinkage.boundary import job_in_one_line

        with job_in_one_line():
            executor = self.executor(folder)
            waiting, running, done = list(numbered), {}, {}
            try:
                while waiting or running:
                    free = self.at_once - len(running) if self.cluster == "local" else len(waiting)
                    chosen, waiting = waiting[:free], waiting[free:]
                    if chosen:
                        arguments = [
                            (
                                self.hydra_context,
                                self.composer.whole(numbered[n], n),
                                self.task_function,
                                Singleton.get_state(),
                            )
                            for n in chosen
                        ]
                        running |= dict(zip(chosen, self.submit(executor, arguments), strict=True))
                    time.sleep(LOOK_SECONDS)
                    for number in [number for number, job in running.items() if job.done()]:
                        done[number] = result(running.pop(number))
                        log.info("\t#%d has ended, %d of %d", number, len(done), len(numbered))
            finally:
                for job in running.values():
                    job.cancel(check=False)
                deadline = time.monotonic() + END_SECONDS
                while time.monotonic() < deadline and not all(job.done() for job in running.values()):
                    time.sleep(LOOK_SECONDS)
        return [as_job_return(done[number], numbered[number]) for number in numbered]

    def executor(self, folder: Path) -> "submitit.AutoExecutor":
        """Build submitit's executor. Raises InputError where there is no such cluster, or it has no such parameter."""
        try:
            import submitit
        except ModuleNotFoundError:
            raise InputError(
                "hydra/launcher: submitit is not installed; use pip install 'shrinkage[slurm]', or leave it out"
            ) from None
        # That a cluster keeps no accounts, it says at every look.
        logging.getLogger("submitit").setLevel(logging.ERROR)
        own = {"slurm_max_num_timeout": self.max_num_timeout} if self.cluster == "slurm" else {}
        given = {key: value for key, value in self.parameters.items() if value is not None}
        if self.cluster == "slurm":
            given |= {"slurm_array_parallelism": self.at_once}
        try:
            executor = submitit.AutoExecutor(folder / ".submitit" / "%j", cluster=self.cluster, **own)
            executor.update_parameters(**given)
        except (RuntimeError, NameError, ValueError, TypeError) as error:
            raise InputError(
                f"hydra/launcher=submitit_{self.cluster}: {' '.join(str(error).split())}; use "
                "hydra/launcher=submitit_local, or mend hydra.launcher"
            ) from None
        return executor

    def submit(
        self, executor: "submitit.AutoExecutor", arguments: Sequence[tuple[object, ...]]
    ) -> "list[submitit.Job[JobReturn]]":
        """Hand the jobs over, to Slurm as one array. Raises InputError where it refuses them."""
        try:
            with errors_into(Path(executor.folder).with_name("processes.log")):
                return executor.map_array(Job(), *zip(*arguments, strict=True))
        except (RuntimeError, subprocess.CalledProcessError) as error:  # submitit's own are of the first kind
            reason = " ".join(str(error).split())
            raise InputError(
                f"Slurm takes no jobs ({reason[-300:]}); mend hydra.launcher, or see whether `sinfo` answers here"
            ) from None


@contextmanager
def errors_into(path: Path) -> Generator[None]:
    """Send to a file what processes started inside write to stderr, such as submitit's own when they are stopped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = os.dup(2)
    try:
        with path.open("ab") as file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def result(job: "submitit.Job[JobReturn]") -> JobReturn | Exception:
    """Return what an ended job returned, or why it did not."""
    try:
        return job.results()[0]
    except Exception as error:  # whatever ended it
        reason = str(error).strip().splitlines() or [type(error).__name__]
        return InputError(f"the process of job {job.job_id} ended ({reason[-1][:300]}); resume the sweep to try again")
