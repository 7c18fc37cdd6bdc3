"""The loss of the rows as a function of the outputs that their columns make: with each row's weight and offset.

A task knows of neither. An offset is added to the output before the task sees it, and a weight multiplies what the task
says of its row.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from shrinkage.tasks.base import ConvexTask


@dataclass(frozen=True)
class RowLoss:
    """The losses wᵢℓ(zᵢ + oᵢ, yᵢ) of n rows with weights w and offsets o, and what follows from them.

    y: [n], or [n, outputs]. given_weight: [n] > 0, in any unit, None where all rows count the same. offset: [n], None
    for none.
    """

    task: ConvexTask
    y: Tensor
    given_weight: Tensor | None = None
    offset: Tensor | None = None

    @cached_property
    def weight(self) -> Tensor | None:
        """w [n], with a mean of 1, so that the mean of weighted losses is their weighted mean; None for all 1."""
        return None if self.given_weight is None else self.given_weight / self.given_weight.mean()

    @property
    def is_plain(self) -> bool:
        """Whether the rows have neither weights nor offsets."""
        return self.given_weight is None and self.offset is None

    def shifted(self, output: Tensor) -> Tensor:
        """Add the offsets to outputs [n, outputs]."""
        return output if self.offset is None else output + self.offset[:, None]

    def weighted(self, found: Tensor) -> Tensor:
        """Multiply what was found for each row, [n, …], by its weight."""
        return found if self.weight is None else self.weight.reshape(-1, *[1] * (found.ndim - 1)) * found

    def losses(self, output: Tensor) -> Tensor:
        """Compute wℓ(z + o) of each row, [n], from outputs z [n, outputs]."""
        return self.weighted(self.task.losses(self.shifted(output), self.y))

    def slope(self, output: Tensor) -> Tensor:
        """Compute the gradient w∇ℓ(z + o) of each row, [n, outputs]."""
        return self.weighted(self.task.slope(self.shifted(output), self.y))

    def curvatures(self, output: Tensor) -> Tensor:
        """Compute the second derivatives of each row, as `ConvexTask.curvatures` has them."""
        return self.weighted(self.task.curvatures(self.shifted(output), self.y))

    def model_curvatures(self, output: Tensor) -> Tensor:
        """Compute the curvatures by which steps go, as `ConvexTask.model_curvatures` has them."""
        return self.weighted(self.task.model_curvatures(self.shifted(output), self.y))

    def fenchel_young(self, output: Tensor, dual: Tensor) -> Tensor:
        """Compute the Fenchel–Young difference of each row, [n], between outputs z and slopes u = dual [n, outputs].

        Of wℓ it is w times that of ℓ at u/w, and an offset drops out of it: ℓ(z + o) + ℓ*(u) − u·(z + o).
        """
        if self.weight is not None:
            dual = dual / self.weight[:, None]
        return self.weighted(self.task.fenchel_young(self.shifted(output), self.y, dual))

    def best_bias(self, output: Tensor) -> Tensor:
        """Find the bias [outputs] that is best for outputs [n, outputs]."""
        weights = () if self.weight is None else (self.weight,)
        return self.task.best_bias(self.shifted(output), self.y, *weights)

    def repeated(self, times: int) -> "RowLoss":
        """The loss of the same rows so many times, one after the other."""
        more = (None if each is None else each.repeat(times) for each in (self.weight, self.offset))
        return RowLoss(self.task, self.y.repeat(times, *[1] * (self.y.ndim - 1)), *more)

    def to(self, device: torch.device) -> "RowLoss":
        """The same on another device."""
        more = (None if each is None else each.to(device) for each in (self.given_weight, self.offset))
        return RowLoss(self.task, self.y.to(device), *more)
