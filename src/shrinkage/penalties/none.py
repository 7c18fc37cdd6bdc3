"""No penalty."""

from typing import ClassVar

from torch import Tensor

from .base import Mode, Params, Penalty


class NoPenalty(Penalty):
    """No penalty: Ω(w) = 0, so that λ has no effect."""

    modes: ClassVar[tuple[Mode, ...]] = ("loss",)

    def value(self, weights: Params) -> Tensor:
        return next(iter(weights.values())).new_zeros(())

    def prox(self, weights: Params, step: Tensor | float) -> dict[str, Tensor]:
        return dict(weights)

    def elastic_net(self, lambd: Tensor | float) -> tuple[Tensor | float, Tensor | float]:
        return 0 * lambd, 0 * lambd

    @property
    def colour(self) -> str:
        return "#777777"
