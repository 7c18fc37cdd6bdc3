"""How well predicted risks put the rows into the order of their events."""

from typing import ClassVar

import torch
from torch import Tensor

from .base import WholePartMetric

AT_ONCE = 1_000  # rows that are compared with all others together


class Concordance(WholePartMetric):
    """The share of pairs in which the row whose event came first has the larger risk; equal risks count a half.

    A pair is an event and a row of its stratum that was still without one at that time: a later time, or the same time
    without an event. Not defined where there is no such pair. Reference: Harrell, Lee & Mark (1996), "Multivariable
    prognostic models".
    """

    name: ClassVar = "concordance"
    larger_is_better: ClassVar = True
    about: ClassVar = "share of pairs in the order of their events"
    predicts: ClassVar = "risks"

    def value(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        time, event = target[:, 0], target[:, 1] > 0
        counts = torch.ones_like(prediction) if weight is None else weight
        right, pairs = prediction.new_zeros(()), prediction.new_zeros(())
        for rows in torch.arange(len(time), device=time.device)[event].split(AT_ONCE):
            own = time[rows, None]
            pair = (time > own) | ((time == own) & ~event)
            for stratum in target[:, 2:].unbind(dim=1):
                pair = pair & (stratum == stratum[rows, None])
            both = pair * counts[rows, None] * counts
            ahead = prediction[rows, None] - prediction
            right = right + (both * ((ahead > 0).to(both.dtype) + (ahead == 0).to(both.dtype) / 2)).sum()
            pairs = pairs + both.sum()
        return right / pairs
