"""A progress bar that costs small models nothing."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import lightning.pytorch as L
from lightning.pytorch.utilities.types import STEP_OUTPUT
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from .base import TrainingModule

PATIENCE = 1.0  # a run that ends sooner shows no bar
REFRESH = 0.25
CLEARED = "\r\x1b[2K"  # a terminal's line, from its beginning
LABEL = 24  # characters, so that the bar has room beside it


class ProgressBar(L.Callback):
    """Shows steps, losses and the time left on stderr, if that is a terminal.

    tell: shows the progress in words instead of a bar; given by a sweep, which has one bar for all its jobs.
    """

    def __init__(self, module: "TrainingModule", label: str, tell: Callable[[str], None] | None = None) -> None:
        self.module, self.tell = module, tell
        self.label = label if len(label) <= LABEL else label[: LABEL - 1] + "…"
        self.progress: Progress | None = None
        self.has_said = False
        self.wait_again()

    def wait_again(self) -> None:
        """Show nothing for the first moments of what begins now: the training, or its polish alone."""
        self.shown = time.monotonic() - REFRESH + PATIENCE

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.wait_again()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: STEP_OUTPUT, batch: object, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if now - self.shown < REFRESH or not sys.stderr.isatty():
            return
        self.shown = now
        named = ((part, self.module.measured.get(f"{part}/loss")) for part in ("train", "val"))
        losses = " ".join(f"{part} {loss:.3g}" for part, loss in named if loss is not None)
        steps = trainer.estimated_stepping_batches
        total = None if steps == float("inf") else int(steps)
        if self.tell is not None:
            self.tell(f"{self.label} {trainer.global_step}/{total or '?'} {losses}")
            return
        if self.progress is None:
            from rich.console import Console

            self.progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=16),
                MofNCompleteColumn(),
                TextColumn("{task.fields[losses]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                auto_refresh=False,
                transient=True,
            )
            self.bar = self.progress.add_task(self.label, total=total, losses="")
            self.progress.start()
        self.progress.update(self.bar, completed=trainer.global_step, losses=losses, refresh=True)

    def on_polish(self, done: int, lanes: int) -> None:
        """Show how many full-batch steps of the polish are done, and how many lanes are left in it, 1 for a run."""
        self.say(f"polishing, {done:,} steps" + (f", {lanes} lanes left" if lanes > 1 else ""))

    def on_solved(self, done: int, points: int) -> None:
        """Show how many points of a path an engine has solved and certified."""
        self.say(f"{done} of {points} points certified")

    def say(self, words: str) -> None:
        """Show words where the bar would be, if the last ones have stood for a while."""
        now = time.monotonic()
        if now - self.shown < REFRESH or not sys.stderr.isatty():
            return
        self.shown = now
        if self.tell is not None:
            self.tell(words)
        else:
            print(f"{CLEARED}{words} ", end="", file=sys.stderr, flush=True)
            self.has_said = True

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.stop()
        if self.tell is not None and sys.stderr.isatty():
            self.tell("")

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bar away, or the words in its place."""
        if self.has_said:
            print(CLEARED, end="", file=sys.stderr, flush=True)
            self.has_said = False
        if self.progress is not None:
            self.progress.stop()
            self.progress = None
