"""The record of one run: what goes into its journal, and how it ends."""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from shrinkage import config
from shrinkage.membership import Membership
from shrinkage.provenance import run_tags
from shrinkage.tracking.client import Client, TrackingError, connect
from shrinkage.tracking.journal import Journal
from shrinkage.tracking.location import home, store_uri

if TYPE_CHECKING:
    from shrinkage.training import Training


@dataclass(frozen=True)
class Place:
    """Where a run stands: the folder of train.py, the run's own folder, and the overrides it was started with."""

    root: Path
    folder: Path
    overrides: list[str]

    @classmethod
    def of_this_job(cls) -> "Place":
        if not HydraConfig.initialized():
            return cls(Path.cwd(), Path("outputs") / f"{datetime.now():%Y-%m-%d/%H-%M-%S-%f}", [])
        hydra = HydraConfig.get()
        return cls(config.root_of(hydra), Path(hydra.runtime.output_dir), list(hydra.overrides.task))


class Record:
    """A run's journal from its beginning to its end. Where nothing is tracked, nothing is written."""

    def __init__(self, cfg: DictConfig, place: Place, name: str, sweep: Membership | None) -> None:
        self.cfg, self.place, self.name, self.sweep = cfg, place, name, sweep
        self.client: Client | None = None
        self.journal: Journal | None = None
        self.training: Training | None = None
        self.metrics: dict[str, float] = {}

    def connect(self) -> None:
        """Start the writer process, which is ready later."""
        if self.cfg.tracking.enabled:
            uri = store_uri(self.cfg.tracking.uri, self.place.root)
            self.client = connect(uri, self.cfg.tracking.experiment, home(uri, self.place.root))

    def begin(self, training: "Training") -> None:
        """From here on there is a run, and its metrics go to it."""
        self.training = training
        if self.client is None:
            return
        from shrinkage.tracking.logger import JournalLogger

        self.open()
        self.journal.metrics(config.strength(self.cfg.lambd), step=0)
        for part in training.datamodule.describe(self.cfg.choices.data):
            self.journal.append("dataset", **part)
        training.trainer.logger = JournalLogger(self.journal)

    def open(self) -> None:
        """The run with its params, tags and config."""
        self.client.wait_until_ready()
        self.journal = self.client.begin(
            self.name,
            run_tags(self.place.root, self.place.overrides),
            parent=self.sweep.parent if self.sweep else None,
            adopt=None if self.sweep else os.environ.get("MLFLOW_RUN_ID"),
        )
        resolved = OmegaConf.to_container(self.cfg, resolve=True)
        self.journal.params(config.params(resolved))
        self.keep_text("config.yaml", OmegaConf.to_yaml(OmegaConf.create(resolved)))
        self.keep_text("overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(self.place.overrides)))

    def complete(self, training: "Training") -> None:
        """What is known only at the end of training."""
        self.metrics = training.module.measured | training.test
        if self.journal is None:
            return
        history = training.module.history
        self.journal.metrics(training.test | training.best_metrics(), step=history[-1][0])
        if self.sweep is None:  # a sweep draws one figure of all its jobs
            from shrinkage.report.figures import learning_curves

            figure = self.place.folder / "learning_curves.png"
            step_unit = config.step_unit(self.cfg)
            learning_curves(history, self.name, step_unit).savefig(figure)
            self.journal.artifact(figure, "figures")

    def fail(self, error: BaseException) -> None:
        """Keep what went wrong; a job of a sweep that never began has a run for it all the same."""
        if self.journal is None and self.sweep is not None:
            self.connect()
            if self.client is not None:
                self.open()
        if self.journal is not None:
            self.journal.tags({"error": error})
            self.keep_text("traceback.txt", traceback.format_exc())

    def keep_text(self, file: str, text: str) -> None:
        path = self.place.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        self.journal.artifact(path)

    def end(self, status: str) -> None:
        """End the run, wait until the store has all of it, and say where it is."""
        if self.journal is None:
            return
        for path in self.training.checkpoints.files if self.training else []:
            self.journal.artifact(path, "checkpoints")
        try:
            self.client.finish(self.journal, status)
        except TrackingError as error:
            if status == "FINISHED":
                raise
            print(f"shrinkage: {error}", file=sys.stderr)  # what stopped the run goes before
            return
        if self.sweep is None:
            print(f"\n{status}. {self.client.where(self.journal)}")


@contextmanager
def recorded(cfg: DictConfig, place: Place, name: str, sweep: Membership | None) -> Iterator[Record]:
    """The record of what happens inside, whose run ends FINISHED, FAILED or KILLED; a sweep is told too."""
    record = Record(cfg, place, name, sweep)
    status, words = "FAILED", None
    try:
        yield record
        status = "FINISHED"
    except SystemExit:
        status = "KILLED"
        raise
    except BaseException as error:
        words = str(error)
        record.fail(error)
        raise
    finally:
        record.end(status)
        if sweep is not None:
            setting = config.setting(place.overrides)
            sweep.report(
                name=name,
                status=status,
                lambd=cfg.lambd,
                seed=cfg.seed,
                setting=setting,
                metrics=record.metrics,
                error=words,
            )
