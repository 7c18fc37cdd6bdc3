"""The largest weight."""

import torch
from torch import Tensor

from .base import Params, Penalty, find_cut


class LInf(Penalty):
    """L∞ is the size of the largest weight: Ω(w) = ‖w‖_∞ = max|wⱼ| over all penalised entries.

    prox with step t: w minus its projection onto the ball ‖·‖₁ ≤ t, which cuts every entry at one size: that at which
    Σ(|wⱼ| − size)₊ = t. Reference: Parikh & Boyd (2014), "Proximal algorithms", §6.5.2.
    """

    def value(self, weights: Params) -> Tensor:
        return torch.cat([w.flatten() for w in weights.values()]).abs().amax()

    def prox(self, weights: Params, step: Tensor | float) -> dict[str, Tensor]:
        size = find_cut(torch.cat([w.flatten() for w in weights.values()]).abs(), step)
        return {name: w.clamp(-size, size) for name, w in weights.items()}
