"""Config → objects → Trainer: what one run is made of."""

import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import lightning.pytorch as L
import numpy as np
import psutil
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from threadpoolctl import threadpool_limits
from torch import nn

from shrinkage import conventions, objective
from shrinkage.certify import certifier, percent, why_not
from shrinkage.checkpoints import CheckpointFiles, Checkpoints
from shrinkage.config import devices, exports, step_unit, thinned
from shrinkage.data.base import DataModule, StackedData
from shrinkage.dynamics import SMALL, Dynamics
from shrinkage.errors import InputError
from shrinkage.lanes import CannotShare, Lane, LanesCheckpoint, LanesModule
from shrinkage.models.linear import Linear
from shrinkage.module import PenalisedModule
from shrinkage.penalties.base import Penalty
from shrinkage.penalties.elastic_net import ElasticNet
from shrinkage.penalties.l1 import L1
from shrinkage.penalties.l2 import L2
from shrinkage.progress import ProgressBar
from shrinkage.ranks import Ranks, told
from shrinkage.reference import lambda_max
from shrinkage.tasks import task_for

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Multiply-adds a step under which one thread is faster than two.
ONE_THREAD_WORK = 10_000_000


@contextmanager
def interruptions_first() -> Iterator[None]:
    """Raise the SystemExit of a signal that came out as an error of PyTorch or Lightning, in whose midst it arrived."""
    try:
        yield
    except Exception as error:
        behind = error.__context__
        while behind is not None and not isinstance(behind, SystemExit):
            behind = behind.__context__
        if behind is None:
            raise
        raise behind from None


@dataclass
class Training:
    """The objects of one run. `run` trains them once."""

    cfg: DictConfig
    datamodule: DataModule
    module: PenalisedModule
    trainer: L.Trainer
    checkpoints: Checkpoints
    why_not: str | None
    tags: dict[str, str]
    test: dict[str, float] = field(default_factory=dict)
    conclusion: dict[str, float] = field(default_factory=dict)

    @interruptions_first()
    def run(self, checkpoint: Path | None = None) -> None:
        """Train, put back the best weights where early stopping asks for them, polish, and measure what ends a run.

        checkpoint: a last.ckpt of this run, written anywhere in it, from which it goes on. It ends bitwise as the run
        that was never interrupted. Raises InputError where the file is damaged or of other settings.
        """
        set_threads(self.cfg.threads, self.module, self.datamodule)
        self.trainer.fit(self.module, self.datamodule, ckpt_path=checkpoint)
        steps = self.trainer.global_step
        is_polished = self.module.polished is not None  # before it was interrupted
        if self.cfg.early_stopping.patience is not None:
            if not is_polished:
                self.checkpoints.restore_best(self.module)
            steps = self.checkpoints.best["epoch"] * self.trainer.num_training_batches
        if self.cfg.polish and self.module.certifier is not None and not is_polished:
            self.module.polish(self.cfg.polish)
            self.checkpoints.write_at_last(self.trainer)
        if "test" in self.datamodule.parts:
            self.test = {f"test/{name}": float(value) for name, value in self.module.evaluate("test").items()}
        self.conclusion = self.module.conclusion(steps)

    def verdict(self) -> str:
        """How far from its optimum the run stopped, in words."""
        module = self.module
        if module.certifier is None:
            return f"not certified: {self.why_not}"
        known = module.measured | self.conclusion
        curve = [(step, measured["train/objective"]) for step, measured in module.history]

        def help(least: float) -> str:
            if self.cfg.polish:
                return f"; polish={5 * self.cfg.polish} would go further"
            if self.cfg.early_stopping.patience is not None:
                return ", where early_stopping found the smallest val/loss"
            noisy = self.datamodule.batch_rows < len(self.datamodule.parts["train"])
            return module.certifier.pace(curve, least, f"trainer.max_{step_unit(self.cfg)}s", noisy)

        words = module.certifier.words(module.penalty, module.lambd, known, module.until_gap, help)
        if module.polished:
            words += f"; the last {module.polished} steps of the curve are full-batch proximal ones (polish)"
        if known.get("init/memory", 0.0) > 1e-6 and module.certifier.leaves_directions:
            words += f"; {percent(known['init/memory'])} of the initial weights is left where the data do not reach"
        return words

    def landscape(self) -> "Figure | None":
        """The objective around the run, where it is convex and small; None else."""
        from shrinkage.report.landscape import landscape

        module = self.module
        if module.certifier is None:
            return None
        l1, l2 = map(float, module.certifier.strengths(module.penalty, module.lambd))
        path = [module.certifier.problem.parameters(named) for named in module.path]
        return landscape(module.certifier.problem, l1, l2, path, module.certifier.best(l1, l2))

    def best_metrics(self) -> dict[str, float]:
        """The validation metrics of the epoch with the smallest val/loss, and which epoch it was."""
        if self.checkpoints.best is None:
            return {}
        return best_metrics(self.checkpoints.best["epoch"], self.checkpoints.best_measured)

    def advice(self) -> list[str]:
        """What the user should know before training begins: notes on the data, steps that are too long, λ too large."""
        sentences = list(self.datamodule.notes)
        module, cfg = self.module, self.cfg
        asked = [
            f"{key}={value}"
            for key, value, default in (
                ("certificate", cfg.certificate, "end"),
                ("trainer.until_gap", cfg.trainer.until_gap, None),
                ("polish", cfg.polish, 0),
            )
            if value != default
        ]
        if asked and module.certifier is None:
            sentences.append(f"{', '.join(asked)}: {self.why_not}; the run goes on without")
        optimizer = module.make_optimizer(module.model.parameters())
        bound = objective.largest_stable_lr(module.penalty, module.lambd, optimizer)
        if cfg.optimizer.lr >= bound:  # the largest factor of every schedule is 1
            sentences.append(
                f"optimizer.lr={cfg.optimizer.lr:g} with lambd={module.lambd:g}: |1 − ηλ| ≥ 1, so the penalty alone "
                f"keeps the weights from shrinking; a learning rate under {bound:.3g} works, such as "
                f"optimizer.lr={bound / 4:.2g}"
            )
        lost = objective.lost_to_rounding(module.penalty, module.lambd, module.penalised, optimizer)
        if lost > 0.5:
            sentences.append(
                f"trainer.precision={cfg.trainer.precision}: of the weights {percent(lost)} are left by a step of the "
                f"penalty bit for bit as they were, since ηλ = {cfg.optimizer.lr * module.lambd:.2g} is lost to "
                "rounding; trainer.precision=bf16-mixed keeps them in single precision"
            )
        net, in_memory = module.penalty.elastic_net(1.0), self.datamodule.in_memory
        if (
            net is not None
            and net[0]
            and module.penalty.scope == "weights"
            and isinstance(module.model, Linear)
            and in_memory
        ):
            train = self.datamodule.parts["train"]
            largest = lambda_max(train.x, train.y, self.datamodule.classes, net[0])
            if module.lambd >= largest:
                sentences.append(
                    f"lambd={module.lambd:g} is at or above λ_max = {largest:.3g} of these training data, from which "
                    f"on the optimum has every weight at zero; try lambd={largest / 3:.1g}"
                )
        return sentences


@dataclass
class LanesTraining:
    """The objects of many runs that are trained together, and the tags of each; `run` trains them once.

    model: one of their initial models.
    """

    cfg: DictConfig
    datamodule: DataModule
    model: nn.Module
    module: LanesModule
    trainer: L.Trainer
    tags: list[dict[str, str]]

    @interruptions_first()
    def run(self, checkpoint: Path | None = None) -> None:
        """Train all of them, from a checkpoint of theirs where one is given.

        They are the lanes that the training began with, in their order. Those that had ended when it was written are
        not handed over again. Raises InputError where the file is damaged or of other lanes or settings.
        """
        set_threads(self.cfg.threads, self.module, self.datamodule)
        self.trainer.fit(self.module, self.datamodule, ckpt_path=checkpoint)


def equivalents(
    cfg: DictConfig, penalty: Penalty, model: nn.Module, optimizer: torch.optim.Optimizer, datamodule: DataModule
) -> dict[str, str]:
    """The tags `equivalent.*`: how a run's λ is written in other libraries. None where there is nothing to compare."""
    kinds = {L1: conventions.L1, L2: conventions.L2, ElasticNet: conventions.ELASTIC_NET}
    if type(penalty) not in kinds or penalty.scope != "weights" or not penalty.is_plain or cfg.lambd == 0:
        return {}
    lambd, momentum = float(cfg.lambd), 0.0
    if penalty.mode == "decay":
        if not isinstance(optimizer, torch.optim.SGD):
            return {"equivalent.minimiser": conventions.ADAMW} if isinstance(penalty, L2) else {}
        momentum = optimizer.param_groups[0]["momentum"]
        lambd *= 1 - momentum
    setting = conventions.Setting(
        len(datamodule.parts["train"]),
        datamodule.classes,
        momentum,
        datamodule.noise_variance,
        penalty.l1_ratio if isinstance(penalty, ElasticNet) else 0.0,
    )
    return conventions.tags(kinds[type(penalty)], lambd, setting, type(model) is Linear)


def best_metrics(epoch: int, measured: dict[str, float]) -> dict[str, float]:
    """The record's best/*, of the epoch with the smallest val/loss."""
    return {"best/epoch": float(epoch)} | {
        f"best/{name}": value for name, value in measured.items() if name.startswith("val/")
    }


def set_threads(threads: int | None, module: PenalisedModule, datamodule: DataModule) -> None:
    """As many as asked for; else one where the work of a step is small, and the libraries' own choice where it is not.

    Of several processes each has its part of the machine's cores. PyTorch's threads, and those of NumPy and SciPy,
    which solve for optima.
    """
    weights = sum(parameter.numel() for parameter in module.parameters())
    processes = datamodule.share.size
    if processes > 1:
        threads = threads or max((os.cpu_count() or 1) // processes, 1)
    if threads or weights * datamodule.batch_rows < ONE_THREAD_WORK:
        torch.set_num_threads(threads or 1)
        threadpool_limits(threads or 1)


class Workshop:
    """Makes the objects that a config names; runs that are trained together share one.

    Raises InputError where a value cannot be used.
    """

    def __init__(self, cfg: DictConfig) -> None:
        quieten()
        self.cfg = cfg
        self.datamodule: DataModule = make(cfg.data, order_seed=cfg.seed)
        self.datamodule.setup()
        self.task = task_for(self.datamodule.kind, self.datamodule.classes, self.datamodule.scale)
        self.make_optimizer = make(cfg.optimizer)
        self.schedule = make(cfg.schedule)

    def data_of(self, orders: Sequence[tuple[int, int]]) -> tuple[DataModule, list[int], list[int] | None]:
        """The data for lanes, each of which has a data seed and an order seed.

        With it come which of its orders each lane follows, and which of its data sets, None where there is one.
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

    def model(self, trainer: L.Trainer, seed: int) -> nn.Module:
        """With the initial weights that the seed fixes."""
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        with trainer.init_module():
            return make(self.cfg.model, inputs=self.datamodule.inputs, outputs=self.task.outputs)

    def penalty(self, cfg: DictConfig, model: nn.Module) -> Penalty:
        """The penalty of a config, which the optimiser must be able to serve."""
        penalty = make(cfg.penalty)
        penalty.check(objective.penalised(penalty, model))
        try:
            objective.check_optimizer(penalty, self.make_optimizer(model.parameters()))
        except (TypeError, ValueError) as error:
            raise InputError(f"optimizer={cfg.choices.optimizer}: {error}") from error
        return penalty

    def certify(self, module: PenalisedModule, model: nn.Module, lambd: float, problems: int = 1) -> str | None:
        """Give the module what tells how far its optimum is; why there is nothing that could, else None."""
        optimizer = self.make_optimizer(model.parameters())
        reason = why_not(model, module.penalty, optimizer, lambd, self.datamodule)
        if reason is not None:
            return reason
        exact = self.cfg.certificate == "exact"
        module.certifier = certifier(model, self.task, module.penalty, optimizer, self.datamodule, exact, problems)
        module.until_gap = self.cfg.trainer.until_gap
        module.certify_epochs = self.cfg.certificate == "epoch" or module.until_gap is not None
        return None


def build(
    cfg: DictConfig,
    folder: Path,
    label: str = "",
    tell: Callable[[str], None] | None = None,
    ranks: Ranks | None = None,
) -> Training:
    """The objects of one run; checkpoints go to `folder`, and label and tell are those of the progress bar.

    ranks: which process of it this is, where there are several. Raises InputError where a value cannot be used.
    """
    workshop = Workshop(cfg)
    checkpoints = Checkpoints(folder / "checkpoints")
    callbacks: list[L.Callback] = [checkpoints]
    if cfg.early_stopping.patience is not None:
        if "val" not in workshop.datamodule.parts:
            raise InputError(
                f"early_stopping.patience={cfg.early_stopping.patience}: it looks at val/loss, and data.refit=true "
                "leaves no validation part; use early_stopping.patience=null"
            )
        callbacks.append(
            EarlyStopping("val/loss", patience=cfg.early_stopping.patience, min_delta=cfg.early_stopping.min_delta)
        )
    bar = ProgressBar(label, tell)
    if cfg.progress:
        callbacks.append(bar)
    trainer = workshop.trainer(folder, callbacks, ranks, plugins=[CheckpointFiles()])
    model = workshop.model(trainer, cfg.seed)
    penalty = workshop.penalty(cfg, model)
    module = PenalisedModule(
        model, workshop.task, penalty, float(cfg.lambd), workshop.make_optimizer, workshop.schedule
    )
    weights = sum(parameter.numel() for parameter in model.parameters())
    if cfg.dynamics is True or (cfg.dynamics == "auto" and weights >= SMALL):
        module.dynamics = Dynamics()
        trainer.callbacks.insert(0, module.dynamics)
    if cfg.progress:
        module.on_polish = bar.polishing
        bar.on_train_start(trainer, module)  # for a polish alone, where the run was interrupted in it
    reason = workshop.certify(module, model, float(cfg.lambd))
    tags = equivalents(cfg, penalty, model, workshop.make_optimizer(model.parameters()), workshop.datamodule)
    return Training(cfg, workshop.datamodule, module, trainer, checkpoints, reason, tags)


def train_as_other() -> None:
    """Train as the process of a run that `ranks.start` has started: what it comes to is the first one's."""
    cfg, place, checkpoint = told()
    cfg.progress = False
    with TemporaryDirectory() as folder:
        build(cfg, Path(folder), ranks=place).run(checkpoint)


def build_lanes(
    cfgs: Sequence[DictConfig],
    workshop: Workshop,
    folder: Path,
    on_end: Callable[[Lane], None],
    tell: Callable[[str], None] | None = None,
    checkpoint: Path | None = None,
) -> LanesTraining:
    """The objects of runs that are equal but for λ, seed and their penalties' own numbers.

    checkpoint: the file that is to hold all that their training needs to go on, None for none.

    Raises InputError where a value cannot be used, CannotShare where they have to be trained one by one.
    """
    cfg = workshop.cfg
    bars = [ProgressBar(f"{len(cfgs)} lanes, step", tell)] if cfg.progress else []
    trainer = workshop.trainer(folder, [*bars, LanesCheckpoint(checkpoint)], plugins=[CheckpointFiles()])
    seeds = list(dict.fromkeys(c.seed for c in cfgs))
    models = {seed: workshop.model(trainer, seed) for seed in seeds}
    penalties = {}
    for c in cfgs:
        key = str(c.penalty)
        penalties[key] = penalties.get(key) or workshop.penalty(c, models[seeds[0]])
    one_order = workshop.datamodule.batch_rows == len(workshop.datamodule.parts["train"])  # all rows, in order
    orders = [(c.data.seed, 0 if one_order else c.seed) for c in cfgs]
    datamodule, orders, data = workshop.data_of(orders)
    module = LanesModule(
        [models[c.seed] for c in cfgs],
        workshop.task,
        [penalties[str(c.penalty)] for c in cfgs],
        [float(c.lambd) for c in cfgs],
        orders,
        data,
        workshop.make_optimizer,
        workshop.schedule,
        cfg.early_stopping.patience,
        cfg.early_stopping.min_delta,
        thinned if cfg.tracking.history == "thin" else range,
        on_end,
    )
    strengths = {(str(c.penalty), c.lambd) for c in cfgs}
    if data is None:
        workshop.certify(module, models[seeds[0]], float(cfg.lambd), len(strengths))
    if module.certifier is not None:
        module.polish_steps = cfg.polish
    for bar in bars:
        module.on_polish = bar.polishing
        bar.on_train_start(trainer, module)  # for a polish alone, after a training that was interrupted in it
    model = models[seeds[0]]
    optimizer = workshop.make_optimizer(model.parameters())
    tags = [equivalents(c, penalties[str(c.penalty)], model, optimizer, datamodule) for c in cfgs]
    return LanesTraining(cfg, datamodule, model, module, trainer, tags)


def lanes_that_fit(cfgs: Sequence[DictConfig], workshop: Workshop, folder: Path) -> int:
    """How many of these runs can be trained together in half of the memory that is free.

    Raises CannotShare where no two of them can, InputError where a value cannot be used.
    """
    trainer = workshop.cfg.trainer
    if trainer.gradient_clip_val is not None and trainer.gradient_clip_algorithm != "value":
        raise CannotShare("clipping by the norm of the whole gradient would mix the lanes")
    if workshop.cfg.dynamics is True:
        raise CannotShare("dynamics=true looks at one model's steps")
    if devices(workshop.cfg) != 1:
        raise CannotShare(f"trainer.devices={trainer.devices}: lanes train on one device")
    if "val" not in workshop.datamodule.parts:
        raise CannotShare("without a validation part each run is one to keep")
    if exports(workshop.cfg):
        raise CannotShare("export: each run keeps a model of its own")
    other = next((cfg for cfg in cfgs if cfg.penalty != cfgs[0].penalty), cfgs[-1])
    pair = build_lanes([cfgs[0], other], workshop, folder, on_end=lambda lane: None)
    batch = workshop.datamodule.tensors("train")[: workshop.datamodule.batch_rows]
    x, y = pair.trainer.precision_plugin.convert_input(batch)
    metrics = 20 * 8 * max(cfgs[0].trainer.max_epochs or 0, cfgs[0].trainer.max_steps)
    free = free_memory(pair.trainer.strategy.root_device)
    return max(int(free / 2 // (pair.module.bytes_of_a_lane(x, y) + metrics)), 1)


def free_memory(device: torch.device) -> int:
    """Bytes that nobody uses on the device."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available


def make(node: DictConfig, **arguments: object) -> object:
    """Instantiate a node of the config; what its class says about a bad value comes through as it says it."""
    try:
        return instantiate(node, _convert_="all", **arguments)
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


def quieten() -> None:
    """Lightning's hints are about large models and loader workers; here they would hide what matters."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\.")
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
