"""What a model is asked to do: the data loss, and the metrics that go with it.

A task reduces predictions to sums over the rows (`statistics`), so that parts may be seen in batches, and turns the
sums into metrics at the end.
"""

from abc import ABC, abstractmethod

from torch import Tensor

Statistics = dict[str, Tensor]


class Task(ABC):
    """outputs: how many numbers the model gives for a row."""

    outputs: int

    @abstractmethod
    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        """The data loss of each row: [n] from outputs [n, outputs] and targets [n]."""

    @abstractmethod
    def statistics(self, output: Tensor, target: Tensor) -> Statistics:
        """Sums over the rows, 0-d and float64, among them `rows` and `loss`."""

    @abstractmethod
    def metrics(self, statistics: Statistics) -> dict[str, Tensor]:
        """The metrics of the summed rows, among them `loss`, the mean data loss."""

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """The data loss, 0-d: the mean over the batch."""
        return self.losses(output, target).mean()


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
