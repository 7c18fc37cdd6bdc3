"""How far from its optimum a penalised linear model is, told by convex duality without knowing the optimum."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from shrinkage.tasks.base import ConvexTask
from shrinkage.tasks.regression import Regression

from .redundancy import centred, is_independent, sparsest, triangle

Strength = Tensor | float


@dataclass(frozen=True)
class Problem:
    """The convex problem that a penalised linear model solves.

    It is min over W [outputs, p] and b [outputs] of P(W, b) = (1/n)Σ ℓ(Wxᵢ + b, yᵢ) + λ₁‖W‖₁ + ½λ₂‖W‖².

    x: float64 [n, p]. y: [n]. bias: a `free` one stands outside the penalty, a `penalised` one inside it, `none` is no
    bias at all.

    Every method is a pure function of one model's tensors, so that it can be vectorised over lanes.
    """

    x: Tensor
    y: Tensor
    task: ConvexTask
    bias: str

    def parameters(self, named: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Take W and b, in double precision, from a linear layer's parameters by name.

        A penalised bias becomes W's last column.
        """
        (weight,) = (value.double() for name, value in named.items() if name.endswith("weight"))
        if self.bias == "none":
            return weight, weight.new_zeros(len(weight))
        (bias,) = (value.double() for name, value in named.items() if name.endswith("bias"))
        return (weight, bias) if self.bias == "free" else (torch.cat([weight, bias[:, None]], dim=1), bias * 0)

    @cached_property
    def design(self) -> Tensor:
        """x, with a column of ones where the bias is penalised as a weight."""
        return torch.cat([self.x, self.x.new_ones(len(self.x), 1)], dim=1) if self.bias == "penalised" else self.x

    @cached_property
    def columns(self) -> Tensor:
        """An orthonormal basis [n, rank] of what the columns, centred where the bias is free, span."""
        x = self.design - self.design.mean(dim=0) if self.bias == "free" else self.design
        u, s, _ = torch.linalg.svd(x, full_matrices=False)
        return u[:, s > s.max() * max(x.shape) * torch.finfo(s.dtype).eps]

    def objective(self, l1: Strength, l2: Strength, weight: Tensor, bias: Tensor) -> Tensor:
        """Compute the objective P(W, b), 0-d."""
        loss = self.task.losses(self.design @ weight.T + bias, self.y).mean()
        return loss + l1 * weight.abs().sum() + l2 / 2 * weight.square().sum()

    def duality_gap(self, l1: Strength, l2: Strength, weight: Tensor, bias: Tensor) -> Tensor:
        """Compute a bound on how far the objective is above its least value: the duality gap, 0-d.

        The gap is P(W, b) − D(u) ≥ P(W, b) − min P ≥ 0. At the refitted bias b̂ the slopes g of the loss sum to zero
        over the rows, so that u = −s·g/n is dual feasible: with s = 1 where λ₂ > 0, and with s = min(1, λ₁/‖Xᵀg/n‖_∞).
        The smaller gap of both, and of s = 0 (min P ≥ 0), is taken, plus what the own bias costs beside b̂. Least
        squares without a penalty have a u of their own: the residuals' part that no column reaches. All terms are
        Fenchel–Young differences, ≥ 0 by themselves, so that no digits cancel near the optimum. References: Massias et
        al. (2018), "Celer"; Ndiaye et al. (2017), "Gap safe screening rules for sparsity enforcing penalties".
        """
        x, y, task = self.design, self.y, self.task
        output = x @ weight.T
        best = task.best_bias(output, y) if self.bias == "free" else bias
        cost = task.losses(output + bias, y).mean() - task.losses(output + best, y).mean()
        output = output + best
        dual = -task.slope(output, y).T @ x / len(x)  # Xᵀu at s = 1
        l1, l2 = (torch.as_tensor(strength, dtype=x.dtype, device=x.device) for strength in (l1, l2))

        def gap(scale: Tensor) -> Tensor:
            inside = (scale * dual).clamp(-l1, l1)
            outside = scale * dual - inside
            # What a division has rounded away is not outside.
            outside = torch.where(outside.abs() <= 1e-14 * l1, 0.0, outside)
            ridge = (l2 * weight - outside).square() / (2 * l2)
            ridge = torch.where(l2 > 0, ridge, torch.where(outside == 0, 0.0, torch.inf))
            lasso = l1 * weight.abs() - inside * weight
            return task.fenchel_young(output, y, scale).mean() + (lasso.clamp(min=0) + ridge).sum()

        largest = dual.abs().max()
        feasible = torch.where(largest > l1, l1 / largest, 1.0)
        gaps = [gap(scale) for scale in (torch.zeros_like(l1), feasible, torch.ones_like(l1))]
        smallest = torch.stack(gaps).min()
        if isinstance(task, Regression):
            reached = self.columns.T @ (y[:, None] - output)
            smallest = torch.where(l1 + l2 > 0, smallest, reached.square().sum() / (2 * len(x)))
        return smallest + cost.clamp(min=0)

    def kkt(self, l1: Strength, l2: Strength, weight: Tensor, bias: Tensor) -> Tensor:
        """Compute the largest violation of the conditions that hold at the optimum and nowhere else (KKT), 0-d.

        With G the gradient of the data loss at the refitted bias: |G + λ₂w + λ₁ sign w| where w ≠ 0, (|G| − λ₁)₊ where
        w = 0; and the derivative of the loss in the own bias.
        """
        x, y, task = self.design, self.y, self.task
        output = x @ weight.T
        own = task.slope(output + bias, y).mean(dim=0)
        best = task.best_bias(output, y) if self.bias == "free" else bias
        gradient = task.slope(output + best, y).T @ x / len(x)
        on = (gradient + l2 * weight + l1 * weight.sign()).abs()
        off = (gradient.abs() - l1).clamp(min=0)
        violation = torch.where(weight != 0, on, off).max()
        return torch.maximum(violation, own.abs().max()) if self.bias == "free" else violation

    def certificate(self, l1: Strength, l2: Strength, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Measure the parameters of a linear layer, by name: `optimum/duality_gap` and `optimum/kkt`, each 0-d."""
        weight, bias = self.parameters(named)
        return {
            "optimum/duality_gap": self.duality_gap(l1, l2, weight, bias),
            "optimum/kkt": self.kkt(l1, l2, weight, bias),
        }

    def lambda_max(self, l1_ratio: float = 1.0) -> float:
        """Return the smallest λ at which every weight is zero at the optimum under λ(l1_ratio·‖W‖₁ + …).

        With b̂ the best bias at W = 0 it is ‖X_cᵀ∇ℓ(b̂)/n‖_∞ / l1_ratio: a weight leaves zero where its slope is larger
        than the penalty's. X_c has its columns centred where the bias is free; a bias that is penalised is one of the
        weights. ∞ for l1_ratio = 0, under which no λ makes a weight zero. Reference: Friedman, Hastie & Tibshirani
        (2010), "Regularization paths for generalized linear models", §2.5.
        """
        return self.steepest_at_zero / l1_ratio if l1_ratio else math.inf

    @cached_property
    def steepest_at_zero(self) -> float:
        """The largest slope of the data loss in any weight, where all weights are zero and the bias at its best."""
        weight, bias = self.best_bias_of(self.x.new_zeros(self.task.outputs, self.design.shape[1]))
        x = self.design - self.design.mean(dim=0) if self.bias == "free" else self.design
        slope = self.task.slope(self.design @ weight.T + bias, self.y)
        return float((slope.T @ x).abs().max() / len(x))

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
            weight = torch.cat([weight, (bias + weight @ self.design.mean(dim=0))[:, None]], dim=1)
        return {"weight": weight, "ahead": weight, "pace": weight.new_ones(()), "from_zero": ~is_no_worse}

    def best_bias_of(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Give W and the bias that is best for it; the bias is zero if it is a weight, or none."""
        output = self.design @ weight.T
        return weight, self.task.best_bias(output, self.y) if self.bias == "free" else weight.new_zeros(len(weight))

    def polish_steps(self, l1: Strength, l2: Strength, state: Mapping[str, Tensor], steps: int) -> dict[str, Tensor]:
        """Take so many steps, each of length 1/L with L the largest curvature of the data loss."""
        weight, ahead, pace = state["weight"], state["ahead"], state["pace"]
        x, y, task = self.centred, self.y, self.task
        step = 1 / self.smoothness if self.smoothness else 1.0  # constant columns have no curvature
        penalised = x.new_ones(x.shape[1])
        if self.bias == "free":
            penalised[-1] = 0
        threshold, shrink = step * l1 * penalised, 1 / (1 + step * l2 * penalised)
        for _ in range(steps):
            gradient = task.slope(x @ ahead.T, y).T @ x / len(x)
            moved = ahead - step * gradient
            moved = (moved - moved.clamp(-threshold, threshold)) * shrink
            uphill = ((ahead - moved) * (moved - weight)).sum() > 0
            next_pace = (1 + (1 + 4 * pace**2).sqrt()) / 2
            ahead = moved + torch.where(uphill, 0.0, (pace - 1) / next_pace) * (moved - weight)
            weight, pace = moved, torch.where(uphill, 1.0, next_pace)
        return {**state, "weight": weight, "ahead": ahead, "pace": pace}

    def polish_end(self, state: Mapping[str, Tensor], named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give the parameters that the steps have come to, under the names of the given ones.

        A free bias is at its best for them.
        """
        weight = state["weight"][:, : self.x.shape[1]]
        found = {"weight": weight}
        if self.bias == "free":
            found["bias"] = self.task.best_bias(self.design @ weight.T, self.y)
        elif self.bias == "penalised":
            found["bias"] = state["weight"][:, -1]
        return {name: found[name.rpartition(".")[2]].to(value.dtype) for name, value in named.items()}

    def polished(self, l1: Strength, l2: Strength, named: Mapping[str, Tensor], steps: int) -> dict[str, Tensor]:
        """Take so many full-batch proximal steps from the given parameters."""
        return self.polish_end(self.polish_steps(l1, l2, self.polish_start(l1, l2, named), steps), named)

    def steepness(self, rows: int) -> float:
        """Bound the curvature of the data loss: L is no less than that of any batch of so many rows, in W and b.

        With c the largest curvature of ℓ and x̃ᵢ a row with a 1 for its bias, all n rows have c‖X̃‖₂²/n exactly where ℓ
        is ½ residual²; B of them have no more than n/B times that, and no more than c·max‖x̃ᵢ‖².
        """
        x = self.x if self.bias == "none" else torch.cat([self.x, self.x.new_ones(len(self.x), 1)], dim=1)
        gram = x @ x.T if len(x) < x.shape[1] else x.T @ x
        largest = float(torch.linalg.eigvalsh(gram)[-1]) / min(rows, len(x))
        return self.task.curvature * min(largest, float(x.square().sum(dim=1).max()))

    def sparsest(self, weight: Tensor) -> tuple[Tensor, np.ndarray]:
        """Move a lasso's weights to independent columns, and tell which columns could stand for one another.

        Returns W [outputs, p] at the same loss and no larger ‖W‖₁, and groups [outputs, p]: see `redundancy.sparsest`.
        """
        found, groups = sparsest(self.spanned, weight.cpu().numpy())
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
        return torch.cat([self.design - self.design.mean(dim=0), self.design.new_ones(len(self.design), 1)], dim=1)

    @cached_property
    def smoothness(self) -> float:
        """The largest curvature of the data loss in W and a free bias; 0 where no column varies."""
        x = self.design - self.design.mean(dim=0) if self.bias == "free" else self.design
        largest = float(torch.linalg.matrix_norm(x, 2)) ** 2 / len(x)
        return self.task.curvature * (max(largest, 1.0) if self.bias == "free" and largest else largest)
