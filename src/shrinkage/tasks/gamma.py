"""Numbers above 0 whose error grows with them, such as costs: a gamma distribution whose mean is exp of the output."""

import math
from typing import ClassVar

from torch import Tensor

from .log_link import LogLink, relative_entropy
from .metrics.deviance import Deviance, GammaD2
from .metrics.mae import MAE
from .metrics.rmse import RMSE


class Gamma(LogLink):
    """Gamma regression: the loss of a row is y/μ − 1 − log(y/μ) with μ = exp(z), half the deviance.

    λ is that of glmnet's `family=Gamma(link="log")`, and of scikit-learn's `GammaRegressor(alpha=λ)`. Reference:
    McCullagh & Nelder (1989), "Generalized linear models", §8.
    """

    name: ClassVar = "gamma"
    takes_zero: ClassVar = False
    rule: ClassVar = "a gamma distribution is of numbers above 0"
    standard: ClassVar = (Deviance, GammaD2, RMSE, MAE)

    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        z = output[:, 0]
        return target * (-z).exp() - 1 + z - target.log()

    def slope(self, output: Tensor, target: Tensor) -> Tensor:
        return 1 - target[:, None] * (-output).exp()

    def curvatures(self, output: Tensor, target: Tensor) -> Tensor:
        return target * (-output[:, 0]).exp()

    def fenchel_young(self, output: Tensor, target: Tensor, dual: Tensor) -> Tensor:
        # The slope u belongs to the mean for which y/μ = 1 − u, which is more than 0.
        ratio = 1 - dual[:, 0]
        return relative_entropy(ratio, target * (-output[:, 0]).exp()).where(ratio > 0, math.inf)

    def recession(self, target: Tensor) -> Tensor:
        return target.new_zeros(len(target), 0, 1)

    def best_bias(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Find the bias log(Σ wy exp(−z)/Σw), at which the mean of y/μ is 1."""
        logs = target.log()[:, None] - output
        if weight is None:
            return logs.logsumexp(dim=0) - math.log(len(output))
        return (logs + weight.log()[:, None]).logsumexp(dim=0) - weight.sum().log()
