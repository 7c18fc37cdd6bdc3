"""What every penalty is: Ω(w), its proximal operator and the decay along its gradient. No λ in here."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from shrinkage.checks import is_number
from shrinkage.errors import InputError

Params = Mapping[str, Tensor]
Mode = Literal["loss", "decay", "cautious", "prox"]


@dataclass(frozen=True, kw_only=True)
class Penalty(ABC):
    """A penalty Ω over a model's weights, and the way in which it acts on them.

    mode: `loss` adds λΩ to the objective; `decay` shrinks the weights by ηλ∇Ω(w) before the optimiser's step;
        `cautious` does so only where that step shrinks them too; `prox` applies prox_{ηλΩ} after it.
    scope: `weights` penalises everything but biases and normalisation parameters; `all` penalises every parameter.
    groups: factors on λ by patterns of parameters' names, `{"*embedding*": 0}`; the last that matches a name counts,
        and Ω is taken over the parameters of each factor by themselves. None: 1 for all.
    rate: how a step of mode `decay` or `cautious` follows the learning rate η: `lr` shrinks by ηλ, as PyTorch's AdamW;
        `corrected` by η²λ/η_max, which keeps the balance of weights and gradients as η falls (Defazio 2025, "Why
        gradients rapidly increase near the end of training"); `constant` by η_maxλ, whatever the schedule.

    Every method is a pure function of tensors of any shape, so that it can be vectorised over many models.
    Raises InputError where the mode is one that the penalty cannot serve.
    """

    mode: Mode
    scope: Literal["weights", "all"] = "weights"
    groups: Mapping[str, float] | None = None
    rate: Literal["lr", "corrected", "constant"] = "lr"

    modes: ClassVar[tuple[Mode, ...]] = ("loss", "decay", "cautious", "prox")

    def __post_init__(self) -> None:
        if self.mode not in self.modes:
            raise InputError(
                f"penalty.mode={self.mode}: {type(self).__name__} can act as {', '.join(self.modes)}; "
                f"use penalty.mode={self.modes[0]}"
            )
        if self.scope not in ("weights", "all"):
            raise InputError(
                f"penalty.scope={self.scope}: must be weights or all; use penalty.scope=weights "
                "to leave biases and normalisation parameters alone"
            )
        if self.rate not in ("lr", "corrected", "constant"):
            raise InputError(f"penalty.rate={self.rate}: must be lr, corrected or constant; use penalty.rate=lr")
        if self.rate != "lr" and self.mode not in ("decay", "cautious"):
            raise InputError(
                f"penalty.rate={self.rate}: only a decay apart from the gradient has a rate of its own; "
                "use penalty.mode=decay, or penalty.rate=lr"
            )
        if not isinstance(self.groups, Mapping | None):
            raise InputError(
                f"penalty.groups={self.groups}: must be factors on λ by patterns of parameters' names; use "
                "'penalty.groups={*embedding*: 0}'"
            )
        for pattern, factor in (self.groups or {}).items():
            if not is_number(factor) or not 0 <= factor < math.inf:
                raise InputError(
                    f"penalty.groups: {pattern!r} has the factor {factor}; a factor on λ must be a number ≥ 0, and 0 "
                    "leaves the parameters alone"
                )

    @abstractmethod
    def value(self, weights: Params) -> Tensor:
        """Ω(w), 0-d: one number over all the tensors."""

    @abstractmethod
    def prox(self, weights: Params, step: Tensor | float) -> dict[str, Tensor]:
        """argmin_u Ω(u) + ‖u − w‖²/(2·step), with the shapes of the weights; step ≥ 0, and 0 is the identity."""

    def decay(self, weights: Params, step: Tensor | float) -> dict[str, Tensor]:
        """w − step·∇Ω(w); where Ω has a kink, the subgradient that PyTorch takes (0 for |w| at 0)."""
        gradient = torch.func.grad(self.value)(dict(weights))
        return {name: w - step * gradient[name] for name, w in weights.items()}

    def elastic_net(self, lambd: Tensor | float) -> tuple[Tensor | float, Tensor | float] | None:
        """(λ₁, λ₂) where λΩ(w) = λ₁‖w‖₁ + λ₂·½‖w‖², None where it is no such sum.

        For such penalties the optimum of a linear model is known exactly, and a run can be certified against it.
        """
        return None

    def check(self, weights: Params) -> None:
        """Raises InputError where Ω has no meaning for a model with these weights; of most it has."""
        return

    @property
    def is_plain(self) -> bool:
        """Whether a decay takes λ from every weight alike, at the learning rate: the one that has a known effect."""
        return self.mode != "cautious" and self.rate == "lr" and not self.groups

    @property
    def curvature(self) -> float:
        """The largest curvature of Ω's smooth part: ηλ·curvature must stay under 2 for plain gradient steps."""
        return 0.0


def soft_threshold(w: Tensor, threshold: Tensor | float) -> Tensor:
    """sign(w)·max(|w| − threshold, 0), the prox of threshold·|w|: exact zeros inside the threshold."""
    return w.sign() * (w.abs() - threshold).clamp(min=0)


def cut_at(sizes: Tensor, step: Tensor | float) -> Tensor:
    """The size s ≥ 0 at which Σ(sizes − s)₊ = step, 0 where the sizes ≥ 0 together are no more; [n] → 0-d."""
    sums = sizes.sort(descending=True).values.cumsum(dim=0)
    many = torch.arange(1, len(sums) + 1, dtype=sums.dtype, device=sums.device)
    return ((sums - step) / many).amax().clamp(min=0)


def matrix(w: Tensor) -> Tensor:
    """A weight as a matrix: its first dimension, and all the others; what has one dimension is a column."""
    return w.reshape(len(w), -1)
