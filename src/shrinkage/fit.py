"""One run, from its composed config to its record. Read this file first.

What is typed is checked, the writer process is started, and only then is PyTorch imported (`training`): a typo is
answered at once, and MLflow opens its store meanwhile.
"""

import sys
from contextlib import ExitStack

from omegaconf import DictConfig

from shrinkage import config, rules
from shrinkage.boundary import job_in_one_line
from shrinkage.errors import InputError
from shrinkage.report.summary import show_summary
from shrinkage.runs import rerun, resume
from shrinkage.runs.folder import Place
from shrinkage.runs.membership import Membership
from shrinkage.runs.record import Record, recorded


def fit(cfg: DictConfig) -> float:
    """Train one config and record it. Return the final val/loss, or train/loss without a validation part.

    A sweeper may minimise it. Under early stopping the final weights are the best ones. Bad input is refused
    `job_in_one_line`.
    """
    with job_in_one_line():
        return train(cfg)


def train(cfg: DictConfig) -> float:
    """Train one config and record it, as `fit` does. Raises InputError, or TrackingError if the store fails."""
    rules.complete(cfg)
    place, sweep = Place.of_this_job(), Membership.of_this_job()
    if sweep is not None:
        (done,) = resume.find_finished([(cfg, place.folder)], sweep)
        if done is not None:
            return loss_of(done["metrics"])
    refuse_after_failure(cfg, sweep)
    earlier = resume.find_earlier(cfg, place, sweep)
    original = rerun.original(cfg, place) if cfg.rerun is not None else None
    if earlier is not None:
        cfg, place = earlier.cfg(cfg), earlier.place(place.root)
    if original is not None:
        cfg, place = original.cfg(cfg), Place(place.root, place.folder, original.overrides)
    record = Record(cfg, place, sweep, earlier)
    try:
        with recorded([record]), ExitStack() as stack:
            if earlier is None and original is None:
                rules.check_keys(cfg)
            rules.check(cfg)
            record.connect()

            from shrinkage.runs.export import coefficients, write_model
            from shrinkage.training.ranks import ranks
            from shrinkage.training.run import build

            checkpoint = earlier.checkpoint if earlier else None
            first = stack.enter_context(ranks(cfg, checkpoint))
            training = build(cfg, record.place.folder, record.name, sweep.tell if sweep else None, first)
            described = training.datamodule.describe(cfg.choices.data)
            record.begin(described)
            record.tag(training.tags)
            training.module.on_measured = record.log
            for sentence in [] if sweep else training.advice():
                print(f"note: {sentence}", file=sys.stderr)
            training.run(checkpoint)
            module = training.module
            once = training.test | training.best_metrics() | training.conclusion
            record.complete(module.history, module.measured, once)
            record.keep_coefficients(
                coefficients(training.datamodule, module.model, exchangeable=module.exchangeable())
            )
            if config.exports(cfg) and record.journal is not None:
                path = write_model(training.datamodule, module.model, record.place.folder / "model")
                record.journal.model(path, cfg.export, record.metrics)
            if sweep is None:  # a sweep draws one figure of all its jobs
                from shrinkage.report.figures import learning_curves

                curves = [(moment.step, moment.metrics) for moment in module.history]
                record.keep_figure(learning_curves(curves, record.name, config.step_unit(cfg)), "learning_curves.png")
                if (picture := training.landscape()) is not None:
                    record.keep_figure(picture, "objective.png")
                show_summary(record.name, module.measured, training.test, training.verdict(), module.task.about)
            if original is not None:
                digests = {str(part["context"]): str(part["digest"]) for part in described}
                is_same, words = rerun.verdict(original, record, digests)
                record.tag({"rerun.of": original.id, "rerun.same": str(is_same).lower()})
                print(words)
    finally:
        record.settle()
    return loss_of(module.measured)


def loss_of(measured: dict[str, float]) -> float:
    """Return val/loss, or train/loss without a validation part."""
    return measured.get("val/loss", measured["train/loss"])


def refuse_after_failure(cfg: DictConfig, sweep: Membership | None) -> None:
    """Refuse to begin a job of a sweep with on_error=stop in which another one has failed. Raises InputError."""
    if sweep is not None and cfg.on_error == "stop":
        failed = [result["name"] for result in sweep.results() if result["status"] == "FAILED"]
        if failed:
            raise InputError(f"not begun, since {failed[0]} has failed and on_error=stop")
