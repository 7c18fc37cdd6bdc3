"""TODO: what this file is."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from shrinkage.errors import InputError, TrackingError
from shrinkage.machine.interrupt import interruptible
from shrinkage.runs import resume
from shrinkage.runs.folder import Place
from shrinkage.runs.membership import Membership
from shrinkage.runs.record import Record, recorded

if TYPE_CHECKING:
    from shrinkage.training.lanes import Lane
    from shrinkage.training.workshop import Workshop
from shrinkage.boundary import Refused
from shrinkage.fit import loss_of, refuse_after_failure

RUNS_A_WRITER = 100


class Outcome:
    """What a lane comes to: what `fit` would have returned or raised for its config. record: None where it is told."""

    def __init__(self, record: Record | None, loss: float | None = None, error: Exception | None = None) -> None:
        self.record, self.loss, self.error = record, loss, error

    def settle(self) -> None:
        """Wait until the store has its record. Raises TrackingError where the store did not take a finished run."""
        if self.record is not None:
            self.record.settle()

    def get(self) -> float:
        """The final val/loss, as soon as the record is in the store. Raises what went wrong."""
        try:
            self.settle()
        except TrackingError as error:
            raise Refused(error) from None
        if self.error is None:
            return self.loss
        raise Refused(self.error) if isinstance(self.error, InputError) else self.error


def fit_lanes(cfgs: Sequence[DictConfig], places: Sequence[Place], max_lanes: int | None = None) -> list[Outcome]:
    """Train configs that are equal but for λ, seed and their penalties' own numbers, max_lanes at a time.

    max_lanes: None for as many as fit into the memory. Lanes that were trained together in their folders before, by a
    process that has died, go on together: how numbers are rounded may hang on how many there are. The outcomes come
    when training has ended, while their records are still being written. Raises CannotShare, before anything is
    recorded, where each has to be trained by itself.
    """
    sweep = Membership.of_this_job()
    outcomes = begun(cfgs, places, sweep)
    numbers = {place.folder.resolve(): number for number, place in enumerate(places)}
    stacks = {
        folder: [numbers[lane.folder] for lane in lanes]
        for folder, lanes in (resume.stacks(sweep.folder) if sweep is not None else {}).items()
        if all(lane.folder in numbers for lane in lanes)
    }
    in_stacks = {number for lanes in stacks.values() for number in lanes}
    left = [n for n, outcome in enumerate(outcomes) if outcome.record is not None and n not in in_stacks]

    def stack(lanes: Sequence[int], folder: Path | None) -> Stack:
        told = [outcomes[n] if outcomes[n].record is not None else None for n in lanes]
        return Stack([cfgs[n] for n in lanes], told, folder)

    going_on = [outcome for outcome in outcomes if outcome.record is not None]
    with together(going_on):
        from shrinkage.training.together import lanes_that_fit
        from shrinkage.training.workshop import Workshop

        try:
            workshop = Workshop(cfgs[0])
            fitting = lanes_that_fit([cfgs[n] for n in left], workshop, places[0].folder) if left else 0
        except InputError as error:
            fail(going_on, error)
            return outcomes
        for folder, lanes in stacks.items():
            train_lanes(stack(lanes, folder), workshop)
        size = min(max_lanes or fitting, fitting)
        for start in range(0, len(left), size or 1):
            lanes = left[start : start + size]
            train_lanes(stack(lanes, new_stack([outcomes[n] for n in lanes], sweep)), workshop)
    return outcomes


def begun(cfgs: Sequence[DictConfig], places: Sequence[Place], sweep: Membership | None) -> list[Outcome]:
    """What lanes have come to, or what is to be trained; a run that was begun before goes on in its own folder."""
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
    """Where lanes that are trained together keep their state; None where there is no sweep to go on with."""
    folders = [outcome.record.place.folder for outcome in outcomes]
    return None if sweep is None else resume.new_stack(sweep.folder, folders)


@contextmanager
def together(outcomes: Sequence[Outcome]) -> Iterator[None]:
    """Their writers are started; a signal inside ends them all, and those that have ended are told of."""
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


def fail(outcomes: Sequence[Outcome], error: Exception) -> None:
    """What went wrong for all of them that have not ended by themselves."""
    for outcome in outcomes:
        if outcome.record.status == "RUNNING":
            outcome.record.fail(error)
            outcome.record.end("FAILED")
        if outcome.loss is None and outcome.error is None:
            outcome.error = error


@dataclass(frozen=True)
class Stack:
    """What is trained together: configs, what becomes of each (None: nobody asks any more), and the folder that keeps
    its state, None where it is not kept."""

    cfgs: Sequence[DictConfig]
    outcomes: Sequence[Outcome | None]
    folder: Path | None


def train_lanes(stack: Stack, workshop: "Workshop") -> None:
    """Train and record them together; each run ends when its lane does."""
    from shrinkage.runs.export import coefficients
    from shrinkage.training.checkpoints import write
    from shrinkage.training.run import best_metrics
    from shrinkage.training.together import build_lanes

    going_on = [outcome for outcome in stack.outcomes if outcome is not None]
    records = [outcome.record for outcome in going_on]

    def on_end(lane: "Lane") -> None:
        outcome = stack.outcomes[lane.index]
        if outcome is None:
            return
        record = outcome.record
        record.curves(lane.history)
        if lane.error is not None:
            outcome.error = lane.error
            record.fail(lane.error)
            record.end("FAILED")
            return
        write(record.place.folder / "checkpoints", best=lane.best, last=lane.last)
        stops_early = workshop.cfg.early_stopping.patience is not None
        best = best_metrics(lane.best["epoch"], lane.best_measured) if stops_early else {}
        step, _, logged = lane.history[-1]
        record.complete(lane.measured, lane.test, best | lane.conclusion, (step, logged))
        weights = coefficients(workshop.datamodule, training.model, lane.weights, lane.exchangeable)
        record.keep_course(((step, measured) for step, _, measured in lane.history), weights)
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
                    if (outcome := stack.outcomes[lane.index]) is not None:
                        outcome.record.curves(lane.history)
                raise
            if stack.folder is not None:
                resume.forget_stack(stack.folder)
            if tell is not None:
                tell("recording")
    except Exception as error:  # what it did to the records is recorded; other lanes still run
        fail(going_on, error)
