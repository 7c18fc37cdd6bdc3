"""Regression: a number for every row, by least squares."""

from typing import ClassVar

from torch import Tensor

from shrinkage.errors import InputError

from .base import ConvexTask, Target
from .metrics.mae import MAE
from .metrics.r2 import R2
from .metrics.rmse import RMSE


class Regression(ConvexTask):
    """Least squares: the loss of a row is ½ residual²."""

    outputs = 1
    predicts: ClassVar = "numbers"
    standard: ClassVar = (R2, RMSE, MAE)
    curvature = 1.0

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

    def fenchel_young(self, output: Tensor, target: Tensor, scale: Tensor | float) -> Tensor:
        return ((1 - scale) * (output[:, 0] - target)).square() / 2

    def best_bias(self, output: Tensor, target: Tensor) -> Tensor:
        return (target[:, None] - output).mean(dim=0)
