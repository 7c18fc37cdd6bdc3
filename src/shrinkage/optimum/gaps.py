"""Duality gaps of many weights of one problem, from two products of matrices for all of them."""

import torch
from torch import Tensor

from .convex_problem import WHOLE_AND_WITHIN, ConvexProblem

NUMBERS_AT_ONCE = 4_000_000  # of outputs, which are held a few times over
STATIONARY = 1e-14  # the mean slope, as a share of the mean |slope|, at which a bias is as good as refitted


def duality_gaps(problem: ConvexProblem, l1: Tensor, l2: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    """Compute the duality gap of each of K weights, as `ConvexProblem.duality_gap` does for one; [K].

    l1, l2: [K]. weights: [K, outputs, p]. biases: [K, outputs].
    """
    if problem.free is not None or problem.task.is_joint:  # what is fitted anew, or compared, for each point by itself
        return torch.stack([problem.duality_gap(*point) for point in zip(l1, l2, weights, biases, strict=True)])
    at_once = max(NUMBERS_AT_ONCE // (len(problem.y) * problem.task.outputs), 1)
    parts = zip(*(each.split(at_once) for each in (l1, l2, weights, biases)), strict=True)
    return torch.cat([gaps_at_once(problem, *part) for part in parts])


def is_off(slope: Tensor) -> Tensor:
    """Tell whose slopes [K, n, outputs] do not sum to zero over the rows, so that another bias is better; [K]."""
    return (slope.mean(dim=1).abs() > STATIONARY * slope.abs().mean(dim=1)).any(dim=1)


def one_step(problem: ConvexProblem, output: Tensor, slope: Tensor) -> Tensor:
    """Let the bias take one step of Newton's method, enough where it is nearly the best; outputs [n, outputs]."""
    curvature = problem.loss.curvatures(output).reshape(len(output), *2 * output.shape[1:]).mean(dim=0)
    return output - torch.linalg.pinv(curvature, rtol=1e-12, hermitian=True) @ slope.mean(dim=0)


def gaps_at_once(problem: ConvexProblem, l1: Tensor, l2: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    """Compute the duality gaps of so many weights that their outputs fit into memory together; [K]."""
    loss, n, (count, outputs, p) = problem.loss, len(problem.y), weights.shape
    of_all = loss.repeated(count)

    def mean(losses: Tensor) -> Tensor:
        return losses.reshape(count, n).mean(dim=1)

    output = problem.outputs_of(weights.reshape(-1, p)).T.reshape(count, outputs, n).transpose(1, 2) + biases[:, None]
    slope, cost = of_all.slope(output.reshape(-1, outputs)).reshape(count, n, outputs), torch.zeros_like(l1)
    if problem.bias == "free":
        for k in torch.nonzero(is_off(slope))[:, 0].tolist():
            refitted = one_step(problem, output[k], slope[k])
            if is_off(loss.slope(refitted)[None]).item():
                refitted = output[k] + loss.best_bias(output[k])
            cost[k] = loss.losses(output[k]).mean() - loss.losses(refitted).mean()
            output[k], slope[k] = refitted, loss.slope(refitted)
    output, slope = output.reshape(-1, outputs), slope.reshape(-1, outputs)
    reached = problem.slopes_of(slope.reshape(count, n, outputs).transpose(1, 2).reshape(-1, n))
    dual = -reached.reshape(count, outputs, p) / n
    l1, l2 = l1[:, None, None], l2[:, None, None]
    thresholds, ridges = problem.strengths_of_columns(l1, l2)

    def gap(scale: Tensor) -> Tensor:
        penalty = problem.fenchel_young_of_penalty(scale * dual, weights, thresholds, ridges)
        shrunk = (scale * slope.reshape(count, n, outputs)).reshape(-1, outputs)
        return mean(of_all.fenchel_young(output, shrunk)) + penalty

    largest = problem.per_factor(problem.dual_lengths(dual)).amax(dim=(1, 2), keepdim=True)
    feasible = torch.where(largest > l1, l1 / largest, 1.0)
    smallest = gap(feasible)
    if bool(((feasible < 1) & (l2 > 0)).any()):
        smallest = torch.minimum(smallest, gap(torch.ones_like(feasible)))
    # With a dual of zero the gap is the objective, and no smaller than the penalty.
    penalty = (thresholds * problem.lengths(weights)).sum(dim=(1, 2))
    penalty = penalty + (ridges / 2 * weights.square()).sum(dim=(1, 2))
    if bool((smallest > penalty).any()):
        smallest = torch.minimum(smallest, gap(torch.zeros_like(feasible)))
    for k in torch.nonzero((l1 + l2)[:, 0, 0] == 0)[:, 0].tolist():
        rows = slice(k * n, (k + 1) * n)
        unreached = problem.unreached(slope[rows])
        for share in WHOLE_AND_WITHIN:
            found = loss.fenchel_young(output[rows], share * unreached).mean()
            smallest[k] = torch.minimum(smallest[k], found)
    return smallest + cost.clamp(min=0)
