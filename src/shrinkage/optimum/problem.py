"""The convex problem of a training: its parameters by name, its certificate, and full-batch steps to its optimum."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from shrinkage.tasks.base import ConvexTask, mean_over_rows

from .convex_problem import ConvexProblem, Strength, norms_of_columns
from .redundancy import centred, is_independent, sparsest, triangle


@dataclass(frozen=True)
class Problem(ConvexProblem):
    """The convex problem that a penalised linear model solves, its rows in a tensor.

    x: float64 [n, p]. row_weight, offset, factor: as `ConvexProblem` has them; a penalised bias has the factor 1. Every
    method is a pure function of one model's tensors, so that it can be vectorised over lanes.
    """

    x: Tensor
    y: Tensor
    task: ConvexTask
    bias: str
    row_weight: Tensor | None = None
    offset: Tensor | None = None
    column_factor: Tensor | None = None
    together: bool = False

    @cached_property
    def factor(self) -> Tensor | None:  # pyright: ignore[reportIncompatibleVariableOverride] of a field that only reads
        """The factors of the design's columns, [width]."""
        if self.column_factor is None or self.bias != "penalised":
            return self.column_factor
        return torch.cat([self.column_factor, self.column_factor.new_ones(1)])

    def to(self, device: torch.device) -> "Problem":
        if device == self.x.device:
            return self
        more = (self.row_weight, self.offset, self.column_factor)
        weight, offset, factor = (None if each is None else each.to(device) for each in more)
        x, y = self.x.to(device), self.y.to(device)
        return Problem(x, y, self.task, self.bias, weight, offset, factor, self.together)

    @cached_property
    def design(self) -> Tensor:
        """x, with a column of ones where the bias is penalised as a weight."""
        return torch.cat([self.x, self.x.new_ones(len(self.x), 1)], dim=1) if self.bias == "penalised" else self.x

    @property
    def width(self) -> int:
        return self.design.shape[1]

    def outputs_of(self, weight: Tensor) -> Tensor:
        return self.design @ weight.T

    def slopes_of(self, slope: Tensor) -> Tensor:
        return slope @ self.design

    def slopes_of_centred(self, slope: Tensor) -> Tensor:
        return slope @ (self.design - self.mean)

    def whole_columns(self, which: Tensor) -> Tensor:
        return self.design[:, which]

    @cached_property
    def mean(self) -> Tensor:
        """The mean of each column, in which rows count by their weights, [width]."""
        return mean_over_rows(self.design, self.loss.weight)

    @cached_property
    def columns(self) -> Tensor:
        """An orthonormal basis [n, rank] of what the columns, centred where the bias is free, span.

        Rows are multiplied by the roots of their weights.
        """
        x = self.rooted(self.design - self.mean if self.bias == "free" else self.design)
        u, s, _ = torch.linalg.svd(x, full_matrices=False)
        return u[:, s > s.max() * max(x.shape) * torch.finfo(s.dtype).eps]

    def unreached(self, slope: Tensor) -> Tensor:
        if self.loss.weight is None:
            slope = slope - slope.mean(dim=0) if self.bias == "free" else slope
            return slope - self.columns @ (self.columns.T @ slope)
        slope = slope / self.loss.weight[:, None]
        if self.bias == "free":
            slope = slope - mean_over_rows(slope, self.loss.weight)
        slope = self.rooted(slope)
        return self.rooted(slope - self.columns @ (self.columns.T @ slope))

    # Full-batch proximal gradient steps, accelerated (FISTA), the momentum starting anew where it points uphill.
    # References: Beck & Teboulle (2009), "A fast iterative shrinkage-thresholding algorithm"; O'Donoghue & Candès
    # (2015), "Adaptive restart for accelerated gradient schemes".

    def polish_start(self, l1: Strength, l2: Strength, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Make the state before the first step from the given weights, or from zero if that has a smaller objective.

        A free bias is at its best for them. Weights that are not finite give way to zero.
        """
        weight, bias = self.best_bias_of(self.parameters(named)[0])
        none = self.best_bias_of(torch.zeros_like(weight))
        is_no_worse = self.objective(l1, l2, weight, bias) <= self.objective(l1, l2, *none)
        weight, bias = (torch.where(is_no_worse, given, zero) for given, zero in zip((weight, bias), none, strict=True))
        if self.bias == "free":
            weight = torch.cat([weight, (bias + weight @ self.mean)[:, None]], dim=1)
        return {"weight": weight, "ahead": weight, "pace": weight.new_ones(()), "from_zero": ~is_no_worse}

    def polish_steps(self, l1: Strength, l2: Strength, state: Mapping[str, Tensor], steps: int) -> dict[str, Tensor]:
        """Take so many steps, each of length 1/L with L the largest curvature of the data loss."""
        weight, ahead, pace = state["weight"], state["ahead"], state["pace"]
        x = self.centred
        step = 1 / self.smoothness if self.smoothness else 1.0  # constant columns have no curvature
        penalised = x.new_ones(x.shape[1])
        if self.factor is not None:
            penalised[: self.width] = self.factor
        if self.bias == "free":
            penalised[-1] = 0
        threshold, shrink = step * l1 * penalised, 1 / (1 + step * l2 * penalised)
        for _ in range(steps):
            gradient = self.loss.slope(x @ ahead.T).T @ x / len(x)
            moved = ahead - step * gradient
            moved = self.shortened(moved, threshold) * shrink
            uphill = ((ahead - moved) * (moved - weight)).sum() > 0
            next_pace = (1 + (1 + 4 * pace**2).sqrt()) / 2
            ahead = moved + torch.where(uphill, 0.0, (pace - 1) / next_pace) * (moved - weight)
            weight, pace = moved, torch.where(uphill, 1.0, next_pace)
        return {**state, "weight": weight, "ahead": ahead, "pace": pace}

    def shortened(self, weight: Tensor, threshold: Tensor) -> Tensor:
        """Move weights towards zero by thresholds [p] as λ₁ holds them: each by itself, or columns together."""
        if not self.together:
            return weight - weight.clamp(-threshold, threshold)
        norms = norms_of_columns(weight)
        return (1 - self.roots * threshold / torch.where(norms > 0, norms, 1.0)).clamp(min=0) * weight

    def polish_end(self, state: Mapping[str, Tensor], named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give the parameters that the steps have come to, under the names of the given ones.

        A free bias is at its best for them.
        """
        weight = state["weight"][:, : self.design.shape[1]]
        bias = self.loss.best_bias(self.design @ weight.T) if self.bias == "free" else weight[:, 0]
        return self.as_parameters(weight, bias, named)

    def polished(self, l1: Strength, l2: Strength, named: Mapping[str, Tensor], steps: int) -> dict[str, Tensor]:
        """Take so many full-batch proximal steps from the given parameters."""
        return self.polish_end(self.polish_steps(l1, l2, self.polish_start(l1, l2, named), steps), named)

    def steepness(self, rows: int) -> float:
        """Bound the curvature of the data loss: L is no less than that of any batch of so many rows, in W and b.

        With c the largest curvature of ℓ and x̃ᵢ a row with a 1 for its bias, all n rows have c‖X̃‖₂²/n exactly where ℓ
        is ½ residual²; B of them have no more than n/B times that, and no more than c·max‖x̃ᵢ‖².
        """
        x = self.x if self.bias == "none" else torch.cat([self.x, self.x.new_ones(len(self.x), 1)], dim=1)
        x = self.rooted(x)
        gram = x @ x.T if len(x) < x.shape[1] else x.T @ x
        largest = float(torch.linalg.eigvalsh(gram)[-1]) / min(rows, len(x))
        return self.task.curvature * min(largest, float(x.square().sum(dim=1).max()))

    def sparsest(self, weight: Tensor) -> tuple[Tensor, np.ndarray]:
        found, groups = sparsest(self.spanned, weight.cpu().numpy(), self.task.is_shift_invariant)
        return weight.new_tensor(found), groups

    @cached_property
    def spanned(self) -> np.ndarray | None:
        """A matrix of no more rows than columns whose columns have the inner products of the design's; [≤ p, p].

        The design's columns are centred where the bias is free. None where they are independent.
        """
        x = self.design.cpu().numpy()
        if self.bias == "free":
            x = centred(x)
        if len(x) > x.shape[1]:
            x = triangle(x)
        return None if is_independent(x) else x

    @cached_property
    def centred(self) -> Tensor:
        """The design [n, p + 1] for which a free bias is one more weight: columns centred, and one of ones."""
        if self.bias != "free":
            return self.design
        return torch.cat([self.design - self.mean, self.design.new_ones(len(self.design), 1)], dim=1)

    def rooted(self, x: Tensor) -> Tensor:
        """Multiply rows [n, …] by the roots of their weights, so that their inner products count by them."""
        return x if self.loss.weight is None else self.loss.weight.sqrt()[:, None] * x

    @cached_property
    def smoothness(self) -> float:
        """The largest curvature of the data loss in W and a free bias; 0 where no column varies.

        ∞ for a loss that has no largest curvature: a step of 1/∞ then changes nothing.
        """
        x = self.rooted(self.design - self.mean if self.bias == "free" else self.design)
        largest = float(torch.linalg.matrix_norm(x, 2)) ** 2 / len(x)
        return self.task.curvature * (max(largest, 1.0) if self.bias == "free" else largest) if largest else 0.0


def for_steps(problem: ConvexProblem) -> Problem:
    """Give a problem as full-batch steps need it, every number in a tensor. Raises TypeError if it is sparse."""
    if not isinstance(problem, Problem):
        raise TypeError("steps are taken with every number of a design, and this one is sparse")
    return problem
