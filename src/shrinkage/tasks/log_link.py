"""What tasks have in common whose model predicts the logarithm of a mean."""

import math
from typing import ClassVar, Self

import torch
from torch import Tensor

from shrinkage.errors import InputError

from .base import ConvexTask, Target


class LogLink(ConvexTask):
    """A loss of numbers y whose mean is μ = exp(z), with z the output: half the deviance of a family of distributions.

    The deviance is 2(log p(y | y) − log p(y | μ)) at a dispersion of 1. Its half is ≥ 0, 0 at μ = y, and differs from
    the negative log-likelihood by a number that no weight changes. The target keeps the user's own units.

    name: as `task=` has it. takes_zero: whether y may be 0; less it may never be. rule: says so.
    """

    outputs = 1
    predicts: ClassVar = "numbers"
    curvature = math.inf
    keeps_units: ClassVar = True
    link: ClassVar = "log"
    name: ClassVar[str]
    takes_zero: ClassVar[bool]
    rule: ClassVar[str]

    @classmethod
    def for_target(cls, target: Target) -> Self:
        if target.classes is not None or target.least is None:
            raise InputError(
                f"task={cls.name}: the target of these data is one of some classes, and {cls.rule}; use task=auto, or "
                "data.task=auto"
            )
        if target.least < 0 or (target.least == 0 and not cls.takes_zero):
            raise InputError(
                f"task={cls.name}: the target has a value of {target.least:g}, and {cls.rule}; mend the rows, or use "
                "task=regression"
            )
        return cls()

    def predictions(self, output: Tensor) -> Tensor:
        return output[:, 0].exp()


def relative_entropy(given: Tensor, other: Tensor) -> Tensor:
    """Compute m log(m/r) − m + r of numbers m = given and r = other ≥ 0; ∞ where m is less than 0.

    It is r((1 + e) log(1 + e) − e) with e = (m − r)/r, which keeps its digits where m is near r.
    """
    share = (given - other) / other
    found = other * (torch.special.xlog1py(1 + share, share) - share).clamp(min=0)
    found = torch.where(found.isfinite() & (given >= 0), found, torch.inf)
    return torch.where(given == other, 0.0, found)
