"""TODO: what this file is."""

import torch
from torch import Tensor

from .base import ConvexTask, Statistics


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
