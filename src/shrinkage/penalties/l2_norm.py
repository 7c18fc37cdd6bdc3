"""The length of all weights together, without the square."""

import torch
from torch import Tensor

from .base import Params, Penalty
from .groups import root


class L2Norm(Penalty):
    """Ω(w) = ‖w‖₂ over all penalised entries as one vector: the group lasso of one group, without its √p.

    prox with step t: (1 − t/‖w‖)₊·w: the weights shrink by t in length, or vanish all together. Reference: Parikh &
    Boyd (2014), "Proximal algorithms", §6.5.1.
    """

    def value(self, weights: Params) -> Tensor:
        return root(sum(w.square().sum() for w in weights.values()))

    def prox(self, weights: Params, step: Tensor | float) -> dict[str, Tensor]:
        length = self.value(weights)
        left = (1 - step / torch.where(length > 0, length, 1.0)).clamp(min=0)
        return {name: left * w for name, w in weights.items()}
