"""How far from its optimum a penalised linear model is, told by convex duality without knowing the optimum."""

import math
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from shrinkage.tasks.base import ConvexTask

Strength = Tensor | float
WHOLE_AND_WITHIN = (1.0, 1 - 1e-9)  # of slopes that rounding may have put beyond those that a loss has


class Unreached(torch.autograd.Function):
    """The part of the slopes [n, outputs] that no column of a problem and no free bias reaches, where λ₁ + λ₂ = 0.

    It needs an orthonormal basis of the columns, a singular value decomposition, which is not worth its time where
    there is a penalty: there the slopes come back as they are. Over lanes only this function sees whether any of them
    has no penalty.
    """

    @staticmethod
    def forward(strength: Tensor, slope: Tensor, problem: "ConvexProblem") -> Tensor:
        return slope.clone() if strength > 0 else problem.unreached(slope)

    @staticmethod
    def setup_context(ctx: object, inputs: tuple[object, ...], output: object) -> None:
        """Keep nothing: a certificate is not differentiated."""

    @staticmethod
    def vmap(info: object, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Tensor, int | None]:
        (strength, slope, problem), lanes = args, in_dims[1]
        if (strength > 0).all():
            return slope.clone(), lanes
        if lanes is None:
            return problem.unreached(slope), None
        return torch.vmap(problem.unreached, in_dims=lanes)(slope), 0


class ConvexProblem(ABC):
    """The convex problem that a penalised linear model solves, however its rows are held.

    It is min over W [outputs, p] and b [outputs] of P(W, b) = (1/n)Σ ℓ(Wxᵢ + b, yᵢ) + λ₁‖W‖₁ + ½λ₂‖W‖².

    y: [n]. bias: a `free` one stands outside the penalty, a `penalised` one inside it, as the weight of a last column
    of ones, `none` is no bias at all.
    """

    y: Tensor
    task: ConvexTask
    bias: str

    @property
    @abstractmethod
    def width(self) -> int:
        """The number p of weights for one output, a penalised bias among them."""

    @abstractmethod
    def outputs_of(self, weight: Tensor) -> Tensor:
        """Compute the outputs XWᵀ [n, m] of weights [m, p], without a free bias."""

    @abstractmethod
    def slopes_of(self, slope: Tensor) -> Tensor:
        """Compute SX [m, p] from S [m, n]: the sum over the rows of slopes in the outputs is a slope in the weights."""

    @abstractmethod
    def slopes_of_centred(self, slope: Tensor) -> Tensor:
        """Compute SX [m, p] from S [m, n], the mean of each column subtracted from it."""

    @abstractmethod
    def unreached(self, slope: Tensor) -> Tensor:
        """Give a part of slopes [n, outputs] that no column and no free bias reaches: all of it, or less."""

    def objective(self, l1: Strength, l2: Strength, weight: Tensor, bias: Tensor) -> Tensor:
        """Compute the objective P(W, b), 0-d."""
        loss = self.task.losses(self.outputs_of(weight) + bias, self.y).mean()
        return loss + l1 * weight.abs().sum() + l2 / 2 * weight.square().sum()

    def duality_gap(self, l1: Strength, l2: Strength, weight: Tensor, bias: Tensor) -> Tensor:
        """Compute a bound on how far the objective is above its least value: the duality gap, 0-d.

        The gap is P(W, b) − D(u) ≥ P(W, b) − min P ≥ 0. At the refitted bias b̂ the slopes g of the loss sum to zero
        over the rows, so that u = −s·g/n is dual feasible: with s = 1 where λ₂ > 0, and with s = min(1, λ₁/‖Xᵀg/n‖_∞).
        The smaller gap of both, and of s = 0 (min P ≥ 0), is taken, plus what the own bias costs beside b̂. Without a
        penalty Xᵀu has to be 0: there u is the part of −g/n that no column reaches, or nearly all of it, if the loss
        has such slopes. All terms are Fenchel–Young differences, ≥ 0 by themselves, so that no digits cancel near the
        optimum. References: Massias et al. (2018), "Celer"; Ndiaye et al. (2017), "Gap safe screening rules for
        sparsity enforcing penalties".
        """
        y, task = self.y, self.task
        output = self.outputs_of(weight)
        best = self.refitted(output, bias)
        cost = task.losses(output + bias, y).mean() - task.losses(output + best, y).mean()
        output = output + best
        slope = task.slope(output, y)
        dual = -self.slopes_of(slope.T) / len(y)  # Xᵀu at s = 1
        l1, l2 = (torch.as_tensor(strength, dtype=slope.dtype, device=slope.device) for strength in (l1, l2))

        def gap(scale: Tensor) -> Tensor:
            inside = (scale * dual).clamp(-l1, l1)
            outside = scale * dual - inside
            # What a division has rounded away is not outside.
            outside = torch.where(outside.abs() <= 1e-14 * l1, 0.0, outside)
            ridge = (l2 * weight - outside).square() / (2 * l2)
            ridge = torch.where(l2 > 0, ridge, torch.where(outside == 0, 0.0, torch.inf))
            lasso = l1 * weight.abs() - inside * weight
            return task.fenchel_young(output, y, scale * slope).mean() + (lasso.clamp(min=0) + ridge).sum()

        largest = dual.abs().max()
        feasible = torch.where(largest > l1, l1 / largest, 1.0)
        gaps = [gap(scale) for scale in (torch.zeros_like(l1), feasible, torch.ones_like(l1))]
        unreached = Unreached.apply(l1 + l2, slope, self)
        for share in WHOLE_AND_WITHIN:
            without = task.fenchel_young(output, y, share * unreached).mean()
            gaps.append(torch.where(l1 + l2 > 0, torch.inf, without))
        return torch.stack(gaps).min() + cost.clamp(min=0)

    def refitted(self, output: Tensor, bias: Tensor) -> Tensor:
        """Find the best bias [outputs] for outputs without one, beginning at the given one; only a free one moves."""
        return bias + self.task.best_bias(output + bias, self.y) if self.bias == "free" else bias

    def kkt(self, l1: Strength, l2: Strength, weight: Tensor, bias: Tensor) -> Tensor:
        """Compute the largest violation of the conditions that hold at the optimum and nowhere else (KKT), 0-d.

        With G the gradient of the data loss at the refitted bias: |G + λ₂w + λ₁ sign w| where w ≠ 0, (|G| − λ₁)₊ where
        w = 0; and the derivative of the loss in the own bias.
        """
        y, task = self.y, self.task
        output = self.outputs_of(weight)
        own = task.slope(output + bias, y).mean(dim=0)
        best = self.refitted(output, bias)
        gradient = self.slopes_of(task.slope(output + best, y).T) / len(y)
        on = (gradient + l2 * weight + l1 * weight.sign()).abs()
        off = (gradient.abs() - l1).clamp(min=0)
        violation = torch.where(weight != 0, on, off).max()
        return torch.maximum(violation, own.abs().max()) if self.bias == "free" else violation

    def best_bias_of(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Give W and the bias that is best for it; the bias is zero if it is a weight, or none."""
        output = self.outputs_of(weight)
        return weight, self.task.best_bias(output, self.y) if self.bias == "free" else weight.new_zeros(len(weight))

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
        zero = torch.zeros(self.task.outputs, self.width, dtype=torch.float64, device=self.y.device)
        weight, bias = self.best_bias_of(zero)
        slope = self.task.slope(self.outputs_of(weight) + bias, self.y).T
        gradient = self.slopes_of_centred(slope) if self.bias == "free" else self.slopes_of(slope)
        return float(gradient.abs().max() / len(self.y))
