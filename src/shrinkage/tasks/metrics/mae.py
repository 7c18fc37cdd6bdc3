"""The mean absolute error."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from .base import SumMetric


class MAE(SumMetric):
    """Σ|y − ŷ|/n."""

    name: ClassVar = "mae"
    larger_is_better: ClassVar = False
    about: ClassVar = "in your own units"
    predicts: ClassVar = "numbers"
    has_units: ClassVar = True

    def sums(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"absolute": (prediction - target).abs().sum()}

    def value(self, sums: Mapping[str, Tensor]) -> Tensor:
        return sums["absolute"] / sums["rows"]
