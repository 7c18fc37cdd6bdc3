"""Ridge's penalty; in mode `decay` it is the weight decay of SGDW and AdamW."""

from torch import Tensor

from .base import Params, Penalty, add_up


class L2(Penalty):
    """L2 is half the sum of the squared weights: Ω(w) = ½‖w‖² = ½Σwⱼ² (with the ½), so that ∇Ω(w) = w.

    prox with step t: w/(1 + t). Reference: Hoerl & Kennard (1970), "Ridge regression"; apart from the gradient:
    Loshchilov & Hutter (2019), "Decoupled weight decay regularization".
    """

    def value(self, weights: Params) -> Tensor:
        return add_up(w.square().sum() for w in weights.values()) / 2

    def prox(self, weights: Params, step: Tensor | float) -> dict[str, Tensor]:
        return {name: w / (1 + step) for name, w in weights.items()}

    def decay(self, weights: Params, step: Tensor | float) -> dict[str, Tensor]:
        # In this order of operations it is, bit for bit, what torch.optim.AdamW computes.
        return {name: w * (1 - step) for name, w in weights.items()}

    def elastic_net(self, lambd: Tensor | float) -> tuple[Tensor | float, Tensor | float]:
        return 0 * lambd, lambd

    @property
    def curvature(self) -> float:
        return 1.0

    @property
    def colour(self) -> str:
        # Apart from the gradient it is AdamW, which people compare with L2.
        return "#009E73" if self.mode in ("decay", "cautious") else "#0072B2"
