"""Builds what a config names: the data, the task, the model, the penalty, the optimiser and the trainer."""

import inspect
import logging
import math
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from torch import nn

from shrinkage import config
from shrinkage.checks import Boolean, check
from shrinkage.data.base import DataModule, StackedData
from shrinkage.errors import InputError
from shrinkage.machine.imports import importing_much
from shrinkage.models.linear import Linear
from shrinkage.optimum.certifiable import make_certifier
from shrinkage.optimum.certifier import Certifier
from shrinkage.penalties.base import Penalty
from shrinkage.tasks.base import Target, Task
from shrinkage.tracking.source import COLOUR, LARGER_IS_BETTER

from . import objective
from .base import Ingredients, TrainingModule
from .checkpoints import CheckpointFiles
from .ranks import Ranks, check_devices
from .sharing import CannotShare

OUR_OWN = ("until_gap", "gap")  # keys of the trainer that Lightning does not know
SUMMANDS = ("penalty", "objective")  # of what training minimises, measured beside the task's metrics


class Workshop:
    """Builds the objects that a config names; runs that are trained together share one.

    datamodule: the data of the config, None to have them made. The constructor and the methods raise InputError if a
    value cannot be used.
    """

    def __init__(self, cfg: DictConfig, datamodule: DataModule | None = None) -> None:
        quieten()
        self.cfg = cfg
        self.datamodule = datamodule or make_data(cfg)
        self.datamodule.setup()
        if self.datamodule.is_sparse and not config.is_exact(cfg):
            raise InputError(
                f"data={cfg.choices.data}: its features are sparse, and steps of a training would write all of their "
                "zeros; use trainer=exact, with model=linear and penalty=l1 or elastic_net"
            )
        self.task = make_task(cfg, self.datamodule)
        self.make_optimizer = make_chosen(cfg, "optimizer")
        self.schedule = make_chosen(cfg, "schedule")

    def tags(self, penalty: Penalty) -> dict[str, str]:
        """What a run under a penalty records of its data, its metrics and its colour, as tags."""
        return self.datamodule.tags | {
            LARGER_IS_BETTER: " ".join(self.task.better_when_larger),
            COLOUR: penalty.colour,
        }

    def ingredients(self, datamodule: DataModule) -> Ingredients:
        """Put together what a training on these data needs beside its model and penalty."""
        return Ingredients(datamodule, self.task, self.make_optimizer, self.schedule)

    def data_for_lanes(self, orders: Sequence[tuple[int, int]]) -> tuple[DataModule, list[int], list[int] | None]:
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
        datamodules = [make_data(self.cfg, seed=seed, order_seed=0) for seed in seeds]
        for datamodule in datamodules:
            datamodule.setup()
        kinds = {(*(len(part) for part in d.parts.values()), d.feature_names, d.scale) for d in datamodules}
        if len(kinds) > 1:
            raise CannotShare("the splits of different data.seed have other sizes, columns or units")
        stacked = StackedData(datamodules, [(seeds.index(data), order) for data, order in distinct])
        return stacked, which, [seeds.index(data) for data, _ in orders]

    def trainer(self, folder: Path, ranks: Ranks | None = None) -> L.Trainer:
        """Build the trainer, which neither logs nor validates: the module measures, and a record is kept of that.

        Its callbacks come with the module that it trains. ranks: the processes that train, None for one. Raises
        InputError if the device that is asked for is not there.
        """
        check_devices(self.cfg)
        if self.cfg.trainer.get("profiler") is not None:
            logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)  # it reports by its log alone
        distributed: dict[str, object] = {}
        if ranks is not None:
            self.datamodule.share = ranks.share
            distributed = {"strategy": ranks.strategy(), "use_distributed_sampler": False}
        check_booleans(self.cfg.trainer, "trainer")
        lightning = OmegaConf.masked_copy(self.cfg.trainer, [key for key in self.cfg.trainer if key not in OUR_OWN])
        return make(
            lightning,
            logger=False,
            callbacks=None,
            plugins=[CheckpointFiles()],
            enable_checkpointing=False,  # by a callback of Lightning's own
            default_root_dir=folder,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_val_batches=0,  # the module evaluates by itself, the training part too
            **distributed,
        )

    def model(self, seed: int, trainer: L.Trainer | None = None) -> nn.Module:
        """Build the model on the CPU, with the initial weights that the seed fixes for every device.

        trainer: whose precision the weights have, None for PyTorch's own. Raises InputError if the model does not suit
        the data.
        """
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        with nullcontext() if trainer is None else trainer.precision_plugin.tensor_init_context():
            return make_chosen(self.cfg, "model", inputs=self.datamodule.inputs, outputs=self.task.outputs)

    def penalty(self, cfg: Mapping[str, Any], model: nn.Module) -> Penalty:
        """Build the penalty of a config. Raises InputError if model or optimiser cannot serve it."""
        made: Penalty = make_chosen(cfg, "penalty")
        penalty = made.on_columns(None if made.factor is None else self.names_of_columns(model))
        penalty.check(objective.penalised(penalty, model))
        try:
            objective.check_optimizer(penalty, self.make_optimizer(model.parameters()))
        except (TypeError, ValueError) as error:
            raise InputError(f"optimizer={cfg['choices']['optimizer']}: {error}") from error
        return penalty

    def names_of_columns(self, model: nn.Module) -> list[tuple[str, str, str]] | None:
        """List the names that each feature goes by: its own, that of its column's part, and its column's.

        None if the model has no weight of its own for each of them.
        """
        if type(model) is not Linear or not self.datamodule.feature_names:
            return None
        return self.datamodule.names_of_features()

    def certifier(self, model: nn.Module, penalty: Penalty, lambd: float, problems: int = 1) -> Certifier | str:
        """Build what tells how far its optimum a training is; where nothing can, return why, in words.

        problems: of how many strengths of the penalty the optimum may be asked for.
        """
        optimizer = self.make_optimizer(model.parameters())
        exact = self.cfg.certificate == "exact"
        if config.is_exact(self.cfg) and problems > 1:
            problems = sys.maxsize  # a path that an engine has solved is not solved once more
        raw = self.cfg.data.get("standardize") is False
        return make_certifier(model, self.task, penalty, optimizer, lambd, self.datamodule, exact, problems, raw)

    def certify(self, module: TrainingModule, model: nn.Module, lambd: float, problems: int = 1) -> str | None:
        """Have the module certify, polish and solve as its config asks. Return why it cannot, in words; None if it can.

        Raises InputError where trainer=exact asks for the solution of what no engine solves, and where polish asks for
        steps that may be too long.
        """
        found = self.certifier(model, module.penalty, lambd, problems)
        if isinstance(found, str):
            if self.datamodule.is_sparse:
                raise InputError(
                    f"data={self.cfg.choices.data}: {found}; sparse features are for model=linear under an L1 or an "
                    "elastic net, which are solved exactly"
                )
            if config.is_exact(self.cfg):
                raise InputError(
                    f"trainer=exact: {found}; it solves model=linear under penalty=none, l1, l2 or elastic_net, or "
                    "group_lasso by single columns, and trainer=cpu trains any other"
                )
            return found
        if self.cfg.polish and not math.isfinite(found.problem.task.curvature):
            raise InputError(
                f"polish={self.cfg.polish}: the loss of {type(self.task).__name__} is curved without bound, so that no "
                "length of a full-batch step is known to be short enough; use trainer=exact, or polish=0"
            )
        module.certifier = found
        module.until_gap, module.polish_steps = self.cfg.trainer.until_gap, self.cfg.polish
        module.certify_epochs = self.cfg.certificate == "epoch" or module.until_gap is not None
        module.gap = self.cfg.trainer.get("gap")
        return None


class Workshops:
    """Opens the workshops of several trainings, one after another.

    Data that stay the same are prepared once, and a file that is split in another way is read once.
    """

    def __init__(self) -> None:
        self.last: Workshop | None = None

    def open(self, cfg: DictConfig) -> Workshop:
        """Open the workshop of a config. Raises InputError if a value cannot be used."""
        same = ("data", "task", "seed")
        if self.last is None or any(self.last.cfg[key] != cfg[key] for key in same):
            datamodule = make_data(cfg)
            datamodule.share_reading(self.last.datamodule if self.last is not None else None)
        else:
            datamodule = self.last.datamodule
        self.last = Workshop(cfg, datamodule)
        return self.last


def make_data(cfg: DictConfig, **seeds: int) -> DataModule:
    """Build the data of a config, which are not set up yet, with its own seeds or others.

    Raises InputError if a value cannot be used.
    """
    with importing_much():  # a table's class brings pandas, pyarrow and scikit-learn
        datamodule: DataModule = make_chosen(cfg, "data", **{"order_seed": cfg.seed, **seeds})
    makes_task = make_chosen(cfg, "task", _partial_=True).func
    if inspect.ismethod(makes_task) and isinstance(task := makes_task.__self__, type) and issubclass(task, Task):
        datamodule.own_units = task.keeps_units
    return datamodule


def make_task(cfg: DictConfig, datamodule: DataModule) -> Task:
    """Build the task of a config for its data, with the metrics that the config adds.

    Raises InputError if the task does not suit the data, no run would measure what `metric=` names, or several devices
    cannot measure a metric together.
    """
    names, scale = datamodule.target_names, datamodule.scale
    scales = tuple(np.broadcast_to(scale, len(names)).tolist()) if names else ()
    own = 1.0 if names else float(np.asarray(scale))
    least, has_events = datamodule.least_target, datamodule.has_events
    latest = float(datamodule.parts["train"].y[:, 0].max()) if has_events else None
    target = Target(datamodule.kind, datamodule.classes, own, least, names, scales, has_events, latest)
    task: Task = make_chosen(cfg, "task", target, _partial_=False)
    if names and task.predicts != "vectors":
        raise InputError(
            f"data.target: it names {len(names)} columns, and the task {type(task).__name__} predicts one; use "
            "task=multi_regression, or name one column"
        )
    check_joint(cfg, task, datamodule)
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


def check_joint(cfg: DictConfig, task: Task, datamodule: DataModule) -> None:
    """Look whether a task whose rows are compared with one another has all of them at once. Raises InputError."""
    if datamodule.has_events and not task.is_joint:
        raise InputError(
            f"data.event: the task {type(task).__name__} knows no events; use task=cox, or leave data.event out"
        )
    rows = len(datamodule.parts["train"])
    if task.is_joint and not config.is_exact(cfg) and datamodule.batch_rows < rows:
        raise InputError(
            f"data.batch_size={cfg.data.batch_size}: the loss of {type(task).__name__} compares each of the {rows} "
            "training rows with the others, so a step takes all of them; use data.batch_size=null, or trainer=exact"
        )


def make_chosen(cfg: Mapping[str, Any], group: str, *positional: object, **arguments: object) -> Any:
    """Build what a config has chosen of a group, such as its model. Raises InputError if a setting of it is bad."""
    check_booleans(cfg[group], group)
    return make(cfg[group], *positional, **arguments)


def make(node: Mapping[str, Any], *positional: object, **arguments: object) -> Any:
    """Build what a node of the config describes. Raises InputError in the words of its class if a value is bad."""
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
        if isinstance(cause, ImportError) and str(error).startswith("Error locating"):
            raise InputError(
                f"_target_={node.get('_target_')}: Python finds no such class ({cause.__cause__ or cause}); install "
                "its package, or start in its folder with python -m shrinkage"
            ) from error
        if not str(error).startswith("Error in call"):  # no class was found that could be called
            raise InputError(" ".join(str(error).split())) from error
        raise


def check_booleans(node: Mapping[str, Any], group: str) -> None:
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
                key = f"{group}.{name}"
                check(key, node[name], Boolean(), f"use {key}=true or {key}=false")


def quieten() -> None:
    """Silence Lightning's hints: they are about large models and loader workers, and would hide what matters here."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\.")
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
    warnings.filterwarnings("ignore", message=r"The AccumulateGrad node's stream")  # DDP is wrapped in one
