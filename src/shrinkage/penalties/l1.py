"""The lasso's penalty."""

from torch import Tensor

from .base import Params, Penalty, add_up, soft_threshold


class L1(Penalty):
    """L1 adds up the sizes of the weights: Ω(w) = ‖w‖₁ = Σ|wⱼ|.

    prox with step t: soft(w, t) = sign(w)·max(|w| − t, 0), which makes exact zeros; the subgradient sign(w) of the
    modes `loss` and `decay` never does. Reference: Tibshirani (1996), "Regression shrinkage and selection via the
    lasso"; the prox: Parikh & Boyd (2014), "Proximal algorithms", §6.5.2.
    """

    def value(self, weights: Params) -> Tensor:
        return add_up(w.abs().sum() for w in weights.values())

    def prox(self, weights: Params, step: Tensor | float) -> dict[str, Tensor]:
        return {name: soft_threshold(w, step) for name, w in weights.items()}

    def elastic_net(self, lambd: Tensor | float) -> tuple[Tensor | float, Tensor | float]:
        return lambd, 0 * lambd

    @property
    def colour(self) -> str:
        return "#D55E00"
