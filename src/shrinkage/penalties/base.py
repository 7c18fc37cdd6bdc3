"""What every penalty is: Ω(w), its proximal operator and the decay along its gradient. No λ in here."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from shrinkage.errors import InputError

Params = Mapping[str, Tensor]
Mode = Literal["loss", "decay", "prox"]


@dataclass(frozen=True, kw_only=True)
class Penalty(ABC):
    """A penalty Ω over a model's weights, and the way in which it acts on them.

    mode: `loss` adds λΩ to the objective; `decay` shrinks the weights by ηλ∇Ω(w) before the optimiser's step;
        `prox` applies prox_{ηλΩ} after it.
    scope: `weights` penalises everything but biases and normalisation parameters; `all` penalises every parameter.

    Every method is a pure function of tensors of any shape, so that it can be vectorised over many models.
    Raises InputError where the mode is one that the penalty cannot serve.
    """

    mode: Mode
    scope: Literal["weights", "all"] = "weights"

    modes: ClassVar[tuple[Mode, ...]] = ("loss", "decay", "prox")

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

    @property
    def curvature(self) -> float:
        """The largest curvature of Ω's smooth part: ηλ·curvature must stay under 2 for plain gradient steps."""
        return 0.0


def soft_threshold(w: Tensor, threshold: Tensor | float) -> Tensor:
    """sign(w)·max(|w| − threshold, 0), the prox of threshold·|w|: exact zeros inside the threshold."""
    return w.sign() * (w.abs() - threshold).clamp(min=0)
