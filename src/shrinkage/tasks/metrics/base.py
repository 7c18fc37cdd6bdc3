"""A metric: one number that tells how good predictions are, and in which direction."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor


class Metric(ABC):
    """A metric is one number that tells how good the predictions of a part are.

    A class of your own derives from `SumMetric` or from `WholePartMetric`.

    name: how it is recorded, after `train/`, `val/` or `test/`. larger_is_better: its direction, which the choice of λ
    follows. about: what a person should know of it, a few words. predicts: the kind of predictions it is about:
    `numbers` [n], in the standardised units that the model is trained in; `vectors` [n, targets] of them; `risks` [n],
    the logarithms of relative risks, beside targets [n, 2] of times and events, or [n, 3] with the number of a stratum;
    `classes`, the logits [n, classes]; or `tokens`, the logits [n, context, tokens]. has_units: whether its value grows
    in proportion to the unit of the target, in which case it is recorded in the user's own units.

    A value that is not defined, such as r2 of a constant target, is NaN, and is not recorded.
    """

    name: ClassVar[str]
    larger_is_better: ClassVar[bool]
    about: ClassVar[str]
    predicts: ClassVar[Literal["numbers", "vectors", "risks", "classes", "tokens"]]
    has_units: ClassVar[bool] = False


class SumMetric(Metric):
    """A metric that follows from sums over the rows, so that a part can be evaluated in batches.

    Both methods are pure functions of tensors, because many models are evaluated at once by `torch.vmap`.
    """

    def sums(self, prediction: Tensor, target: Tensor) -> Mapping[str, Tensor]:
        """Add up over some rows what the metric needs, by names of its own; `rows` and `loss` are there anyway."""
        return {}

    @abstractmethod
    def value(self, sums: Mapping[str, Tensor]) -> Tensor:
        """Compute the metric, 0-d, from its own sums, `rows` (how many) and `loss` (the data loss, summed)."""


class WholePartMetric(Metric):
    """A metric that needs all predictions of a part at once, such as the area under a curve."""

    @abstractmethod
    def value(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compute the metric, 0-d, from all rows of a part. weight [n]: how much each counts, None for all the same."""
