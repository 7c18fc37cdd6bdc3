"""The sweeper that chooses the λ's itself: hydra/sweeper=path

Every combination of the other values that are listed is trained along a path of its own (`shrinkage.sweeps.path`).
"""

import sys
from collections.abc import Sequence

from hydra.core.override_parser.types import Override

from hydra_plugins.shrinkage.grid_sweeper import GridSweeper
from shrinkage.boundary import command_in_one_line
from shrinkage.checks import Number, Whole, check
from shrinkage.errors import InputError
from shrinkage.runs.membership import Membership
from shrinkage.sweeps.compose import Composer


class PathSweeper(GridSweeper):
    """The sweeper of hydra/sweeper=path.

    num λ's from max (None: λ_max) down to ratio · max (None: as low as is of interest), and 0 with zero.
    """

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
        """List the overrides of every job, each with a λ of its path."""
        jobs = super().jobs(overrides)
        with command_in_one_line():
            self.check(overrides)

            from shrinkage.sweeps import path

            paths = self.paths(jobs)
            self.tell_lambda_max(jobs, paths)
            return path.jobs_along(jobs, paths)

    def check(self, overrides: list[Override]) -> None:
        """Check the sweeper's own values before anything heavy is imported. Raises InputError for what is no path."""
        if any(override.key_or_group == "lambd" for override in overrides):
            raise InputError(
                "lambd: hydra/sweeper=path chooses the λ's itself; leave lambd out, or list your own with "
                "hydra/sweeper=grid"
            )
        share = Number("the smallest λ as a share of the largest must be > 0 and < 1", above=0, below=1, or_null=True)
        check("hydra.sweeper.num", self.num, Whole(2), "use hydra.sweeper.num=50")
        check("hydra.sweeper.ratio", self.ratio, share, "use hydra.sweeper.ratio=0.001")
        largest = Number("λ must be > 0", above=0, or_null=True)
        check("hydra.sweeper.max", self.max, largest, "use hydra.sweeper.max=1")

    def tell_lambda_max(self, jobs: Sequence[Sequence[str]], paths: Sequence) -> None:
        """Tell the sweep which of its runs have the λ_max that their path begins at."""
        from shrinkage.sweeps import path

        sweep, composer = Membership.of_this_job(), Composer(self.hydra_context, self.config)
        if sweep is not None:
            first = [
                path.jobs_along([job], [along])[0]
                for job, along in zip(jobs, paths, strict=True)
                if along.at_lambda_max
            ]
            sweep.expect_at_lambda_max(self.fingerprint(composer, job, number) for number, job in enumerate(first))

    def paths(self, jobs: Sequence[Sequence[str]]) -> list:
        """Find the path of each job, once for all folds and seeds."""
        from shrinkage.sweeps import path

        composer = Composer(self.hydra_context, self.config)
        found, paths = {}, []
        for index, job in enumerate(jobs):
            cfg = composer.resolved(job, composer.hydra(job, index))
            key = path.path_key(cfg)
            if key not in found:
                found[key] = path.lambda_path(cfg, self.num, self.ratio, self.max, self.zero)
            paths.append(found[key])
        for note in dict.fromkeys(note for along in found.values() for note in along.notes):
            print(f"note: {note}", file=sys.stderr)
        return paths
