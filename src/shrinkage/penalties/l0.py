"""The number of weights that are not zero."""

from typing import ClassVar

import torch
from torch import Tensor

from .base import Mode, Params, Penalty


class L0(Penalty):
    """Ω(w) = ‖w‖₀, how many entries are not 0. Not convex, not continuous: only the prox can act on it.

    prox with step t: w where |w| > √(2t), else 0 (hard thresholding). Reference: Blumensath & Davies (2008),
    "Iterative thresholding for sparse approximations".
    """

    modes: ClassVar[tuple[Mode, ...]] = ("prox",)

    def value(self, weights: Params) -> Tensor:
        return sum((w != 0).to(w.dtype).sum() for w in weights.values())

    def prox(self, weights: Params, step: Tensor | float) -> dict[str, Tensor]:
        return {name: torch.where(w.square() > 2 * step, w, 0.0) for name, w in weights.items()}
