"""The share of variance that is explained."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from .base import SumMetric


class R2(SumMetric):
    """R² = 1 − Σ(y − ŷ)² / Σ(y − ȳ)², with ȳ the mean of the part. Not defined where the target is constant."""

    name: ClassVar = "r2"
    larger_is_better: ClassVar = True
    about: ClassVar = "1 − Σr²/Σ(y − ȳ)²"
    predicts: ClassVar = "numbers"

    def sums(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        target = target.double()
        return {
            "residual": (prediction - target).square().sum(),
            "target": target.sum(),
            "squared_target": target.square().sum(),
        }

    def value(self, sums: Mapping[str, Tensor]) -> Tensor:
        variation = sums["squared_target"] - sums["target"].square() / sums["rows"]
        return 1 - sums["residual"] / variation
