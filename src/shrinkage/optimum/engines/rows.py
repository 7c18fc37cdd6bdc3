"""The rows of a problem as an engine reads them: in numpy, the columns centred where the bias is free."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from ..convex_problem import ConvexProblem
from ..problem import Problem
from ..redundancy import centred
from ..sparse_problem import SparseProblem
from .columns import Array, Columns, DenseColumns, SparseColumns, inner


@dataclass(frozen=True)
class Held:
    """Which columns a penalty holds, and how they are scaled so that one λ serves them all.

    places: of the columns in the design. scale: s, by which each was divided, so that its weight is multiplied by s;
    λ₁f|w| is λ₁|v| of v = sw with s = f, and ½λ₂fw² is ½λ₂v² with s = √f. free: the places of all others.
    """

    places: Array
    scale: Array
    free: Array


@dataclass(frozen=True)
class Rows:
    """The design of a problem, so written that a free bias moves no weight of least squares.

    problem: the problem itself. x: its design, [n, p]. mean: what was subtracted from its columns, [p].

    Under a penalty with factors x has the columns that it holds, as `held` says, and `free` the others, [n, q]; ridge:
    what multiplies λ₂ of each column. What no penalty holds, the bias and the weights of `free`, is *loose*: one array,
    [outputs + outputs·q], the biases first.
    """

    problem: ConvexProblem
    x: Columns
    mean: Array
    ridge: Array | float = 1.0
    held: Held | None = None
    free: Columns | None = None

    @classmethod
    def of(cls, problem: Problem | SparseProblem) -> "Rows":
        """Take the rows of a problem."""
        is_free, weight = problem.bias == "free", problem.loss.weight
        if isinstance(problem, SparseProblem):
            mean = problem.design.mean(axis=0) if weight is None else weight.numpy() @ problem.design / len(weight)
            mean = mean * is_free
            return cls(problem, SparseColumns(problem.design, mean), mean)
        x = problem.design.numpy()
        mean = x.mean(axis=0) if weight is None else weight.numpy() @ x / len(x)
        middle = centred(x) if weight is None else np.where(np.ptp(x, axis=0) > 0, x - mean, 0.0)
        return cls(problem, DenseColumns(np.asfortranarray(middle if is_free else x)), mean * is_free)

    def under(self, l1: float, l2: float) -> "Rows":
        """Scale the columns by the factors of a penalty of λ₁ and λ₂, and put those that it does not hold apart."""
        if self.problem.factor is None or l1 + l2 == 0:
            return self
        factor = self.problem.factor.numpy()
        places, free = np.flatnonzero(factor > 0), np.flatnonzero(factor == 0)
        scale = factor[places] if l1 else np.sqrt(factor[places])
        return replace(
            self,
            x=self.x.take(places).divided(scale),
            ridge=factor[places] / scale**2 if l1 else 1.0,
            held=Held(places, scale, free),
            free=self.x.take(free) if len(free) else None,
        )

    def of_free_alone(self) -> "Rows":
        """The rows with the columns that no penalty holds, and no others."""
        assert self.free is not None
        return replace(self, x=self.free, held=None, free=None)

    def parameters(self, weight: Array, loose: Array) -> tuple[Array, Array]:
        """Give W [outputs, p] and b [outputs] for the columns as they were, from those for the columns here."""
        k = self.outputs
        if self.held is None:
            return weight, loose - weight @ self.mean
        whole = np.zeros((k, len(self.mean)))
        whole[:, self.held.places] = weight / self.held.scale
        whole[:, self.held.free] = loose[k:].reshape(k, -1)
        return whole, loose[:k] - whole @ self.mean

    @property
    def is_free(self) -> bool:
        """Whether the bias stands outside the penalty."""
        return self.problem.bias == "free"

    @property
    def outputs(self) -> int:
        """How many numbers the model gives for a row."""
        return self.problem.task.outputs

    @property
    def together(self) -> bool:
        """Whether λ₁ holds all the weights of a column together."""
        return self.problem.together

    @property
    def root(self) -> float:
        """What multiplies λ₁ there: the root of how many weights a column has."""
        return self.problem.roots

    @cached_property
    def weight(self) -> Array | None:
        """How much each row counts, [n], with a mean of 1; None where all count the same."""
        return None if self.problem.loss.weight is None else self.problem.loss.weight.numpy()

    def outputs_of(self, weight: Array) -> Array:
        """Compute the outputs XWᵀ [n, outputs] of weights [outputs, p], of which most may be zero."""
        used = np.flatnonzero(weight.any(axis=0))
        return self.x.take(used).outputs_of(weight[:, used].T)

    def outputs_of_loose(self, loose: Array) -> Array:
        """Compute the outputs [n, outputs], or [outputs] for all rows, of what no penalty holds."""
        k = self.outputs
        return loose if self.free is None else loose[:k] + self.free.outputs_of(loose[k:].reshape(k, -1).T)

    def slope_in_loose(self, slope: Array) -> Array:
        """Compute the slope of the mean loss in what no penalty holds, from slopes [n, outputs]."""
        own = slope.mean(axis=0) * self.is_free
        return own if self.free is None else np.append(own, self.free.slopes_of(slope.T) / len(slope))

    def curvature_in_loose(self, rates: Array) -> Array:
        """Compute the second derivatives in what no penalty holds, from those of each row, [n, outputs, outputs]."""
        own = rates.mean(axis=0)
        if self.free is None:
            return own
        (n, q), k = self.free.shape, self.outputs
        found = np.zeros((k, 1 + q, k, 1 + q))
        for c in range(k):
            for d in range(k):
                found[c, 0, d, 0] = own[c, d] * self.is_free
                found[c, 0, d, 1:] = found[d, 1:, c, 0] = self.free.slopes_of(rates[:, c, d]) / n * self.is_free
                found[c, 1:, d, 1:] = inner(self.free, self.free, rates[:, c, d]) / n
        order = np.concatenate([np.arange(k) * (1 + q), *(c * (1 + q) + 1 + np.arange(q) for c in range(k))])
        return found.reshape(k * (1 + q), -1)[np.ix_(order, order)]

    def losses(self, output: Array) -> Array:
        """Compute the loss of each row, [n], from outputs [n, outputs]."""
        return self.problem.loss.losses(torch.from_numpy(output)).numpy()

    def slope(self, output: Array) -> Array:
        """Compute the gradient of each row's loss in its outputs, [n, outputs]."""
        return self.problem.loss.slope(torch.from_numpy(output)).numpy()

    def curvatures(self, output: Array) -> Array:
        """Compute the curvatures of each row's loss in its outputs by which steps go, [n, outputs, outputs]."""
        found = self.problem.loss.model_curvatures(torch.from_numpy(output)).numpy()
        return found.reshape(len(output), self.outputs, self.outputs)

    def joint_part(self, output: Array, columns: Columns) -> Array:
        """Compute what the second derivatives of a joint loss have beside its rows' (`ConvexTask.joint_part`)."""
        loss = self.problem.loss
        shifted = loss.shifted(torch.from_numpy(output))
        return loss.task.joint_part(shifted, loss.y, torch.from_numpy(columns.with_zeros())).numpy()

    def recession(self) -> Array:
        """Say along which changes of the outputs the loss of a row falls for ever, [n, m, outputs]."""
        return self.problem.task.recession(self.problem.y).double().numpy()

    def best_bias(self) -> Array:
        """Find the best free bias where all weights are zero, [outputs]; zero where the bias is not free."""
        outputs = torch.zeros(len(self.problem.y), self.outputs, dtype=torch.float64)
        return self.problem.refitted(outputs, outputs[0]).numpy()
