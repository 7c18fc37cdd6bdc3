"""How far a linear model is from the optimum that its training tends to: its certificate, and the exact optimum."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from shrinkage.penalties.base import Penalty

from .engines.path import solve_path
from .exact import Optimum, is_cheap, optimum
from .problem import Problem, Strength
from .redundancy import centred, sparsest
from .sparse_problem import SparseProblem

DECOMPOSITIONS = 30  # that Newton's method takes about as long as, for one optimum
NUMBERS_AT_ONCE = 20_000_000  # of many lanes' outputs and weights, which a certificate holds a few times over


@dataclass
class Certifier:
    """A certifier tells how far a linear model is from the optimum that its training tends to.

    problem: that of the training part. factor: what multiplies λ in the objective that the training tends to. exact:
    whether the optimum is solved for whatever it takes. problems: for how many strengths of a penalty the optimum may
    be asked, which decides whether it is cheap. could_standardize: whether the data have columns that are not
    standardised and could be.
    """

    problem: Problem | SparseProblem
    factor: float
    classes: int | None
    exact: bool
    problems: int = 1
    could_standardize: bool = False
    moved: dict[torch.device, Problem | SparseProblem] = field(default_factory=dict)
    solved: dict[tuple[float, float], tuple[Optimum, float] | None] = field(default_factory=dict)

    def strengths(self, penalty: Penalty, lambd: Strength) -> tuple[Strength, Strength]:
        """Give λ₁ and λ₂ of the objective that the training tends to."""
        return as_elastic_net(penalty, self.factor * lambd)

    def lambda_max(self, penalty: Penalty) -> float:
        """Return the smallest λ at which the training tends to zero weights; ∞ if the penalty has no L1 in it."""
        return self.problem.lambda_max(float(as_elastic_net(penalty, 1.0)[0])) / self.factor

    def __call__(self, penalty: Penalty, lambd: Strength, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Measure the parameters of a model as `Problem.certificate` does; can be vectorised over lanes."""
        return self.problem_beside(named).certificate(*self.strengths(penalty, lambd), named)

    @property
    def at_once(self) -> int:
        """How many lanes have their certificates computed together."""
        if isinstance(self.problem, SparseProblem):
            return 1
        n, p = self.problem.x.shape
        return max(NUMBERS_AT_ONCE // ((n + p) * self.problem.task.outputs), 1)

    def problem_beside(self, named: Mapping[str, Tensor]) -> Problem | SparseProblem:
        """Give the problem on the device of the parameters."""
        device = next(iter(named.values())).device
        if device not in self.moved:
            self.moved[device] = self.problem.to(device)
        return self.moved[device]

    def against_optimum(self, penalty: Penalty, lambd: float, named: Mapping[str, Tensor]) -> dict[str, float]:
        """Measure what is known beside the certificate: λ_max, and the exact optimum if it is cheap or asked for.

        Raises InputError as `solve` does.
        """
        l1, l2 = map(float, self.strengths(penalty, lambd))
        known = {}
        if math.isfinite(largest := self.lambda_max(penalty)):
            known["optimum/lambda_max"] = largest
        found = self.solve(l1, l2)
        if found is None:
            return known
        best, objective = found
        weight, bias = self.problem.parameters({name: value.cpu() for name, value in named.items()})
        known["optimum/objective"] = objective
        # Of two optima the later one may be nearer, by rounding.
        known["optimum/gap"] = max(float(self.problem.objective(l1, l2, weight, bias)) - objective, 0.0)
        if best.unique:
            known["optimum/weight_distance"] = float(np.linalg.norm(weight.numpy() - best.weight))
        if l1:
            known["optimum/same_support"] = float(((weight.numpy() != 0) == (best.weight != 0)).all())
        if best.degrees_of_freedom is not None:
            known["optimum/degrees_of_freedom"] = best.degrees_of_freedom
        return known

    @property
    def x(self) -> np.ndarray:
        """The design [n, p], with a column of ones if the bias is penalised."""
        return self.problem.design.numpy()

    @property
    def y(self) -> np.ndarray:
        """The targets [n]."""
        return self.problem.y.numpy()

    def solve(self, l1: float, l2: float) -> tuple[Optimum, float] | None:
        """Solve for the optimum and the objective's least value; None if there is none or it is not cheap.

        Of a sparse design, which is always solved by an engine, it is not solved for once more.
        The value is the lower bound that the solution's own certificate proves, so that no gap is negative. Raises
        InputError for strengths that are negative or not finite.
        """
        if isinstance(self.problem, SparseProblem):
            return None
        task = self.problem.task
        is_plain = self.problem.loss.is_plain and self.problem.factor is None and not self.problem.together
        by_libraries = is_plain and ((task.is_least_squares and task.outputs == 1) or self.classes is not None)
        decompositions = self.problems * (1 if by_libraries else DECOMPOSITIONS)
        if not self.exact and not is_cheap(self.x, self.classes, l1, decompositions):
            return None
        if (l1, l2) not in self.solved:
            if by_libraries:
                best = optimum(self.x, self.y, self.classes, l1, l2, self.problem.bias == "free")
            else:
                best = optimum_by_engine(self.problem, l1, l2)
            self.solved[l1, l2] = None
            if best is not None:
                point = torch.from_numpy(best.weight), torch.from_numpy(best.bias)
                least = self.problem.objective(l1, l2, *point) - self.problem.duality_gap(l1, l2, *point)
                self.solved[l1, l2] = best, float(least)
        return self.solved[l1, l2]

    @property
    def leaves_directions(self) -> bool:
        """Whether some change of the weights changes no output on the training part."""
        return bool(
            np.linalg.matrix_rank(self.x - self.x.mean(axis=0) * (self.problem.bias == "free")) < self.x.shape[1]
        )

    def best(self, l1: float, l2: float) -> tuple[Tensor, Tensor] | None:
        """Solve for the optimum's W and b; None if it is not cheap. Raises InputError as `solve` does."""
        found = self.solve(l1, l2)
        return None if found is None else (torch.from_numpy(found[0].weight), torch.from_numpy(found[0].bias))

    @cached_property
    def null_objective(self) -> float:
        """The objective if every weight that a penalty holds is zero."""
        return float(self.problem.loss.losses(self.problem.null_output).mean())


def optimum_by_engine(problem: Problem, l1: float, l2: float) -> Optimum | None:
    """Solve for the exact minimiser by an engine, which serves every convex loss; None if there is none.

    Under L1 it is the one on the first of the columns that can stand for one another. It is unique if the rows whose
    loss is curved there, which is all of them but for losses with straight parts, leave its columns no other weights.
    """
    solved = solve_path(problem, np.array([[l1, l2]]))
    if not solved.has_minimum[0]:
        return None
    weight, bias = torch.from_numpy(solved.weight[0]), torch.from_numpy(solved.bias[0])
    if l2 and problem.free is None:
        return Optimum(weight.numpy(), bias.numpy(), unique=True)
    is_known = problem.task.is_least_squares or problem.task.outputs == 1
    if problem.factor is not None or problem.together or not is_known:
        return Optimum(weight.numpy(), bias.numpy(), unique=False)  # as far as is known
    if l1:
        weight, _ = problem.sparsest(weight)
        bias = problem.refitted(problem.outputs_of(weight), bias)
    curvatures = problem.loss.curvatures(problem.outputs_of(weight) + bias)
    is_curved = (curvatures.reshape(len(curvatures), -1) > 0).any(dim=1)
    rows = problem.design[is_curved].numpy()
    rows = centred(rows) if problem.bias == "free" and len(rows) else rows
    shifts = problem.task.shifts(problem.y)[is_curved].numpy()
    rows = rows - shifts @ np.linalg.lstsq(shifts, rows)[0] if shifts.size else rows
    unique = not sparsest(rows, weight.numpy())[1].any() if l1 else np.linalg.matrix_rank(rows) == rows.shape[1]
    return Optimum(weight.numpy(), bias.numpy(), bool(unique))


def as_elastic_net(penalty: Penalty, lambd: Strength) -> tuple[Strength, Strength]:
    """Give λ₁ and λ₂ of a penalty that is a sum of L1 and L2. Raises TypeError for any other."""
    found = penalty.elastic_net(lambd)
    if found is None:
        raise TypeError(f"{type(penalty).__name__} is no sum of L1 and L2")
    return found
