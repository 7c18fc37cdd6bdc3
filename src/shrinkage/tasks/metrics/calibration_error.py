"""How far predicted probabilities are from the shares of predictions that are right."""

from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from .base import SumMetric

BINS = 15


class CalibrationError(SumMetric):
    """Σ_b (n_b/n)·|accuracy_b − confidence_b| over 15 bins b of the largest probability, equally wide.

    Reference: Guo et al. (2017), "On calibration of modern neural networks".
    """

    name: ClassVar = "calibration_error"
    larger_is_better: ClassVar = False
    about: ClassVar = "mean |accuracy − confidence| over 15 bins"
    predicts: ClassVar = "classes"

    def sums(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        confidence = prediction.softmax(dim=-1).amax(dim=-1)
        right = (prediction.argmax(dim=-1) == target).double()
        inside = F.one_hot((BINS * confidence).long().clamp(max=BINS - 1), BINS).double()
        return {"excess": inside.T @ (right - confidence)}  # [bins]

    def value(self, sums: Mapping[str, Tensor]) -> Tensor:
        return sums["excess"].abs().sum() / sums["rows"]
