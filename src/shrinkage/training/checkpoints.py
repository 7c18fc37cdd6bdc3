"""Checkpoints that do not slow a short run, do not end a long one, and from which training goes on bitwise."""

import io
import random
import sys
import time
import zipfile
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from shrinkage.errors import InputError
from shrinkage.machine.disk import patiently, write_into

from .best import BestCheckpoint, no_best

if TYPE_CHECKING:
    from .lanes import LanesModule
    from .module import PenalisedModule

EVERY_SECONDS = 10.0
LONG_SECONDS = 0.1  # a write that takes k times as long is followed by k times the pause, so that 1 % of the time goes


class CheckpointFiles(TorchCheckpointIO):
    """Lightning's checkpoints, handed over instead of written, and read without unpickling."""

    def __init__(self) -> None:
        self.checkpoint: dict[str, Any] = {}

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        self.checkpoint = checkpoint

    def load_checkpoint(
        self, path: str | Path, map_location: Callable[..., Any] | None = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        return load(Path(path))


def checkpoint_now(trainer: L.Trainer) -> dict[str, Any]:
    """Return Lightning's checkpoint of this moment, in memory; an empty one in every process but the first.

    Its tensors are those of the training, not copies.
    """
    trainer.save_checkpoint("held")
    files = trainer.strategy.checkpoint_io
    return files.checkpoint if isinstance(files, CheckpointFiles) else {}


class Resumable(Checkpoint):
    """Writes all that training needs to go on, at epoch ends and at most every ten seconds; goes on from it.

    A write that fails, because the disk is full, does not end the training: it is tried again after ten seconds. Where
    several processes train, the first one writes.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.tried, self.pause, self.failing = time.monotonic(), 1.0, False
        self.random: dict[str, Any] | None = None  # the random states to go on with

    @abstractmethod
    def write(self, checkpoint: dict[str, Any], path: Path) -> None:
        """Write what there is to keep, with Lightning's checkpoint in it. Raises OSError."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.path is None:
            return
        start = time.monotonic()
        due = start - self.tried > EVERY_SECONDS * self.pause
        # All of them take part in the making of a checkpoint, and their clocks differ.
        due = trainer.strategy.broadcast(due) if trainer.world_size > 1 else due
        checkpoint = checkpoint_now(trainer) if due else {}
        if not checkpoint:
            return
        try:
            self.write(checkpoint, self.path)
        except OSError as error:
            if not self.failing:
                note(f"{self.path} cannot be written ({error.strerror}); training goes on and tries again")
            self.tried, self.pause, self.failing = time.monotonic(), 1.0, True
        else:
            self.tried = time.monotonic()
            self.pause, self.failing = max(1.0, (self.tried - start) / LONG_SECONDS), False

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["between_epochs"] = {"random": random_states(), "should_stop": trainer.should_stop}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]
        for key, done, asked in (
            ("max_epochs", progress["current"]["processed"], trainer.max_epochs),
            ("max_steps", checkpoint["global_step"], trainer.max_steps),
        ):
            if asked is not None and 0 < asked < done:
                raise InputError(
                    f"{trainer.ckpt_path} is of {done} {key[4:]} and trainer.{key}={asked}; resume with as many or more"
                )
        # Lightning counts an epoch as completed after this callback has written: on loading, it is.
        for counts in progress.values():
            counts["completed"] = counts["processed"]
        self.random = checkpoint["between_epochs"]["random"]
        trainer.should_stop = checkpoint["between_epochs"]["should_stop"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.random is not None:
            # Lightning would take the next epoch for the rest of one: its order of batches drawn already, before the
            # sampler knew the epoch, and with max_steps a batch that belongs to no epoch.
            for loop in (trainer.fit_loop, trainer.fit_loop.epoch_loop):
                loop.on_iteration_done()
        self.restore_random_states()

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.restore_random_states()  # where nothing was left to train

    def restore_random_states(self) -> None:
        """Set the random states to those of the checkpoint, once."""
        if self.random is not None:
            set_random_states(self.random)
            self.random = None


class Checkpoints(Resumable):
    """`last.ckpt` in the folder is all that training needs to go on; at its end it is written once more.

    The weights with the smallest val/loss are held in memory and written as `best.ckpt` beside it: {"epoch": …,
    "val/loss": …, "state_dict": …}. Those that a polish ends with count, each step of it as an epoch. Both files load
    with `torch.load(..., weights_only=True)`.
    """

    def __init__(self, folder: Path, module: "PenalisedModule") -> None:
        super().__init__(folder / "last.ckpt")
        self.folder, self.module = folder, module
        self.best: BestCheckpoint = no_best()
        self.best_measured: dict[str, float] = {}
        self.best_is_written = True

    @property
    def files(self) -> list[Path]:
        """The files that have been written."""
        return [path for path in (self.folder / "best.ckpt", self.folder / "last.ckpt") if path.exists()]

    @property
    def has_best(self) -> bool:
        """Whether there are best weights yet, which there are where a validation loss has been measured."""
        return bool(self.best["state_dict"])

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.keep_better(trainer.current_epoch + 1)
        super().on_train_epoch_end(trainer, pl_module)

    def keep_better(self, epoch: int) -> None:
        """Hold the module's weights if their val/loss is smaller than that of those held."""
        measured = self.module.measured
        loss = measured.get("val/loss")
        if loss is not None and not loss >= self.best["val/loss"]:
            weights = {name: tensor.detach().clone() for name, tensor in self.module.model.state_dict().items()}
            self.best = {"epoch": epoch, "val/loss": loss, "state_dict": weights}
            self.best_measured, self.best_is_written = measured, False

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_fit_end(trainer, pl_module)
        if not self.has_best:  # the problem was solved, and no epoch has ended
            self.keep_better(0)
        self.write_at_last(trainer)

    def write(self, checkpoint: dict[str, Any], path: Path) -> None:
        """Write both files; the best one only if it has changed. Raises OSError."""
        if not self.best_is_written:
            save(self.best, self.folder / "best.ckpt")
            self.best_is_written = True
        save(checkpoint, path)

    def write_at_last(self, trainer: L.Trainer) -> None:
        """Write both files, waiting for room on a full disk for half a minute. Raises InputError if there is none."""
        checkpoint = checkpoint_now(trainer)
        if checkpoint:
            path = self.folder / "last.ckpt"
            patiently(lambda: self.write(checkpoint, path), path)

    def restore_best(self) -> None:
        """Put the best weights back into the model."""
        if self.has_best:
            self.module.model.load_state_dict(self.best["state_dict"])
            self.module.measured = self.best_measured

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best if self.has_best else None, "best_measured": self.best_measured}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_measured = state_dict["best"] or no_best(), state_dict["best_measured"]
        self.best_is_written = not self.has_best  # best.ckpt may have been written since


class LanesCheckpoint(Resumable):
    """Writes all that lanes need to go on together; at its end each lane has a checkpoint of its own."""

    def __init__(self, path: Path | None, module: "LanesModule") -> None:
        super().__init__(path)
        self.module = module

    def write(self, checkpoint: dict[str, Any], path: Path) -> None:
        save(checkpoint | {"lanes": self.module.state_of_lanes()}, path)


def write(folder: Path, **checkpoints: Mapping[str, Any]) -> None:
    """Write each checkpoint under its name in the folder.

    On a full disk it waits for room, for half a minute. Raises InputError if there is none then.
    """
    for name, checkpoint in checkpoints.items():
        path = folder / f"{name}.ckpt"
        patiently(lambda: save(checkpoint, path), path)  # noqa: B023


def note(words: str) -> None:
    """Tell the user something on stderr that does not stop the run."""
    print(f"note: {words}", file=sys.stderr)


def save(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint, replacing the file as a whole. Raises OSError, and then leaves nothing behind."""
    partial = path.with_suffix(".tmp")
    # By way of memory: where a write of its own is broken off, by a full disk or a signal, PyTorch may abort.
    content = io.BytesIO()
    torch.save(checkpoint, content)
    try:
        write_into(path.parent, lambda: partial.write_bytes(content.getbuffer()))
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint that training can go on from, onto the CPU.

    Raises InputError if it cannot be read, is damaged, or holds weights only.
    """
    try:
        with zipfile.ZipFile(path) as records:  # PyTorch does not look at the checksums
            damaged = records.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} does not have its checksum")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); resume from another, or train anew") from error
    except Exception as error:  # there is no end to what a damaged file may look like to its reader
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path} is damaged ({reason[:100]}); resume from another, or train anew") from error
    if not isinstance(checkpoint, dict) or "between_epochs" not in checkpoint:
        raise InputError(f"{path} holds weights, but not all that training needs to go on; resume from a last.ckpt")
    return checkpoint


def random_states() -> dict[str, Any]:
    """Return the states of PyTorch's, NumPy's and Python's global generators.

    They consist of what `torch.load(weights_only=True)` takes.
    """
    numpy = np.random.get_state(legacy=False)
    keys, position = numpy["state"]["key"], numpy["state"]["pos"]
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": (
            numpy["bit_generator"],
            torch.from_numpy(keys.astype(np.int64)),
            position,
            numpy["has_gauss"],
            numpy["gauss"],
        ),
        "python": random.getstate(),
    }


def set_random_states(states: Mapping[str, Any]) -> None:
    """Set the global generators to the states that `random_states` returned."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"][: torch.cuda.device_count()])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    random.setstate(states["python"])
