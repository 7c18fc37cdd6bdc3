"""The folder of a run or sweep, looked at before Hydra uses it."""

import os
import sys
from pathlib import Path

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class Folders(Callback):
    """Hydra's callback that refuses, in one line, a folder that cannot be written."""

    def on_run_start(self, config: DictConfig, **kwargs: object) -> None:
        check_writable(Path(config.hydra.run.dir), "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        check_writable(Path(config.hydra.sweep.dir), "hydra.sweep.dir")


def check_writable(folder: Path, key: str) -> None:
    """Exits where the folder cannot be made or written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = None if os.access(folder, os.W_OK) else "permission denied"
    except OSError as error:
        reason = error.strerror
    if reason:
        sys.exit(f"shrinkage: {key}={folder}: cannot be written ({reason}); run from a folder that can, or set {key}=…")
