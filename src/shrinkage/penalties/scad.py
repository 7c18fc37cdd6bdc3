"""Smoothly clipped absolute deviation: L1 near 0, nothing far from it, and a bend between them."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from shrinkage.checks import is_number
from shrinkage.errors import InputError

from .base import Params, Penalty, add_up


@dataclass(frozen=True, kw_only=True)
class SCAD(Penalty):
    """SCAD shrinks small weights as L1 does, larger ones less and less, and the largest not at all.

    Ω(w) = Σp(|wⱼ|) with slope p′(u) = 1 where u ≤ b, (a − u)/(a − b) where u ≤ a, and 0 beyond.

    0 < b = bend < a = saturation. λ stays outside Ω, and both are in the units of w: the SCAD of the literature (and
    of skglm) with λ and γ is λΩ with b = λ and a = γλ.

    prox: of the candidates of the three pieces the one with the smallest ½(u − |w|)² + t·p(u); each is the piece's own
    minimiser, held inside it. Reference: Fan & Li (2001), "Variable selection via nonconcave penalized likelihood and
    its oracle properties". Raises InputError unless 0 < bend < saturation.
    """

    bend: float
    saturation: float

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = (self.bend, self.saturation)
        if not all(is_number(size) for size in sizes) or not 0 < self.bend < self.saturation < math.inf:
            raise InputError(
                f"penalty.bend={self.bend} penalty.saturation={self.saturation}: must be sizes of weights, "
                "0 < bend < saturation; use penalty.bend=0.1 penalty.saturation=0.37"
            )

    def p(self, u: Tensor) -> Tensor:
        """Compute p(u) of sizes u ≥ 0, entry by entry."""
        a, b = (torch.as_tensor(size, dtype=u.dtype, device=u.device) for size in (self.saturation, self.bend))
        beyond = b + ((a - b).square() - (a - u.minimum(a)).square()) / (2 * (a - b))
        return torch.where(u <= b, u, beyond)  # at b one piece alone has a slope; of their minimum both would

    def value(self, weights: Params) -> Tensor:
        return add_up(self.p(w.abs()).sum() for w in weights.values())

    def prox(self, weights: Params, step: Tensor | float) -> dict[str, Tensor]:
        def best(w: Tensor) -> Tensor:
            a, b, t = (
                torch.as_tensor(number, dtype=w.dtype, device=w.device) for number in (self.saturation, self.bend, step)
            )
            size = w.abs()
            middle = torch.where(t < a - b, ((a - b) * size - t * a) / (a - b - t), a)
            pieces = torch.stack([(size - t).clamp(0 * b, b), middle.clamp(b, a), size.maximum(a)])
            costs = (pieces - size).square() / 2 + t * self.p(pieces)
            return w.sign() * pieces.gather(0, costs.argmin(dim=0, keepdim=True))[0]

        return {name: best(w) for name, w in weights.items()}
