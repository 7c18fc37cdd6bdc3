"""TODO: what this file is."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Statistics, Task


class LanguageModelling(Task):
    """Cross-entropy of the next token over a vocabulary, in nats a token; a row is a window of tokens.

    `perplexity` is exp(loss), `bits_per_byte` loss/ln 2, where a token is a byte; `accuracy` the share of tokens that
    are the likeliest.
    """

    def __init__(self, tokens: int) -> None:
        self.outputs = tokens

    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        """The mean over the tokens of each window: [n] from [n, context, tokens] and [n, context]."""
        return F.cross_entropy(output.flatten(0, 1), target.flatten(), reduction="none").view(target.shape).mean(dim=1)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output.flatten(0, 1), target.flatten())

    def statistics(self, output: Tensor, target: Tensor) -> Statistics:
        right = (output.argmax(dim=2) == target).double().mean(dim=1)
        losses = self.losses(output.to(torch.promote_types(output.dtype, torch.float32)), target).double()
        return {"rows": torch.ones_like(losses).sum(), "loss": losses.sum(), "correct": right.sum()}

    def metrics(self, statistics: Statistics) -> dict[str, Tensor]:
        loss = statistics["loss"] / statistics["rows"]
        return {
            "loss": loss,
            "perplexity": loss.exp(),
            "bits_per_byte": loss / math.log(2),
            "accuracy": statistics["correct"] / statistics["rows"],
        }
