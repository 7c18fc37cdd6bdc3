"""The harmonic mean of precision and recall."""

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import SumMetric


class F1(SumMetric):
    """2·TP/(2·TP + FP + FN) of the second of two classes; of more classes the mean over those that occur."""

    name: ClassVar = "f1"
    larger_is_better: ClassVar = True
    about: ClassVar = "harmonic mean of precision and recall"
    predicts: ClassVar = "classes"

    def sums(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        classes = prediction.shape[-1]
        actual, predicted = (F.one_hot(c, classes).double() for c in (target, prediction.argmax(dim=-1)))
        return {"both": (actual * predicted).sum(dim=0), "either": (actual + predicted).sum(dim=0)}  # each [classes]

    def value(self, sums: Mapping[str, Tensor]) -> Tensor:
        both, either = sums["both"], sums["either"]
        scores = 2 * both / either  # NaN for a class that neither occurs nor is predicted
        if len(scores) == 2:
            return torch.where(either[1] > 0, scores[1], 0.0)
        return scores.nanmean()
