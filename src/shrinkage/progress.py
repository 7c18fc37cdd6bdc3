"""A progress bar that costs small models nothing."""

import sys
import time

import lightning.pytorch as L
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PATIENCE = 1.0  # a run that ends sooner shows no bar
REFRESH = 0.25
LABEL = 24  # characters, so that the bar has room beside it


class ProgressBar(L.Callback):
    """Epochs (or steps, where trainer.max_steps counts the run), losses and the time left, on a terminal's stderr."""

    def __init__(self, label: str) -> None:
        self.label = label if len(label) <= LABEL else label[: LABEL - 1] + "…"
        self.progress: Progress | None = None

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.shown = time.monotonic() - REFRESH + PATIENCE

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: object) -> None:
        now = time.monotonic()
        if now - self.shown < REFRESH or not sys.stderr.isatty():
            return
        self.shown = now
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
            total = trainer.estimated_stepping_batches
            self.bar = self.progress.add_task(self.label, total=None if total == float("inf") else total, losses="")
            self.progress.start()
        losses = " ".join(f"{part} {module.measured[f'{part}/loss']:.3g}" for part in ("train", "val"))
        self.progress.update(self.bar, completed=trainer.global_step, losses=losses, refresh=True)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.stop()

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        self.stop()

    def stop(self) -> None:
        if self.progress is not None:
            self.progress.stop()
            self.progress = None
