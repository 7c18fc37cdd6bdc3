"""The record of one run: what goes into its journal, and how it ends."""

import json
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
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
    from matplotlib.figure import Figure
    from pandas import DataFrame


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

    def __init__(self, cfg: DictConfig, place: Place, sweep: Membership | None) -> None:
        self.cfg, self.place, self.sweep = cfg, place, sweep
        self.name = config.run_name(cfg, place.overrides)
        self.client: Client | None = None
        self.journal: Journal | None = None
        self.metrics: dict[str, float] = {}
        self.tags: dict[str, str] = {}
        self.status, self.error = "RUNNING", None
        self.settled = self.recorded = False

    @cached_property
    def resolved(self) -> dict:
        """The config without interpolations."""
        return OmegaConf.to_container(self.cfg, resolve=True)

    @cached_property
    def params(self) -> dict[str, object]:
        return config.params(self.resolved)

    def connect(self, writer: int = 0) -> None:
        """Start the writer process of this number, which is ready later."""
        if self.cfg.tracking.enabled:
            uri = store_uri(self.cfg.tracking.uri, self.place.root)
            self.client = connect(uri, self.cfg.tracking.experiment, home(uri, self.place.root), writer)

    def begin(self, datasets: list[dict[str, object]]) -> None:
        """From here on there is a run, with its params, tags, config and data."""
        if self.client is None:
            return
        self.open()
        self.journal.metrics(config.strength(self.cfg.lambd), step=0)
        for part in datasets:
            self.journal.append("dataset", **part)

    def open(self) -> None:
        self.client.wait_until_ready()
        self.journal = self.client.begin(
            self.name,
            run_tags(self.place.root, self.place.overrides),
            parent=self.sweep.parent if self.sweep else None,
            adopt=None if self.sweep else os.environ.get("MLFLOW_RUN_ID"),
        )
        self.journal.params(self.params)
        self.keep_text("config.yaml", config.yaml_text(self.resolved))
        self.keep_text("overrides.yaml", config.yaml_text(self.place.overrides))

    def tag(self, tags: dict[str, str]) -> None:
        self.tags |= tags
        if self.journal is not None:
            self.journal.tags(tags)

    def curves(self, history: Iterable[tuple[int, int, dict[str, float]]]) -> None:
        """Metrics as (step, milliseconds since 1970, metrics) that were not logged as they came."""
        if self.journal is not None:
            for step, time, metrics in history:
                self.journal.metrics(metrics, step, time)

    def complete(self, measured: dict[str, float], test: dict[str, float], last: dict[str, float], step: int) -> None:
        """What is known only at the end of training: the last metrics, which are logged already, and those after it."""
        self.metrics = measured | test | last | config.strength(self.cfg.lambd)
        if self.journal is not None:
            self.journal.metrics(test | last, step)

    def keep_figure(self, figure: "Figure", file: str) -> None:
        if self.journal is not None:
            figure.savefig(self.place.folder / file)
            self.journal.artifact(self.place.folder / file, "figures")

    def keep_course(self, history: Iterable[tuple[int, dict[str, float]]], coefficients: "DataFrame | None") -> None:
        """Files of the run's folder that a sweep's report is drawn from; the coefficients are an artifact too."""
        self.place.folder.mkdir(parents=True, exist_ok=True)
        (self.place.folder / "history.json").write_text(json.dumps(list(history)), encoding="utf-8")
        if coefficients is not None:
            path = self.place.folder / "coefficients.csv"
            coefficients.to_csv(path, index=False)
            self.keep(path)

    def keep(self, path: Path) -> None:
        """A file that has been written, beside the others."""
        if self.journal is not None:
            self.journal.artifact(path)

    def fail(self, error: BaseException) -> None:
        """Keep what went wrong; a job of a sweep that never began has a run for it all the same."""
        self.error = str(error)
        if self.journal is None and self.sweep is not None:
            self.connect()
            if self.client is not None:
                self.open()
        if self.journal is not None:
            self.journal.tags({"error": error})
            self.keep_text("traceback.txt", "".join(traceback.format_exception(error)))

    def keep_text(self, file: str, text: str) -> None:
        path = self.place.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        self.journal.artifact(path)

    def end(self, status: str) -> None:
        """The run has ended; the writer carries it into the store while others train."""
        self.status = status
        if self.journal is not None:
            for path in sorted((self.place.folder / "checkpoints").glob("*.ckpt")):
                self.journal.artifact(path, "checkpoints")
            self.client.end(self.journal, status)

    def settle(self) -> None:
        """Wait until the store has all of it, say where it is, and tell the sweep.

        Once; raises TrackingError where the store did not take a finished run.
        """
        if self.settled:
            return
        self.settled = True
        finished = self.status == "FINISHED"
        try:
            if self.journal is not None:
                self.client.wait_for(self.journal)
                self.recorded = True
                model = self.client.models.get(self.journal.id, {})
                self.tags |= {f"model.{key}": value for key, value in model.items() if value is not None}
                if "error" in model and model["error"] is not None:
                    print(f"shrinkage: the model was not kept: {model['error']}", file=sys.stderr)
                if self.sweep is None:
                    print(f"\n{self.status}. {self.client.where(self.journal)}")
                    if model.get("registered"):
                        print(self.client.how_to_predict(model["registered"]))
        except TrackingError as error:
            if finished:
                self.status, self.error = "FAILED", str(error)
                raise
            print(f"shrinkage: {error}", file=sys.stderr)  # what stopped the run goes before
        finally:
            if self.sweep is not None:
                self.sweep.report(
                    name=self.name,
                    status=self.status,
                    run_id=self.client.run_id(self.journal) if self.recorded else None,
                    folder=str(self.place.folder.resolve()),
                    overrides=self.place.overrides,
                    params={name: str(value) for name, value in self.params.items()},
                    metrics=self.metrics,
                    tags=self.tags,
                    error=self.error,
                )


@contextmanager
def recorded(records: Sequence[Record]) -> Iterator[None]:
    """What happens inside ends every run that has not ended by itself: FINISHED, FAILED with the error, or KILLED."""

    def end(status: str, error: BaseException | None = None) -> None:
        for record in records:
            if record.status == "RUNNING":
                if error is not None:
                    record.fail(error)
                record.end(status)

    try:
        yield
        end("FINISHED")
    except SystemExit:
        end("KILLED")
        raise
    except BaseException as error:
        end("FAILED", error)
        raise
