"""Hydra's grid of all combinations, which looks at each choice of groups once before the first job starts.

BasicSweeper composes every job to see whether it can be; jobs that differ in numbers alone need that only once.
"""

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override

from shrinkage.runs import identity
from shrinkage.runs.membership import Membership
from shrinkage.sweeps.compose import Composer


class GridSweeper(BasicSweeper):
    """The sweeper of hydra/sweeper=grid, the default."""

    def jobs(self, overrides: list[Override]) -> list[list[str]]:
        """List the overrides of every job."""
        (jobs,) = BasicSweeper.split_arguments(overrides, None)
        return jobs

    def split_arguments(self, overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        """Split the jobs that have not FINISHED into batches."""
        jobs = self.jobs(overrides)
        sweep = Membership.of_this_job()
        if sweep is not None:
            sweep.expect(len(jobs))
            jobs = self.unfinished(jobs, sweep)
        return list(self.split_overrides_to_chunks(jobs, max_batch_size)) if jobs else []

    def unfinished(self, jobs: list[list[str]], sweep: Membership) -> list[list[str]]:
        """Keep the jobs that had not FINISHED when the sweep was begun before."""
        finished = sweep.finished()
        if not finished:
            return jobs
        composer = Composer(self.hydra_context, self.config)
        return [job for number, job in enumerate(jobs) if self.fingerprint(composer, job, number) not in finished]

    @staticmethod
    def fingerprint(composer: Composer, job: list[str], number: int) -> str:
        """Compute the fingerprint by which a job's run is known."""
        return identity.fingerprint(identity.recorded(composer.resolved(job, composer.hydra(job, number))))

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose each kind of job once. Raises what Hydra raises where one cannot be composed."""
        composer = Composer(self.hydra_context, self.config)
        for overrides in batch:
            composer.template(overrides)
