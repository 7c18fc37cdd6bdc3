"""Regression: a number for every row, by least squares."""

from typing import ClassVar

import torch
from torch import Tensor

from shrinkage.errors import InputError

from .base import ConvexTask, Target, mean_over_rows
from .metrics.mae import MAE
from .metrics.r2 import R2
from .metrics.rmse import RMSE


class Regression(ConvexTask):
    """Least squares: the loss of a row is ½ residual²."""

    outputs = 1
    predicts: ClassVar = "numbers"
    standard: ClassVar = (R2, RMSE, MAE)
    curvature = 1.0
    is_least_squares: ClassVar = True

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    @classmethod
    def for_target(cls, target: Target) -> "Regression":
        if target.classes is not None:
            raise InputError(
                f"task=regression: the target of these data is one of {target.classes} classes; use task=auto"
            )
        return cls(target.scale)

    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        return (output[:, 0] - target).square() / 2

    def predictions(self, output: Tensor) -> Tensor:
        return output[:, 0]

    def slope(self, output: Tensor, target: Tensor) -> Tensor:
        return output - target[:, None]

    def curvatures(self, output: Tensor, target: Tensor) -> Tensor:
        return torch.ones_like(output[:, 0])

    def fenchel_young(self, output: Tensor, target: Tensor, dual: Tensor) -> Tensor:
        return (output[:, 0] - target - dual[:, 0]).square() / 2

    def recession(self, target: Tensor) -> Tensor:
        return target.new_zeros(len(target), 0, 1)

    def best_bias(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        return mean_over_rows(target[:, None] - output, weight)
