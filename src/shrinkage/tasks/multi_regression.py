"""Regression of several numbers for every row at once, by least squares."""

from typing import ClassVar

import torch
from torch import Tensor

from shrinkage.errors import InputError

from .base import ConvexTask, Target, mean_over_rows
from .metrics.several import MSE, MSEOfTarget, R2OfTarget, R2OfTargets


class MultiRegression(ConvexTask):
    """Least squares of several targets: the loss of a row is ½ of its squared residuals, added up over the targets.

    Under L1 and L2 each target is a regression by itself. A group lasso over the columns of a linear model
    (`penalty=group_lasso`) keeps a feature for all targets, or for none: λ√targets is then λ of glmnet's
    `family="mgaussian"` with `standardize.response=TRUE`. Targets are standardised each by itself. Reference: Simon,
    Friedman & Hastie (2013), "A blockwise descent algorithm for group-penalized multiresponse and multinomial
    regression".

    targets: how many there are. names: theirs. scales: the standard deviation of each, in the user's units.
    """

    predicts: ClassVar = "vectors"
    standard: ClassVar = (R2OfTargets, MSE)
    curvature = 1.0
    is_least_squares: ClassVar = True

    def __init__(self, targets: int, names: tuple[str, ...] = (), scales: tuple[float, ...] = ()) -> None:
        super().__init__()
        self.outputs = targets
        for place, (name, scale) in enumerate(zip(names, scales, strict=True)):
            self.metrics += (R2OfTarget(place, name), MSEOfTarget(place, name, scale))

    @classmethod
    def for_target(cls, target: Target) -> "MultiRegression":
        if len(target.names) < 2 or target.classes is not None:
            raise InputError(
                "task=multi_regression: it predicts several columns of numbers, and these data have one target; name "
                "them, as in data.target=[height,weight], or use task=auto"
            )
        return cls(len(target.names), target.names, target.scales)

    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        return (output - target).square().sum(dim=1) / 2

    def slope(self, output: Tensor, target: Tensor) -> Tensor:
        return output - target

    def curvatures(self, output: Tensor, target: Tensor) -> Tensor:
        return torch.eye(self.outputs, dtype=output.dtype, device=output.device).expand(len(output), -1, -1)

    def fenchel_young(self, output: Tensor, target: Tensor, dual: Tensor) -> Tensor:
        return (output - target - dual).square().sum(dim=1) / 2

    def recession(self, target: Tensor) -> Tensor:
        return target.new_zeros(len(target), 0, self.outputs)

    def best_bias(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        return mean_over_rows(target - output, weight)
