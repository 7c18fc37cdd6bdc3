"""Hydra's grid of all combinations, which looks at each choice of groups once before the first job starts.

BasicSweeper composes every job to see whether it can be; jobs that differ in numbers alone need that only once.
"""

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

from shrinkage.compose import Composer


class GridSweeper(BasicSweeper):
    """hydra/sweeper=grid, the default."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        composer = Composer(self.hydra_context, self.config)
        for overrides in batch:
            composer.kind(overrides)
