"""The lasso of groups: whole units, whole inputs or whole tensors vanish."""

from torch import Tensor

from .base import Params
from .groups import Groups


class GroupLasso(Groups):
    """The group lasso adds up the lengths of the groups, so that whole groups become exactly 0.

    Ω(w) = Σ_g √p_g·‖w_g‖ over the groups g of p_g entries each.

    prox with step t: (1 − √p_g·t/‖w_g‖)₊·w_g. Reference: Yuan & Lin (2006),
    "Model selection and estimation in regression with grouped variables"; of units: Wen et al. (2016), "Learning
    structured sparsity in deep neural networks".
    """

    def elastic_net(self, lambd: Tensor | float) -> tuple[Tensor | float, Tensor | float] | None:
        """Give (λ, 0) where each column of a weight is a group by itself, which λ holds together; else None."""
        return (lambd, 0.0) if self.holds_columns else None

    @property
    def holds_columns(self) -> bool:
        return self.by == "input" and not self.members

    def value(self, weights: Params) -> Tensor:
        return self.length(weights)

    def prox(self, weights: Params, step: Tensor | float) -> dict[str, Tensor]:
        return {name: self.shortened(w, step) for name, w in weights.items()}
