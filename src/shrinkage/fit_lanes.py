"""Many runs of one training, as lanes, from their composed configs to their records; `fit.py` is the same for one."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from shrinkage.boundary import Refused
from shrinkage.errors import InputError, TrackingError
from shrinkage.fit import loss_of, refuse_after_failure
from shrinkage.machine.interrupt import interruptible
from shrinkage.runs import resume
from shrinkage.runs.folder import Place
from shrinkage.runs.membership import Membership
from shrinkage.runs.record import Record, recorded

if TYPE_CHECKING:
    from shrinkage.training.lane import Lane
    from shrinkage.training.workshop import Workshop

RUNS_A_WRITER = 100


class Outcome:
    """What `fit` would have returned or raised for a lane's config.

    record: that of the lane, None if it has been recorded already. loss, error: None until the lane has ended.
    """

    def __init__(self, record: Record | None, loss: float | None = None, error: Exception | None = None) -> None:
        self.record, self.loss, self.error = record, loss, error

    def settle(self) -> None:
        """Wait until the store has the record. Raises TrackingError if the store did not take a finished run."""
        if self.record is not None:
            self.record.settle()

    def get(self) -> float:
        """Return the final val/loss, as soon as the record is in the store. Raises what went wrong."""
        try:
            self.settle()
        except TrackingError as error:
            raise Refused(error) from None
        if self.error is None:
            return self.loss
        raise Refused(self.error) if isinstance(self.error, InputError) else self.error


def fit_lanes(cfgs: Sequence[DictConfig], places: Sequence[Place], max_lanes: int | None = None) -> list[Outcome]:
    """Train configs that are equal but for λ, seed and their penalties' own numbers, max_lanes at a time.

    max_lanes: None for as many as fit into the memory. Lanes that a process which has died had trained together go on
    together: how numbers are rounded may depend on how many there are. The outcomes are returned when training has
    ended, while their records are still being written. Raises CannotShare, before anything is recorded, if each config
    has to be trained by itself.
    """
    sweep = Membership.of_this_job()
    outcomes = begin_or_go_on(cfgs, places, sweep)
    numbers = {place.folder.resolve(): number for number, place in enumerate(places)}
    stacks = {
        folder: [numbers[lane.folder] for lane in lanes]
        for folder, lanes in (resume.stacks(sweep.folder) if sweep is not None else {}).items()
        if all(lane.folder in numbers for lane in lanes)
    }
    in_stacks = {number for lanes in stacks.values() for number in lanes}
    left = [n for n, outcome in enumerate(outcomes) if outcome.record is not None and n not in in_stacks]

    def stack(lanes: Sequence[int], folder: Path | None) -> Stack:
        unrecorded = [outcomes[n] if outcomes[n].record is not None else None for n in lanes]
        return Stack([cfgs[n] for n in lanes], unrecorded, folder)

    going_on = [outcome for outcome in outcomes if outcome.record is not None]
    with writers_of(going_on):
        from shrinkage.training.lanes_training import lanes_that_fit
        from shrinkage.training.workshop import Workshop

        try:
            workshop = Workshop(cfgs[0])
            fitting = lanes_that_fit([cfgs[n] for n in left], workshop, places[0].folder) if left else 0
        except InputError as error:
            fail_unended(going_on, error)
            return outcomes
        for folder, lanes in stacks.items():
            train_lanes(stack(lanes, folder), workshop)
        size = min(max_lanes or fitting, fitting)
        for start in range(0, len(left), size or 1):
            lanes = left[start : start + size]
            train_lanes(stack(lanes, new_stack([outcomes[n] for n in lanes], sweep)), workshop)
    return outcomes


def begin_or_go_on(cfgs: Sequence[DictConfig], places: Sequence[Place], sweep: Membership | None) -> list[Outcome]:
    """Return the outcome of each lane: the earlier one if it had finished, else one that is still to come.

    A run that was begun before goes on in its own folder.
    """
    jobs = list(zip(cfgs, places, strict=True))
    if sweep is None:
        return [Outcome(Record(cfg, place, sweep)) for cfg, place in jobs]

    def outcome(cfg: DictConfig, place: Place, done: dict | None) -> Outcome:
        if done is not None:
            return Outcome(None, loss_of(done["metrics"]))
        earlier = resume.find_earlier(cfg, place, sweep)
        return Outcome(Record(cfg, earlier.place(place.root) if earlier else place, sweep, earlier))

    ended = resume.find_finished([(cfg, place.folder) for cfg, place in jobs], sweep)
    return [outcome(*job, done) for job, done in zip(jobs, ended, strict=True)]


def new_stack(outcomes: Sequence[Outcome], sweep: Membership | None) -> Path | None:
    """Make the folder in which lanes that are trained together keep their state; None without a sweep to go on with."""
    folders = [outcome.record.place.folder for outcome in outcomes]
    return None if sweep is None else resume.new_stack(sweep.folder, folders)


@contextmanager
def writers_of(outcomes: Sequence[Outcome]) -> Iterator[None]:
    """Start the writers of the lanes' records. A signal inside ends the training, and settles the lanes that ended."""
    # MLflow's Python, not the database, takes nearly all the time of a write: many runs are worth a writer a core.
    writers = min(os.cpu_count() or 1, 1 + len(outcomes) // RUNS_A_WRITER)
    for number, outcome in enumerate(outcomes):
        outcome.record.connect(number % writers)
    try:
        with interruptible():
            yield
    except SystemExit:
        for outcome in outcomes:
            if outcome.record.status != "RUNNING":
                outcome.record.settle()
        raise


def fail_unended(outcomes: Sequence[Outcome], error: Exception) -> None:
    """Record an error as the end of every lane that has not ended by itself."""
    for outcome in outcomes:
        if outcome.record.status == "RUNNING":
            outcome.record.fail(error)
            outcome.record.end("FAILED")
        if outcome.loss is None and outcome.error is None:
            outcome.error = error


@dataclass(frozen=True)
class Stack:
    """Lanes that are trained together.

    outcomes: that of each lane; None if it had already finished before. folder: keeps their state, None if it is not
    kept.
    """

    cfgs: Sequence[DictConfig]
    outcomes: Sequence[Outcome | None]
    folder: Path | None


def train_lanes(stack: Stack, workshop: "Workshop") -> None:
    """Train the lanes of a stack together and record each as a run, which ends when its lane does."""
    from shrinkage.runs.export import coefficients
    from shrinkage.training.checkpoints import write
    from shrinkage.training.lanes_training import build_lanes
    from shrinkage.training.run import best_metrics

    going_on = [outcome for outcome in stack.outcomes if outcome is not None]
    records = [outcome.record for outcome in going_on]

    def log(lane: "Lane") -> None:
        if (outcome := stack.outcomes[lane.index]) is not None:
            for moment in lane.history:
                outcome.record.log(moment)

    def on_end(lane: "Lane") -> None:
        outcome = stack.outcomes[lane.index]
        if outcome is None:
            return
        record = outcome.record
        log(lane)
        if lane.error is not None:
            outcome.error = lane.error
            record.fail(lane.error)
            record.end("FAILED")
            return
        write(record.place.folder / "checkpoints", best=lane.best, last=lane.last)
        stops_early = workshop.cfg.early_stopping.patience is not None
        best = best_metrics(lane.best["epoch"], lane.best_measured) if stops_early else {}
        record.complete(lane.history, lane.measured, lane.test | best | lane.conclusion)
        record.keep_coefficients(coefficients(workshop.datamodule, training.model, lane.weights, lane.exchangeable))
        record.end("FINISHED")
        outcome.loss = lane.measured["val/loss"]

    try:
        with recorded(records):
            refuse_after_failure(stack.cfgs[0], records[0].sweep)
            datasets = workshop.datamodule.describe(workshop.cfg.choices.data)
            for record in records:
                record.begin(datasets)
            tell = records[0].sweep.tell if records[0].sweep else None
            kept = None if stack.folder is None else stack.folder / "stack.ckpt"
            training = build_lanes(stack.cfgs, workshop, records[0].place.folder, on_end, tell, kept)
            for outcome, tags in zip(stack.outcomes, training.tags, strict=True):
                if outcome is not None:
                    outcome.record.tag(tags)
            try:
                training.run(kept if kept is not None and kept.exists() else None)
            except BaseException:
                for lane in training.module.interrupted():
                    log(lane)
                raise
            if stack.folder is not None:
                resume.forget_stack(stack.folder)
            if tell is not None:
                tell("recording")
    except Exception as error:  # what it did to the records is recorded; other lanes still run
        fail_unended(going_on, error)
