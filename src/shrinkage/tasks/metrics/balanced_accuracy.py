"""Accuracy in which every class counts the same, however rare it is."""

from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from .base import SumMetric


class BalancedAccuracy(SumMetric):
    """The mean over the classes of the share of a class's rows that are right; classes without a row do not count."""

    name: ClassVar = "balanced_accuracy"
    larger_is_better: ClassVar = True
    about: ClassVar = "mean over classes of the share that is right"
    predicts: ClassVar = "classes"

    def sums(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        actual = F.one_hot(target, prediction.shape[-1]).double()
        right = (prediction.argmax(dim=-1) == target).double()
        return {"right": actual.T @ right, "actual": actual.sum(dim=0)}  # each [classes]

    def value(self, sums: Mapping[str, Tensor]) -> Tensor:
        return (sums["right"] / sums["actual"]).nanmean()
