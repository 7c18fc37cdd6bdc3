"""The sweeper that chooses the λ's itself: hydra/sweeper=path

Every combination of the other values that are listed is trained along a path of its own (`shrinkage.path`).
"""

from collections.abc import Sequence

from hydra.core.override_parser.types import Override

from hydra_plugins.grid_sweeper import GridSweeper
from shrinkage.compose import Composer
from shrinkage.errors import InputError


class PathSweeper(GridSweeper):
    """num λ's from max (None: λ_max) down to ratio · max (None: as low as is of interest), and 0 with zero."""

    def __init__(
        self,
        num: int,
        ratio: float | None,
        max: float | None,
        zero: bool,
        max_batch_size: int | None,
        params: dict[str, str] | None,
    ) -> None:
        super().__init__(max_batch_size, params)
        self.num, self.ratio, self.max, self.zero = num, ratio, max, zero

    def jobs(self, overrides: list[Override]) -> list[list[str]]:
        from shrinkage import path
        from shrinkage.fit import Refused

        jobs = super().jobs(overrides)
        try:
            if any(override.key_or_group == "lambd" for override in overrides):
                raise InputError(
                    "lambd: hydra/sweeper=path chooses the λ's itself; leave lambd out, or list your own with "
                    "hydra/sweeper=grid"
                )
            path.check(self.num, self.ratio, self.max)
            return path.expanded(jobs, self.paths(jobs))
        except InputError as error:
            raise Refused(error) from None

    def paths(self, jobs: Sequence[Sequence[str]]) -> list:
        """The path of each job; found once for all folds and seeds."""
        from shrinkage import path

        composer = Composer(self.hydra_context, self.config)
        found, paths = {}, []
        for number, job in enumerate(jobs):
            cfg = composer.resolved(job, composer.hydra(job, number))
            kind = path.kind(cfg)
            if kind not in found:
                found[kind] = path.path(cfg, self.num, self.ratio, self.max, self.zero)
            paths.append(found[kind])
        return paths
