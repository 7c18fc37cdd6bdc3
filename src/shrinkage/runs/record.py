"""The record of one run: what goes into its journal, and how it ends."""

import csv
import io
import json
import os
import traceback
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shrinkage.boundary import tell
from shrinkage.errors import InputError, TrackingError
from shrinkage.machine.disk import patiently
from shrinkage.machine.secrets import learn, masked, masked_override, masked_tree, masked_values
from shrinkage.names import column_in_csv
from shrinkage.tracking.client import Client, connect
from shrinkage.tracking.journal import Journal, checkpoints_in
from shrinkage.tracking.location import home, sqlite_path, store_uri, without_password
from shrinkage.tracking.source import AT_LAMBDA_MAX

from . import identity, yaml_text
from .folder import ABOUT, RunLocation
from .membership import SWEEP, Membership
from .provenance import run_tags

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .folder import Earlier


CHECKPOINTS = {"all": ("best", "last"), "best": ("best",), "none": ()}  # that a run keeps, by tracking.checkpoints


class Record:
    """A run's journal from its beginning to its end. Where nothing is tracked, nothing is written."""

    def __init__(
        self, cfg: Mapping[str, Any], place: RunLocation, sweep: Membership | None, earlier: "Earlier | None" = None
    ) -> None:
        learn(cfg)
        self.cfg, self.place, self.sweep, self.earlier = cfg, place, sweep, earlier
        self.overrides = [masked_override(override) for override in place.overrides]
        self.name = identity.run_name(cfg, self.overrides) if earlier is None else earlier.name
        self.client: Client | None = None
        self.journal: Journal | None = None
        self.metrics: dict[str, float] = {}
        self.tags: dict[str, str] = {}
        self.status = "RUNNING"
        self.error: str | None = None
        self.settled = False

    @cached_property
    def folder(self) -> Path:
        """The run's own folder, by a path without links."""
        return self.place.folder.resolve()

    @cached_property
    def resolved(self) -> dict[str, Any]:
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
        return run_tags(self.place.root, self.overrides, self.cfg)

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """The names of the checkpoints that are kept of the run once it has FINISHED; until then it needs its last."""
        return CHECKPOINTS[self.cfg["tracking"]["checkpoints"]]

    @property
    def kind(self) -> str:
        """What kind of run this is, as its tag says and MLflow's views ask."""
        if self.cfg["study"] is not None:
            return "study"
        if self.cfg["data"].get("refit"):
            return "refit"
        return "run" if self.sweep is None else "job"

    @property
    def is_in_file(self) -> bool:
        """Whether the store is a SQLite file."""
        return sqlite_path(self.uri) is not None

    @property
    def is_row(self) -> bool:
        """Whether this is a job that its sweep records as a row of a table, and not as a run.

        It keeps its journal in its own folder, from which `sync` brings it into the store like any other.
        """
        return self.sweep is not None and self.sweep.has_rows and not self.cfg["data"].get("refit")

    @property
    def uri(self) -> str:
        """The store's address."""
        return store_uri(self.cfg["tracking"]["uri"], self.place.root)

    def connect(self, writer: int = 0) -> None:
        """Start the writer process of this number, which is ready later."""
        tracking = self.cfg["tracking"]
        if tracking["enabled"] and not self.is_row:
            beside = home(self.uri, self.place.root)
            self.client = connect(self.uri, tracking["experiment"], beside, writer, tracking["offline"])

    def begin(self, datasets: list[dict[str, object]]) -> None:
        """Open the run's record with its params, tags, config and data sets. Raises InputError where it cannot be
        written.
        """
        self.open()
        with self.gathered():
            if self.journal is not None:
                self.journal.metrics(identity.strength(self.cfg["lambd"]), step=0)
                for part in datasets:
                    self.journal.append("dataset", **{name: masked_tree(about) for name, about in part.items()})
        if self.sweep is not None and self.sweep.is_at_lambda_max(self.fingerprint):
            self.tag({AT_LAMBDA_MAX: repr(float(self.cfg["lambd"]))})

    def open(self) -> None:
        """Begin the run's journal, or go on with its earlier one, and write the files by which it is found again."""
        if self.client is not None or self.is_row:
            self.journal = self.begin_journal()
        with self.gathered():
            self.keep_text("config.yaml", yaml_text.yaml_text(masked_tree(self.resolved)))
            self.keep_text("overrides.yaml", yaml_text.yaml_text(self.overrides))
        sweep = self.sweep.folder if self.sweep else self.earlier.sweep if self.earlier else None
        about = {
            "id": None if self.journal is None else self.journal.id,
            "name": self.name,
            "fingerprint": self.fingerprint,
            "sweep": None if sweep is None else str(sweep),
        }
        self.write(ABOUT, json.dumps(about))

    def begin_journal(self) -> Journal:
        """Begin the run's journal, or go on with its earlier one."""
        tags = identity.own_tags(self.cfg) | self.origin | {"config.hash": self.fingerprint, "kind": self.kind}
        parent = self.sweep.parent if self.sweep else None
        earlier = None if self.earlier is None else self.earlier.journal(home(self.uri, self.place.root))
        if self.client is None:
            if earlier is not None:
                return Journal.resumed(None, earlier)
            return Journal.new(
                self.folder,
                self.name,
                tags,
                parent=parent,
                store=without_password(self.uri),
                experiment=self.cfg["tracking"]["experiment"],
                home=self.folder,
                params=self.params,
            )
        self.client.wait_until_ready()
        adopt = None if self.sweep else os.environ.get("MLFLOW_RUN_ID") or None
        if earlier is not None:
            journal = self.client.resume(earlier, adopt)
            journal.params(self.params)
            return journal
        return self.client.begin(
            self.name, tags, params=self.params, parent=parent, adopt=adopt, folder=self.place.folder
        )

    @contextmanager
    def gathered(self) -> Generator[None]:
        """Write what a block records with one write, when it is left; the run's end at once."""
        with nullcontext() if self.journal is None else self.journal.gathered():
            yield

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
        self.metrics = measured | once | identity.strength(self.cfg["lambd"])
        step, _, already = history[-1] if history else (0, 0, {})
        if self.journal is not None:
            restored = {name: value for name, value in measured.items() if already.get(name) != value}
            if restored:
                self.journal.replace(restored, step)
            self.journal.metrics(once, step)
        if not history:
            return
        text = json.dumps([(step, metrics) for step, _, metrics in history])
        self.write("history.json", text)

    def keep_figure(self, figure: "Figure", file: str) -> None:
        """Write a figure into the run's folder and record it under `figures`."""
        if self.journal is not None:
            from matplotlib.backends.backend_agg import FigureCanvasAgg

            path = self.folder / file
            # The same as `savefig`, which draws a figure twice, the first time for its layout alone.
            patiently(lambda: FigureCanvasAgg(figure).print_png(path), path)
            self.keep(path, "figures")

    def keep_coefficients(self, coefficients: Mapping[str, Sequence[object]] | None) -> None:
        """Keep the columns of a linear model's coefficients, where it is one, as a file.

        Raises InputError if the disk is full.
        """
        if coefficients is not None:
            text = io.StringIO()
            rows = csv.writer(text, lineterminator="\n")
            rows.writerow(coefficients)
            rows.writerows(zip(*map(column_in_csv, coefficients.values()), strict=True))
            self.keep_text("coefficients.csv", text.getvalue())

    def keep(self, path: Path, folder: str = "") -> None:
        """Record a file that has been written into the run's folder, under a folder of the run's artifacts."""
        if self.journal is not None:
            self.journal.artifact(path, folder)

    def fail(self, error: BaseException) -> None:
        """Record what went wrong. A job of a sweep that never began gets a run for it all the same."""
        self.error = masked(str(error))
        if self.journal is None and self.sweep is not None and self.earlier is None:
            self.connect()
            if self.client is not None or self.is_row:
                self.open()
        if self.journal is not None:
            self.journal.tags({"error": error})
            self.keep_text("traceback.txt", masked("".join(traceback.format_exception(error))))

    def keep_text(self, file: str, text: str) -> None:
        """Write a text file into the run's folder and record it."""
        self.keep(self.write(file, text))

    def write(self, file: str, text: str) -> Path:
        """Write a text file into the run's folder."""
        path, content = self.folder / file, text.encode()  # a file of text costs twice what one of bytes does
        patiently(lambda: path.write_bytes(content), path)
        return path

    def end(self, status: str) -> None:
        """End the run; the writer carries its record into the store while others train.

        Raises InputError where the end cannot be written for half a minute; the run is FAILED then.
        """
        self.status = status
        kept: list[Path] = []
        for path in checkpoints_in(self.folder):
            if status == "FINISHED" and path.stem not in self.checkpoints:
                path.unlink()
            else:
                kept.append(path)
        try:
            if self.journal is not None:
                with self.gathered():
                    for path in kept:
                        self.journal.artifact(path, "checkpoints")
                    if self.client is None:
                        self.journal.end(status)
                    else:
                        self.client.end(self.journal, status)
        except InputError as error:
            self.status, self.error = "FAILED", str(error)
            raise
        finally:
            self.report()
            for written in ("params", "resolved", "origin"):  # else they stay until the last of all lanes has ended
                vars(self).pop(written, None)

    @property
    def above(self) -> Membership | None:
        """The sweep that hears of this job; None where its folder is gone."""
        sweep = self.earlier.sweep if self.earlier else None
        return self.sweep or (Membership.of(sweep) if sweep is not None and (sweep / SWEEP).is_file() else None)

    @property
    def run_id(self) -> str | None:
        """The run's id in the store; None where that does not have it yet."""
        return self.client.run_id(self.journal) if self.client is not None and self.journal is not None else None

    def report(self) -> None:
        """Tell the sweep how this job has ended."""
        if (above := self.above) is not None:
            above.report(
                name=self.name,
                status=self.status,
                run_id=self.run_id,
                folder=str(self.folder),
                fingerprint=self.fingerprint,
                overrides=self.overrides,
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
            if self.client is not None and self.journal is not None:
                if not self.journal.pending:  # what could not be written is not delivered, however long one waits
                    self.client.wait_for(self.journal)
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
            if self.client is not None and (above := self.above) is not None:  # else all was known when the run ended
                above.amend(
                    str(self.folder),
                    status=self.status,
                    fingerprint=self.fingerprint,
                    run_id=self.run_id,
                    tags=self.tags,
                    error=self.error,
                )


@contextmanager
def recorded(records: Sequence[Record]) -> Generator[None]:
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
    except (SystemExit, KeyboardInterrupt):
        end("KILLED")
        raise
    except BaseException as error:
        end("FAILED", error)
        raise
