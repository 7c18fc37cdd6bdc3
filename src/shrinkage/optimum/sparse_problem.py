"""The convex problem of a design of mostly zeros, which are never written down."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.sparse import csc_array, hstack
from torch import Tensor

from shrinkage.tasks.base import ConvexTask

from .convex_problem import ConvexProblem


@dataclass(frozen=True)
class SparseProblem(ConvexProblem):
    """The convex problem that a penalised linear model solves, its rows in a sparse matrix.

    x: any sparse matrix of SciPy's, or what makes one, [n, p]; on the CPU.
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

    @property
    def width(self) -> int:
        return self.design.shape[1]

    def outputs_of(self, weight: Tensor) -> Tensor:
        return torch.from_numpy(self.design @ weight.T.numpy())

    def slopes_of(self, slope: Tensor) -> Tensor:
        return torch.from_numpy(slope.numpy() @ self.design)

    def slopes_of_centred(self, slope: Tensor) -> Tensor:
        return self.slopes_of(slope) - slope.sum(dim=1, keepdim=True) * torch.from_numpy(self.design.mean(axis=0))

    def whole_columns(self, which: Tensor) -> Tensor:
        return torch.from_numpy(self.design[:, which.numpy()].toarray())

    def unreached(self, slope: Tensor) -> Tensor:
        """Give none of it, since a basis of the columns is not sparse: without a penalty no optimum is certified."""
        return torch.zeros_like(slope)
