"""Hydra's grid of all combinations, which looks at each choice of groups once before the first job starts.

BasicSweeper composes every job to see whether it can be; jobs that differ in numbers alone need that only once.
"""

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override

from shrinkage.compose import Composer
from shrinkage.membership import Membership


class GridSweeper(BasicSweeper):
    """hydra/sweeper=grid, the default."""

    def jobs(self, overrides: list[Override]) -> list[list[str]]:
        """The overrides of every job."""
        (jobs,) = BasicSweeper.split_arguments(overrides, None)
        return jobs

    def split_arguments(self, overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        jobs = self.jobs(overrides)
        sweep = Membership.of_this_job()
        if sweep is not None:
            sweep.expect(len(jobs))
        return list(self.split_overrides_to_chunks(jobs, max_batch_size))

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        composer = Composer(self.hydra_context, self.config)
        for overrides in batch:
            composer.kind(overrides)
