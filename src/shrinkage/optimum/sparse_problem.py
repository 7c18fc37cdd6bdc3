"""The convex problem of a design of mostly zeros, which are never written down."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.sparse import csc_array, hstack
from torch import Tensor

from shrinkage.tasks.base import ConvexTask

from .convex_problem import ConvexProblem
from .redundancy import centred, is_independent, sparsest

NEAR = 1e-6  # as a share of the slopes of the weights, within which a column may take over weight
FAR_APART = 1e-4  # what the others leave of a column at least, as a share of its length, that rounding cannot have made
WHOLE_NUMBERS = 20_000_000  # of columns with their zeros, among which combinations are looked for


@dataclass(frozen=True)
class SparseProblem(ConvexProblem):
    """The convex problem that a penalised linear model solves, its rows in a sparse matrix.

    x: any sparse matrix of SciPy's, or what makes one, [n, p]; on the CPU. factor: of the design's columns, [width].
    """

    x: csc_array
    y: Tensor
    task: ConvexTask
    bias: str
    row_weight: Tensor | None = None
    offset: Tensor | None = None
    factor: Tensor | None = None
    together: bool = False

    @cached_property
    def design(self) -> csc_array:
        """x by columns, float64, with a column of ones where the bias is penalised as a weight."""
        x = csc_array(self.x, dtype=np.float64)
        return hstack([x, np.ones((x.shape[0], 1))], format="csc") if self.bias == "penalised" else x

    def to(self, device: torch.device) -> "SparseProblem":
        return self

    @property
    def width(self) -> int:
        return self.design.shape[1]

    def outputs_of(self, weight: Tensor) -> Tensor:
        used = np.flatnonzero(weight.numpy().any(axis=0))  # a product with all columns takes as long as with none zero
        return torch.from_numpy(self.design[:, used] @ weight.numpy()[:, used].T)

    def slopes_of(self, slope: Tensor) -> Tensor:
        return torch.from_numpy(slope.numpy() @ self.design)

    def slopes_of_centred(self, slope: Tensor) -> Tensor:
        return self.slopes_of(slope) - slope.sum(dim=1, keepdim=True) * self.mean

    @cached_property
    def mean(self) -> Tensor:
        """The mean of each column, in which rows count the same, [width]."""
        return torch.from_numpy(self.design.mean(axis=0))

    def fenchel_young_of_penalty(self, dual: Tensor, weight: Tensor, thresholds: Tensor, ridges: Tensor) -> Tensor:
        # Of a million columns most have no weight and a slope within the threshold, and so a difference of 0.
        counts = ((weight != 0) | (self.dual_lengths(dual) > thresholds)).reshape(-1, self.width).numpy().any(axis=0)
        which = torch.from_numpy(np.flatnonzero(counts))

        def some(values: Tensor) -> Tensor:
            return values[..., which] if values.ndim and values.shape[-1] == self.width else values

        return super().fenchel_young_of_penalty(some(dual), some(weight), some(thresholds), some(ridges))

    def whole_columns(self, which: Tensor) -> Tensor:
        return torch.from_numpy(self.design[:, which.numpy()].toarray())

    def sparsest(self, weight: Tensor) -> tuple[Tensor, np.ndarray]:
        """Do as for a dense design, among the columns alone whose slopes are as steep as those of the weights.

        Others have no weight at any optimum. Where even these would be large with their zeros, the weights stay.
        """
        groups = np.zeros(weight.shape, dtype=np.int64)
        if not bool(weight.any()):
            return weight, groups
        _, bias = self.best_bias_of(weight)
        slope = self.loss.slope(self.outputs_of(weight) + bias).T
        steep = self.slopes_of_centred(slope) if self.bias == "free" else self.slopes_of(slope)
        sizes, on = np.abs(steep.numpy()).max(axis=0), weight.numpy().any(axis=0)
        near = torch.from_numpy(np.flatnonzero(on | (sizes >= (1 - NEAR) * sizes[on].min())))
        if self.are_far_apart(near) or len(self.y) * len(near) > WHOLE_NUMBERS:
            return weight, groups
        x = self.whole_columns(near).numpy()
        x = centred(x) if self.bias == "free" else x
        found = weight.clone()
        moved, groups[:, near.numpy()] = sparsest(
            None if is_independent(x) else x, weight[:, near].numpy(), self.task.is_shift_invariant
        )
        found[:, near] = torch.from_numpy(moved)
        return found, groups

    def are_far_apart(self, which: Tensor) -> bool:
        """Tell whether columns are surely independent, by their inner products, from which few digits can be told."""
        x = self.design[:, which.numpy()]
        if len(which) > x.shape[0]:
            return False
        mean = self.mean[which].numpy() * (self.bias == "free")
        gram = (x.T @ x).toarray() - len(self.y) * np.outer(mean, mean)
        own = gram.diagonal()
        if not (own > 0).all():
            return False
        try:
            factor = np.linalg.cholesky(gram / np.sqrt(np.outer(own, own)))
        except np.linalg.LinAlgError:
            return False
        return bool(factor.diagonal().min() > FAR_APART)

    def unreached(self, slope: Tensor) -> Tensor:
        """Give none of it, since a basis of the columns is not sparse: without a penalty no optimum is certified."""
        return torch.zeros_like(slope)
