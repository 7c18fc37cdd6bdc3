"""The launcher that trains the jobs of a sweep together: hydra/launcher=lanes

Jobs whose configs are equal but for λ, seed and their penalty's own numbers become lanes of one training
(`shrinkage.fit_lanes.fit_lanes`); every other job runs by itself, as Hydra's basic launcher would run it.
"""

import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job
from hydra.experimental.callback import Callback
from omegaconf.errors import OmegaConfBaseException

from hydra_plugins.shrinkage.jobs import Group, SweepLauncher
from shrinkage import rules
from shrinkage.errors import InputError
from shrinkage.machine.imports import importing_much
from shrinkage.runs import identity, yaml_text
from shrinkage.runs.folder import RunLocation
from shrinkage.runs.membership import Membership

if TYPE_CHECKING:
    from shrinkage.fit_lanes import Outcome
    from shrinkage.training.sharing import CannotShare
    from shrinkage.training.workshop import Workshops


@dataclass(frozen=True)
class Job:
    """A job that may be a lane.

    overrides: what it was started with, Hydra's own among them. cfg: its config but for Hydra's part, resolved.
    """

    overrides: list[str]
    cfg: dict[str, Any]
    place: RunLocation


def looks_at_jobs(callback: Callback) -> bool:
    """Whether a callback of Hydra's does anything when a job starts or ends."""
    kind = type(callback)
    return kind.on_job_start is not Callback.on_job_start or kind.on_job_end is not Callback.on_job_end


class LanesLauncher(SweepLauncher):
    """The launcher of hydra/launcher=lanes.

    max_lanes: the most jobs that are trained at once, None for as many as fit into the memory. engine: None trains in
    this process; `ray` makes tasks of a cluster of at most max_lanes jobs each, by default so many that every core has
    one, and takes address, num_cpus and num_gpus as the launcher of that name does.
    """

    def __init__(
        self, max_lanes: int | None, engine: str | None, address: str | None, num_cpus: float, num_gpus: float
    ) -> None:
        self.max_lanes, self.engine, self.address = max_lanes, engine, address
        self.resources = {"num_cpus": num_cpus, "num_gpus": num_gpus}
        self.workshops: Workshops | None = None  # those of a sweeper, which has read the data already

    def run_jobs(self, numbered: dict[int, list[str]], folder: Path) -> list[JobReturn]:
        self.kept: set[int] = set()  # the kinds of which a job has Hydra's configs in its folder
        self.keeps_all = any(line.startswith("hydra.output_subdir=") for line in self.config.hydra.overrides.hydra)
        # Looked up once: a look into Hydra's config costs what the writing of a small file does.
        self.task_name, self.subfolder = self.config.hydra.job.name, self.config.hydra.output_subdir
        self.is_watched = any(map(looks_at_jobs, self.hydra_context.callbacks.callbacks))
        with self.cluster(folder):
            return self.run_all(numbered)

    @contextmanager
    def cluster(self, folder: Path) -> Generator[None]:
        """Join the cluster, where there is an engine. Raises Refused."""
        if self.engine is None:
            yield
            return

        from shrinkage.boundary import job_in_one_line

        with job_in_one_line():
            if self.engine != "ray":
                raise InputError(
                    f"hydra.launcher.engine={self.engine}: must be null, for this process, or ray; use "
                    "hydra.launcher.engine=null"
                )
            from hydra_plugins.shrinkage.ray_launcher import joined

            with joined(self.address, folder, self.resources):
                yield

    def run_all(self, numbered: dict[int, list[str]]) -> list[JobReturn]:
        """Do all jobs, together where they can be; returns what each comes to, in their order."""
        ours = self.config.keys() >= set(rules.SECTIONS)  # else the jobs are another application's
        found = {number: self.compose_lane(number, overrides) for number, overrides in numbered.items()} if ours else {}
        jobs = {number: job for number, job in found.items() if job is not None}
        outcomes: dict[int, Outcome] = {}
        try:
            self.train_together(jobs, outcomes)
            alone = self.run_alone({n: overrides for n, overrides in numbered.items() if n not in outcomes})
            return [self.finish(n, jobs[n], outcomes[n]) if n in outcomes else next(alone) for n in numbered]
        except SystemExit:
            for outcome in outcomes.values():  # of those that have ended the sweep hears all the same
                outcome.settle()
            raise

    def compose_lane(self, number: int, overrides: list[str]) -> Job | None:
        """Compose a job that may be a lane; None where no run can use its config."""
        try:
            cfg = self.composer.resolved(overrides, number)
            rules.check_values(cfg)
        except (InputError, OmegaConfBaseException):
            return None  # it runs by itself and says what is wrong
        return Job(overrides, cfg, self.composer.location(overrides, number))

    def train_together(self, jobs: dict[int, Job], outcomes: dict[int, "Outcome"]) -> None:
        """Train the jobs that can share a training with others; adds the outcome of each, by its number."""
        groups = self.find_interrupted(jobs)
        taken = {number for group in groups for number in group.numbers}
        kinds: dict[str, list[int]] = {}
        for number in jobs.keys() - taken:
            kinds.setdefault(identity.shared_by_lanes(jobs[number].cfg), []).append(number)
        shared = [sorted(numbers) for numbers in kinds.values() if len(numbers) > 1]
        if len(kinds) > 1 and shared:
            sizes = sorted({len(numbers) for numbers in shared})
            between = " to ".join(map(str, dict.fromkeys((sizes[0], sizes[-1]))))
            print(
                f"note: {len(jobs)} jobs train in {len(kinds)} groups of {between}, since they differ in more than λ, "
                "seed and their penalty's numbers",
                file=sys.stderr,
            )
        for numbers in shared:
            cfgs, places = [jobs[number].cfg for number in numbers], [jobs[number].place for number in numbers]
            groups.append(Group(numbers, cfgs, places))
        if not groups:
            return

        with importing_much():
            from shrinkage.training.sharing import CannotShare

        for group, found in self.train_groups(groups):
            if isinstance(found, CannotShare):
                print(f"note: {len(group.cfgs)} jobs are trained one by one: {found}", file=sys.stderr)
            else:
                ended = zip(group.numbers, found, strict=True)
                outcomes |= {number: outcome for number, outcome in ended if number is not None}

    def train_groups(self, groups: Sequence[Group]) -> Iterator[tuple[Group, "list[Outcome] | CannotShare"]]:
        """Train groups of lanes; yields each group's outcomes, with an engine in any order and in several parts."""
        if self.engine is not None:
            from hydra_plugins.shrinkage.ray_launcher import train_groups

            yield from train_groups(groups, self.max_lanes, self.resources)
            return

        from shrinkage.fit_lanes import fit_lanes
        from shrinkage.training.sharing import CannotShare
        from shrinkage.training.workshop import Workshops

        workshops = self.workshops or Workshops()
        for group in sorted(groups, key=lambda group: str(group.cfgs[0]["data"])):  # so that equal data are loaded once
            try:
                yield group, fit_lanes(group.cfgs, group.places, self.max_lanes, workshops)
            except CannotShare as reason:
                yield group, reason

    def find_interrupted(self, jobs: dict[int, Job]) -> list[Group]:
        """Find the trainings that were interrupted before the sweep was begun again, each with all its lanes."""
        sweep = Membership.of_this_job()
        if sweep is None or sweep.times == 1 or not jobs:
            return []

        from shrinkage.runs import resume

        numbers = {identity.fingerprint(identity.recorded(job.cfg)): number for number, job in jobs.items()}
        first = next(iter(jobs.values()))
        return [
            Group(
                [numbers.get(lane.fingerprint) for lane in lanes],
                [lane.cfg(first.cfg) for lane in lanes],
                [lane.place(first.place.root) for lane in lanes],
                goes_on=True,
            )
            for lanes in resume.stacks(sweep.folder).values()
            if any(lane.fingerprint in numbers for lane in lanes)
        ]

    def run_alone(self, numbered: dict[int, list[str]]) -> Iterator[JobReturn]:
        """Run the jobs that share no training, one by one or, with an engine, side by side; yields in their order."""
        if self.engine is not None and numbered:
            from hydra_plugins.shrinkage.ray_launcher import run_each

            yield from run_each(self.hydra_context, self.task_function, self.composer, numbered, self.resources)
            return
        for number, overrides in numbered.items():
            returned = run_job(
                hydra_context=self.hydra_context,
                task_function=self.task_function,
                config=self.composer.whole(overrides, number),
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )
            configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
            yield returned

    def finish(self, number: int, job: Job, outcome: "Outcome") -> JobReturn:
        """Return what `run_job` would, for a job that has been trained already.

        `run_job` itself would spend more on copying configs than the training of a lane takes. So the configs that
        Hydra keeps of a job are composed only where a callback looks at them, and are written for the first job of each
        kind, or for all where `hydra.output_subdir` is asked for.
        """
        returned = JobReturn(overrides=job.place.overrides, working_dir=str(Path.cwd()))
        returned.task_name = self.task_name
        kind = id(self.composer.template(job.overrides))
        if self.subfolder is not None and (kind not in self.kept or self.keeps_all):
            self.kept.add(kind)
            self.describe(returned, number, job)
            folder = job.place.folder / self.subfolder
            folder.mkdir(parents=True, exist_ok=True)
            files = {"config": returned.cfg, "hydra": returned.hydra_cfg, "overrides": returned.overrides}
            for name, tree in files.items():
                (folder / f"{name}.yaml").write_text(yaml_text.yaml_text(tree), encoding="utf-8")
        if not self.is_watched:
            return self.with_result(returned, outcome)
        self.describe(returned, number, job)
        callbacks, whole = self.hydra_context.callbacks, self.composer.whole(job.overrides, number)
        whole.hydra.runtime.output_dir = str(job.place.folder)
        callbacks.on_job_start(config=whole, task_function=self.task_function)
        callbacks.on_job_end(config=whole, job_return=self.with_result(returned, outcome))
        return returned

    def describe(self, returned: JobReturn, number: int, job: Job) -> None:
        """Add the configs of a job to what it returns."""
        hydra = self.composer.hydra(job.overrides, number)
        hydra.hydra.runtime.output_dir = str(job.place.folder)
        returned.cfg, returned.hydra_cfg = self.composer.task(job.overrides), hydra

    def with_result(self, returned: JobReturn, outcome: "Outcome") -> JobReturn:
        """Add to what a job returns how it has ended."""
        try:
            returned.return_value = outcome.get()
            returned.status = JobStatus.COMPLETED
        except Exception as error:
            returned.return_value = error
            returned.status = JobStatus.FAILED
        return returned
