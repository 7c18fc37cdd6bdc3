"""The rows of a problem as an engine reads them: in numpy, the columns centred where the bias is free."""

from dataclasses import dataclass

import numpy as np
import torch

from ..convex_problem import ConvexProblem
from ..problem import Problem
from ..redundancy import centred
from ..sparse_problem import SparseProblem
from .columns import Array, Columns, DenseColumns, SparseColumns


@dataclass(frozen=True)
class Rows:
    """The design of a problem, so written that a free bias moves no weight of least squares.

    problem: the problem itself. x: its design, [n, p]. mean: what was subtracted from its columns, [p].
    """

    problem: ConvexProblem
    x: Columns
    mean: Array

    @classmethod
    def of(cls, problem: Problem | SparseProblem) -> "Rows":
        """Take the rows of a problem."""
        is_free = problem.bias == "free"
        if isinstance(problem, SparseProblem):
            mean = problem.design.mean(axis=0) * is_free
            return cls(problem, SparseColumns(problem.design, mean), mean)
        x = problem.design.numpy()
        inner = DenseColumns(np.asfortranarray(centred(x) if is_free else x))
        return cls(problem, inner, x.mean(axis=0) * is_free)

    @property
    def is_free(self) -> bool:
        """Whether the bias stands outside the penalty."""
        return self.problem.bias == "free"

    @property
    def outputs(self) -> int:
        """How many numbers the model gives for a row."""
        return self.problem.task.outputs

    def outputs_of(self, weight: Array) -> Array:
        """Compute the outputs XWᵀ [n, outputs] of weights [outputs, p], of which most may be zero."""
        used = np.flatnonzero(weight.any(axis=0))
        return self.x.take(used).outputs_of(weight[:, used].T)

    def losses(self, output: Array) -> Array:
        """Compute the loss of each row, [n], from outputs [n, outputs]."""
        return self.problem.task.losses(torch.from_numpy(output), self.problem.y).numpy()

    def slope(self, output: Array) -> Array:
        """Compute the gradient of each row's loss in its outputs, [n, outputs]."""
        return self.problem.task.slope(torch.from_numpy(output), self.problem.y).numpy()

    def curvatures(self, output: Array) -> Array:
        """Compute the curvatures of each row's loss in its outputs by which steps go, [n, outputs, outputs]."""
        found = self.problem.task.model_curvatures(torch.from_numpy(output), self.problem.y).numpy()
        return found.reshape(len(output), self.outputs, self.outputs)

    def recession(self) -> Array:
        """Say along which changes of the outputs the loss of a row falls for ever, [n, m, outputs]."""
        return self.problem.task.recession(self.problem.y).double().numpy()

    def best_bias(self) -> Array:
        """Find the best free bias where all weights are zero, [outputs]; zero where the bias is not free."""
        outputs = torch.zeros(len(self.problem.y), self.outputs, dtype=torch.float64)
        return self.problem.refitted(outputs, outputs[0]).numpy()
