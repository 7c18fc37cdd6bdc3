"""Counts, and rates of them: a Poisson distribution whose mean is exp of the output."""

from typing import ClassVar

import torch
from torch import Tensor

from .log_link import LogLink, relative_entropy
from .metrics.deviance import Deviance, PoissonD2
from .metrics.mae import MAE
from .metrics.rmse import RMSE


class Poisson(LogLink):
    """Poisson regression: the loss of a row is y log(y/μ) − y + μ with μ = exp(z), half the deviance.

    λ is that of glmnet's `family="poisson"`, and of scikit-learn's `PoissonRegressor(alpha=λ)`. References: McCullagh &
    Nelder (1989), "Generalized linear models", §2.3; Friedman, Hastie & Tibshirani (2010).
    """

    name: ClassVar = "poisson"
    takes_zero: ClassVar = True
    rule: ClassVar = "counts are 0 or more"
    standard: ClassVar = (Deviance, PoissonD2, RMSE, MAE)

    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        return torch.xlogy(target, target) - target * output[:, 0] - target + output[:, 0].exp()

    def slope(self, output: Tensor, target: Tensor) -> Tensor:
        return output.exp() - target[:, None]

    def curvatures(self, output: Tensor, target: Tensor) -> Tensor:
        return output[:, 0].exp()

    def fenchel_young(self, output: Tensor, target: Tensor, dual: Tensor) -> Tensor:
        # The slope u belongs to the mean y + u, which is no less than 0.
        return relative_entropy(target + dual[:, 0], output[:, 0].exp())

    def recession(self, target: Tensor) -> Tensor:
        # Only that of a count of 0 falls for ever, as its output does; two rows of opposite signs leave no direction.
        first = torch.where(target > 0, 1.0, -1.0)
        return torch.stack([first, -torch.ones_like(first)], dim=1)[:, :, None]

    def best_bias(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Find the bias log(Σwy/Σw exp z), at which the means add up to the counts."""
        if weight is not None:
            target, output = weight * target, output + weight.log()[:, None]
        return target.sum().log() - output.logsumexp(dim=0)
