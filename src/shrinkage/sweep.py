"""Around a sweep: the parent run that its jobs stand under, the progress, and the answer at its end."""

import atexit
import concurrent.futures.thread  # noqa: F401 it cannot be imported any more while the interpreter exits, and pandas does
import math
import os
import signal
import sys
import threading
import time
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from shrinkage.config import root_of
from shrinkage.errors import InputError
from shrinkage.interrupt import SIGNALS, leave
from shrinkage.membership import Membership
from shrinkage.provenance import run_tags
from shrinkage.tracking.client import Client, TrackingError, connect
from shrinkage.tracking.journal import Journal
from shrinkage.tracking.location import home, store_uri

PATIENCE_SECONDS = 2.0
IN_THIS_PROCESS = ("basic", "lanes")  # launchers whose jobs train here


class Sweep(Callback):
    """Hydra's callback for a multirun: makes the parent run before the first job and ends it after the last one.

    Hydra does not call `on_multirun_end` where a job has failed, and nothing at all where the process is interrupted;
    so the end hangs on the interpreter's exit too, and whichever comes first does it.
    """

    def __reduce__(self) -> tuple:
        # Launchers send their callbacks to the workers, which need none of what this process holds.
        return Sweep, ()

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        self.started = time.monotonic()
        self.overrides = list(config.hydra.overrides.task)
        self.total = number_of_jobs(config)
        self.client: Client | None = None
        self.journal: Journal | None = None
        self.ended = False
        for signum in SIGNALS:
            signal.signal(signum, leave)
        try:
            parent = self.begin_parent(config) if config.tracking.enabled else None
        except (InputError, TrackingError) as error:
            sys.exit(f"shrinkage: {error}")
        self.membership = Membership(Path(config.hydra.sweep.dir).resolve(), parent)
        self.membership.found()
        atexit.register(self.end)
        self.done = threading.Event()
        threading.Thread(target=self.show_progress, daemon=True).start()

    def begin_parent(self, config: DictConfig) -> str:
        """The parent's run id in the store, which must be there before the first child."""
        root = root_of(config.hydra)
        uri = store_uri(config.tracking.uri, root)
        self.client = connect(uri, config.tracking.experiment, home(uri, root), 0)
        if config.hydra.runtime.choices["hydra/launcher"] in IN_THIS_PROCESS:
            import shrinkage.training  # noqa: F401 it takes as long as the writer, which opens the store meanwhile
        self.client.wait_until_ready()
        self.journal = self.client.begin(
            " ".join(["sweep", *self.overrides])[:250],
            run_tags(root, self.overrides),
            # Taken out of the environment: it is this run and none of the jobs that it means.
            adopt=os.environ.pop("MLFLOW_RUN_ID", None),
        )
        return self.client.run_id(self.journal)

    def on_multirun_end(self, config: DictConfig, **kwargs: object) -> None:
        self.end()

    def end(self) -> None:
        """The table, the figure and the parent's status; once."""
        if self.ended:
            return
        self.ended = True
        self.done.set()
        self.membership.forget_progress()
        results = self.membership.results()
        finished, failed, killed = (
            [result for result in results if result["status"] == status] for status in ("FINISHED", "FAILED", "KILLED")
        )
        missing = 0 if self.total is None else self.total - len(results)
        status = "KILLED" if killed or missing else "FAILED" if failed else "FINISHED"
        trained = [result for result in finished if result["metrics"].get("val/loss") is not None]  # and no study
        if trained:
            from shrinkage.report.sweep_summary import aggregate, show_sweep

            table = aggregate(trained)
            show_sweep(table)
        of_all = f" of {self.total}" if self.total else ""
        seconds = time.monotonic() - self.started
        print(f"\n{len(finished)}{of_all} runs FINISHED in {seconds:.0f} s, in {self.membership.folder}")
        sys.stdout.flush()
        for result in failed:
            print(f"FAILED: {result['name']}: {result['error']}", file=sys.stderr)
        if killed or missing:
            print(f"{len(killed) + missing} did not finish", file=sys.stderr)
        if self.client is None:
            return
        try:
            if trained:
                self.record(table, results)
            self.client.end(self.journal, status)
            self.client.wait_for(self.journal)
            print(f"The sweep is {status}. {self.client.where(self.journal)}")
        except TrackingError as error:
            print(f"shrinkage: {error}", file=sys.stderr)

    def record(self, table: object, results: list[dict]) -> None:
        """What the parent run shows of its children."""
        from shrinkage.report.figures import sweep_curves
        from shrinkage.report.sweep_summary import write_runs

        folder = self.membership.folder
        write_runs(results, folder / "runs.csv")
        self.journal.artifact(folder / "runs.csv")
        sweep_curves(table).savefig(folder / "sweep.png")
        self.journal.artifact(folder / "sweep.png", "figures")

    def show_progress(self) -> None:
        """A bar over the jobs with the time left, on a terminal."""
        if not sys.stderr.isatty() or self.done.wait(PATIENCE_SECONDS):
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task("sweep", total=self.total)
            while not self.done.wait(0.5):
                words = self.membership.told()
                progress.update(bar, completed=len(self.membership.results()), description=words or "sweep")


def number_of_jobs(config: DictConfig) -> int | None:
    """How many jobs a grid has; None where the sweeper decides as it goes."""
    params = OmegaConf.to_container(config.hydra.sweeper).get("params") or {}
    lines = [f"{key}={value}" for key, value in params.items()] + list(config.hydra.overrides.task)
    axes = {override.get_key_element(): override for override in OverridesParser.create().parse_overrides(lines)}
    sweeps = [override for override in axes.values() if override.is_sweep_override()]
    if not all(override.is_discrete_sweep() for override in sweeps):
        return None
    return math.prod(len(list(override.sweep_string_iterator())) for override in sweeps)
