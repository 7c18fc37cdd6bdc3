"""The record of one run: what goes into its journal, and how it ends."""

import json
import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from shrinkage.boundary import tell
from shrinkage.errors import TrackingError
from shrinkage.machine.clock import now
from shrinkage.machine.disk import patiently
from shrinkage.machine.secrets import masked, masked_tree, masked_values
from shrinkage.tracking.client import Client, connect
from shrinkage.tracking.journal import Journal
from shrinkage.tracking.location import home, store_uri
from shrinkage.tracking.source import AT_LAMBDA_MAX

from . import identity, yaml_text
from .folder import ABOUT, Place
from .membership import Membership
from .provenance import run_tags

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from .folder import Earlier


class Record:
    """A run's journal from its beginning to its end. Where nothing is tracked, nothing is written."""

    def __init__(
        self, cfg: DictConfig, place: Place, sweep: Membership | None, earlier: "Earlier | None" = None
    ) -> None:
        self.cfg, self.place, self.sweep, self.earlier = cfg, place, sweep, earlier
        self.name = identity.run_name(cfg, place.overrides) if earlier is None else earlier.name
        self.client: Client | None = None
        self.journal: Journal | None = None
        self.metrics: dict[str, float] = {}
        self.tags: dict[str, str] = {}
        self.status, self.error = "RUNNING", None
        self.settled = self.recorded = False

    @cached_property
    def resolved(self) -> dict:
        """The config as it is recorded; that of a run which goes on stays in the names of the version that began it."""
        return identity.recorded(self.cfg) if self.earlier is None else self.earlier.written

    @cached_property
    def params(self) -> dict[str, str]:
        """The run's params as text, without secrets."""
        return masked_values(identity.params(self.resolved))

    @cached_property
    def fingerprint(self) -> str:
        """The hash of the config, by which two runs that come to the same numbers are known."""
        return identity.fingerprint(self.resolved) if self.earlier is None else self.earlier.fingerprint

    @cached_property
    def origin(self) -> dict[str, str]:
        """The tags that say where the run comes from."""
        return run_tags(self.place.root, self.place.overrides)

    def connect(self, writer: int = 0) -> None:
        """Start the writer process of this number, which is ready later."""
        tracking = self.cfg.tracking
        if tracking.enabled:
            uri = store_uri(tracking.uri, self.place.root)
            self.client = connect(uri, tracking.experiment, home(uri, self.place.root), writer, tracking.offline)

    def begin(self, datasets: list[dict[str, object]]) -> None:
        """Open the run's record with its params, tags, config and data sets. Raises InputError where it cannot be
        written.
        """
        self.open()
        if self.journal is not None:
            self.journal.metrics(identity.strength(self.cfg.lambd), step=0)
            for part in datasets:
                self.journal.append("dataset", **part)
        if self.sweep is not None and self.sweep.is_at_lambda_max(self.fingerprint):
            self.tag({AT_LAMBDA_MAX: repr(float(self.cfg.lambd))})

    def open(self) -> None:
        """Begin the run's journal, or go on with its earlier one, and write the files by which it is found again."""
        if self.client is not None:
            self.client.wait_until_ready()
            path = None if self.earlier is None else self.earlier.journal(self.client.home)
            adopt = None if self.sweep else os.environ.get("MLFLOW_RUN_ID") or None
            if path is not None:
                self.journal = self.client.resume(path, adopt)
                self.journal.params(self.params)
            else:
                self.journal = self.client.begin(
                    self.name,
                    identity.own_tags(self.cfg) | self.origin | {"config.hash": self.fingerprint},
                    params=self.params,
                    parent=self.sweep.parent if self.sweep else None,
                    adopt=adopt,
                    folder=self.place.folder,
                )
        self.keep_text("config.yaml", yaml_text.yaml_text(masked_tree(self.resolved)))
        self.keep_text("overrides.yaml", yaml_text.yaml_text(masked_tree(self.place.overrides)))
        sweep = self.sweep.folder if self.sweep else self.earlier.sweep if self.earlier else None
        about = {
            "id": None if self.journal is None else self.journal.id,
            "name": self.name,
            "fingerprint": self.fingerprint,
            "sweep": None if sweep is None else str(sweep),
        }
        path = self.place.folder / ABOUT
        patiently(lambda: path.write_text(json.dumps(about), encoding="utf-8"), path)

    def tag(self, tags: dict[str, str]) -> None:
        """Record tags."""
        self.tags |= tags
        if self.journal is not None:
            self.journal.tags(tags)

    def log(self, moment: tuple[int, int, dict[str, float]]) -> None:
        """Append one moment of the training to the journal, when it is measured or later.

        moment: (step, milliseconds since 1970, metrics), as the histories of runs and lanes have them.
        """
        if self.journal is not None:
            step, time, metrics = moment
            self.journal.metrics(metrics, step, time)

    def complete(
        self,
        history: Sequence[tuple[int, int, dict[str, float]]],
        measured: dict[str, float],
        once: dict[str, float],
    ) -> None:
        """Record what is known only at the end of training.

        history: all moments, which are logged already; it is kept as a file that a sweep's report is drawn from, too. A
        study has none.
        measured: the metrics that every moment has, of the weights that are kept. once: those that have no curve. Where
        early stopping has put earlier weights back, theirs become each curve's last. Raises InputError if the disk is
        full.
        """
        self.metrics = measured | once | identity.strength(self.cfg.lambd)
        step, _, already = history[-1] if history else (0, 0, {})
        if self.journal is not None:
            restored = {name: value for name, value in measured.items() if already.get(name) != value}
            if restored:
                # Later than what is logged: of the values at a curve's last step a store takes the latest.
                self.journal.append("metrics", step=step, time=now() + 1, metrics=restored)
            self.journal.metrics(once, step)
        if not history:
            return
        text = json.dumps([(step, metrics) for step, _, metrics in history])
        path = self.place.folder / "history.json"
        patiently(lambda: path.write_text(text, encoding="utf-8"), path)

    def keep_figure(self, figure: "Figure", file: str) -> None:
        """Write a figure into the run's folder and record it under `figures`."""
        if self.journal is not None:
            path = self.place.folder / file
            patiently(lambda: figure.savefig(path), path)
            self.keep(path, "figures")

    def keep_coefficients(self, coefficients: "DataFrame | None") -> None:
        """Keep a linear model's coefficients, where it is one, as a file. Raises InputError if the disk is full."""
        if coefficients is not None:
            path = self.place.folder / "coefficients.csv"
            patiently(lambda: coefficients.to_csv(path, index=False), path)
            self.keep(path)

    def keep(self, path: Path, folder: str = "") -> None:
        """Record a file that has been written, under a folder of the run's artifacts."""
        if self.journal is not None:
            self.journal.artifact(path, folder)

    def fail(self, error: BaseException) -> None:
        """Record what went wrong. A job of a sweep that never began gets a run for it all the same."""
        self.error = masked(str(error))
        if self.journal is None and self.sweep is not None and self.earlier is None:
            self.connect()
            if self.client is not None:
                self.open()
        if self.journal is not None:
            self.journal.tags({"error": error})
            self.keep_text("traceback.txt", masked("".join(traceback.format_exception(error))))

    def keep_text(self, file: str, text: str) -> None:
        """Write a text file into the run's folder and record it."""
        path = self.place.folder / file
        patiently(lambda: path.write_text(text, encoding="utf-8"), path)
        self.keep(path)

    def end(self, status: str) -> None:
        """End the run; the writer carries its record into the store while others train."""
        self.status = status
        if self.journal is not None:
            for path in sorted((self.place.folder / "checkpoints").glob("*.ckpt")):
                self.journal.artifact(path, "checkpoints")
            self.client.end(self.journal, status)
        self.report()

    def report(self) -> None:
        """Tell the sweep how this job stands; a later report replaces an earlier one."""
        above = self.sweep or (Membership.of(self.earlier.sweep) if self.earlier and self.earlier.sweep else None)
        if above is not None:
            above.report(
                name=self.name,
                status=self.status,
                run_id=self.client.run_id(self.journal) if self.journal is not None else None,
                folder=str(self.place.folder.resolve()),
                fingerprint=self.fingerprint,
                overrides=[masked(override) for override in self.place.overrides],
                params=self.params,
                metrics=self.metrics,
                tags=self.tags,
                error=self.error,
            )

    def settle(self) -> None:
        """Wait until the store has all of it, say where it is, and tell the sweep.

        Once. A store that is away is not waited for long: the journal has all, and goes into it later. Raises
        TrackingError where the store did not take a finished run.
        """
        if self.settled:
            return
        self.settled = True
        finished = self.status == "FINISHED"
        try:
            if self.journal is not None:
                self.recorded = self.client.wait_for(self.journal)
                model = self.client.models.get(self.journal.id, {})
                self.tags |= {f"model.{key}": value for key, value in model.items() if value is not None}
                if "error" in model and model["error"] is not None:
                    tell(f"the model was not kept: {model['error']}")
                if self.sweep is None:
                    print(f"\n{self.status}. {self.client.where(self.journal)}")
                    if model.get("registered"):
                        print(self.client.how_to_predict(model["registered"], self.place.folder))
        except TrackingError as error:
            if finished:
                self.status, self.error = "FAILED", str(error)
                raise
            tell(error)  # what stopped the run goes before
        finally:
            self.report()


@contextmanager
def recorded(records: Sequence[Record]) -> Iterator[None]:
    """End every run that has not ended by itself when the block is left: FINISHED, FAILED with the error, or KILLED."""

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
