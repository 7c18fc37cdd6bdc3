"""The number of weights that are not zero."""

from typing import ClassVar

import torch
from torch import Tensor

from .base import Mode, Params, Penalty, add_up


class L0(Penalty):
    """L0 counts the weights that are not 0.

    Ω(w) = ‖w‖₀ is neither convex nor continuous, so only the prox can act on it.

    prox with step t: w where |w| > √(2t), else 0 (hard thresholding). Reference: Blumensath & Davies (2008),
    "Iterative thresholding for sparse approximations".
    """

    modes: ClassVar[tuple[Mode, ...]] = ("prox",)

    def value(self, weights: Params) -> Tensor:
        return add_up((w != 0).to(w.dtype).sum() for w in weights.values())

    def prox(self, weights: Params, step: Tensor | float) -> dict[str, Tensor]:
        return {name: torch.where(w.square() > 2 * step, w, 0.0) for name, w in weights.items()}
