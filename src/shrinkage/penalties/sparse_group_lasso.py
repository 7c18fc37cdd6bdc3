"""Few groups, and few weights in each."""

from dataclasses import dataclass

from torch import Tensor

from shrinkage.checks import is_number
from shrinkage.errors import InputError

from .base import Params, add_up, soft_threshold
from .groups import Groups


@dataclass(frozen=True, kw_only=True)
class SparseGroupLasso(Groups):
    """The sparse group lasso mixes L1 with the group lasso, for few groups and few weights in each.

    Ω(w) = ρ‖w‖₁ + (1 − ρ)·Σ_g √p_g·‖w_g‖ with ρ = l1_ratio in [0, 1], over groups of p_g entries each.

    prox with step t: first soft(w, tρ), then (1 − (1 − ρ)√p_g·t/‖w_g‖)₊ of every group. Reference: Simon, Friedman,
    Hastie & Tibshirani (2013), "A sparse-group lasso". Raises InputError if l1_ratio lies outside [0, 1].
    """

    l1_ratio: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_number(self.l1_ratio) or not 0 <= self.l1_ratio <= 1:
            raise InputError(
                f"penalty.l1_ratio={self.l1_ratio}: must be a number from 0 (groups alone) to 1 (L1); use "
                "penalty.l1_ratio=0.5 for equal parts"
            )

    def value(self, weights: Params) -> Tensor:
        entries = add_up(w.abs().sum() for w in weights.values())
        return self.l1_ratio * entries + (1 - self.l1_ratio) * self.length(weights)

    def prox(self, weights: Params, step: Tensor | float) -> dict[str, Tensor]:
        return {
            name: self.shortened(soft_threshold(w, step * self.l1_ratio), step * (1 - self.l1_ratio))
            for name, w in weights.items()
        }
