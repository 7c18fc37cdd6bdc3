"""How far from its optimum a penalised linear model is, told by convex duality without knowing the optimum."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from shrinkage.tasks.base import ConvexTask

from .free_columns import FreeColumns
from .row_loss import RowLoss

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

    It is min over W [outputs, p] and b [outputs] of
    P(W, b) = Σ rᵢℓ(Wxᵢ + b + oᵢ, yᵢ)/Σ rᵢ + Σ fⱼ(λ₁‖wⱼ‖₁ + ½λ₂‖wⱼ‖²),
    with wⱼ the weights of column j, one for each output.

    y: [n], or [n, outputs]. bias: a `free` one stands outside the penalty, a `penalised` one inside it, as the weight
    of a last column of ones, `none` is no bias at all. row_weight: r [n] > 0, None for all 1. offset: o [n], None for
    0. factor: f [p] ≥ 0, not all 0, None for all 1; a column with 0 is free as a free bias is. together: whether λ₁
    holds the weights of each column together, by √outputs·‖wⱼ‖₂ in place of ‖wⱼ‖₁, so that they vanish together; the
    bias is then not penalised.
    """

    y: Tensor
    task: ConvexTask
    bias: str
    row_weight: Tensor | None
    offset: Tensor | None
    factor: Tensor | None
    together: bool

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

    @abstractmethod
    def whole_columns(self, which: Tensor) -> Tensor:
        """Give the columns at these places with their zeros, [n, m]."""

    @abstractmethod
    def sparsest(self, weight: Tensor) -> tuple[Tensor, np.ndarray]:
        """Move a lasso's weights to independent columns, and tell which columns could stand for one another.

        Returns W [outputs, p] at the same loss and no larger ‖W‖₁, and groups [outputs, p]: see `redundancy.sparsest`.
        """

    @abstractmethod
    def to(self, device: torch.device) -> Self:
        """Give the same problem on another device."""

    def parameters(self, named: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Take W and b, in double precision, from a linear layer's parameters by name.

        A penalised bias becomes W's last column.
        """
        (weight,) = (value.double() for name, value in named.items() if name.endswith("weight"))
        if self.bias == "none":
            return weight, weight.new_zeros(len(weight))
        (bias,) = (value.double() for name, value in named.items() if name.endswith("bias"))
        return (weight, bias) if self.bias == "free" else (torch.cat([weight, bias[:, None]], dim=1), bias * 0)

    def as_parameters(self, weight: Tensor, bias: Tensor, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Name W [..., outputs, p] and b [..., outputs] as the given parameters of a linear layer are.

        The values have the devices and the precision of these. It is the inverse of `parameters`: a penalised bias is
        W's last column.
        """
        if self.bias == "penalised":
            weight, bias = weight[..., :-1], weight[..., -1]
        found = {"weight": weight, "bias": bias}
        return {name: found[name.rpartition(".")[2]].to(value) for name, value in named.items()}

    def certificate(self, l1: Strength, l2: Strength, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Measure the parameters of a linear layer, by name: `optimum/duality_gap` and `optimum/kkt`, each 0-d."""
        weight, bias = self.parameters(named)
        return {
            "optimum/duality_gap": self.duality_gap(l1, l2, weight, bias),
            "optimum/kkt": self.kkt(l1, l2, weight, bias),
        }

    @cached_property
    def loss(self) -> RowLoss:
        """The losses of the rows, with their weights and offsets."""
        return RowLoss(self.task, self.y, self.row_weight, self.offset)

    @cached_property
    def free(self) -> FreeColumns | None:
        """The columns that no penalty holds, a free bias among them; None if it is that alone, or none."""
        if self.factor is None or bool((self.factor > 0).all()):
            return None
        columns = self.whole_columns(torch.nonzero(self.factor == 0)[:, 0])
        ones = columns.new_ones(len(columns), int(self.bias == "free"))
        return FreeColumns.spanning(self.loss, torch.cat([ones, columns], dim=1))

    @cached_property
    def is_held(self) -> Tensor:
        """Whether a penalty holds each column, [p]."""
        return torch.ones(self.width, dtype=torch.bool) if self.factor is None else self.factor > 0

    def factored(self, values: Tensor) -> Tensor:
        """Multiply values [..., p] by the columns' factors."""
        return values if self.factor is None else self.factor * values

    def objective(self, l1: Strength, l2: Strength, weight: Tensor, bias: Tensor) -> Tensor:
        """Compute the objective P(W, b), 0-d."""
        loss = self.loss.losses(self.outputs_of(weight) + bias).mean()
        return loss + l1 * self.factored(self.lengths(weight)).sum() + l2 / 2 * self.factored(weight.square()).sum()

    def lengths(self, weight: Tensor) -> Tensor:
        """Measure weights [..., outputs, p] as λ₁ does: |w| of each, or √outputs·‖wⱼ‖ of each column, [..., 1, p]."""
        return self.roots * norms_of_columns(weight) if self.together else weight.abs()

    def dual_lengths(self, slope: Tensor) -> Tensor:
        """Measure slopes in the weights, [..., outputs, p], so that λ₁fⱼ holds a weight at zero that is no longer.

        That is |u| of each, or ‖uⱼ‖/√outputs of each column, [..., 1, p].
        """
        return norms_of_columns(slope) / self.roots if self.together else slope.abs()

    @property
    def roots(self) -> float:
        """√outputs, the root of how many weights are held together."""
        return math.sqrt(self.task.outputs)

    def fenchel_young_of_penalty(self, dual: Tensor, weight: Tensor, thresholds: Tensor, ridges: Tensor) -> Tensor:
        """Compute the Fenchel–Young difference of the penalty, [...], between weights and slopes [..., outputs, p].

        dual: the slopes. thresholds, ridges: λ₁ and λ₂ of every column. It is the sum of those of the weights, or of
        the columns, each ≥ 0.
        """
        if self.together:
            return fenchel_young_of_columns(dual, weight, self.roots * thresholds, ridges).sum(dim=(-2, -1))
        return fenchel_young_of_weights(dual, weight, thresholds, ridges).sum(dim=(-2, -1))

    def settled(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Fit all that no penalty holds anew: outputs [n, outputs], and by how much the mean loss falls, 0-d.

        bias: to begin at, [outputs].
        """
        output = self.outputs_of(weight)
        own = self.loss.losses(output + bias).mean()
        if self.free is None:
            output = output + self.refitted(output, bias)
        else:
            output = self.free.settle(output + self.refitted(output, bias))
        return output, own - self.loss.losses(output).mean()

    def duality_gap(self, l1: Strength, l2: Strength, weight: Tensor, bias: Tensor) -> Tensor:
        """Compute a bound on how far the objective is above its least value: the duality gap, 0-d.

        The gap is P(W, b) − D(u) ≥ P(W, b) − min P ≥ 0. At the refitted bias b̂ the slopes g of the loss sum to zero
        over the rows, so that u = −s·g/n is dual feasible: with s = 1 where λ₂ > 0, and with s = min(1, λ₁/‖Xᵀg/n‖_∞).
        The smaller gap of both, and of s = 0 (min P ≥ 0), is taken, plus what the own bias costs beside b̂. Without a
        penalty Xᵀu has to be 0: there u is the part of −g/n that no column reaches, or nearly all of it, if the loss
        has such slopes. All terms are Fenchel–Young differences, ≥ 0 by themselves, so that no digits cancel near the
        optimum. References: Massias et al. (2018), "Celer"; Ndiaye et al. (2017), "Gap safe screening rules for
        sparsity enforcing penalties".

        The weights r multiply both the slopes and their conjugates, an offset drops out, and the strengths of column j
        are λ₁fⱼ and λ₂fⱼ. For a column with fⱼ = 0 no s makes u feasible: all such are fitted anew with the bias, and
        what is left of their slopes is projected out of u (`FreeColumns.unreached`).
        """
        output, cost = self.settled(weight, bias)
        slope = self.loss.slope(output)
        if self.free is not None:
            slope = self.free.unreached(output, slope)
        dual = -self.slopes_of(slope.T) / len(self.y)  # Xᵀu at s = 1
        l1, l2 = (torch.as_tensor(strength, dtype=slope.dtype, device=slope.device) for strength in (l1, l2))
        thresholds, ridges = self.strengths_of_columns(l1, l2)
        if self.free is not None:
            dual = torch.where(self.is_held, dual, 0.0)

        def gap(scale: Tensor) -> Tensor:
            penalty = self.fenchel_young_of_penalty(scale * dual, weight, thresholds, ridges)
            return self.loss.fenchel_young(output, scale * slope).mean() + penalty

        largest = self.per_factor(self.dual_lengths(dual)).max()
        feasible = torch.where(largest > l1, l1 / largest, 1.0)
        gaps = [gap(scale) for scale in (torch.zeros_like(l1), feasible, torch.ones_like(l1))]
        unreached = Unreached.apply(l1 + l2, slope, self)
        for share in WHOLE_AND_WITHIN:
            without = self.loss.fenchel_young(output, share * unreached).mean()
            gaps.append(torch.where(l1 + l2 > 0, torch.inf, without))
        return torch.stack(gaps).min() + cost.clamp(min=0)

    def strengths_of_columns(self, l1: Tensor, l2: Tensor) -> tuple[Tensor, Tensor]:
        """Give λ₁ and λ₂ of every column, [..., p], from those of the penalty; as they are if all are the same."""
        return (l1, l2) if self.factor is None else (l1 * self.factor, l2 * self.factor)

    def per_factor(self, sizes: Tensor) -> Tensor:
        """Divide sizes [..., p] by the columns' factors; 0 where no penalty holds a column."""
        if self.factor is None:
            return sizes
        return torch.where(self.is_held, sizes / torch.where(self.is_held, self.factor, 1.0), 0.0)

    def refitted(self, output: Tensor, bias: Tensor) -> Tensor:
        """Find the best bias [outputs] for outputs without one, beginning at the given one; only a free one moves."""
        return bias + self.loss.best_bias(output + bias) if self.bias == "free" else bias

    def kkt(self, l1: Strength, l2: Strength, weight: Tensor, bias: Tensor) -> Tensor:
        """Compute the largest violation of the conditions that hold at the optimum and nowhere else (KKT), 0-d.

        With G the gradient of the data loss at the refitted bias: |G + λ₂w + λ₁ sign w| where w ≠ 0, (|G| − λ₁)₊ where
        w = 0, with both λ's times the column's factor; for columns that are held together with wⱼ/‖wⱼ‖ for sign w, ‖Gⱼ‖
        for |G| and λ₁√outputs for λ₁; and the derivatives of the loss in the own bias, and in the own
        weights of columns that no penalty holds.
        """
        slope = self.loss.slope(self.outputs_of(weight) + bias)
        own = slope.mean(dim=0)
        output, _ = self.settled(weight, bias)
        gradient = self.slopes_of(self.loss.slope(output).T) / len(self.y)
        if self.together:
            norms = norms_of_columns(weight)
            is_there, direction = norms > 0, self.roots * weight / torch.where(norms > 0, norms, 1.0)
        else:
            is_there, direction = weight != 0, weight.sign()
        on = (gradient + self.factored(l2 * weight + l1 * direction)).abs()
        l1 = torch.as_tensor(l1, dtype=slope.dtype, device=slope.device)
        off = (self.dual_lengths(gradient) - self.strengths_of_columns(l1, l1)[0]).clamp(min=0)
        off = self.roots * off if self.together else off
        violation = torch.where(is_there, on, off).max()
        if self.free is not None:
            held = self.slopes_of(slope.T) / len(self.y)
            violation = torch.maximum(violation, torch.where(self.is_held, 0.0, held).abs().max())
        return torch.maximum(violation, own.abs().max()) if self.bias == "free" else violation

    def best_bias_of(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Give W and the bias that is best for it; the bias is zero if it is a weight, or none."""
        output = self.outputs_of(weight)
        return weight, self.loss.best_bias(output) if self.bias == "free" else weight.new_zeros(len(weight))

    def lambda_max(self, l1_ratio: float = 1.0) -> float:
        """Return the smallest λ at which every weight is zero at the optimum under λ(l1_ratio·‖W‖₁ + …).

        With b̂ the best bias at W = 0 it is ‖X_cᵀ∇ℓ(b̂)/n‖_∞ / l1_ratio: a weight leaves zero where its slope is larger
        than the penalty's, and columns that are held together where `dual_lengths` of theirs is. X_c has its columns
        centred where the bias is free; a bias that is penalised is one of the weights. ∞ for l1_ratio = 0, under which
        no λ makes a weight zero. With factors it is the largest slope divided by its column's, and columns that no
        penalty holds are fitted beside the bias. Reference: Friedman, Hastie & Tibshirani (2010), "Regularization paths
        for generalized linear models", §2.5.
        """
        return self.steepest_at_zero / l1_ratio if l1_ratio else math.inf

    @cached_property
    def steepest_at_zero(self) -> float:
        """The largest slope, per factor, of the data loss in any weight, where all that a penalty holds are zero."""
        slope = self.loss.slope(self.null_output).T
        gradient = self.slopes_of_centred(slope) if self.bias == "free" else self.slopes_of(slope)
        return float(self.per_factor(self.dual_lengths(gradient)).max() / len(self.y))

    @cached_property
    def null_output(self) -> Tensor:
        """The outputs [n, outputs] where every weight that a penalty holds is zero, and all others at their best."""
        zero = torch.zeros(self.task.outputs, self.width, dtype=torch.float64, device=self.y.device)
        weight, bias = self.best_bias_of(zero)
        return self.outputs_of(weight) + bias if self.free is None else self.settled(weight, bias)[0]


def norms_of_columns(weight: Tensor) -> Tensor:
    """Compute ‖wⱼ‖₂ of the columns of W [..., outputs, p], [..., 1, p]."""
    return weight.square().sum(dim=-2, keepdim=True).sqrt()


def fenchel_young_of_columns(dual: Tensor, weight: Tensor, threshold: Tensor, ridge: Tensor) -> Tensor:
    """Compute the Fenchel–Young difference of the penalty for each column w of W and u of U = dual, [..., 1, p].

    That is t‖w‖ + ½r‖w‖² + max(‖u‖ − t, 0)²/(2r) − u·w with t = threshold and r = ridge: ≥ 0, and ∞ where r = 0 and
    ‖u‖ > t. With a the part of u/t within the unit ball, t‖w‖ − t·a·w is ½t‖w‖(‖a − w/‖w‖‖² + 1 − ‖a‖²).
    """
    size, length = norms_of_columns(dual), norms_of_columns(weight)
    # What a division has rounded away is not outside.
    is_outside = size > threshold * (1 + 1e-14)
    share = torch.where(is_outside, threshold / torch.where(size > 0, size, 1.0), 1.0)
    outside = (1 - share) * dual
    squared = (ridge * weight - outside).square().sum(dim=-2, keepdim=True) / (2 * ridge)
    squared = torch.where(ridge > 0, squared, torch.where(is_outside, torch.inf, 0.0))
    inside = share * dual / torch.where(threshold > 0, threshold, 1.0)
    within = norms_of_columns(inside).clamp(max=1)
    apart = norms_of_columns(inside - weight / torch.where(length > 0, length, 1.0)).square()
    return threshold * length / 2 * (apart + (1 - within) * (1 + within)) + squared


def fenchel_young_of_weights(dual: Tensor, weight: Tensor, threshold: Tensor, ridge: Tensor) -> Tensor:
    """Compute the Fenchel–Young difference of the penalty for each weight w and slope u = dual, of their shape.

    That is t|w| + ½r·w² + max(|u| − t, 0)²/(2r) − u·w with t = threshold and r = ridge: ≥ 0, and ∞ where r = 0 and u
    is not within ±t.
    """
    inside = torch.minimum(torch.maximum(dual, -threshold), threshold)
    outside = dual - inside
    # What a division has rounded away is not outside.
    outside = torch.where(outside.abs() <= 1e-14 * threshold, 0.0, outside)
    squared = (ridge * weight - outside).square() / (2 * ridge)
    squared = torch.where(ridge > 0, squared, torch.where(outside == 0, 0.0, torch.inf))
    return (threshold * weight.abs() - inside * weight).clamp(min=0) + squared
