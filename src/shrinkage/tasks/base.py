"""What a model is asked to do: the data loss, and the metrics that are measured beside it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from shrinkage.errors import InputError

from .metrics.base import Metric, SumMetric, WholePartMetric

Sums = dict[str, Tensor]
RECORDED = ("loss", "penalty", "objective")  # what every run measures of the training part, whatever its task


@dataclass(frozen=True)
class Target:
    """What a data set asks to be predicted.

    kind: a value for each of its `rows`, or the next token of a `language`. classes: how many classes or tokens there
    are; None for numbers. scale: the factor that brings a residual into the user's own units. least: the smallest of
    the numbers. names: of several targets, with the scale of each in scales; none of one. has_events: whether it is
    times, and whether an event was seen then, perhaps with strata; the latest of the training rows' times is `latest`.
    """

    kind: Literal["rows", "language"] = "rows"
    classes: int | None = None
    scale: float = 1.0
    least: float | None = None
    names: tuple[str, ...] = ()
    scales: tuple[float, ...] = ()
    has_events: bool = False
    latest: float | None = None


@dataclass(frozen=True)
class Survival:
    """How many events a row of output 0 is to expect until a time, in each stratum, by its number: H₀(t).

    A row of output z goes without an event until t with the probability exp(−H₀(t)·exp(z)). steps: of each stratum the
    times at which H₀ rises, and how high it is from then on, [k] each; then it was seen until `ends`. times: for which
    a model to take away tells the probability.
    """

    steps: tuple[tuple[Tensor, Tensor], ...]
    ends: tuple[float, ...]
    times: tuple[float, ...] = ()

    def expected(self, stratum: int, time: float) -> float | None:
        """Give H₀(t) of a stratum; None where none of its rows was seen so long."""
        at, height = self.steps[stratum]
        before = int((at <= time).sum())
        return None if time > self.ends[stratum] else float(height[before - 1]) if before else 0.0


class Task(ABC):
    """A task is a data loss, and the metrics of the predictions that are trained by it.

    outputs: how many numbers the model gives for a row. predicts: what the predictions are. standard: the metrics that
    every run of the task has; others can be added. scale: the factor that brings a metric with the target's units into
    the user's own. keeps_units: whether the target is taken as numbers in the user's units, neither read as classes
    nor standardised. link: whether a number is predicted by the output itself, or by exp of it. is_joint: whether the
    loss of a row depends on the other rows, so that all of them are taken at once.
    """

    outputs: int
    predicts: ClassVar[Literal["numbers", "vectors", "risks", "classes", "tokens"]]
    standard: ClassVar[Sequence[type[Metric]]] = ()
    scale: float = 1.0
    keeps_units: ClassVar[bool] = False
    link: ClassVar[Literal["identity", "log"]] = "identity"
    is_joint: ClassVar[bool] = False

    def __init__(self) -> None:
        self.metrics: tuple[Metric, ...] = tuple(metric() for metric in self.standard)

    @classmethod
    @abstractmethod
    def for_target(cls, target: Target) -> "Task":
        """Make the task for a data set's target. Raises InputError if the target is of another kind."""

    @abstractmethod
    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        """Compute the data loss of each row, [n], from outputs [n, outputs] and targets [n], or [n, outputs]."""

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Compute the data loss of a batch, 0-d: the mean over its rows."""
        return self.losses(output, target).mean()

    def precise(self, output: Tensor) -> Tensor:
        """Give the outputs the precision in which losses and metrics are measured."""
        return output.double()

    def predictions(self, output: Tensor) -> Tensor:
        """Make of a model's outputs what metrics see; it depends on `predicts` (see `Metric`)."""
        return output

    def add_metrics(self, metrics: Iterable[Metric]) -> None:
        """Measure these metrics too.

        Raises InputError for a metric of predictions of another kind, or with a name that something else has.
        """
        for metric in metrics:
            known = {each.name: type(each) for each in self.metrics}
            if metric.name in RECORDED or known.get(metric.name, type(metric)) is not type(metric):
                raise InputError(
                    f"metrics={metric.name}: a run of this task records something else under that name; give "
                    f"{type(metric).__name__} another one"
                )
            if metric.predicts != self.predicts:
                raise InputError(
                    f"metrics={metric.name}: it measures predictions of {metric.predicts}, and the target of these "
                    f"data is {self.predicts}; leave it out"
                )
            if metric.name not in known:
                self.metrics += (metric,)

    @property
    def names(self) -> list[str]:
        """The names of all that is measured of a part, the loss first."""
        return ["loss", *(metric.name for metric in self.metrics)]

    @property
    def about(self) -> dict[str, str]:
        """What a person should know of each metric, by its name."""
        return {metric.name: metric.about for metric in self.metrics}

    @property
    def better_when_larger(self) -> list[str]:
        """The names of the metrics whose larger values are better; of all others smaller ones are."""
        return [metric.name for metric in self.metrics if metric.larger_is_better]

    @property
    def needs_whole_part(self) -> bool:
        """Whether a metric cannot be computed from sums over batches."""
        return any(isinstance(metric, WholePartMetric) for metric in self.metrics)

    def check_devices(self, devices: int) -> None:
        """Look whether so many devices can share the measuring. Raises InputError if a metric needs a whole part."""
        if devices > 1 and self.is_joint:
            raise InputError(
                f"trainer.devices: {devices} devices share the rows of each part, and {type(self).__name__} compares "
                "all of them; use trainer.devices=1"
            )
        whole = [metric.name for metric in self.metrics if isinstance(metric, WholePartMetric)]
        if devices > 1 and whole:
            raise InputError(
                f"trainer.devices: {devices} devices share the rows of each part, and {', '.join(whole)} needs all of "
                "them at once; use trainer.devices=1, or leave it out of metrics=[…]"
            )

    def sums(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Sums:
        """Add up over the rows what `measure` computes the metrics from: `rows`, `loss`, and each metric's own sums.

        A part may be evaluated in batches, whose sums are added. weight [n]: how much each row counts, so that `rows`
        is Σ weight; None where all count 1. No metric knows of it: the sums of single rows are weighed.
        """
        output = self.precise(output)
        losses = self.losses(output, target).double()
        counts = torch.ones_like(losses) if weight is None else weight.double()
        found = {"rows": counts.sum(), "loss": losses.sum() if weight is None else (counts * losses).sum()}
        seen = self.predictions(output)
        for metric in self.metrics:
            if isinstance(metric, SumMetric):
                own = metric.sums(seen, target) if weight is None else weighed_sums(metric, seen, target, counts)
                found |= {f"{metric.name}.{key}": value.double() for key, value in own.items()}
        return found

    def held_out(self, own: Sums, train: Sums, both: Sums) -> Sums:
        """Give the sums by which a part that did not train is measured, where a task is joint.

        own: of its rows, train: of the training rows, both: of all these together.
        """
        return own

    def survival(self, output: Tensor, target: Tensor) -> "Survival | None":
        """Estimate from the training rows how long a row goes without an event; None where nothing waits for one."""
        return None

    def measure(self, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute `loss`, the (weighted) mean data loss, and every metric that follows from sums over the rows; 0-d."""
        found = {"loss": sums["loss"] / sums["rows"]}
        for metric in self.metrics:
            if isinstance(metric, SumMetric):
                own = {key.removeprefix(f"{metric.name}."): value for key, value in sums.items()}
                found[metric.name] = self.in_own_units(metric, metric.value(own))
        return found

    def measure_whole(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> dict[str, Tensor]:
        """Compute the metrics that need all predictions of a part at once; each 0-d. weight: as `sums` has it."""
        seen = self.predictions(self.precise(output))
        weights = () if weight is None else (weight.double(),)
        return {
            metric.name: self.in_own_units(metric, metric.value(seen, target, *weights))
            for metric in self.metrics
            if isinstance(metric, WholePartMetric)
        }

    def in_own_units(self, metric: Metric, value: Tensor) -> Tensor:
        """Bring a value into the user's own units, if its metric has the target's units."""
        return value * self.scale if metric.has_units else value


def weighed_sums(metric: SumMetric, seen: Tensor, target: Tensor, weight: Tensor) -> Mapping[str, Tensor]:
    """Add up a metric's sums over rows that count by weights [n]: each row is asked by itself, and multiplied."""
    if not len(weight):
        return metric.sums(seen, target)
    each = torch.vmap(lambda one, own: metric.sums(one[None], own[None]))(seen, target)
    return {key: torch.tensordot(weight, value.double(), dims=1) for key, value in each.items()}


def mean_over_rows(values: Tensor, weight: Tensor | None) -> Tensor:
    """Average values [n, …] over rows that count by weights [n], or all the same."""
    return values.mean(dim=0) if weight is None else torch.tensordot(weight, values, dims=1) / weight.sum()


class ConvexTask(Task):
    """A task whose loss is a convex function ℓ(z) of a row's outputs z, so that a linear model can be certified.

    curvature: the largest second derivative of ℓ in any direction, ∞ if there is none. is_least_squares: whether ℓ(z)
    is ½‖z − t‖² and a constant. is_shift_invariant: whether the same number added to all of several outputs changes
    nothing. Methods are pure functions, to be vectorised.
    """

    curvature: float
    is_least_squares: ClassVar[bool] = False
    is_shift_invariant: ClassVar[bool] = False

    @abstractmethod
    def slope(self, output: Tensor, target: Tensor) -> Tensor:
        """Compute the gradient ∇ℓ(z) of each row, [n, outputs]."""

    @abstractmethod
    def curvatures(self, output: Tensor, target: Tensor) -> Tensor:
        """Compute the second derivatives ∇²ℓ(z) of each row: [n] for one output, else [n, outputs, outputs]."""

    def model_curvatures(self, output: Tensor, target: Tensor) -> Tensor:
        """Compute the curvatures by which an engine's steps go, as `curvatures` does: the second derivatives.

        A loss whose second derivatives vanish says here by what its steps stay finite.
        """
        return self.curvatures(output, target)

    def joint_part(self, output: Tensor, target: Tensor, columns: Tensor) -> Tensor:
        """Say what the second derivatives of a joint loss have beside `curvatures`, by rows M [any, m] for X [n, m].

        Those of the sum of the losses in weights of the columns are XᵀDX − MᵀM, with D the diagonal of `curvatures`. Of
        other losses there is none.
        """
        return columns[:0]

    def shifts(self, target: Tensor) -> Tensor:
        """Give the changes of the outputs that leave a joint loss as it is, as columns [n, k]; none of other losses."""
        return target.new_zeros(len(target), 0)

    @abstractmethod
    def fenchel_young(self, output: Tensor, target: Tensor, dual: Tensor) -> Tensor:
        """Compute the Fenchel–Young difference of each row, [n], between outputs z and slopes u = dual [n, outputs].

        That is ℓ(z) + ℓ*(u) − u·z: ≥ 0, 0 at u = ∇ℓ(z), and ∞ where no outputs have the slope u, not even nearly.
        """

    @abstractmethod
    def recession(self, target: Tensor) -> Tensor:
        """Say along which changes d of the outputs the loss of a row falls for ever, by rows a of [n, m, outputs].

        ℓ(z + t·d) never rises in t ≥ 0 if a·d ≥ 0 for each of the m rows a, and has no minimum if one of them is > 0.
        With m = 0 the loss rises at last in every direction, so that it has a minimum whatever the columns are.
        """

    @abstractmethod
    def best_bias(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Find the bias that is best for the outputs: argmin_b Σwᵢℓ(zᵢ + b), [outputs].

        weight: w [n] > 0, how much each row counts; None where all count the same.
        """
