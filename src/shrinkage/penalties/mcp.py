"""The minimax concave penalty: L1 near 0 that lets large weights go."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from shrinkage.checks import is_number
from shrinkage.errors import InputError

from .base import Params, Penalty, add_up


@dataclass(frozen=True, kw_only=True)
class MCP(Penalty):
    """The minimax concave penalty (MCP) shrinks small weights as L1 does, and large ones not at all.

    Ω(w) = Σp(wⱼ) with p(w) = |w| − w²/(2a) where |w| ≤ a, and a/2 beyond; a = saturation > 0.

    λ stays outside Ω, and a is in the units of w: the MCP of the literature (and of skglm) with λ and γ is λΩ with
    a = γλ. A weight beyond a is not shrunk at all.

    prox with step t < a: 0 where |w| ≤ t, sign(w)·(|w| − t)/(1 − t/a) where |w| ≤ a, else w; with t ≥ a: w where
    |w| > √(ta), else 0. Reference: Zhang (2010), "Nearly unbiased variable selection under minimax concave penalty".
    Raises InputError if saturation is not > 0.
    """

    saturation: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_number(self.saturation) or not 0 < self.saturation < math.inf:
            raise InputError(
                f"penalty.saturation={self.saturation}: must be a size of weights, > 0; use penalty.saturation=1"
            )

    def value(self, weights: Params) -> Tensor:
        def p(w: Tensor) -> Tensor:
            size = w.abs().clamp(max=self.saturation)
            return size - size.square() / (2 * self.saturation)

        return add_up(p(w).sum() for w in weights.values())

    def prox(self, weights: Params, step: Tensor | float) -> dict[str, Tensor]:
        a = self.saturation

        def firm(w: Tensor) -> Tensor:
            step_ = torch.as_tensor(step, dtype=w.dtype, device=w.device)
            inner = (w.abs() - step_).clamp(min=0) / (1 - step_ / a)
            soft = torch.where(w.abs() <= a, w.sign() * inner, w)
            hard = torch.where(w.square() > step_ * a, w, 0.0)
            return torch.where(step_ < a, soft, hard)

        return {name: firm(w) for name, w in weights.items()}
