"""The deviance of a family of distributions, and the share of it that is explained."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from .base import SumMetric


class Deviance(SumMetric):
    """The mean deviance of a row, for a task whose loss is half of it."""

    name: ClassVar = "deviance"
    larger_is_better: ClassVar = False
    about: ClassVar = "mean of a row, 2·loss"
    predicts: ClassVar = "numbers"

    def value(self, sums: Mapping[str, Tensor]) -> Tensor:
        return 2 * sums["loss"] / sums["rows"]


class D2(SumMetric):
    """The share of deviance that is explained: D² = 1 − Σd(y, ŷ)/Σd(y, ȳ), with ȳ the mean of the part.

    It is for a task whose loss is half the deviance d, and not defined where the target is constant. Reference: Hastie,
    Tibshirani & Wainwright (2015), "Statistical learning with sparsity", §3.
    """

    name: ClassVar = "d2"
    larger_is_better: ClassVar = True
    about: ClassVar = "1 − deviance/that of the mean"
    predicts: ClassVar = "numbers"

    def sums(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        target = target.double()
        return {"target": target.sum(), "own": self.own(target).sum()}

    @abstractmethod
    def own(self, target: Tensor) -> Tensor:
        """Compute of each row what half the deviance at the mean follows from, [n]."""

    @abstractmethod
    def of_mean(self, own: Tensor, total: Tensor, rows: Tensor) -> Tensor:
        """Compute half the deviance at the mean, summed over so many rows, from Σ own and the target's total."""

    def value(self, sums: Mapping[str, Tensor]) -> Tensor:
        return 1 - sums["loss"] / self.of_mean(sums["own"], sums["target"], sums["rows"])


class PoissonD2(D2):
    """D² of counts: half the deviance at the mean is Σ y log y − Σy·log ȳ."""

    def own(self, target: Tensor) -> Tensor:
        return torch.xlogy(target, target)

    def of_mean(self, own: Tensor, total: Tensor, rows: Tensor) -> Tensor:
        return own - torch.xlogy(total, total / rows)


class GammaD2(D2):
    """D² of numbers above 0: half the deviance at the mean is n·log ȳ − Σ log y."""

    def own(self, target: Tensor) -> Tensor:
        return target.log()

    def of_mean(self, own: Tensor, total: Tensor, rows: Tensor) -> Tensor:
        return rows * (total / rows).log() - own
