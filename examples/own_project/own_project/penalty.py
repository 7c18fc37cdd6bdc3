"""A penalty of our own."""

from dataclasses import dataclass

import torch

from shrinkage.checks import Number, check
from shrinkage.penalties.base import Penalty, add_up


@dataclass(frozen=True, kw_only=True)
class Leaning(Penalty):
    """L1 that leans to one side: Ω(w) = Σ max(wⱼ, 0) + negative·max(−wⱼ, 0), so that few weights are negative.

    prox with step t: the weight moved towards 0 by t if it is positive, and by negative·t if it is not.
    """

    negative: float

    def __post_init__(self):
        super().__post_init__()
        check("penalty.negative", self.negative, Number("must be > 0", above=0), "use penalty.negative=3")

    def value(self, weights):
        return add_up(torch.where(w > 0, w, -self.negative * w).sum() for w in weights.values())

    def prox(self, weights, step):
        return {name: (w - step).clamp(min=0) + (w + self.negative * step).clamp(max=0) for name, w in weights.items()}
