"""Areas under curves: how well scores put the rows of a class before all others."""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from .base import WholePartMetric


def over_classes(
    score: Callable[[Tensor, Tensor, Tensor | None], Tensor], prediction: Tensor, target: Tensor, weight: Tensor | None
) -> Tensor:
    """Score the second of two classes; of more classes take the mean of each against the rest, where it is defined."""
    logs = prediction.log_softmax(dim=-1)
    if logs.shape[-1] == 2:
        return score(logs[:, 1] - logs[:, 0], target == 1, weight)
    return torch.stack([score(logs[:, k], target == k, weight) for k in range(logs.shape[-1])]).nanmean()


class ROCAUC(WholePartMetric):
    """The area under the ROC curve: the probability that a row of the class has a larger score than another row.

    Ties count a half. Of more than two classes, one against the rest, the mean. Not defined where a part has rows of
    one class alone. Reference: Hanley & McNeil (1982), "The meaning and use of the area under a ROC curve".
    """

    name: ClassVar = "roc_auc"
    larger_is_better: ClassVar = True
    about: ClassVar = "area under the ROC curve"
    predicts: ClassVar = "classes"

    def value(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        return over_classes(rank_probability, prediction, target, weight)


class PRAUC(WholePartMetric):
    """The area under the precision-recall curve, as average precision.

    That is Σ (Rₙ − Rₙ₋₁)·Pₙ over the thresholds n, without interpolation. Of more than two classes, one against the
    rest, the mean. Not defined where a class has no row.
    """

    name: ClassVar = "pr_auc"
    larger_is_better: ClassVar = True
    about: ClassVar = "average precision"
    predicts: ClassVar = "classes"

    def value(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        return over_classes(average_precision, prediction, target, weight)


def rank_probability(score: Tensor, positive: Tensor, weight: Tensor | None = None) -> Tensor:
    """Compute (Σ ranks of the positive rows − P(P + 1)/2)/(P·N), ties at their mean rank; NaN without both kinds.

    With weights it is the share of pairs of a positive and another row, which count by the product of their weights.
    """
    score = score.contiguous()
    if weight is not None:
        own, others = weight * positive, weight * ~positive
        before = (weight_of_scores(score, others, score, right=right) for right in (False, True))
        return (own * sum(before)).sum() / (2 * own.sum() * others.sum())
    ordered = score.sort().values
    below, upto = (torch.searchsorted(ordered, score, right=right) for right in (False, True))
    ranks = (below + upto + 1).double() / 2
    count = positive.double().sum()
    return ((ranks * positive).sum() - count * (count + 1) / 2) / (count * (len(score) - count))


def average_precision(score: Tensor, positive: Tensor, weight: Tensor | None = None) -> Tensor:
    """Compute the (weighted) mean over the positive rows of the precision at their own score; NaN if there are none."""
    score = score.contiguous()
    found = score[positive]
    if weight is not None:
        own = weight[positive]
        right = own.sum() - weight_of_scores(found, own, found, right=False)
        at_least = weight.sum() - weight_of_scores(score, weight, found, right=False)
        return (own * right / at_least).sum() / own.sum()
    at_least = len(score) - torch.searchsorted(score.sort().values, found, right=False)
    right = len(found) - torch.searchsorted(found.sort().values, found, right=False)
    return (right.double() / at_least.double()).mean()


def weight_of_scores(score: Tensor, weight: Tensor, at: Tensor, *, right: bool) -> Tensor:
    """Add up the weights of the rows whose scores are below each of some values, and equal to them if `right`."""
    ordered, order = score.sort()
    total = torch.cat([weight.new_zeros(1), weight[order].cumsum(dim=0)])
    return total[torch.searchsorted(ordered, at.contiguous(), right=right)]
