"""Classification: one of several classes for every row, by cross-entropy."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from shrinkage.errors import InputError

from .base import ConvexTask, Target, mean_over_rows
from .metrics.accuracy import Accuracy

NEWTON_STEPS = 20
ROUNDING = 1e-14  # of a probability


class Classification(ConvexTask):
    """Cross-entropy over classes 0 … k−1, in nats. Two classes share one logit (of class 1); more use a softmax."""

    predicts: ClassVar = "classes"
    standard: ClassVar = (Accuracy,)
    is_shift_invariant: ClassVar = True

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.outputs = 1 if classes == 2 else classes
        self.curvature = 0.25 if classes == 2 else 0.5

    @classmethod
    def for_target(cls, target: Target) -> "Classification":
        if target.classes is None:
            raise InputError("task=classification: the target of these data is a number; use task=auto, or data.task")
        return cls(target.classes)

    def logits(self, output: Tensor) -> Tensor:
        """Write the outputs as logits [n, classes], where one output stands for two classes."""
        return torch.cat([torch.zeros_like(output), output], dim=1) if self.outputs == 1 else output

    def excess(self, output: Tensor, target: Tensor) -> Tensor:
        """Subtract the target's indicator from the probabilities: p − y, [n, classes]."""
        logits = self.logits(output)
        return logits.softmax(dim=1) - F.one_hot(target, logits.shape[1])

    def slope(self, output: Tensor, target: Tensor) -> Tensor:
        return output.sigmoid() - target[:, None] if self.outputs == 1 else self.excess(output, target)

    def curvatures(self, output: Tensor, target: Tensor) -> Tensor:
        if self.outputs == 1:
            return (output.sigmoid() * (-output).sigmoid())[:, 0]
        probabilities = output.softmax(dim=1)
        return probabilities.diag_embed() - probabilities[:, :, None] * probabilities[:, None, :]

    def fenchel_young(self, output: Tensor, target: Tensor, dual: Tensor) -> Tensor:
        # With q = y + u it is the relative entropy KL(q‖p), where q are probabilities.
        logs = self.logits(output).log_softmax(dim=1)
        mixed = F.one_hot(target, logs.shape[1]) + (torch.cat([-dual, dual], dim=1) if self.outputs == 1 else dual)
        is_rounded = mixed >= -ROUNDING
        mixed = mixed.clamp(min=0)
        entropy = (torch.xlogy(mixed, mixed) - mixed * logs).sum(dim=1).clamp(min=0)
        return torch.where(is_rounded.all(dim=1), entropy, torch.inf)

    def recession(self, target: Tensor) -> Tensor:
        # A row's loss falls where the logit of its own class rises over that of another one.
        one_hot = F.one_hot(target, 2 if self.outputs == 1 else self.outputs).double()
        if self.outputs == 1:
            return (2 * one_hot[:, 1] - 1)[:, None, None]
        others = torch.eye(self.outputs, dtype=one_hot.dtype, device=one_hot.device)
        return one_hot[:, None, :] - others

    def best_bias(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Find the bias by Newton's method, damped so that it converges from anywhere.

        The step is multiplied by ln(1 + β)/β, with β its range. Reference: Sun & Tran-Dinh (2019), "Generalized
        self-concordant functions: a recipe for Newton-type methods". The number of steps is fixed, so that it can be
        vectorised.
        """
        bias = output.new_zeros(self.outputs)
        for _ in range(NEWTON_STEPS):
            probabilities = self.logits(output + bias).softmax(dim=1)
            gradient = mean_over_rows(probabilities - F.one_hot(target, probabilities.shape[1]), weight)
            counted = probabilities if weight is None else len(output) / weight.sum() * weight[:, None] * probabilities
            hessian = mean_over_rows(probabilities, weight).diag_embed() - counted.T @ probabilities / len(output)
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

    def predictions(self, output: Tensor) -> Tensor:
        return self.logits(output)
