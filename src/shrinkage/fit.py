"""One run, or many lanes of one training, from composed configs to their records. Read this file first.

What is typed is checked, the writer process is started, and only then is PyTorch imported (`training`): a typo is
answered at once, and MLflow opens its store meanwhile.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from shrinkage import config
from shrinkage.errors import InputError
from shrinkage.interrupt import interruptible
from shrinkage.membership import Membership
from shrinkage.record import Place, Record, recorded
from shrinkage.report.summary import show_summary
from shrinkage.tracking.client import TrackingError

if TYPE_CHECKING:
    from shrinkage.lanes import Lane
    from shrinkage.training import Workshop


RUNS_A_WRITER = 100


class Refused(CompactHydraException):
    """An InputError on its way through a sweep: Hydra prints it without a traceback and exits with 1."""

    def __init__(self, error: object) -> None:
        super().__init__(f"shrinkage: {error}")


@contextmanager
def in_one_line() -> Iterator[None]:
    """On bad input the command line gets one line and exit code 1, a sweep and everybody else Refused."""
    try:
        with interruptible():
            yield
    except (InputError, TrackingError) as error:
        if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.RUN:
            raise SystemExit(f"shrinkage: {error}") from None
        raise Refused(error) from None


def fit(cfg: DictConfig) -> float:
    """Train one config and record it: the final val/loss, which a sweeper may minimise; train/loss without a val part.

    Under early stopping the final weights are the best ones. Bad input is refused `in_one_line`.
    """
    with in_one_line():
        return train(cfg)


def train(cfg: DictConfig) -> float:
    sweep = Membership.of_this_job()
    record = Record(cfg, Place.of_this_job(), sweep)
    try:
        with recorded([record]):
            config.check(cfg)
            record.connect()

            from shrinkage.export import coefficients, write_model
            from shrinkage.tracking.logger import JournalLogger
            from shrinkage.training import build

            training = build(cfg, record.place.folder, record.name, sweep.tell if sweep else None)
            record.begin(training.datamodule.describe(cfg.choices.data))
            record.tag(training.datamodule.tags | training.tags)
            if record.journal is not None:
                training.trainer.logger = JournalLogger(record.journal)
            for sentence in [] if sweep else training.advice():
                print(f"note: {sentence}", file=sys.stderr)
            training.run()
            module = training.module
            record.complete(
                module.measured, training.test, training.best_metrics() | training.conclusion, module.history[-1][0]
            )
            record.keep_course(module.history, coefficients(training.datamodule, module.model))
            if config.exports(cfg) and record.journal is not None:
                path = write_model(training.datamodule, module.model, record.place.folder / "model")
                record.journal.model(path, cfg.export, record.metrics)
            if sweep is None:  # a sweep draws one figure of all its jobs
                from shrinkage.report.figures import learning_curves

                record.keep_figure(
                    learning_curves(module.history, record.name, config.step_unit(cfg)), "learning_curves.png"
                )
                if (picture := training.landscape()) is not None:
                    record.keep_figure(picture, "objective.png")
                show_summary(record.name, module.measured, training.test, training.verdict())
    finally:
        record.settle()
    return module.measured.get("val/loss", module.measured["train/loss"])


class Outcome:
    """What a lane comes to: what `fit` would have returned or raised for its config."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.loss: float | None = None
        self.error: Exception | None = None

    def get(self) -> float:
        """The final val/loss, as soon as the record is in the store. Raises what went wrong."""
        try:
            self.record.settle()
        except TrackingError as error:
            raise Refused(error) from None
        if self.error is None:
            return self.loss
        raise Refused(self.error) if isinstance(self.error, InputError) else self.error


def fit_lanes(cfgs: Sequence[DictConfig], places: Sequence[Place], max_lanes: int | None = None) -> list[Outcome]:
    """Train configs that are equal but for λ, seed and their penalties' own numbers, max_lanes at a time.

    max_lanes: None for as many as fit into the memory. The outcomes come when training has ended, while their records
    are still being written. Raises CannotShare, before anything is recorded, where each has to be trained by itself.
    """
    sweep = Membership.of_this_job()
    outcomes = [Outcome(Record(cfg, place, sweep)) for cfg, place in zip(cfgs, places, strict=True)]
    # MLflow's Python, not the database, takes nearly all the time of a write: many runs are worth a writer a core.
    writers = min(os.cpu_count() or 1, 1 + len(outcomes) // RUNS_A_WRITER)
    for number, outcome in enumerate(outcomes):
        outcome.record.connect(number % writers)

    from shrinkage.training import Workshop, lanes_that_fit

    try:
        with interruptible():
            try:
                workshop = Workshop(cfgs[0])
                fitting = lanes_that_fit(cfgs, workshop, places[0].folder)
            except InputError as error:
                fail(outcomes, error)
                return outcomes
            size = min(max_lanes or fitting, fitting)
            for start in range(0, len(cfgs), size):
                part = outcomes[start : start + size]
                try:
                    train_lanes(part, workshop)
                except Exception as error:  # what it did to the records is recorded; other lanes still run
                    fail(part, error)
    except SystemExit:
        for outcome in outcomes:
            if outcome.record.status != "RUNNING":
                outcome.record.settle()
        raise
    return outcomes


def fail(outcomes: Sequence[Outcome], error: Exception) -> None:
    """What went wrong for all of them that have not ended by themselves."""
    for outcome in outcomes:
        if outcome.record.status == "RUNNING":
            outcome.record.fail(error)
            outcome.record.end("FAILED")
        if outcome.loss is None and outcome.error is None:
            outcome.error = error


def train_lanes(outcomes: Sequence[Outcome], workshop: "Workshop") -> None:
    """Train and record them together; each run ends when its lane does."""
    from shrinkage.checkpoints import write
    from shrinkage.export import coefficients
    from shrinkage.training import best_metrics, build_lanes

    records = [outcome.record for outcome in outcomes]

    def on_end(lane: "Lane") -> None:
        outcome, record = outcomes[lane.index], records[lane.index]
        record.curves(lane.history)
        if lane.error is not None:
            outcome.error = lane.error
            record.fail(lane.error)
            record.end("FAILED")
            return
        write(record.place.folder / "checkpoints", best=lane.best, last=lane.last)
        best = best_metrics(lane.best["epoch"], lane.best_measured)
        record.complete(lane.measured, lane.test, best | lane.conclusion, lane.history[-1][0])
        weights = coefficients(workshop.datamodule, training.model, lane.weights)
        record.keep_course(((step, measured) for step, _, measured in lane.history), weights)
        record.end("FINISHED")
        outcome.loss = lane.measured["val/loss"]

    with recorded(records):
        datasets = workshop.datamodule.describe(workshop.cfg.choices.data)
        for record in records:
            record.begin(datasets)
        tell = records[0].sweep.tell if records[0].sweep else None
        training = build_lanes([record.cfg for record in records], workshop, records[0].place.folder, on_end, tell)
        for record, tags in zip(records, training.tags, strict=True):
            record.tag(workshop.datamodule.tags | tags)
        try:
            training.run()
        except BaseException:
            for lane in training.module.interrupted():
                records[lane.index].curves(lane.history)
            raise
        if tell is not None:
            tell("recording")
