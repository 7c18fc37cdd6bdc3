"""Language modelling: the next token of a text, by cross-entropy."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from shrinkage.errors import InputError

from .base import Target, Task
from .metrics.accuracy import TokenAccuracy
from .metrics.perplexity import BitsPerByte, Perplexity


class LanguageModelling(Task):
    """Cross-entropy of the next token over a vocabulary, in nats a token; a row is a window of tokens."""

    predicts: ClassVar = "tokens"
    standard: ClassVar = (Perplexity, BitsPerByte, TokenAccuracy)

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.outputs = tokens

    @classmethod
    def for_target(cls, target: Target) -> "LanguageModelling":
        if target.kind != "language" or target.classes is None:
            raise InputError("task=language: these data are no text to be continued; use task=auto")
        return cls(target.classes)

    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        """Compute the mean over the tokens of each window: [n] from [n, context, tokens] and [n, context]."""
        return F.cross_entropy(output.flatten(0, 1), target.flatten(), reduction="none").view(target.shape).mean(dim=1)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output.flatten(0, 1), target.flatten())

    def precise(self, output: Tensor) -> Tensor:
        """Give the outputs single precision or better; double precision would take too much memory for a text."""
        return output.to(torch.promote_types(output.dtype, torch.float32))
