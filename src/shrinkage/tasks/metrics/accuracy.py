"""The share of predictions that are right."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from .base import SumMetric


class Accuracy(SumMetric):
    """The share of rows whose likeliest class is theirs."""

    name: ClassVar = "accuracy"
    larger_is_better: ClassVar = True
    about: ClassVar = "share of rows that are right"
    predicts: ClassVar = "classes"

    def sums(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"right": (prediction.argmax(dim=-1) == target).double().sum()}

    def value(self, sums: Mapping[str, Tensor]) -> Tensor:
        return sums["right"] / sums["rows"]


class TokenAccuracy(Accuracy):
    """The share of tokens that are the likeliest ones."""

    about: ClassVar = "share of tokens that are right"
    predicts: ClassVar = "tokens"

    def sums(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"right": (prediction.argmax(dim=-1) == target).double().mean(dim=-1).sum()}
