"""What a model is asked to do: the data loss, and the metrics that go with it.

A task reduces predictions to sums over the rows (`statistics`), so that parts may be seen in batches, and turns the
sums into metrics at the end.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

Statistics = dict[str, Tensor]


class Task(ABC):
    """outputs: how many numbers the model gives for a row."""

    outputs: int

    @abstractmethod
    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        """The data loss of each row: [n] from outputs [n, outputs] and targets [n]."""

    @abstractmethod
    def statistics(self, output: Tensor, target: Tensor) -> Statistics:
        """Sums over the rows, 0-d and float64, among them `rows` and `loss`."""

    @abstractmethod
    def metrics(self, statistics: Statistics) -> dict[str, Tensor]:
        """The metrics of the summed rows, among them `loss`, the mean data loss."""

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """The data loss, 0-d: the mean over the batch."""
        return self.losses(output, target).mean()


class Regression(Task):
    """½ residual². `r2` is 1 − Σr²/Σ(y − ȳ)²; `rmse` and `mae` are in the user's own units (residual · scale)."""

    outputs = 1

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        return (output[:, 0] - target).square() / 2

    def statistics(self, output: Tensor, target: Tensor) -> Statistics:
        target = target.double()
        residual = output[:, 0].double() - target
        return {
            "rows": torch.ones_like(target).sum(),
            "loss": residual.square().sum() / 2,
            "absolute": residual.abs().sum(),
            "target": target.sum(),
            "squared_target": target.square().sum(),
        }

    def metrics(self, statistics: Statistics) -> dict[str, Tensor]:
        rows, loss = statistics["rows"], statistics["loss"]
        variation = statistics["squared_target"] - statistics["target"].square() / rows
        return {
            "loss": loss / rows,
            "r2": 1 - 2 * loss / variation,
            "rmse": (2 * loss / rows).sqrt() * self.scale,
            "mae": statistics["absolute"] / rows * self.scale,
        }


class Classification(Task):
    """Cross-entropy over classes 0 … k−1, in nats. Two classes share one logit (of class 1); more use a softmax."""

    def __init__(self, classes: int) -> None:
        self.outputs = 1 if classes == 2 else classes

    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        if self.outputs == 1:
            return F.binary_cross_entropy_with_logits(output[:, 0], target.to(output.dtype), reduction="none")
        return F.cross_entropy(output, target, reduction="none")

    def statistics(self, output: Tensor, target: Tensor) -> Statistics:
        predicted = (output[:, 0] > 0).long() if self.outputs == 1 else output.argmax(dim=1)
        return {
            "rows": torch.ones_like(target, dtype=torch.float64).sum(),
            "loss": self.losses(output.double(), target).sum(),
            "correct": (predicted == target).double().sum(),
        }

    def metrics(self, statistics: Statistics) -> dict[str, Tensor]:
        return {
            "loss": statistics["loss"] / statistics["rows"],
            "accuracy": statistics["correct"] / statistics["rows"],
        }


def task_for(classes: int | None, scale: float) -> Task:
    """The task of a data set: regression where it has no classes."""
    return Regression(scale) if classes is None else Classification(classes)
