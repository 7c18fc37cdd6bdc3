"""The root of the mean squared error."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from .base import SumMetric


class RMSE(SumMetric):
    """√(Σ(y − ŷ)²/n)."""

    name: ClassVar = "rmse"
    larger_is_better: ClassVar = False
    about: ClassVar = "in your own units"
    predicts: ClassVar = "numbers"
    has_units: ClassVar = True

    def sums(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"residual": (prediction - target).square().sum()}

    def value(self, sums: Mapping[str, Tensor]) -> Tensor:
        return (sums["residual"] / sums["rows"]).sqrt()
