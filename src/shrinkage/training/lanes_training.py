"""Builds and trains many runs at once, as lanes of one training, from their configs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import psutil
import torch
from omegaconf import DictConfig
from torch import nn

from shrinkage.config import devices, exports, is_exact
from shrinkage.data.base import Batch, DataModule

from .checkpoints import LanesCheckpoint
from .history import thinned
from .lane import Lane
from .lanes import LanesModule
from .progress import ProgressBar
from .run import equivalents, interruptions_first, set_threads
from .sharing import CannotShare, bytes_of_a_lane
from .stacked import LaneStart
from .workshop import Workshop

COPIES = 8  # of its weights that a lane which is solved has at most: its own, the best and the last ones, and steps


@dataclass
class LanesTraining:
    """The objects of many runs that are trained together; `run` trains them once.

    model: one of their initial models. tags: what each run records of itself.
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

        The lanes must be those that the training began with, in the same order. Lanes that had ended when the
        checkpoint was written are not handed over again. Raises InputError if the file is damaged, or is of other
        lanes or settings.
        """
        set_threads(self.cfg.threads, self.module, self.datamodule)
        self.trainer.fit(self.module, self.datamodule, ckpt_path=checkpoint)


def build_lanes(
    cfgs: Sequence[Mapping[str, Any]],
    workshop: Workshop,
    folder: Path,
    on_end: Callable[[Lane], None],
    tell: Callable[[str], None] | None = None,
    checkpoint: Path | None = None,
) -> LanesTraining:
    """Build the training of runs that are equal but for λ, seed and their penalties' own numbers.

    on_end: is given every lane when it ends. tell: shows the progress in words instead of a bar. checkpoint: the file
    that is to hold all that their training needs to go on, None for none. Raises InputError if a value cannot be used,
    CannotShare if the runs have to be trained one by one.
    """
    cfg = workshop.cfg
    trainer = workshop.trainer(folder)
    seeds = list(dict.fromkeys(c["seed"] for c in cfgs))
    models = {seed: workshop.model(seed, trainer) for seed in seeds}
    penalties = {}
    for c in cfgs:
        key = str(c["penalty"])
        penalties[key] = penalties.get(key) or workshop.penalty(c, models[seeds[0]])
    one_order = workshop.datamodule.batch_rows == len(workshop.datamodule.parts["train"])  # all rows, in order
    orders = [(c["data"]["seed"], 0 if one_order else c["seed"]) for c in cfgs]
    datamodule, orders, data = workshop.data_for_lanes(orders)
    starts = [
        LaneStart(models[c["seed"]], penalties[str(c["penalty"])], float(c["lambd"]), order, own)
        for c, order, own in zip(cfgs, orders, data or [None] * len(cfgs), strict=True)
    ]
    module = LanesModule(
        starts,
        workshop.ingredients(datamodule),
        cfg.early_stopping.patience,
        cfg.early_stopping.min_delta,
        thinned if cfg.tracking.history == "thin" else range,
        on_end,
    )
    if data is None:
        strengths = {(str(c["penalty"]), c["lambd"]) for c in cfgs}
        workshop.certify(module, models[seeds[0]], float(cfg["lambd"]), len(strengths))
    module.callbacks.append(LanesCheckpoint(checkpoint, module))
    if cfg.progress:
        bar = ProgressBar(module, f"{len(cfgs)} lanes, step", tell)
        module.callbacks.append(bar)
        module.on_polish, module.on_solved = bar.on_polish, bar.on_solved
    model = models[seeds[0]]
    optimizer = workshop.make_optimizer(model.parameters())
    tags = [
        workshop.tags(penalty) | equivalents(c, workshop.task, penalty, model, optimizer, datamodule)
        for c, penalty in ((c, penalties[str(c["penalty"])]) for c in cfgs)
    ]
    return LanesTraining(cfg, datamodule, model, module, trainer, tags)


def lanes_that_fit(cfgs: Sequence[Mapping[str, Any]], workshop: Workshop, folder: Path) -> int:
    """Return how many of these runs can be trained together in half of the memory that is free.

    Raises CannotShare if no two of them can, InputError if a value cannot be used.
    """
    trainer = workshop.cfg.trainer
    if trainer.gradient_clip_val is not None and trainer.gradient_clip_algorithm != "value":
        raise CannotShare("clipping by the norm of the whole gradient would mix the lanes")
    if workshop.cfg.dynamics is True:
        raise CannotShare("dynamics=true looks at one model's steps")
    if devices(workshop.cfg) != 1:
        raise CannotShare(f"trainer.devices={trainer.devices}: lanes train on one device")
    for key in ("accumulate_grad_batches", "max_time", "min_epochs", "min_steps"):
        if (value := trainer.get(key)) not in (None, 1):
            raise CannotShare(f"trainer.{key}={value}: each run counts its steps and its time by itself")
    if "val" not in workshop.datamodule.parts:
        raise CannotShare("without a validation part each run is one to keep")
    if exports(workshop.cfg):
        raise CannotShare("export: each run keeps a model of its own")
    if is_exact(workshop.cfg):
        if len({cfg["data"]["seed"] for cfg in cfgs}) > 1:
            raise CannotShare("each data.seed has a problem of its own")
        weights = sum(parameter.nbytes for parameter in workshop.model(cfgs[0]["seed"]).double().parameters())
        return max(psutil.virtual_memory().available // 2 // (COPIES * weights), 1)
    other = next((cfg for cfg in cfgs if cfg["penalty"] != cfgs[0]["penalty"]), cfgs[-1])
    pair = build_lanes([cfgs[0], other], workshop, folder, on_end=lambda lane: None)
    batch = workshop.datamodule.tensors("train")[: workshop.datamodule.batch_rows]
    rows = Batch(*pair.trainer.precision_plugin.convert_input(batch))
    metrics = 20 * 8 * max(trainer.max_epochs or 0, trainer.max_steps)
    free = free_memory(pair.trainer.strategy.root_device)
    return max(int(free / 2 // (bytes_of_a_lane(pair.module, rows) + metrics)), 1)


def free_memory(device: torch.device) -> int:
    """Return how many bytes nobody uses on the device."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
