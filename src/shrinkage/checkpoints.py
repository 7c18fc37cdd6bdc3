"""The best and the last weights of a run, kept without slowing short runs."""

import time
from pathlib import Path

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import Checkpoint

EVERY_SECONDS = 10.0


class Checkpoints(Checkpoint):
    """Writes `last.ckpt` (everything that training needs to go on) at most every ten seconds and at the end.

    The weights with the smallest val/loss are held in memory and written as `best.ckpt` beside it: {"epoch": …,
    "val/loss": …, "state_dict": …}. Both load with `torch.load(..., weights_only=True)`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.best: dict | None = None
        self.best_measured: dict[str, float] = {}
        self.best_is_written = True
        self.written = time.monotonic()

    @property
    def files(self) -> list[Path]:
        """What has been written."""
        return [path for path in (self.folder / "best.ckpt", self.folder / "last.ckpt") if path.exists()]

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        loss = module.measured.get("val/loss")
        if loss is not None and (self.best is None or loss < self.best["val/loss"]):
            weights = {name: tensor.detach().clone() for name, tensor in module.model.state_dict().items()}
            self.best = {"epoch": trainer.current_epoch + 1, "val/loss": loss, "state_dict": weights}
            self.best_measured, self.best_is_written = module.measured, False
        if time.monotonic() - self.written > EVERY_SECONDS:
            self.write(trainer)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.write(trainer)

    def write(self, trainer: L.Trainer) -> None:
        """Both files, each replaced as a whole."""
        if not self.best_is_written:
            write(self.folder, best=self.best)
            self.best_is_written = True
        trainer.save_checkpoint(self.folder / "last.tmp")
        (self.folder / "last.tmp").replace(self.folder / "last.ckpt")
        self.written = time.monotonic()

    def restore_best(self, module: L.LightningModule) -> None:
        """Put the best weights back into the model."""
        if self.best is not None:
            module.model.load_state_dict(self.best["state_dict"])
            module.measured = self.best_measured


def write(folder: Path, **checkpoints: dict) -> None:
    """Each under its name in the folder, replaced as a whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, checkpoint in checkpoints.items():
        torch.save(checkpoint, folder / f"{name}.tmp")
        (folder / f"{name}.tmp").replace(folder / f"{name}.ckpt")
