"""The sum of the weights' square roots: sparser than L1, with less bias on what is left."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from .base import Mode, Params, Penalty, add_up


class LHalf(Penalty):
    """L½ adds up the square roots of the weights' sizes.

    Ω(w) = Σ√|wⱼ| is not convex, and its slope at 0 is infinite, so only the prox can act on it.

    prox with step t: 0 where |w| ≤ 3/2·t^(2/3), else sign(w)·s² with s the largest root of s³ − |w|s + t/2 = 0, which
    is s = 2√(|w|/3)·cos(⅓·arccos(−¾·t·√3/|w|^(3/2))). Reference: Xu, Chang, Xu & Zhang (2012), "L1/2 regularization: a
    thresholding representation theory and a fast solver".
    """

    modes: ClassVar[tuple[Mode, ...]] = ("prox",)

    def value(self, weights: Params) -> Tensor:
        return add_up(w.abs().sqrt().sum() for w in weights.values())

    def prox(self, weights: Params, step: Tensor | float) -> dict[str, Tensor]:
        def half(w: Tensor) -> Tensor:
            size = w.abs()
            kept = size > 1.5 * step ** (2 / 3)
            size = torch.where(kept, size, 1.0)
            angle = (-0.75 * math.sqrt(3) * step / size**1.5).clamp(min=-1).arccos() / 3
            return torch.where(kept, w.sign() * 4 / 3 * size * angle.cos().square(), 0.0)

        return {name: half(w) for name, w in weights.items()}
