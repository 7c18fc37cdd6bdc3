"""Regression that few rows far off do not govern: least squares of small residuals, absolute values of large ones."""

from typing import ClassVar

import torch
from torch import Tensor

from shrinkage.checks import Number, check
from shrinkage.errors import InputError

from .base import ConvexTask, Target
from .metrics.mae import MAE
from .metrics.r2 import R2
from .metrics.rmse import RMSE

LEAST_CURVATURE = 1e-4  # of an engine's model, in rows whose loss is a straight line
REFINEMENTS = 2  # of the best bias: each takes the slope that rounding has left
ROUNDING = 1e-14  # of a slope


class Huber(ConvexTask):
    """Huber's loss: ½r² of a residual r that is no larger than δ, and δ|r| − ½δ² of a larger one.

    threshold: δ > 0, in the units that the model is trained in: standard deviations of the target, where that is
    standardised. Reference: Huber (1964), "Robust estimation of a location parameter".
    """

    outputs = 1
    predicts: ClassVar = "numbers"
    standard: ClassVar = (R2, RMSE, MAE)
    curvature = 1.0

    def __init__(self, threshold: float, scale: float = 1.0) -> None:
        super().__init__()
        self.threshold, self.scale = threshold, scale

    @classmethod
    def for_target(cls, target: Target, threshold: float = 1.345) -> "Huber":
        check("task.threshold", threshold, Number("must be a number > 0", above=0), "use task.threshold=1.345")
        if target.classes is not None:
            raise InputError(
                f"task=huber: the target of these data is one of {target.classes} classes; use task=auto, or "
                "data.task=regression"
            )
        return cls(float(threshold), target.scale)

    def bounded(self, residual: Tensor) -> Tensor:
        """Cut residuals off at ±δ."""
        return residual.clamp(-self.threshold, self.threshold)

    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        residual = output[:, 0] - target
        inner = self.bounded(residual)
        return inner.square() / 2 + self.threshold * (residual - inner).abs()

    def predictions(self, output: Tensor) -> Tensor:
        return output[:, 0]

    def slope(self, output: Tensor, target: Tensor) -> Tensor:
        return self.bounded(output - target[:, None])

    def curvatures(self, output: Tensor, target: Tensor) -> Tensor:
        return ((output[:, 0] - target).abs() <= self.threshold).to(output.dtype)

    def model_curvatures(self, output: Tensor, target: Tensor) -> Tensor:
        return self.curvatures(output, target).clamp(min=LEAST_CURVATURE)

    def fenchel_young(self, output: Tensor, target: Tensor, dual: Tensor) -> Tensor:
        # ℓ* is ½u² of slopes u within ±δ.
        residual, slope = output[:, 0] - target, self.bounded(dual[:, 0])
        inner = self.bounded(residual)
        beyond = ((inner - slope) * (residual - inner)).clamp(min=0)
        is_rounded = dual[:, 0].abs() <= self.threshold * (1 + ROUNDING)
        return torch.where(is_rounded, (inner - slope).square() / 2 + beyond, torch.inf)

    def recession(self, target: Tensor) -> Tensor:
        return target.new_zeros(len(target), 0, 1)

    def best_bias(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Find the bias where the sum of the slopes, a broken line that rises with it, is zero.

        The line bends where a residual comes within ±δ or leaves it: it rises by the row's weight more from there on,
        or by that less.
        """
        left = target - output[:, 0]
        counts = torch.ones_like(left) if weight is None else weight
        bends, order = torch.cat([left - self.threshold, left + self.threshold]).sort()
        rises = torch.cat([counts, -counts]).gather(0, order).cumsum(dim=0)
        # At the bends but the first.
        heights = (rises[:-1] * bends.diff()).cumsum(dim=0) - counts.sum() * self.threshold
        at = (heights >= 0).to(torch.int8).argmax(dim=0)
        least = counts.min()
        bias = bends.gather(0, at[None] + 1) - heights.gather(0, at[None]) / rises.gather(0, at[None]).clamp(min=least)
        for _ in range(REFINEMENTS):
            residual = bias - left
            inside = torch.where(residual.abs() <= self.threshold, counts, 0.0).sum().clamp(min=least)
            bias = bias - (counts * self.bounded(residual)).sum() / inside
        return bias
