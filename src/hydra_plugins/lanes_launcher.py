"""The launcher that trains the jobs of a sweep together: hydra/launcher=lanes

Jobs whose configs are equal but for λ, seed and their penalty's own numbers become lanes of one training
(`shrinkage.fit.fit_lanes`); every other job runs by itself, as Hydra's basic launcher would run it.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from shrinkage import config as typed
from shrinkage.compose import Composer
from shrinkage.errors import InputError
from shrinkage.membership import Membership
from shrinkage.record import Place

if TYPE_CHECKING:
    from shrinkage.fit import Outcome


@dataclass(frozen=True)
class Job:
    """overrides: what it was started with. hydra: Hydra's part of its config. cfg: the rest, resolved."""

    overrides: list[str]
    hydra: DictConfig
    cfg: DictConfig
    place: Place


class LanesLauncher(Launcher):
    """max_lanes: the most jobs that are trained at once, None for as many as fit into the memory."""

    def __init__(self, max_lanes: int | None) -> None:
        self.max_lanes = max_lanes

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        self.composer = Composer(self.hydra_context, self.config)
        numbered = dict(enumerate(map(list, job_overrides), start=initial_job_idx))
        ours = self.config.keys() >= typed.KEYS  # else the jobs are another application's
        found = {number: self.lane(number, overrides) for number, overrides in numbered.items()} if ours else {}
        jobs = {number: job for number, job in found.items() if job is not None}
        outcomes: dict[int, Outcome] = {}
        try:
            self.train_together(jobs, outcomes)
            return [
                self.finish(jobs[number], outcomes[number]) if number in outcomes else self.run(number, overrides)
                for number, overrides in numbered.items()
            ]
        except SystemExit:
            for outcome in outcomes.values():  # of those that have ended the sweep hears all the same
                outcome.record.settle()
            raise

    def lane(self, number: int, overrides: list[str]) -> Job | None:
        """A job that may be a lane; None where no run can use it."""
        hydra = self.composer.hydra(overrides, number)
        try:
            cfg = self.composer.resolved(overrides, hydra)
            typed.check(cfg)
        except (InputError, OmegaConfBaseException):
            return None  # it runs by itself and says what is wrong
        folder = Path(hydra.hydra.sweep.dir, hydra.hydra.sweep.subdir).absolute()
        return Job(overrides, hydra, cfg, Place(typed.root_of(hydra.hydra), folder, list(hydra.hydra.overrides.task)))

    def train_together(self, jobs: dict[int, Job], outcomes: dict[int, "Outcome"]) -> None:
        """Train the jobs that can share a training with others; adds what becomes of them, by their numbers."""
        self.go_on(jobs, outcomes)
        kinds: dict[str, list[int]] = {}
        for number in jobs.keys() - outcomes.keys():
            kinds.setdefault(typed.kind_of_lane(jobs[number].cfg), []).append(number)
        groups = [sorted(group) for group in kinds.values() if len(group) > 1]
        if not groups:
            return
        if len(kinds) > 1:
            sizes = sorted({len(group) for group in kinds.values()})
            between = " to ".join(map(str, dict.fromkeys((sizes[0], sizes[-1]))))
            print(
                f"note: {len(jobs)} jobs train in {len(kinds)} groups of {between}, since they differ in more than λ, "
                "seed and their penalty's numbers",
                file=sys.stderr,
            )

        from shrinkage.fit import fit_lanes
        from shrinkage.lanes import CannotShare

        for group in groups:
            cfgs, places = [jobs[number].cfg for number in group], [jobs[number].place for number in group]
            try:
                found = fit_lanes(cfgs, places, self.max_lanes)
            except CannotShare as reason:
                print(f"note: {len(group)} jobs are trained one by one: {reason}", file=sys.stderr)
            else:
                outcomes |= zip(group, found, strict=True)

    def go_on(self, jobs: dict[int, Job], outcomes: dict[int, "Outcome"]) -> None:
        """Go on with trainings of the sweep that were interrupted, each with the lanes that it had."""
        sweep = Membership.of_this_job()
        if sweep is None or sweep.times == 1:
            return

        from shrinkage import resume
        from shrinkage.fit import resume_lanes

        numbers = {typed.fingerprint(typed.recorded(job.cfg)): number for number, job in jobs.items()}
        for folder, lanes in resume.stacks(sweep.folder).items():
            if any(lane.fingerprint in numbers for lane in lanes):
                first = next(iter(jobs.values()))
                found = resume_lanes(lanes, first.cfg, first.place.root, folder)
                outcomes |= {
                    numbers[lane.fingerprint]: outcome
                    for lane, outcome in zip(lanes, found, strict=True)
                    if outcome is not None and lane.fingerprint in numbers
                }

    def run(self, number: int, overrides: list[str]) -> JobReturn:
        """One job by itself."""
        returned = run_job(
            hydra_context=self.hydra_context,
            task_function=self.task_function,
            config=self.composer.whole(overrides, number),
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        return returned

    def finish(self, job: Job, outcome: "Outcome") -> JobReturn:
        """What `run_job` leaves behind and returns, for a job that has been trained already.

        `run_job` itself would spend more on copying configs than the training of a lane takes.
        """
        job.hydra.hydra.runtime.output_dir = str(job.place.folder)
        returned = JobReturn(
            overrides=job.place.overrides,
            cfg=self.composer.task(job.overrides),
            hydra_cfg=job.hydra,
            working_dir=str(Path.cwd()),
            task_name=job.hydra.hydra.job.name,
        )
        if job.hydra.hydra.output_subdir is not None:
            folder = job.place.folder / job.hydra.hydra.output_subdir
            folder.mkdir(parents=True, exist_ok=True)
            files = {"config": returned.cfg, "hydra": returned.hydra_cfg, "overrides": returned.overrides}
            for name, tree in files.items():
                (folder / f"{name}.yaml").write_text(typed.yaml_text(tree), encoding="utf-8")
        callbacks, whole = self.hydra_context.callbacks, self.composer.whole(job.overrides, job.hydra.hydra.job.num)
        callbacks.on_job_start(config=whole, task_function=self.task_function)
        try:
            returned.return_value = outcome.get()
            returned.status = JobStatus.COMPLETED
        except Exception as error:
            returned.return_value = error
            returned.status = JobStatus.FAILED
        callbacks.on_job_end(config=whole, job_return=returned)
        return returned
