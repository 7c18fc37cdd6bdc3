"""What a model is asked to do: the data loss, and the metrics that go with it.

A task reduces predictions to sums over the rows (`statistics`), so that parts may be seen in batches, and turns the
sums into metrics at the end.
"""

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

Statistics = dict[str, Tensor]
NEWTON_STEPS = 20


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


class ConvexTask(Task):
    """A task whose loss is a convex function ℓ(z) of a row's outputs z.

    curvature: the largest second derivative of ℓ in any direction.
    """

    curvature: float

    @abstractmethod
    def slope(self, output: Tensor, target: Tensor) -> Tensor:
        """∇ℓ(z) of each row, [n, outputs]."""

    @abstractmethod
    def fenchel_young(self, output: Tensor, target: Tensor, scale: Tensor | float) -> Tensor:
        """ℓ(z) + ℓ*(s∇ℓ(z)) − s∇ℓ(z)·z of each row, [n], with s = scale in [0, 1]: ≥ 0, and 0 at s = 1."""

    @abstractmethod
    def best_bias(self, output: Tensor, target: Tensor) -> Tensor:
        """argmin_b Σℓ(zᵢ + b), [outputs]."""


class Regression(ConvexTask):
    """½ residual². `r2` is 1 − Σr²/Σ(y − ȳ)²; `rmse` and `mae` are in the user's own units (residual · scale)."""

    outputs = 1
    curvature = 1.0

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def slope(self, output: Tensor, target: Tensor) -> Tensor:
        return output - target[:, None]

    def fenchel_young(self, output: Tensor, target: Tensor, scale: Tensor | float) -> Tensor:
        return ((1 - scale) * (output[:, 0] - target)).square() / 2

    def best_bias(self, output: Tensor, target: Tensor) -> Tensor:
        return (target[:, None] - output).mean(dim=0)

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


class Classification(ConvexTask):
    """Cross-entropy over classes 0 … k−1, in nats. Two classes share one logit (of class 1); more use a softmax."""

    def __init__(self, classes: int) -> None:
        self.outputs = 1 if classes == 2 else classes
        self.curvature = 0.25 if classes == 2 else 0.5

    def logits(self, output: Tensor) -> Tensor:
        """[n, classes], where one logit stands for two classes."""
        return torch.cat([torch.zeros_like(output), output], dim=1) if self.outputs == 1 else output

    def excess(self, output: Tensor, target: Tensor) -> Tensor:
        """p − y, [n, classes]: the probabilities less the target's indicator."""
        logits = self.logits(output)
        return logits.softmax(dim=1) - F.one_hot(target, logits.shape[1])

    def slope(self, output: Tensor, target: Tensor) -> Tensor:
        return output.sigmoid() - target[:, None] if self.outputs == 1 else self.excess(output, target)

    def fenchel_young(self, output: Tensor, target: Tensor, scale: Tensor | float) -> Tensor:
        # With q = y + s(p − y) it is the relative entropy KL(q‖p).
        logs = self.logits(output).log_softmax(dim=1)
        excess = self.excess(output, target)
        mixed = F.one_hot(target, logs.shape[1]) + scale * excess
        return (torch.xlogy(mixed, mixed) - mixed * logs).sum(dim=1).clamp(min=0)

    def best_bias(self, output: Tensor, target: Tensor) -> Tensor:
        """Newton's method, damped by ln(1 + β)/β with β the range of the step, under which it converges from anywhere.

        Reference: Sun & Tran-Dinh (2019), "Generalized self-concordant functions: a recipe for Newton-type methods".
        The number of steps is fixed, so that it can be vectorised.
        """
        bias = output.new_zeros(self.outputs)
        for _ in range(NEWTON_STEPS):
            probabilities = self.logits(output + bias).softmax(dim=1)
            gradient = (probabilities - F.one_hot(target, probabilities.shape[1])).mean(dim=0)
            hessian = probabilities.mean(dim=0).diag_embed() - probabilities.T @ probabilities / len(output)
            # The same number added to every logit changes nothing: that direction is pinned.
            pinned = (
                hessian + 1 / len(gradient) + 1e-14 * torch.eye(len(gradient), dtype=bias.dtype, device=bias.device)
            )
            step = torch.linalg.solve_ex(pinned, -gradient)[0]
            length = step.max() - step.min()
            step = step * torch.where(length > 0, torch.log1p(length) / length, 1.0)
            bias = bias + (step[1:] - step[0] if self.outputs == 1 else step)
        return bias

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


def task_for(kind: str, classes: int | None, scale: float) -> Task:
    """The task of a data set: regression where it has no classes."""
    if kind == "language":
        return LanguageModelling(classes)
    return Regression(scale) if classes is None else Classification(classes)
