"""Config → objects → Trainer: what one run is made of."""

import logging
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import lightning.pytorch as L
import numpy as np
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig

from shrinkage import objective
from shrinkage.checkpoints import Checkpoints
from shrinkage.data.base import DataModule
from shrinkage.errors import InputError
from shrinkage.models.linear import Linear
from shrinkage.module import PenalisedModule
from shrinkage.penalties.l1 import L1
from shrinkage.progress import ProgressBar
from shrinkage.reference import lambda_max
from shrinkage.tasks import task_for

# Multiply-adds a step under which one thread is faster than two.
ONE_THREAD_WORK = 10_000_000


@dataclass
class Training:
    """The objects of one run. `run` trains them once."""

    cfg: DictConfig
    datamodule: DataModule
    module: PenalisedModule
    trainer: L.Trainer
    checkpoints: Checkpoints
    test: dict[str, float] = field(default_factory=dict)

    def run(self) -> None:
        """Train, put back the best weights where early stopping asks for them, and measure the test part."""
        if self.cfg.threads or self.module_is_small():
            torch.set_num_threads(self.cfg.threads or 1)
        self.trainer.fit(self.module, self.datamodule)
        if self.cfg.early_stopping.patience is not None:
            self.checkpoints.restore_best(self.module)
        if "test" in self.datamodule.parts:
            self.test = {f"test/{name}": float(value) for name, value in self.module.evaluate("test").items()}

    def module_is_small(self) -> bool:
        weights = sum(parameter.numel() for parameter in self.module.parameters())
        return weights * self.datamodule.batch_rows < ONE_THREAD_WORK

    def best_metrics(self) -> dict[str, float]:
        """The validation metrics of the epoch with the smallest val/loss, and which epoch it was."""
        if self.checkpoints.best is None:
            return {}
        measured = self.checkpoints.best_measured
        return {"best/epoch": float(self.checkpoints.best["epoch"])} | {
            f"best/{name}": value for name, value in measured.items() if name.startswith("val/")
        }

    def advice(self) -> list[str]:
        """What the user should know before training begins: notes on the data, steps that are too long, λ too large."""
        sentences = list(self.datamodule.notes)
        module, cfg = self.module, self.cfg
        optimizer = module.make_optimizer(module.model.parameters())
        bound = objective.largest_stable_lr(module.penalty, module.lambd, optimizer)
        if cfg.optimizer.lr >= bound:  # the largest factor of every schedule is 1
            sentences.append(
                f"optimizer.lr={cfg.optimizer.lr:g} with lambd={module.lambd:g}: |1 − ηλ| ≥ 1, so the penalty alone "
                f"keeps the weights from shrinking; a learning rate under {bound:.3g} works, such as "
                f"optimizer.lr={bound / 4:.2g}"
            )
        if isinstance(module.penalty, L1) and isinstance(module.model, Linear):
            train = self.datamodule.parts["train"]
            largest = lambda_max(train.x, train.y, self.datamodule.classes)
            if module.lambd >= largest:
                sentences.append(
                    f"lambd={module.lambd:g} is at or above λ_max = {largest:.3g} of these training data, from which "
                    f"on L1's optimum has every weight at zero; try lambd={largest / 3:.1g}"
                )
        return sentences


def build(cfg: DictConfig, folder: Path, label: str = "") -> Training:
    """The objects that a config names; checkpoints go to `folder`, and the label stands before the progress bar.

    Raises InputError where a value cannot be used.
    """
    quieten()
    datamodule = make(cfg.data, order_seed=cfg.seed)
    datamodule.setup()
    task = task_for(datamodule.classes, datamodule.scale)
    checkpoints = Checkpoints(folder / "checkpoints")
    callbacks: list[L.Callback] = [checkpoints]
    if cfg.early_stopping.patience is not None:
        callbacks.append(
            EarlyStopping("val/loss", patience=cfg.early_stopping.patience, min_delta=cfg.early_stopping.min_delta)
        )
    if cfg.progress:
        callbacks.append(ProgressBar(label))
    trainer: L.Trainer = make(
        cfg.trainer,
        logger=False,
        callbacks=callbacks,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,  # the module evaluates by itself, the training part too
    )
    torch.manual_seed(cfg.seed)
    np.random.seed(cfg.seed % 2**32)
    with trainer.init_module():
        model = make(cfg.model, inputs=datamodule.inputs, outputs=task.outputs)
    penalty = make(cfg.penalty)
    make_optimizer = make(cfg.optimizer)
    schedule = make(cfg.schedule)
    module = PenalisedModule(model, task, penalty, float(cfg.lambd), make_optimizer, schedule)
    try:
        objective.check_optimizer(penalty, make_optimizer(model.parameters()))
    except (TypeError, ValueError) as error:
        raise InputError(f"optimizer={cfg.choices.optimizer}: {error}") from error
    return Training(cfg, datamodule, module, trainer, checkpoints)


def make(node: DictConfig, **arguments: object) -> object:
    """Instantiate a node of the config; what its class says about a bad value comes through as it says it."""
    try:
        return instantiate(node, _convert_="all", **arguments)
    except InstantiationException as error:
        if isinstance(error.__cause__, ValueError | MisconfigurationException):
            raise InputError(str(error.__cause__)) from error
        raise


def quieten() -> None:
    """Lightning's hints are about large models and loader workers; here they would hide what matters."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\.")
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
