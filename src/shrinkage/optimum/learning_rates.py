"""Finds a learning rate at which steps on a convex problem do not diverge."""

import math

import torch

from shrinkage.penalties.base import Penalty

from .certifier import Certifier, as_elastic_net
from .problem import for_steps


def working_lr(
    certifier: Certifier, penalty: Penalty, lambd: float, optimizer: torch.optim.SGD, rows: int
) -> tuple[float, str]:
    """Find a learning rate with which steps on batches of so many rows do not diverge, and say why.

    L is `Problem.steepness`, and λ₂ more where the penalty is no prox. Without momentum, steps over all rows are stable
    for every η < 2/L, and a step of 1/L on a minibatch goes beyond no batch's minimiser. Under momentum μ a gradient
    moves the weights by η/(1 − μ) in the end, and η = (1 − μ)/L is stable over all rows. Infinite where L is 0.
    Reference: Ghadimi, Feyzmahdavian & Johansson (2015), "Global convergence of the heavy-ball method for convex
    optimization".
    """
    smooth = 0.0 if penalty.mode == "prox" else float(as_elastic_net(penalty, lambd)[1])
    smooth *= max([1.0, *(penalty.of_columns or ())])
    curvature = for_steps(certifier.problem).steepness(rows) + smooth
    whole, momentum = rows >= len(certifier.problem.y), optimizer.param_groups[0]["momentum"]
    if curvature == 0:
        return math.inf, "the objective has no curvature"
    words = f"the objective{'' if whole else ' of a batch'} curves by up to L = {curvature:.3g}, so that "
    if momentum:
        words += f"optimizer.lr=(1 − μ)/L is short enough under momentum μ = {momentum:g}"
    elif whole:
        words += f"gradient descent is stable with optimizer.lr under 2/L = {2 / curvature:.3g}"
    else:
        words += "no step is too long with optimizer.lr=1/L"
    works = rounded_down((1 - momentum) / curvature)
    words += f"; use optimizer.lr={works:g}"
    if certifier.could_standardize:
        words += ", or data.standardize=true, which allows longer steps"
    return works, words


def rounded_down(number: float) -> float:
    """Round a number > 0 down to two significant digits."""
    scale = 10.0 ** (math.floor(math.log10(number)) - 1)
    return float(f"{math.floor(number / scale) * scale:.2g}")
