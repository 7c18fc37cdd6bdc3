"""What is measured of several targets: of all of them together, and of each by itself."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from shrinkage.names import in_mlflow

from .base import SumMetric


class R2OfTargets(SumMetric):
    """R² = 1 − ΣΣ(y − ŷ)² / ΣΣ(y − ȳ)², added up over rows and targets, in the units that they are trained in."""

    name: ClassVar = "r2"
    larger_is_better: ClassVar = True
    about: ClassVar = "1 − Σr²/Σ(y − ȳ)², over all targets"
    predicts: ClassVar = "vectors"

    def sums(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        target = target.double()
        return {
            "residual": (prediction - target).square().sum(),
            "targets": target.sum(dim=0),
            "squared_target": target.square().sum(),
        }

    def value(self, sums: Mapping[str, Tensor]) -> Tensor:
        return 1 - sums["residual"] / (sums["squared_target"] - sums["targets"].square().sum() / sums["rows"])


class MSE(SumMetric):
    """The mean squared error over rows and targets, in the units that these are trained in."""

    name: ClassVar = "mse"
    larger_is_better: ClassVar = False
    about: ClassVar = "over all targets, each standardised where the data are"
    predicts: ClassVar = "vectors"

    def sums(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"residual": (prediction - target).square().sum(dim=0)}

    def value(self, sums: Mapping[str, Tensor]) -> Tensor:
        return sums["residual"].mean() / sums["rows"]


class OfTarget(SumMetric):
    """A metric of one of several targets. place: its number, from 0. target: its name."""

    predicts: ClassVar = "vectors"
    of: ClassVar[str]

    def __init__(self, place: int, target: str) -> None:
        self.place = place
        self.name = in_mlflow(f"{self.of}.{target}".replace("/", "_"))  # pyright: ignore[reportIncompatibleVariableOverride, reportAttributeAccessIssue]

    def sums(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        own = target[:, self.place].double()
        return {
            "residual": (prediction[:, self.place] - own).square().sum(),
            "target": own.sum(),
            "squared_target": own.square().sum(),
        }


class R2OfTarget(OfTarget):
    """R² of one target."""

    of: ClassVar = "r2"
    larger_is_better: ClassVar = True
    about: ClassVar = "of this target alone"

    def value(self, sums: Mapping[str, Tensor]) -> Tensor:
        return 1 - sums["residual"] / (sums["squared_target"] - sums["target"].square() / sums["rows"])


class MSEOfTarget(OfTarget):
    """The mean squared error of one target, in the user's own units, squared. scale: the factor to these."""

    of: ClassVar = "mse"
    larger_is_better: ClassVar = False
    about: ClassVar = "of this target alone, in your own units, squared"

    def __init__(self, place: int, target: str, scale: float) -> None:
        super().__init__(place, target)
        self.scale = scale

    def value(self, sums: Mapping[str, Tensor]) -> Tensor:
        return sums["residual"] / sums["rows"] * self.scale**2
