"""Many runs of one training, as lanes, from their composed configs to their records; `fit.py` is the same for one."""

import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from shrinkage.boundary import Refused
from shrinkage.errors import InputError, TrackingError
from shrinkage.fit import loss_of, refuse_after_failure
from shrinkage.machine.imports import importing_much
from shrinkage.machine.interrupt import interruptible
from shrinkage.runs import resume
from shrinkage.runs.folder import RunLocation
from shrinkage.runs.membership import Membership, Result
from shrinkage.runs.record import Record, recorded

if TYPE_CHECKING:
    from shrinkage.training.lane import Lane
    from shrinkage.training.workshop import Workshop, Workshops

RUNS_A_WRITER = 100


class Outcome:
    """What `fit` would have returned or raised for a lane's config: the final val/loss, or an error.

    This one is of a lane that has been recorded already, here before or in another process.
    """

    def __init__(self, result: float | Exception) -> None:
        self.result = result

    def settle(self) -> None:
        """Wait until the store has the record. Raises TrackingError if the store did not take a finished run."""

    def get(self) -> float:
        """Return the final val/loss, as soon as the record is in the store. Raises what went wrong."""
        try:
            self.settle()
        except TrackingError as error:
            raise Refused(error) from None
        if isinstance(self.result, InputError):
            raise Refused(self.result)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


class LaneRun(Outcome):
    """The outcome of a lane that is trained here and recorded as a run. It is an error until the lane has ended."""

    def __init__(self, record: Record) -> None:
        super().__init__(RuntimeError("the lane has not ended"))
        self.record, self.has_ended = record, False

    def settle(self) -> None:
        self.record.settle()

    def end(self, result: float | Exception) -> None:
        """Say how the lane has ended; its record is ended by itself."""
        self.result, self.has_ended = result, True

    def fail(self, error: Exception) -> None:
        """End the lane and its record by an error."""
        self.end(error)
        self.record.fail(error)
        self.record.end("FAILED")


def fit_lanes(
    cfgs: Sequence[Mapping[str, Any]],
    places: Sequence[RunLocation],
    max_lanes: int | None = None,
    workshops: "Workshops | None" = None,
) -> list[Outcome]:
    """Train configs that are equal but for λ, seed and their penalties' own numbers, max_lanes at a time.

    max_lanes: None for as many as fit into the memory. workshops: those of trainings before, whose data may be the
    same. Lanes that a process which has died had trained together go on
    together: how numbers are rounded may depend on how many there are. The outcomes are returned when training has
    ended, while their records are still being written. Raises CannotShare, before anything is recorded, if each config
    has to be trained by itself.
    """
    sweep = Membership.of_this_job()
    outcomes = begin_or_go_on(cfgs, places, sweep)
    stacks = find_stacks(places, sweep)
    in_stacks = {number for lanes in stacks.values() for number in lanes}
    runs = {n: outcome for n, outcome in enumerate(outcomes) if isinstance(outcome, LaneRun)}
    left = [n for n in runs if n not in in_stacks]

    def stack(lanes: Sequence[int], folder: Path | None) -> Stack:
        return Stack([cfgs[n] for n in lanes], {index: runs[n] for index, n in enumerate(lanes) if n in runs}, folder)

    with writers_of(list(runs.values())):
        with importing_much():
            from shrinkage.training.lanes_training import lanes_that_fit
            from shrinkage.training.workshop import Workshops

        try:
            workshop = (workshops or Workshops()).open(DictConfig(cfgs[0]))
            fitting = lanes_that_fit([cfgs[n] for n in left], workshop, places[0].folder) if left else 0
        except InputError as error:
            fail_unended(runs.values(), error)
            return outcomes
        for folder, lanes in stacks.items():
            train_lanes(stack(lanes, folder), workshop)
        size = min(max_lanes or fitting, fitting)
        for start in range(0, len(left), size or 1):
            lanes = left[start : start + size]
            train_lanes(stack(lanes, new_stack([runs[n] for n in lanes], sweep)), workshop)
    return outcomes


def begin_or_go_on(
    cfgs: Sequence[Mapping[str, Any]], places: Sequence[RunLocation], sweep: Membership | None
) -> list[Outcome]:
    """Return the outcome of each lane: the earlier one if it had finished, else one that is still to come.

    A run that was begun before goes on in its own folder.
    """
    jobs = list(zip(cfgs, places, strict=True))
    if sweep is None:
        return [LaneRun(Record(cfg, place, sweep)) for cfg, place in jobs]

    def outcome(cfg: Mapping[str, Any], place: RunLocation, done: Result | None) -> Outcome:
        if done is not None:
            return Outcome(loss_of(done["metrics"]))
        earlier = resume.find_earlier(cfg, place, sweep)
        return LaneRun(Record(cfg, earlier.place(place.root) if earlier else place, sweep, earlier))

    ended = resume.find_finished([(cfg, place.folder) for cfg, place in jobs], sweep)
    return [outcome(*job, done) for job, done in zip(jobs, ended, strict=True)]


def find_stacks(places: Sequence[RunLocation], sweep: Membership | None) -> dict[Path, list[int]]:
    """Find which of the lanes were trained together before, by the folder that keeps their state."""
    stacks = {} if sweep is None else resume.stacks(sweep.folder)
    if not stacks:
        return {}
    numbers = {place.folder.resolve(): number for number, place in enumerate(places)}
    return {
        folder: [numbers[lane.folder] for lane in lanes]
        for folder, lanes in stacks.items()
        if all(lane.folder in numbers for lane in lanes)
    }


def new_stack(runs: Sequence[LaneRun], sweep: Membership | None) -> Path | None:
    """Make the folder in which lanes that are trained together keep their state; None without a sweep to go on with."""
    folders = [run.record.place.folder for run in runs]
    return None if sweep is None else resume.new_stack(sweep.folder, folders)


@contextmanager
def writers_of(runs: Sequence[LaneRun]) -> Generator[None]:
    """Start the writers of the lanes' records. A signal inside ends the training, and settles the lanes that ended."""
    # MLflow's Python, not the database, takes nearly all the time of a write: many runs are worth a writer a core. Into
    # a SQLite file many are written at once, without most of it: the start of a second writer would cost more.
    is_in_file = bool(runs) and runs[0].record.is_in_file
    writers = 1 if is_in_file else min(os.cpu_count() or 1, 1 + len(runs) // RUNS_A_WRITER)
    for number, run in enumerate(runs):
        run.record.connect(number % writers)
    try:
        with interruptible():
            yield
    except SystemExit:
        for run in runs:
            if run.record.status != "RUNNING":
                run.settle()
        raise


def fail_unended(runs: Iterable[LaneRun], error: Exception) -> None:
    """Record an error as the end of every lane that has not ended by itself."""
    for run in runs:
        if run.record.status == "RUNNING":
            run.fail(error)
        if not run.has_ended:
            run.end(error)


@dataclass(frozen=True)
class Stack:
    """Lanes that are trained together.

    runs: those of the lanes that had not finished before, by their place among the configs. folder: keeps their state,
    None if it is not kept.
    """

    cfgs: Sequence[Mapping[str, Any]]
    runs: Mapping[int, LaneRun]
    folder: Path | None


def train_lanes(stack: Stack, workshop: "Workshop") -> None:
    """Train the lanes of a stack together and record each as a run, which ends when its lane does."""
    from shrinkage.runs.export import coefficients
    from shrinkage.training.checkpoints import write
    from shrinkage.training.lanes_training import build_lanes
    from shrinkage.training.run import best_metrics

    records = [run.record for run in stack.runs.values()]
    stops_early = workshop.cfg.early_stopping.patience is not None

    def log(lane: "Lane", record: Record) -> None:
        for moment in lane.history:
            record.log(moment)

    def on_end(lane: "Lane") -> None:
        run = stack.runs.get(lane.index)
        if run is None:
            return
        record = run.record
        with record.gathered():
            log(lane, record)
            if lane.error is not None:
                run.fail(lane.error)
                return
            checkpoints: dict[str, Mapping[str, Any]] = {"best": lane.best, "last": lane.last}
            write(record.folder / "checkpoints", **{name: checkpoints[name] for name in record.checkpoints})
            best = best_metrics(lane.best["epoch"], lane.best_measured) if stops_early else {}
            record.complete(lane.history, lane.measured, lane.test | best | lane.conclusion)
            record.keep_coefficients(coefficients(workshop.datamodule, training.model, lane.weights, lane.exchangeable))
            record.end("FINISHED")
        run.end(lane.measured["val/loss"])

    try:
        with recorded(records):
            refuse_after_failure(stack.cfgs[0], records[0].sweep)
            datasets = workshop.datamodule.describe(workshop.cfg.choices.data)
            for record in records:
                record.begin(datasets)
            tell = records[0].sweep.tell if records[0].sweep else None
            kept = None if stack.folder is None else stack.folder / "stack.ckpt"
            training = build_lanes(stack.cfgs, workshop, records[0].place.folder, on_end, tell, kept)
            for index, run in stack.runs.items():
                run.record.tag(training.tags[index])
            try:
                training.run(kept if kept is not None and kept.exists() else None)
            except BaseException:
                for lane in training.module.interrupted():
                    if lane.index in stack.runs:
                        log(lane, stack.runs[lane.index].record)
                raise
            if stack.folder is not None:
                resume.forget_stack(stack.folder)
            if tell is not None:
                tell("")
    except Exception as error:  # what it did to the records is recorded; other lanes still run
        fail_unended(stack.runs.values(), error)
