"""The cross-entropy of a language model in other units."""

import math
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from .base import SumMetric


class Perplexity(SumMetric):
    """exp(loss): among so many equally likely tokens the model would choose as badly."""

    name: ClassVar = "perplexity"
    larger_is_better: ClassVar = False
    about: ClassVar = "exp(loss)"
    predicts: ClassVar = "tokens"

    def value(self, sums: Mapping[str, Tensor]) -> Tensor:
        return (sums["loss"] / sums["rows"]).exp()


class BitsPerByte(SumMetric):
    """loss/ln 2, for tokens that are bytes."""

    name: ClassVar = "bits_per_byte"
    larger_is_better: ClassVar = False
    about: ClassVar = "loss/ln 2"
    predicts: ClassVar = "tokens"

    def value(self, sums: Mapping[str, Tensor]) -> Tensor:
        return sums["loss"] / sums["rows"] / math.log(2)
