"""What a run says of its optimum: the convex problem that its training tends to, and how far from it it stopped."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from shrinkage.data.base import DataModule
from shrinkage.data.quoting import quoted
from shrinkage.models.linear import Linear
from shrinkage.penalties.base import Penalty
from shrinkage.penalties.l2 import L2
from shrinkage.tasks.base import ConvexTask, Task

from .exact import Optimum, is_cheap, memory_of_the_start, optimum
from .problem import Problem, Strength
from .redundancy import combinations

CONVERGED = 1e-6  # a gap of this share of the objective that no weights at all have; glmnet stops at 1e-7
NUMBERS_AT_ONCE = 20_000_000  # of many lanes' outputs and weights, which a certificate holds a few times over
COLUMNS_NAMED = 5  # in a note
POLISH_STEPS = 100  # between two looks at the gap
FALLS = 0.7  # what may be left of the excess after a quarter of a noisy run that still falls


Result = TypeVar("Result")


def why_not(
    model: nn.Module,
    task: Task,
    penalty: Penalty,
    optimizer: torch.optim.Optimizer,
    lambd: float,
    datamodule: DataModule,
) -> str | None:
    """Say why no optimum is known that such a training tends to; None if one is."""
    if not isinstance(task, ConvexTask):
        return f"{type(task).__name__} does not say that its loss is convex, so nothing certifies an optimum"
    if type(model) is not Linear:
        return f"the objective of {type(model).__name__} is not convex, so nothing certifies an optimum"
    if not datamodule.in_memory:
        return "its rows are read from disk, and an optimum is solved for in memory"
    if penalty.elastic_net(lambd) is None:
        return f"{type(penalty).__name__} is no sum of L1 and L2, and no optimum under it is known here"
    if penalty.groups:
        return "penalty.groups gives λ by parameter, and no optimum under it is known here"
    if penalty.mode == "cautious":
        return "a cautious decay does not tend to the minimiser of loss + λΩ(w)"
    if penalty.rate != "lr":
        return f"with penalty.rate={penalty.rate} the decay does not follow the learning rate, nor its optimum λ"
    if penalty.mode == "decay" and not isinstance(optimizer, torch.optim.SGD):
        words = f"{type(optimizer).__name__} with decay does not tend to the minimiser of loss + λΩ(w)"
        if isinstance(penalty, L2) and lambd > 0:
            words += f": over full batches its fixed point has the least data loss under ‖w‖_∞ ≤ 1/λ = {1 / lambd:.3g}"
        return words
    return None


@dataclass
class Certifier:
    """A certifier tells how far a linear model is from the optimum that its training tends to.

    problem: that of the training part. factor: what multiplies λ in the objective that the training tends to. exact:
    whether the optimum is solved for whatever it takes. problems: for how many strengths of a penalty the optimum may
    be asked, which decides whether it is cheap. could_standardize: whether the data have columns that are not
    standardised and could be.
    """

    problem: Problem
    factor: float
    classes: int | None
    exact: bool
    problems: int = 1
    could_standardize: bool = False
    moved: dict[torch.device, Problem] = field(default_factory=dict)
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

    def polished(
        self,
        l1: Tensor,
        l2: Tensor,
        named: Mapping[str, Tensor],
        steps: int,
        until_gap: float | None,
        tell: Callable[[int, int], None],
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Bring the parameters [K, …] of lanes nearer to their optima by full-batch proximal steps.

        With them come, each [K], how many steps a lane has taken, and whether they began at zero weights because the
        given ones had a larger objective. All take so many steps. With until_gap a lane stops where its gap is no
        larger, or cannot fall any more: no weight has moved by more than the rounding of the largest. That is looked at
        before the first step and after every hundred, in double precision, whatever the parameters are rounded to in
        the end. The steps end on independent columns (`sparsest`), and a lane that stands on others takes some of them
        whatever its gap. tell: hears of the steps taken and of the lanes that are left.
        """
        problem = self.problem_beside(named)

        def over_lanes(function: Callable[..., Result], *trees: object) -> Result:
            return torch.vmap(function, chunk_size=self.at_once)(*trees)

        def gap(l1: Tensor, l2: Tensor, state: dict[str, Tensor], named: dict[str, Tensor]) -> Tensor:
            # The given parameters may have a bias that is not the best for them, which the first step puts right.
            exactly = {name: value.double() for name, value in named.items()}
            reached = problem.polish_end(state, exactly) if done else exactly
            return problem.duality_gap(l1, l2, *problem.parameters(reached))

        start = over_lanes(problem.polish_start, l1, l2, dict(named))
        state = {name: value.clone() for name, value in start.items()}
        left, taken, done = torch.arange(len(l1)), torch.zeros(len(l1), dtype=torch.int64), 0

        def of(lanes: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor], dict[str, Tensor]]:
            return tree_map(lambda value: value[lanes], (l1, l2, state, dict(named)))

        while True:
            if until_gap is not None and len(left):
                is_left = ~(over_lanes(gap, *of(left)).cpu() <= until_gap)
                if not done:
                    moved = (self.sparsest(l1, l2, state["weight"]) - state["weight"]).abs()
                    is_left |= (moved > 0).any(dim=(1, 2)).cpu()
                left = left[is_left]
            if done == steps or not len(left):
                found = {name: value.clone() for name, value in named.items()}
                state["weight"] = self.sparsest(l1, l2, state["weight"])
                for name, value in over_lanes(problem.polish_end, state, dict(named)).items():
                    found[name][taken > 0] = value[taken > 0]
                return found, taken, start["from_zero"].cpu() & (taken > 0)
            count = steps - done if until_gap is None else min(POLISH_STEPS, steps - done)
            moved = over_lanes(lambda l1, l2, state: problem.polish_steps(l1, l2, state, count), *of(left)[:3])  # noqa: B023
            before, after = (tree["weight"][:, :, : problem.x.shape[1]] for tree in (of(left)[2], moved))
            step, largest = (value.abs().amax(dim=(1, 2)) for value in (after - before, after))
            for name, value in moved.items():
                state[name][left] = value
            done += count
            taken[left] = done
            tell(done, len(left))
            if until_gap is not None:
                left = left[(step > torch.finfo(step.dtype).eps * largest).cpu()]

    def sparsest(self, l1: Tensor, l2: Tensor, weights: Tensor) -> Tensor:
        """Move the weights [K, outputs, ≥ p] of the lanes under L1 alone to independent columns (`Problem.sparsest`).

        With λ₂ > 0 there is one optimum in any case, and without a penalty every start has its own.
        """
        found, columns = weights.clone(), self.problem.design.shape[1]
        for lane in torch.nonzero((l1 > 0) & (l2 == 0))[:, 0].tolist():
            found[lane, :, :columns] = self.problem.sparsest(weights[lane, :, :columns])[0]
        return found

    def exchangeable(self, penalty: Penalty, lambd: float, named: Mapping[str, Tensor]) -> np.ndarray:
        """Find the columns that can take over weight from one another at the same objective.

        Returns groups [outputs, p], numbered from 1; 0 is no group, where every optimum has the same weight.
        """
        l1, l2 = map(float, self.strengths(penalty, lambd))
        weight, _ = self.problem.parameters(named)
        if l1 > 0 and l2 == 0:
            return self.problem.sparsest(weight.cpu())[1][:, : self.problem.x.shape[1]]
        return np.zeros((len(weight), self.problem.x.shape[1]), dtype=np.int64)

    @property
    def at_once(self) -> int:
        """How many lanes have their certificates computed together."""
        n, p = self.problem.x.shape
        return max(NUMBERS_AT_ONCE // ((n + p) * (self.classes or 1)), 1)

    def problem_beside(self, named: Mapping[str, Tensor]) -> Problem:
        """Give the problem on the device of the parameters."""
        device = next(iter(named.values())).device
        if device not in self.moved:
            x, y = self.problem.x.to(device), self.problem.y.to(device)
            self.moved[device] = self.problem if device == self.problem.x.device else replace(self.problem, x=x, y=y)
        return self.moved[device]

    def against_optimum(self, penalty: Penalty, lambd: float, named: Mapping[str, Tensor]) -> dict[str, float]:
        """Measure what is known beside the certificate: λ_max, and the exact optimum if it is cheap or asked for."""
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
        known["optimum/gap"] = float(self.problem.objective(l1, l2, weight, bias)) - objective
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

        The value is the lower bound that the solution's own certificate proves, so that no gap is negative.
        """
        if not self.exact and not is_cheap(self.x, self.classes, l1, self.problems):
            return None
        if (l1, l2) not in self.solved:
            best = optimum(self.x, self.y, self.classes, l1, l2, self.problem.bias == "free")
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
        """Solve for the optimum's W and b; None if it is not cheap."""
        found = self.solve(l1, l2)
        return None if found is None else (torch.from_numpy(found[0].weight), torch.from_numpy(found[0].bias))

    @cached_property
    def null_objective(self) -> float:
        """The objective if every weight is zero."""
        p = self.problem
        outputs = torch.zeros(len(p.x), p.task.outputs, dtype=p.x.dtype)
        bias = p.task.best_bias(outputs, p.y) if p.bias == "free" else 0.0
        return float(p.task.losses(outputs + bias, p.y).mean())

    def words(
        self,
        penalty: Penalty,
        lambd: float,
        known: Mapping[str, float],
        until_gap: float | None,
        help: Callable[[float], str],
        exchangeable: Sequence[Sequence[str]] = (),
    ) -> str:
        """Say in a sentence how far from its optimum a run stopped.

        known: the metrics. until_gap: the gap that was asked for. help: says what would help a run that has not
        converged, given the least objective. exchangeable: groups of features that can stand for one another.
        """
        l1, l2 = map(float, self.strengths(penalty, lambd))
        found = self.solve(l1, l2)
        gap = known.get("optimum/gap", known["optimum/duality_gap"])
        if gap <= CONVERGED * self.null_objective:
            words = f"converged (gap {gap:.1g})"
        elif until_gap is not None and gap <= until_gap:
            words = f"stopped at a gap of {gap:.1g}, as trainer.until_gap={until_gap:g} asks"
        else:
            least = known.get("optimum/objective", known["train/objective"] - gap)
            if "optimum/gap" not in known:
                far = f"at most {percent(gap / least) if least > gap / 100 else f'{gap:.1g}'} above its optimum"
            elif gap > 100 * least > CONVERGED * self.null_objective:
                far = f"at {1 + gap / least:.2g} times its optimum"
            elif least > CONVERGED * self.null_objective:
                far = f"{percent(gap / least)} above its optimum"
            else:
                far = "above an optimum of 0"
            words = f"stopped early: {far} (gap {gap:.1g}"
            if known["train/objective"] > self.null_objective:
                words += f"; with every weight at zero the objective is smaller, {self.null_objective:.3g}"
            words += f"){help(least)}"
        if self.factor != 1 and lambd:
            words += (
                f"; under momentum μ = {1 - self.factor:.3g} decay tends to the optimum at λ(1 − μ) = "
                f"{self.factor * lambd:.3g}, and that is what this certifies"
            )
        if exchangeable and gap <= CONVERGED * self.null_objective:
            words += (
                "; the optimum is not unique, since columns can take over weight from one another: "
                f"{quoted_list(exchangeable[0])}{' and others' if len(exchangeable) > 1 else ''} (exchangeable in "
                "coefficients.csv)"
            )
        if found is not None and not found[0].unique and l1 == 0:
            norm = float(np.linalg.norm(found[0].weight))
            words += (
                "; with no penalty and more weights than independent rows the optimum is not unique, the minimum-norm "
                f"solution among them has ‖w‖₂ = {norm:.3g}"
            )
        return words

    def working_lr(self, penalty: Penalty, lambd: float, optimizer: torch.optim.SGD, rows: int) -> tuple[float, str]:
        """Find a learning rate with which steps on batches of so many rows do not diverge, and say why.

        L is `steepness`, and λ₂ more where the penalty is no prox. Without momentum, steps over all rows are stable for
        every η < 2/L, and a step of 1/L on a minibatch goes beyond no batch's minimiser. Under momentum μ a gradient
        moves the weights by η/(1 − μ) in the end, and η = (1 − μ)/L is stable over all rows. Infinite where L is 0.
        Reference: Ghadimi, Feyzmahdavian & Johansson (2015), "Global convergence of the heavy-ball method for convex
        optimization".
        """
        smooth = 0.0 if penalty.mode == "prox" else float(as_elastic_net(penalty, lambd)[1])
        curvature = self.problem.steepness(rows) + smooth
        whole, momentum = rows >= len(self.problem.x), optimizer.param_groups[0]["momentum"]
        if curvature == 0:
            return math.inf, "the objective has no curvature"
        words = f"the objective{'' if whole else ' of a batch'} curves by up to L = {curvature:.3g}, so that "
        if momentum:
            words += f"optimizer.lr=(1 − μ)/L is short enough under momentum μ = {momentum:g}"
        elif whole:
            words += f"gradient descent is stable with optimizer.lr under 2/L = {2 / curvature:.3g}"
        else:
            words += "no step is too long with optimizer.lr=1/L"
        works = rounded_down((1 - momentum) / curvature)
        words += f"; use optimizer.lr={works:g}"
        if self.could_standardize:
            words += ", or data.standardize=true, which allows longer steps"
        return works, words

    def pace(self, curve: Sequence[tuple[int, float]], least: float, key: str, noisy: bool) -> str:
        """Say what would help a run that has not converged: more epochs while its objective falls, else a polish.

        curve: the objective at the steps at which it was measured. key: what sets their number. noisy: whether the
        steps are those of minibatches, whose noise ends the fall.
        """
        if self.factor != 1:
            return ""
        last, quarter = curve[-1][0], len(curve) // 4
        if quarter == 0:
            return f"; {key}={10 * last} would help"
        # The mean excess of the last quarter against that of the one before: single epochs are noisy.
        before, now = (
            sum(value - least for _, value in part) / quarter
            for part in (curve[-2 * quarter : -quarter], curve[-quarter:])
        )
        if 0 < now < (FALLS if noisy else 1.0) * before:
            pace = math.log(now / before) / (curve[-1][0] - curve[-1 - quarter][0])
            needed = last + math.log(CONVERGED * self.null_objective / now) / pace
            return f"; {key}={rounded_up(max(needed, last + 1))} would help"
        return "; it hardly falls any more, and polish=100 would go further than more steps"


def as_elastic_net(penalty: Penalty, lambd: Strength) -> tuple[Strength, Strength]:
    """Give λ₁ and λ₂ of a penalty that is a sum of L1 and L2. Raises TypeError for any other, see `why_not`."""
    found = penalty.elastic_net(lambd)
    if found is None:
        raise TypeError(f"{type(penalty).__name__} is no sum of L1 and L2")
    return found


def make_certifier(
    model: nn.Module,
    task: ConvexTask,
    penalty: Penalty,
    optimizer: torch.optim.Optimizer,
    datamodule: DataModule,
    exact: bool,
    problems: int = 1,
    could_standardize: bool = False,
) -> Certifier:
    """Make the certifier of a training of which `why_not` has nothing to say."""
    train = datamodule.parts["train"]
    bias = "none" if model.bias is None else "free" if penalty.scope == "weights" else "penalised"
    problem = Problem(torch.from_numpy(train.x), torch.from_numpy(train.y), task, bias)
    # With momentum a gradient moves the weights by η/(1 − μ) in the end, and decoupled decay by η alone.
    factor = 1 - optimizer.param_groups[0]["momentum"] if penalty.mode == "decay" else 1.0
    return Certifier(problem, factor, datamodule.classes, exact, problems, could_standardize)


def note_on_columns(datamodule: DataModule) -> list[str]:
    """Write a note that names the columns which others make up in the training rows, if there are any."""
    features = datamodule.recipe().features
    origins = [(feature.column, feature.part) if feature.category else None for feature in features]
    found = combinations(datamodule.parts["train"].x, origins)
    if not found:
        return []
    words = [
        f"{quoted(features[j].name)} from {quoted_list([features[k].name for k in of])}"
        for j, of in list(found.items())[:COLUMNS_NAMED]
    ]
    if len(found) > COLUMNS_NAMED:
        words.append(f"{len(found) - COLUMNS_NAMED} more")
    return [
        f"columns that can be computed from others in the training rows: {', '.join(words)}; the data cannot tell "
        "their weights apart, L2 shares a weight among them, and L1 at its optimum gives it to the first"
    ]


def measure_memory(
    model: nn.Module, penalty: Penalty, lambd: float, optimizer: torch.optim.Optimizer, rates: Sequence[float]
) -> dict[str, float]:
    """Measure `init/memory` where it is known: for a linear model and L2 under SGD without momentum.

    rates: the learning rate of every step taken.
    """
    known = type(model) is Linear and isinstance(penalty, L2) and isinstance(optimizer, torch.optim.SGD)
    if not known or not penalty.is_plain or optimizer.param_groups[0]["momentum"]:
        return {}
    return {"init/memory": memory_of_the_start(lambd, rates, penalty.mode)}


def quoted_list(names: Sequence[str], most: int = 4) -> str:
    """List the first so many names, with "and" before the last."""
    shown = [quoted(name) for name in names[:most]]
    if len(names) > most:
        shown.append(f"{len(names) - most} more")
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def percent(share: float) -> str:
    """Write a share with two significant digits: 31 %, 0.42 %, 1,200 %."""
    value = 100 * share
    return f"{value:,.0f} %" if value >= 10 else f"{value:.2g} %"


def rounded_down(number: float) -> float:
    """Round a number > 0 down to two significant digits."""
    scale = 10.0 ** (math.floor(math.log10(number)) - 1)
    return float(f"{math.floor(number / scale) * scale:.2g}")


def rounded_up(number: float) -> int:
    """Round a number > 0 up to two significant digits, or to a whole number."""
    scale = 10 ** max(math.floor(math.log10(number)) - 1, 0)
    return math.ceil(number / scale) * scale
