"""Lightning's logger over a journal, for anyone's script."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from shrinkage.errors import InputError

from .tracked import TrackedRun


class JournalLogger(Logger):
    """Records a Lightning run into MLflow by a journal on this disk, which no failure of the store or the script loses.

        Trainer(logger=shrinkage.JournalLogger(experiment="mine"))

    Training never waits for the store. Params are hyperparameters by their dotted keys, metrics have Lightning's steps,
    artifacts are the callbacks' checkpoints and what `log_artifact` is given. The run ends FINISHED, FAILED or KILLED,
    the last after `kill -9`, too; what a store that was away lacks, the next run or `shrinkage sync` brings in.

    name: of the run, the script's by default. store: MLflow's URI; None for MLFLOW_TRACKING_URI, else `mlflow.db` in
    the current folder. run: the id, name or folder of a run that goes on. resume: a checkpoint of it, the one that
    `Trainer.fit` is given as `ckpt_path`. Points that the run has already are not recorded twice. Under several
    processes the first one records. Raises InputError where there is no such run.
    """

    def __init__(
        self,
        experiment: str = "lightning",
        name: str | None = None,
        *,
        tags: Mapping[str, object] | None = None,
        store: str | None = None,
        run: str | os.PathLike[str] | None = None,
        resume: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        if run is not None and resume is not None:
            raise InputError(f"run={run}, resume={resume}: both say which run goes on; give one of them")
        self.callbacks: list[ModelCheckpoint] = []
        self.tracked: TrackedRun | None = None
        if getattr(rank_zero_only, "rank", 0) == 0:
            earlier = resume if run is None else run
            self.tracked = TrackedRun(name, experiment=experiment, tags=tags, store=store, earlier=earlier)

    @property
    @rank_zero_experiment
    def experiment(self) -> TrackedRun:
        """The run itself: `log`, `log_params`, `log_tags`, `log_artifact`, `id`, `run_id`, `folder`."""
        assert self.tracked is not None  # in the first process
        self.tracked.begin()
        return self.tracked

    @property
    def save_dir(self) -> str | None:
        """The folder above those of all experiments; checkpoints go to SAVE_DIR/NAME/VERSION/checkpoints."""
        return None if self.tracked is None else str(self.tracked.folder.parent.parent)

    @property
    def name(self) -> str | None:
        """The experiment, as its folder is named."""
        return None if self.tracked is None else self.tracked.folder.parent.name

    @property
    def version(self) -> str | None:
        """The name of the run's own folder."""
        return None if self.tracked is None else self.tracked.folder.name

    @property
    def run_id(self) -> str | None:
        """The run's id in MLflow; None where the store does not have it yet."""
        return None if self.tracked is None else self.tracked.run_id

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Record metrics of a step."""
        self.experiment.log(metrics, step or 0)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Record hyperparameters, each leaf by its dotted key."""
        if self.tracked is not None:
            self.tracked.log_params(params)

    @rank_zero_only
    def log_artifact(self, path: str | os.PathLike[str], folder: str = "") -> None:
        """Record a file, or all files of a folder, under a folder of the run's artifacts."""
        self.experiment.log_artifact(path, folder)

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Remember whose checkpoints the run is to keep."""
        if checkpoint_callback not in self.callbacks:
            self.callbacks.append(checkpoint_callback)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the run as one of Lightning's entry points has ended; what is logged later goes on with it."""
        run = self.tracked
        if run is None or run.journal is None or run.status != "RUNNING":
            return
        run.keep_checkpoints(
            Path(path)
            for callback in self.callbacks
            for path in dict.fromkeys([*callback.best_k_models, callback.best_model_path, callback.last_model_path])
            if path
        )
        error = sys.exc_info()[1]  # Lightning calls this while it handles what has stopped it
        if status == "failed" and error is not None:
            run.fail(error)
        else:
            run.end("FAILED" if status == "failed" else "FINISHED")
