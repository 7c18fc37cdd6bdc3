"""Weight decay that grows no further beyond a size: ½w² near 0, a line far from it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from shrinkage.checks import Number, check

from .base import Params, Penalty, add_up


@dataclass(frozen=True, kw_only=True)
class Huber(Penalty):
    """Huber's penalty is ½w² of small weights, and grows along a line beyond a size.

    Ω(w) = Σh(wⱼ) with h(w) = ½w² where |w| ≤ δ, and δ|w| − ½δ² beyond; δ = delta > 0.

    prox with step t: w/(1 + t) where |w| ≤ δ(1 + t), w − tδ·sign(w) beyond. Reference: Huber (1964), "Robust
    estimation of a location parameter"; as a decay of Adam: Guo & Fan (2025), "AdamHD: decoupled Huber decay
    regularization for language model pre-training". Raises InputError if delta is not > 0.
    """

    delta: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check("penalty.delta", self.delta, Number("must be a number > 0", above=0), "use penalty.delta=1")

    def value(self, weights: Params) -> Tensor:
        def h(w: Tensor) -> Tensor:
            return torch.where(w.abs() <= self.delta, w.square() / 2, self.delta * w.abs() - self.delta**2 / 2)

        return add_up(h(w).sum() for w in weights.values())

    def prox(self, weights: Params, step: Tensor | float) -> dict[str, Tensor]:
        return {
            name: torch.where(w.abs() <= self.delta * (1 + step), w / (1 + step), w - step * self.delta * w.sign())
            for name, w in weights.items()
        }

    @property
    def curvature(self) -> float:
        return 1.0
