"""The sweeper that chooses the λ's itself: hydra/sweeper=path

Every combination of the other values that are listed is trained along a path of its own (`shrinkage.sweeps.path`).
"""

import sys
from collections.abc import Sequence

from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from hydra_plugins.shrinkage.grid_sweeper import GridSweeper
from shrinkage.boundary import command_in_one_line
from shrinkage.config import number, whole
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
            return path.expanded(jobs, paths)

    def check(self, overrides: list[Override]) -> None:
        """Check the sweeper's own values before anything heavy is imported. Raises InputError for what is no path."""
        if any(override.key_or_group == "lambd" for override in overrides):
            raise InputError(
                "lambd: hydra/sweeper=path chooses the λ's itself; leave lambd out, or list your own with "
                "hydra/sweeper=grid"
            )
        settings = OmegaConf.create({"hydra": {"sweeper": {"num": self.num, "ratio": self.ratio, "max": self.max}}})
        whole(settings, "hydra.sweeper.num", least=2, way_out="use hydra.sweeper.num=50")
        if self.ratio is not None:
            rule = "the smallest λ as a share of the largest must be > 0 and < 1"
            way_out = "use hydra.sweeper.ratio=0.001"
            number(settings, "hydra.sweeper.ratio", above=0, below=1, rule=rule, way_out=way_out)
        if self.max is not None:
            number(settings, "hydra.sweeper.max", above=0, rule="λ must be > 0", way_out="use hydra.sweeper.max=1")

    def tell_lambda_max(self, jobs: Sequence[Sequence[str]], paths: Sequence) -> None:
        """Tell the sweep which of its runs have the λ_max that their path begins at."""
        from shrinkage.sweeps import path

        sweep, composer = Membership.of_this_job(), Composer(self.hydra_context, self.config)
        if sweep is not None:
            first = [
                path.expanded([job], [along])[0] for job, along in zip(jobs, paths, strict=True) if along.at_lambda_max
            ]
            sweep.expect_at_lambda_max(self.fingerprint(composer, job, number) for number, job in enumerate(first))

    def paths(self, jobs: Sequence[Sequence[str]]) -> list:
        """Find the path of each job, once for all folds and seeds."""
        from shrinkage.sweeps import path

        composer = Composer(self.hydra_context, self.config)
        found, paths = {}, []
        for index, job in enumerate(jobs):
            cfg = composer.resolved(job, composer.hydra(job, index))
            kind = path.kind(cfg)
            if kind not in found:
                found[kind] = path.path(cfg, self.num, self.ratio, self.max, self.zero)
            paths.append(found[kind])
        for note in dict.fromkeys(note for along in found.values() for note in along.notes):
            print(f"note: {note}", file=sys.stderr)
        return paths
