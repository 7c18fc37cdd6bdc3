"""One run, from its composed config to its record. Read this file first.

What is typed is checked, the writer process is started, and only then is PyTorch imported (`training`): a typo is
answered at once, and MLflow opens its store meanwhile.
"""

import sys
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from shrinkage import config, rules
from shrinkage.boundary import job_in_one_line
from shrinkage.errors import InputError
from shrinkage.machine.imports import importing_much
from shrinkage.machine.secrets import learn_overrides
from shrinkage.machine.waiting import doing
from shrinkage.names import on_a_line
from shrinkage.report.summary import show_summary
from shrinkage.runs import rerun, resume
from shrinkage.runs.folder import RunLocation
from shrinkage.runs.membership import Membership
from shrinkage.runs.record import Record, recorded
from shrinkage.tracking.source import OUTCOME

if TYPE_CHECKING:
    from shrinkage.training.run import Training


def fit(cfg: DictConfig) -> float:
    """Train one config and record it. Return the final val/loss, or train/loss without a validation part.

    A sweeper may minimise it. Under early stopping the final weights are the best ones. An InputError ends a single
    run in one line, and is raised as Refused in a sweep.
    """
    with job_in_one_line():
        return train(cfg)


def train(cfg: DictConfig) -> float:
    """Train one config and record it, as `fit` does. Raises InputError, or TrackingError if the store fails."""
    place, sweep = RunLocation.of_this_job(), Membership.of_this_job()
    learn_overrides(place.overrides)  # before an error quotes one
    tree = rules.complete(cfg)
    if sweep is not None:
        (done,) = resume.find_finished([(tree, place.folder)], sweep)
        if done is not None:
            return loss_of(done["metrics"])
    refuse_after_failure(tree, sweep)
    _, training = train_at(cfg, tree, place, sweep)
    return loss_of(training.module.measured)


def train_at(
    cfg: DictConfig, tree: dict[str, Any], place: RunLocation, sweep: Membership | None = None
) -> "tuple[Record, Training]":
    """Train one config in a place and record it; returns what is left of both.

    tree: the same config, resolved. Raises InputError, or TrackingError if the store fails.
    """
    earlier = resume.find_earlier(tree, place, sweep)
    original = rerun.original(tree, place) if cfg.rerun is not None else None
    if earlier is not None:
        tree, place = earlier.cfg(tree), earlier.place(place.root)
    if original is not None:
        tree, place = original.cfg(tree), RunLocation(place.root, place.folder, original.overrides)
    if earlier is not None or original is not None:
        cfg = DictConfig(tree)
    record = Record(tree, place, sweep, earlier)
    try:
        with recorded([record]), ExitStack() as stack:
            if earlier is None and original is None:
                rules.check_keys(cfg)
                rules.check_overrides(cfg, place.overrides)
            rules.check(cfg)
            record.connect()

            with nullcontext() if sweep else doing("starting"), importing_much():
                from shrinkage.runs.export import check_exportable, coefficients, write_model
                from shrinkage.training.ranks import started_ranks
                from shrinkage.training.run import build

            checkpoint = earlier.checkpoint if earlier else None
            first = stack.enter_context(started_ranks(cfg, checkpoint))
            training = build(cfg, record.place.folder, record.name, sweep.tell if sweep else None, first)
            if config.exports(cfg):
                check_exportable(training.datamodule)
            described = training.datamodule.describe(cfg.choices.data)
            record.begin(described)
            record.tag(training.tags)
            training.module.on_measured = record.log
            for sentence in [] if sweep else training.advice():
                print(f"note: {on_a_line(sentence)}", file=sys.stderr)
            training.run(checkpoint)
            module = training.module
            once = training.test | training.best_metrics() | training.conclusion
            record.complete(module.history, module.measured, once)
            record.keep_coefficients(
                coefficients(training.datamodule, module.model, exchangeable=module.exchangeable())
            )
            if config.exports(cfg) and record.journal is not None:
                from shrinkage.report.figures import outcome_figure

                into, survival = record.place.folder / "model", module.survival()
                path = write_model(training.datamodule, module.model, into, module.task.link, survival)
                record.journal.model(path, cfg.export, record.metrics)
                if (outcome := training.outcome(survival)) is not None:
                    record.keep_text(OUTCOME, outcome.as_json())
                    record.keep_figure(outcome_figure(outcome), f"{outcome.name}.png")
            if sweep is None and record.journal is not None:  # a sweep draws one figure of all its jobs
                record.keep_figure(training.learning_curves(record.name), "learning_curves.png")
                if (picture := training.landscape()) is not None:
                    record.keep_figure(picture, "objective.png")
            if sweep is None:
                show_summary(record.name, module.measured, training.test, training.verdict(), module.task.about)
            if original is not None:
                digests = {str(part["context"]): str(part["digest"]) for part in described}
                is_same, words = rerun.verdict(original, record, digests)
                record.tag({"rerun.of": original.id, "rerun.same": str(is_same).lower()})
                print(words)
    finally:
        record.settle()
    return record, training


def loss_of(measured: dict[str, float]) -> float:
    """Return val/loss, or train/loss without a validation part."""
    return measured.get("val/loss", measured["train/loss"])


def refuse_after_failure(cfg: Mapping[str, Any], sweep: Membership | None) -> None:
    """Refuse to begin a job of a sweep with on_error=stop in which another one has failed. Raises InputError."""
    if sweep is not None and cfg["on_error"] == "stop":
        failed = [result["name"] for result in sweep.results() if result["status"] == "FAILED"]
        if failed:
            raise InputError(f"not begun, since {failed[0]} has failed and on_error=stop")
