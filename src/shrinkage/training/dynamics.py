"""What a study of weight decay looks at while a network trains: how its weights turn, and how much of them is kept.

Weights before a normalisation do not change what the network computes when they grow or shrink, so that decay acts on
them by the length of their steps alone: they turn by η‖g‖/‖w‖ a step, their length settles where decay takes as much as
the steps add, and from then on they turn by an angle that η and λ alone decide. References: Kosson, Messmer & Jaggi
(2024), "Rotational equilibrium: how weight decay balances learning across neural networks"; Wan et al. (2021),
"Spherical motion dynamics"; Wang & Aitchison (2024), "How to set AdamW's weight decay as you scale model and dataset
size", for the timescale.
"""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor, nn

from shrinkage.penalties.base import Penalty
from shrinkage.penalties.l2 import L2

from . import objective

if TYPE_CHECKING:
    from .module import PenalisedModule

SAMPLES = 8  # steps of an epoch that are looked at, spread evenly
SMALL = 10_000  # parameters, under which a model is tiny and not looked at unless asked
KEPT = 0.98  # of the running mean and variance of batch losses, a step
SPIKE = 6.0  # standard deviations above the running mean that make a spike
SETTLED = 50  # steps before which nothing is one


class Dynamics(L.Callback):
    """Metrics of each epoch; the same after a resume.

    Of every weight W with two dimensions or more, over the steps that are looked at: `layer/NAME/norm` ‖W‖ at the
    epoch's end, `layer/NAME/gradient` the root of the mean of ‖∇‖² (of the penalised loss in mode `loss`),
    `layer/NAME/effective_lr` η/‖W‖², `layer/NAME/angle` the mean angle in radians by which a step turns W, and where
    theory has one, `layer/NAME/equilibrium_angle` and `layer/NAME/equilibrium_norm`.

    Of the run, under an L2 decay: `decay/memory` ∏(1 − ηλ), the share of the initial weights that is left where
    gradients do not reach; `decay/timescale_steps` and `decay/timescale_epochs` 1/(ηλ), over how long the weights
    remember. `loss/spikes`: the epoch's steps with a batch loss of six standard deviations above its running mean.
    """

    def __init__(self, module: "PenalisedModule") -> None:
        self.module = module
        self.log_memory = 0.0
        self.mean, self.variance, self.seen = 0.0, 0.0, 0
        self.start_epoch()

    def start_epoch(self) -> None:
        """Forget what was looked at in the epoch before."""
        self.losses: list[Tensor] = []
        self.squared_gradients: dict[str, list[Tensor]] = {}
        self.angles: dict[str, list[Tensor]] = {}
        self.before: dict[str, Tensor] | None = None

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if (kept := kept_by_a_step(self.module.penalty, self.module.lambd, optimizer)) is not None:
            self.log_memory += math.log(abs(kept)) if kept else -math.inf
        steps = steps_an_epoch(trainer)
        number = trainer.fit_loop.epoch_loop.batch_idx // trainer.accumulate_grad_batches
        if number * SAMPLES // steps == (number - 1) * SAMPLES // steps:  # the first step of each part of the epoch
            return
        self.before = {}
        for name, w in matrices(self.module.model):
            self.before[name] = w.detach().clone()
            if w.grad is not None:
                self.squared_gradients.setdefault(name, []).append(w.grad.double().square().sum())

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: STEP_OUTPUT, batch: object, batch_idx: int
    ) -> None:
        if isinstance(outputs, Mapping):
            self.losses.append(outputs["loss"].detach())
        if self.before is not None:
            for name, w in matrices(self.module.model):
                self.angles.setdefault(name, []).append(angle(self.before[name], w))
            self.before = None

    @torch.no_grad()
    def end_epoch(self, trainer: L.Trainer) -> dict[str, float]:
        """Return the metrics of the epoch that ends, and begin another."""
        found: dict[str, float] = {}
        (optimizer,), steps = trainer.optimizers, steps_an_epoch(trainer)
        penalty, lambd, lr = self.module.penalty, self.module.lambd, optimizer.param_groups[0]["lr"]
        for name, w in matrices(self.module.model):
            if name not in self.angles:
                continue
            norm = w.double().norm().item()
            squared = torch.stack(self.squared_gradients[name]).mean().item() if name in self.squared_gradients else 0.0
            layer = {
                "norm": norm,
                "gradient": math.sqrt(squared),
                "effective_lr": lr / norm**2 if norm else math.inf,
                "angle": torch.stack(self.angles[name]).mean().item(),
            }
            if name in self.module.penalised:
                strength = lambd * dict(factors(penalty, self.module.penalised))[name]
                own = (strength * norm) ** 2 if penalty.mode == "loss" else 0.0  # λw in the gradient, at a right angle
                layer |= equilibrium(penalty, strength, lr, optimizer, max(squared - own, 0.0) * norm**2)
            found |= {f"layer/{name}/{key}": value for key, value in layer.items() if math.isfinite(value)}
        if kept_by_a_step(penalty, lambd, optimizer) is not None and lr * lambd > 0:
            found["decay/memory"] = math.exp(self.log_memory)
            found["decay/timescale_steps"] = 1 / (lr * lambd)
            found["decay/timescale_epochs"] = 1 / (lr * lambd * steps)
        if trainer.world_size > 1 and self.losses:
            self.losses = [trainer.strategy.reduce(torch.stack(self.losses), reduce_op="mean")]
        found["loss/spikes"] = float(self.spikes())
        self.start_epoch()
        return found

    def spikes(self) -> int:
        """Count the spikes among the epoch's batch losses; one is no part of the running mean."""
        count = 0
        for loss in torch.hstack(self.losses).double().cpu().numpy() if self.losses else np.empty(0):
            if self.seen >= SETTLED and not loss <= self.mean + SPIKE * math.sqrt(self.variance):
                count += 1
                continue
            share = max(1 - KEPT, 1 / (self.seen + 1))
            difference = float(loss) - self.mean
            self.mean += share * difference
            self.variance = (1 - share) * (self.variance + share * difference**2)
            self.seen += 1
        return count

    def state_dict(self) -> dict[str, float]:
        return {"log_memory": self.log_memory, "mean": self.mean, "variance": self.variance, "seen": self.seen}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        for name, value in state_dict.items():
            setattr(self, name, value)


def steps_an_epoch(trainer: L.Trainer) -> int:
    """Count the optimiser steps of an epoch, each of which may be taken on the gradients of several batches."""
    return math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)


def matrices(model: nn.Module) -> Iterable[tuple[str, nn.Parameter]]:
    """List the weights with two dimensions or more."""
    return ((name, w) for name, w in model.named_parameters() if w.ndim > 1)


def factors(penalty: Penalty, penalised: dict[str, nn.Parameter]) -> list[tuple[str, float]]:
    """Return the penalised parameters' names, each with its factor on λ."""
    return [(name, factor) for factor, names in objective.names_by_factor(penalty, tuple(penalised)) for name in names]


def angle(before: Tensor, after: Tensor) -> Tensor:
    """Measure the angle between two tensors as vectors, in radians, exact where it is small; 0-d, float64."""
    a, b = before.double().flatten(), after.double().flatten()
    difference = a / a.norm().clamp(min=1e-300) - b / b.norm().clamp(min=1e-300)
    return 2 * (difference.norm() / 2).clamp(max=1.0).arcsin()


def kept_by_a_step(penalty: Penalty, lambd: float, optimizer: torch.optim.Optimizer) -> float | None:
    """Return what is left after a step of a weight that has no gradient; None if it is not known.

    That is of parameters with a factor of 1 on λ. It is known of L2 decayed apart from the gradient, by the prox, and
    in the loss under SGD without momentum.
    """
    if not isinstance(penalty, L2) or penalty.mode == "cautious":
        return None
    group = optimizer.param_groups[0]
    if penalty.mode == "decay":
        return 1 - lambd * objective.decay_rate(penalty, group["lr"], group["initial_lr"])
    if penalty.mode == "prox":
        return 1 / (1 + group["lr"] * lambd / (1 - group["momentum"]))
    plain = isinstance(optimizer, torch.optim.SGD) and group["momentum"] == 0
    return 1 - group["lr"] * lambd if plain else None


def equilibrium(
    penalty: Penalty, lambd: float, lr: float, optimizer: torch.optim.Optimizer, unit_gradient: float
) -> dict[str, float]:
    """Predict where the length of scale-invariant weights settles under L2, and by which angle a step turns them then.

    SGD: ‖w‖⁴ = η·E‖g̃‖²/(2λ), with g̃ = ‖w‖g the gradient at length 1 and unit_gradient its mean square, angle √(2ηλ);
    with momentum μ and λ in the loss the angle √(2ηλ/(1 + μ)). AdamW: angle √(2ηλ(1 − β₁)/(1 + β₁)). {} where nothing
    is known.
    """
    if not isinstance(penalty, L2) or penalty.mode not in ("loss", "decay") or penalty.rate != "lr" or lambd == 0:
        return {}
    group, turning = optimizer.param_groups[0], 2 * lr * lambd
    if isinstance(optimizer, torch.optim.SGD):
        momentum = group["momentum"]
        if momentum == 0:
            norm = (lr * unit_gradient / (2 * lambd)) ** 0.25
            return {"equilibrium_angle": math.sqrt(turning), "equilibrium_norm": norm}
        return {"equilibrium_angle": math.sqrt(turning / (1 + momentum))} if penalty.mode == "loss" else {}
    if type(optimizer) is torch.optim.Adam and penalty.mode == "decay":
        beta = group["betas"][0]
        return {"equilibrium_angle": math.sqrt(turning * (1 - beta) / (1 + beta))}
    return {}
