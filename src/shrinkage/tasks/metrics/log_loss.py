"""The cross-entropy of predicted probabilities."""

from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from .base import SumMetric


class LogLoss(SumMetric):
    """−Σ log p(y)/n, in nats: whatever loss the model was trained by."""

    name: ClassVar = "log_loss"
    larger_is_better: ClassVar = False
    about: ClassVar = "cross-entropy in nats"
    predicts: ClassVar = "classes"

    def sums(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"surprise": F.cross_entropy(prediction, target, reduction="sum")}

    def value(self, sums: Mapping[str, Tensor]) -> Tensor:
        return sums["surprise"] / sums["rows"]
