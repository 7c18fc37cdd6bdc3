"""How much of its initial weights a training keeps where the data do not reach."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import nn

from shrinkage.models.linear import Linear
from shrinkage.penalties.base import Penalty
from shrinkage.penalties.l2 import L2


def memory_of_the_start(lambd: float, rates: Iterable[float], mode: str) -> float:
    """Compute the share of the initial weights that a run under L2 still carries where the data do not reach.

    In directions that no row of x has, SGD without momentum does nothing but shrink: by ∏(1 − η_tλ) over the steps in
    modes `loss` and `decay`, by ∏1/(1 + η_tλ) in mode `prox`. rates: η_t of every step.
    """
    steps = np.asarray(list(rates), dtype=float) * lambd
    return float(np.prod(1 / (1 + steps)) if mode == "prox" else np.prod(1 - steps))


def measure_memory(
    model: nn.Module, penalty: Penalty, lambd: float, optimizer: torch.optim.Optimizer, rates: Sequence[float]
) -> dict[str, float]:
    """Measure `init/memory` where it is known: for a linear model and L2 under SGD without momentum.

    rates: the learning rate of every step taken.
    """
    known = type(model) is Linear and isinstance(penalty, L2) and isinstance(optimizer, torch.optim.SGD)
    if not known or not penalty.is_plain or optimizer.param_groups[0]["momentum"]:
        return {}
    return {"init/memory": memory_of_the_start(lambd, rates, penalty.mode)}
