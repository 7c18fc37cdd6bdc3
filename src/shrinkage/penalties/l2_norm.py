"""The length of all weights together, without the square."""

import torch
from torch import Tensor

from .base import Params, Penalty, add_up
from .groups import root


class L2Norm(Penalty):
    """The L2 norm is the length of all weights as one vector.

    Ω(w) = ‖w‖₂: the group lasso of one group, without its √p.

    prox with step t: (1 − t/‖w‖)₊·w: the weights shrink by t in length, or vanish all together. Reference: Parikh &
    Boyd (2014), "Proximal algorithms", §6.5.1.
    """

    def value(self, weights: Params) -> Tensor:
        return root(add_up(w.square().sum() for w in weights.values()))

    def prox(self, weights: Params, step: Tensor | float) -> dict[str, Tensor]:
        length = self.value(weights)
        left = (1 - step / torch.where(length > 0, length, 1.0)).clamp(min=0)
        return {name: left * w for name, w in weights.items()}
