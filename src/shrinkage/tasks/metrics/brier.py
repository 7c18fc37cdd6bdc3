"""The squared error of predicted probabilities."""

from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from .base import SumMetric


class Brier(SumMetric):
    """Σᵢ Σₖ (pᵢₖ − yᵢₖ)²/n over the classes k; of two classes half of it, which is Σ(p − y)²/n of the second one.

    Reference: Brier (1950), "Verification of forecasts expressed in terms of probability".
    """

    name: ClassVar = "brier"
    larger_is_better: ClassVar = False
    about: ClassVar = "squared error of the probabilities"
    predicts: ClassVar = "classes"

    def sums(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        classes = prediction.shape[-1]
        error = prediction.softmax(dim=-1) - F.one_hot(target, classes)
        return {"squared": error.square().sum() / (2 if classes == 2 else 1)}

    def value(self, sums: Mapping[str, Tensor]) -> Tensor:
        return sums["squared"] / sums["rows"]
