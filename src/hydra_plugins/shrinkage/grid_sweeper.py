"""Hydra's grid of all combinations, which looks at each choice of groups once before the first job starts.

BasicSweeper composes every job to see whether it can be; jobs that differ in numbers alone need that only once. And it
knows nothing of a sweep that was begun before.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.shrinkage import jobs  # as a module: Hydra loads it once more, with other classes
from shrinkage.runs import identity
from shrinkage.runs.membership import Membership
from shrinkage.sweeps.compose import Composer

MANY_RUNS = 10_000


class GridSweeper(Sweeper):
    """The sweeper of hydra/sweeper=grid, the default.

    max_batch_size: how many jobs the launcher is given at once, None for all. params: overrides that every sweep has.
    """

    def __init__(self, max_batch_size: int | None, params: dict[str, str] | None) -> None:
        self.max_batch_size, self.params = max_batch_size, params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives a sweeper."""
        self.composer = Composer(hydra_context, config)
        self.chosen_launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        if isinstance(self.chosen_launcher, jobs.SweepLauncher):
            self.chosen_launcher.composer = self.composer

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Have the launcher do all jobs; returns what each of them comes to, by batches. Raises what a job raised."""
        given = [f"{key}={value}" for key, value in self.params.items()]
        batches = self.list_batches(self.composer.parser.parse_overrides([*given, *arguments]))
        folder = Path(self.composer.master.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.composer.master, folder / "multirun.yaml")
        ended: list[Sequence[JobReturn]] = []
        for batch in batches:
            for overrides in batch:  # so that a job which cannot be composed stops the sweep before it begins
                self.composer.template(overrides)
            ended.append(self.chosen_launcher.launch(batch, initial_job_idx=sum(map(len, ended))))
            for job in ended[-1]:
                _ = job.return_value  # raises what the job raised
        return ended

    def list_jobs(self, overrides: list[Override]) -> list[list[str]]:
        """List the overrides of every job."""
        (jobs,) = BasicSweeper.split_arguments(overrides, None)
        return jobs

    def list_batches(self, overrides: list[Override]) -> list[list[list[str]]]:
        """Split the jobs that have not FINISHED into batches."""
        jobs = self.list_jobs(overrides)
        sweep = Membership.of_this_job()
        if sweep is not None:
            sweep.expect(len(jobs))
            if len(jobs) > MANY_RUNS and sweep.parent is not None and not sweep.has_rows:
                print(
                    f"note: {len(jobs):,} jobs become as many runs, which make MLflow's pages slow; "
                    "tracking.jobs=table keeps them as rows of one file with the sweep's own run",
                    file=sys.stderr,
                )
            jobs = self.unfinished(jobs, sweep)
        return list(BasicSweeper.split_overrides_to_chunks(jobs, self.max_batch_size)) if jobs else []

    def unfinished(self, jobs: list[list[str]], sweep: Membership) -> list[list[str]]:
        """Keep the jobs that had not FINISHED when the sweep was begun before."""
        finished = sweep.finished()
        if not finished:
            return jobs
        return [job for number, job in enumerate(jobs) if self.fingerprint(job, number) not in finished]

    def fingerprint(self, job: Sequence[str], number: int) -> str:
        """Compute the fingerprint by which a job's run is known."""
        return identity.fingerprint(identity.recorded(self.composer.resolved(job, number)))
