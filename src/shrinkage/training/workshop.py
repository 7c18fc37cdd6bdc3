"""Builds what a config names: the data, the task, the model, the penalty, the optimiser and the trainer."""

import inspect
import logging
import re
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from torch import nn

from shrinkage import config
from shrinkage.checks import Boolean, check
from shrinkage.data.base import DataModule, StackedData
from shrinkage.errors import InputError
from shrinkage.optimum.certifier import Certifier, make_certifier, why_not
from shrinkage.penalties.base import Penalty
from shrinkage.tasks.base import Target, Task
from shrinkage.tracking.source import LARGER_IS_BETTER

from . import objective
from .base import TrainingModule
from .ranks import Ranks, check_devices
from .sharing import CannotShare

SUMMANDS = ("penalty", "objective")  # of what training minimises, measured beside the task's metrics


class Workshop:
    """Builds the objects that a config names; runs that are trained together share one.

    Its constructor and its methods raise InputError if a value cannot be used.
    """

    def __init__(self, cfg: DictConfig) -> None:
        quieten()
        self.cfg = cfg
        self.datamodule: DataModule = make(cfg.data, order_seed=cfg.seed)
        self.datamodule.setup()
        self.task = make_task(cfg, self.datamodule)
        self.make_optimizer = make(cfg.optimizer)
        self.schedule = make(cfg.schedule)

    @property
    def tags(self) -> dict[str, str]:
        """What every run records of its data and of its metrics, as tags."""
        return self.datamodule.tags | {LARGER_IS_BETTER: " ".join(self.task.better_when_larger)}

    def data_of(self, orders: Sequence[tuple[int, int]]) -> tuple[DataModule, list[int], list[int] | None]:
        """Return the data for lanes, each of which has a data seed and an order seed.

        With it come the number of the batch order that each lane follows, and that of its data set, None if all have
        the same. Raises CannotShare if data of several seeds cannot be put together.
        """
        distinct = list(dict.fromkeys(orders))
        which, seeds = [distinct.index(order) for order in orders], list(dict.fromkeys(data for data, _ in orders))
        if len(distinct) > 1 and not self.datamodule.in_memory:
            raise CannotShare("rows that are read from disk come in one order, and lanes of several seeds in several")
        if len(seeds) == 1:
            self.datamodule.order_seeds = [order for _, order in distinct]
            return self.datamodule, which, None
        if not self.datamodule.stackable:
            raise CannotShare(
                "rows that are read from disk, images and texts of different data.seed are not put together"
            )
        datamodules: list[DataModule] = [
            make(OmegaConf.merge(self.cfg.data, {"seed": seed}), order_seed=0) for seed in seeds
        ]
        for datamodule in datamodules:
            datamodule.setup()
        kinds = {(*(len(part) for part in d.parts.values()), d.feature_names, d.scale) for d in datamodules}
        if len(kinds) > 1:
            raise CannotShare("the splits of different data.seed have other sizes, columns or units")
        stacked = StackedData(datamodules, [(seeds.index(data), order) for data, order in distinct])
        return stacked, which, [seeds.index(data) for data, _ in orders]

    def trainer(
        self, folder: Path, callbacks: list[L.Callback], ranks: Ranks | None = None, **arguments: object
    ) -> L.Trainer:
        """Build the trainer, which neither logs nor validates: the module measures, and a record is kept of that.

        ranks: the processes that train, None for one. arguments: others of Lightning's Trainer. Raises InputError if
        the device that is asked for is not there.
        """
        check_devices(self.cfg)
        if self.cfg.trainer.get("profiler") is not None:
            logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)  # it reports by its log alone
        if ranks is not None:
            self.datamodule.share = ranks.share
            arguments |= {"strategy": ranks.strategy(), "use_distributed_sampler": False}
        lightning = OmegaConf.masked_copy(self.cfg.trainer, [key for key in self.cfg.trainer if key != "until_gap"])
        return make(
            lightning,
            logger=False,
            callbacks=callbacks,
            default_root_dir=folder,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_val_batches=0,  # the module evaluates by itself, the training part too
            **arguments,
        )

    def model(self, seed: int, trainer: L.Trainer | None = None) -> nn.Module:
        """Build the model on the CPU, with the initial weights that the seed fixes for every device.

        trainer: whose precision the weights have, None for PyTorch's own. Raises InputError if the model does not suit
        the data.
        """
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        with nullcontext() if trainer is None else trainer.precision_plugin.tensor_init_context():
            return make(self.cfg.model, inputs=self.datamodule.inputs, outputs=self.task.outputs)

    def penalty(self, cfg: DictConfig, model: nn.Module) -> Penalty:
        """Build the penalty of a config. Raises InputError if model or optimiser cannot serve it."""
        penalty = make(cfg.penalty)
        penalty.check(objective.penalised(penalty, model))
        try:
            objective.check_optimizer(penalty, self.make_optimizer(model.parameters()))
        except (TypeError, ValueError) as error:
            raise InputError(f"optimizer={cfg.choices.optimizer}: {error}") from error
        return penalty

    def certifier(self, model: nn.Module, penalty: Penalty, lambd: float, problems: int = 1) -> Certifier | str:
        """Build what tells how far its optimum a training is; where nothing can, return why, in words.

        problems: of how many strengths of the penalty the optimum may be asked for.
        """
        optimizer = self.make_optimizer(model.parameters())
        reason = why_not(model, self.task, penalty, optimizer, lambd, self.datamodule)
        if reason is not None:
            return reason
        exact = self.cfg.certificate == "exact"
        raw = self.cfg.data.get("standardize") is False
        return make_certifier(model, self.task, penalty, optimizer, self.datamodule, exact, problems, raw)

    def certify(self, module: TrainingModule, model: nn.Module, lambd: float, problems: int = 1) -> str | None:
        """Have the module certify and polish as its config asks. Return why it cannot, in words; None if it can."""
        found = self.certifier(model, module.penalty, lambd, problems)
        if isinstance(found, str):
            return found
        module.certifier = found
        module.until_gap, module.polish_steps = self.cfg.trainer.until_gap, self.cfg.polish
        module.certify_epochs = self.cfg.certificate == "epoch" or module.until_gap is not None
        return None


def make_task(cfg: DictConfig, datamodule: DataModule) -> Task:
    """Build the task of a config for its data, with the metrics that the config adds.

    Raises InputError if the task does not suit the data, no run would measure what `metric=` names, or several devices
    cannot measure a metric together.
    """
    task: Task = make(cfg.task, Target(datamodule.kind, datamodule.classes, float(datamodule.scale)), _partial_=False)
    task.add_metrics(make(node) for node in cfg.metrics.values())
    task.check_devices(config.devices(cfg))
    part = cfg.metric.partition("/")[0]
    part = part if part in ("train", "val", "test") else "val"
    there = [f"{part}/{each}" for each in task.names] + [f"train/{each}" for each in SUMMANDS if part == "train"]
    if cfg.metric not in there:
        raise InputError(
            f"metric={cfg.metric}: no run measures it; of the {part} part there are {', '.join(there)}; use "
            "metric=val/loss, or add one by metrics=[…]"
        )
    return task


def make(node: DictConfig, *positional: object, **arguments: object) -> Any:
    """Build what a node of the config describes. Raises InputError in the words of its class if a value is bad."""
    check_booleans(node)
    try:
        return instantiate(node, *positional, _convert_="all", **arguments)
    except (InstantiationException, TypeError) as error:
        cause = error.__cause__
        if isinstance(cause, ValueError | MisconfigurationException):
            raise InputError(str(cause)) from error
        if isinstance(cause, TypeError) and "unexpected keyword argument" in str(cause):
            raise InputError(
                f"{cause}: the choice has no such setting; an experiment made for another one may have set it"
            ) from error
        if isinstance(cause, TypeError) and re.search(r"missing \d+ required", str(cause)):
            raise InputError(f"{cause}: the choice needs this setting; leave it as conf/ has it") from error
        if not str(error).startswith("Error in call"):  # no class was found that could be called
            raise InputError(" ".join(str(error).split())) from error
        raise


def check_booleans(node: DictConfig) -> None:
    """Check the settings that a class declares as bool: no and off are text to Hydra, and so would be true.

    Raises InputError for the first that is neither true nor false.
    """
    try:
        target = get_object(node["_target_"])
    except Exception:  # whatever it is, `instantiate` says it
        return
    makers = [each.__init__ for each in target.__mro__[:-1]] if isinstance(target, type) else [target]
    for maker in makers:  # a class hands what it does not name itself to the one that it is made from
        for name, parameter in inspect.signature(maker).parameters.items():
            if parameter.annotation in (bool, "bool") and name in node:
                key = node._get_full_key(name)
                check(key, node[name], Boolean(), f"use {key}=true or {key}=false")


def quieten() -> None:
    """Silence Lightning's hints: they are about large models and loader workers, and would hide what matters here."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\.")
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
    warnings.filterwarnings("ignore", message=r"The AccumulateGrad node's stream")  # DDP is wrapped in one
