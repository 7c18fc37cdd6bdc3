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


@dataclass(frozen=True)
class Target:
    """What a data set asks to be predicted.

    kind: a value for each of its `rows`, or the next token of a `language`. classes: how many classes or tokens there
    are, None for numbers. scale: what a residual is multiplied by to be in the user's own units.
    """

    kind: Literal["rows", "language"] = "rows"
    classes: int | None = None
    scale: float = 1.0


class Task(ABC):
    """A data loss, and the metrics of the predictions that it is trained for.

    outputs: how many numbers the model gives for a row. predicts: what the predictions are. standard: the metrics that
    every run of the task has; others can be added. scale: what a metric in the units of the target is multiplied by.
    """

    outputs: int
    predicts: ClassVar[Literal["numbers", "classes", "tokens"]]
    standard: ClassVar[Sequence[type[Metric]]] = ()
    scale: float = 1.0

    def __init__(self) -> None:
        self.metrics: tuple[Metric, ...] = tuple(metric() for metric in self.standard)

    @classmethod
    @abstractmethod
    def for_target(cls, target: Target) -> "Task":
        """Make the task for a data set's target. Raises InputError if the target is of another kind."""

    @abstractmethod
    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        """The data loss of each row: [n] from outputs [n, outputs] and targets [n]."""

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """The data loss, 0-d: the mean over the batch."""
        return self.losses(output, target).mean()

    def precise(self, output: Tensor) -> Tensor:
        """The outputs in the precision that losses and metrics are measured in."""
        return output.double()

    def predictions(self, output: Tensor) -> Tensor:
        """What metrics see of a model's outputs; it depends on `predicts` (see `Metric`)."""
        return output

    def add_metrics(self, metrics: Iterable[Metric]) -> None:
        """Measure these too. Raises InputError for a metric of predictions of another kind."""
        for metric in metrics:
            if metric.predicts not in (self.predicts, "anything"):
                raise InputError(
                    f"metrics={metric.name}: it measures predictions of {metric.predicts}, and the target of these "
                    f"data is {self.predicts}; leave it out"
                )
            if metric.name not in self.names:
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

    def sums(self, output: Tensor, target: Tensor) -> Sums:
        """Sums over the rows from which `measure` computes the metrics: `rows`, `loss`, and each metric's own.

        Parts may be evaluated in batches, whose sums are added.
        """
        output = self.precise(output)
        losses = self.losses(output, target).double()
        found = {"rows": torch.ones_like(losses).sum(), "loss": losses.sum()}
        seen = self.predictions(output)
        for metric in self.metrics:
            if isinstance(metric, SumMetric):
                found |= {f"{metric.name}.{key}": value.double() for key, value in metric.sums(seen, target).items()}
        return found

    def measure(self, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`loss`, the mean data loss, and every metric that follows from sums over the rows; each 0-d."""
        found = {"loss": sums["loss"] / sums["rows"]}
        for metric in self.metrics:
            if isinstance(metric, SumMetric):
                own = {key.removeprefix(f"{metric.name}."): value for key, value in sums.items()}
                found[metric.name] = self.in_own_units(metric, metric.value(own))
        return found

    def measure_whole(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The metrics that need all predictions of a part at once; each 0-d."""
        seen = self.predictions(self.precise(output))
        return {
            metric.name: self.in_own_units(metric, metric.value(seen, target))
            for metric in self.metrics
            if isinstance(metric, WholePartMetric)
        }

    def in_own_units(self, metric: Metric, value: Tensor) -> Tensor:
        """The value in the units of the user's target, for a metric that has the target's units."""
        return value * self.scale if metric.has_units else value


class ConvexTask(Task):
    """A task whose loss is a convex function ℓ(z) of a row's outputs z.

    curvature: the largest second derivative of ℓ in any direction.
    """

    curvature: float

    @abstractmethod
    def slope(self, output: Tensor, target: Tensor) -> Tensor:
        """∇ℓ(z) of each row, [n, outputs]."""

    @abstractmethod
    def fenchel_young(self, output: Tensor, target: Tensor, scale: Tensor | float) -> Tensor:
        """ℓ(z) + ℓ*(s∇ℓ(z)) − s∇ℓ(z)·z of each row, [n], with s = scale in [0, 1]: ≥ 0, and 0 at s = 1."""

    @abstractmethod
    def best_bias(self, output: Tensor, target: Tensor) -> Tensor:
        """argmin_b Σℓ(zᵢ + b), [outputs]."""
