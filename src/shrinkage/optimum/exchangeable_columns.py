"""Which columns can take over weight from one another: of many optima one is taken, and a person is told."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from shrinkage.data.base import DataModule
from shrinkage.data.quoting import quoted, quoted_list
from shrinkage.penalties.base import Penalty

from .certifier import Certifier
from .convex_problem import ConvexProblem
from .redundancy import combinations

COLUMNS_NAMED = 5  # in a note


def sparsest_of_lanes(problem: ConvexProblem, l1: Tensor, l2: Tensor, weights: Tensor) -> Tensor:
    """Move the weights [K, outputs, ≥ p] of the lanes under L1 alone to independent columns (`Problem.sparsest`).

    With λ₂ > 0 there is one optimum in any case, and without a penalty every start has its own. Where columns have
    factors of their own, or vanish with all their weights, these stay, since which of them can be moved at no cost is
    not known.
    """
    if problem.factor is not None or problem.together:
        return weights.clone()
    found, columns = weights.clone(), problem.width
    for lane in torch.nonzero((l1 > 0) & (l2 == 0))[:, 0].tolist():
        found[lane, :, :columns] = problem.sparsest(weights[lane, :, :columns])[0]
    return found


def exchangeable(certifier: Certifier, penalty: Penalty, lambd: float, named: Mapping[str, Tensor]) -> np.ndarray:
    """Find the columns that can take over weight from one another at the same objective.

    Returns groups [outputs, p], numbered from 1; 0 is no group, where every optimum has the same weight.
    """
    l1, l2 = map(float, certifier.strengths(penalty, lambd))
    weight, _ = certifier.problem.parameters(named)
    if l1 > 0 and l2 == 0 and certifier.problem.factor is None and not certifier.problem.together:
        return certifier.problem.sparsest(weight.cpu())[1][:, : certifier.problem.x.shape[1]]
    return np.zeros((len(weight), certifier.problem.x.shape[1]), dtype=np.int64)


def note_on_columns(datamodule: DataModule) -> list[str]:
    """Write a note that names the columns which others make up in the training rows, if there are any."""
    if datamodule.is_sparse:  # of which it would need the zeros
        return []
    features = datamodule.recipe().features
    origins = [(feature.column, feature.part) if feature.category else None for feature in features]
    found = combinations(datamodule.parts["train"].x, origins)
    if not found:
        return []
    words = [
        f"{quoted(features[j].name)} from {quoted_list([features[k].name for k in of])}"
        for j, of in list(found.items())[:COLUMNS_NAMED]
    ]
    if len(found) > COLUMNS_NAMED:
        words.append(f"{len(found) - COLUMNS_NAMED} more")
    return [
        f"columns that can be computed from others in the training rows: {', '.join(words)}; the data cannot tell "
        "their weights apart, L2 shares a weight among them, and L1 at its optimum gives it to the first"
    ]
