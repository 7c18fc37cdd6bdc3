"""A mixture of the lasso's and ridge's penalties."""

from dataclasses import dataclass

from torch import Tensor

from shrinkage.errors import InputError

from .base import Params, Penalty, add_up, is_number, soft_threshold


@dataclass(frozen=True, kw_only=True)
class ElasticNet(Penalty):
    """The elastic net mixes L1 and L2 in the ratio that scikit-learn's `ElasticNet` has.

    Ω(w) = ρ‖w‖₁ + (1 − ρ)·½‖w‖², with ρ = l1_ratio in [0, 1].

    prox with step t: soft(w, tρ)/(1 + t(1 − ρ)). Reference: Zou & Hastie (2005), "Regularization and variable
    selection via the elastic net". Raises InputError if l1_ratio lies outside [0, 1].
    """

    l1_ratio: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_number(self.l1_ratio) or not 0 <= self.l1_ratio <= 1:
            raise InputError(
                f"penalty.l1_ratio={self.l1_ratio}: must be a number from 0 (L2) to 1 (L1); "
                "use penalty.l1_ratio=0.5 for equal parts"
            )

    def value(self, weights: Params) -> Tensor:
        rho = self.l1_ratio
        return add_up(rho * w.abs().sum() + (1 - rho) / 2 * w.square().sum() for w in weights.values())

    def prox(self, weights: Params, step: Tensor | float) -> dict[str, Tensor]:
        return {
            name: soft_threshold(w, step * self.l1_ratio) / (1 + step * (1 - self.l1_ratio))
            for name, w in weights.items()
        }

    def elastic_net(self, lambd: Tensor | float) -> tuple[Tensor | float, Tensor | float]:
        return self.l1_ratio * lambd, (1 - self.l1_ratio) * lambd

    @property
    def curvature(self) -> float:
        return 1.0 - self.l1_ratio

    @property
    def colour(self) -> str:
        return "#A84B8F"  # between those of L1 and L2, as it is
