"""The sweeper that chooses the λ's itself: hydra/sweeper=path

Every combination of the other values that are listed is trained along a path of its own (`shrinkage.sweeps.path`).
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from hydra_plugins.shrinkage.grid_sweeper import GridSweeper
from hydra_plugins.shrinkage.lanes_launcher import LanesLauncher
from shrinkage.boundary import command_in_one_line
from shrinkage.checks import Number, Whole, check
from shrinkage.errors import InputError
from shrinkage.machine.imports import importing_much
from shrinkage.runs.membership import Membership

if TYPE_CHECKING:
    from shrinkage.sweeps.path import LambdaPath
    from shrinkage.training.workshop import Workshops


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

    def list_jobs(self, overrides: list[Override]) -> list[list[str]]:
        """List the overrides of every job, each with a λ of its path."""
        jobs = super().list_jobs(overrides)
        with command_in_one_line():
            self.check(overrides)

            with importing_much():
                from shrinkage.sweeps import path

            paths = self.find_paths(jobs)
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

    def tell_lambda_max(self, jobs: Sequence[Sequence[str]], paths: Sequence["LambdaPath"]) -> None:
        """Tell the sweep which of its runs have the λ_max that their path begins at."""
        from shrinkage.sweeps import path

        sweep = Membership.of_this_job()
        if sweep is not None:
            first = [
                path.jobs_along([job], [along])[0]
                for job, along in zip(jobs, paths, strict=True)
                if along.at_lambda_max
            ]
            sweep.expect_at_lambda_max(self.fingerprint(job, number) for number, job in enumerate(first))

    def find_paths(self, jobs: Sequence[Sequence[str]]) -> "list[LambdaPath]":
        """Find the path of each job, once for all folds and seeds."""
        from shrinkage.training.workshop import Workshops

        workshops = Workshops()
        if isinstance(self.chosen_launcher, LanesLauncher):
            self.chosen_launcher.workshops = workshops
        found: dict[str, LambdaPath] = {}
        paths = [self.find_path(job, index, workshops, found) for index, job in enumerate(jobs)]
        for note in dict.fromkeys(note for along in found.values() for note in along.notes):
            print(f"note: {note}", file=sys.stderr)
        return paths

    def find_path(
        self, job: Sequence[str], number: int, workshops: "Workshops", found: "dict[str, LambdaPath]"
    ) -> "LambdaPath":
        """Find the path of a job. found: the paths by what their configs have in common; a new one is added."""
        from shrinkage.sweeps import path

        def find(overrides: Sequence[str]) -> "LambdaPath":
            cfg = self.composer.resolved(overrides, number)
            key = path.path_key(cfg)
            if key not in found:
                found[key] = path.lambda_path(DictConfig(cfg), self.num, self.ratio, self.max, self.zero, workshops)
            return found[key]

        if not path.asks_for_steps(job):
            # Composed as the jobs of a solved path are, since a config of another kind costs one more composition.
            (solved,) = path.jobs_along([job], [path.LambdaPath([1.0], True, [])])
            try:
                if (along := find(solved)).is_convex:
                    return along
            except path.NoPath:
                raise
            except InputError:
                pass  # where no engine solves it, the job as it is says what is wrong
        return find(job)
