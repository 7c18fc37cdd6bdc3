"""Many models of one kind as a stack, and what is done for one of them done for all.

The models' parameters are stacked, [K, …], and `torch.vmap` takes one lane's objective over all of them. The gradient
of the lanes' sum is each lane's own gradient, so that any optimiser that works entry by entry serves unchanged.
"""

import copy
from abc import ABC
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import register_dataclass
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel  # vmap has no rule for fused attention, but for its parts
from torch.utils._pytree import tree_leaves, tree_map

from shrinkage.data.base import Batch, pick, shifted
from shrinkage.penalties.base import Penalty

from . import objective
from .base import Ingredients, Result, TrainingModule, joined

EVALUATED = 16  # lanes, with as many rows as one has alone, that are evaluated at once; of more lanes fewer rows


@dataclass(frozen=True)
class LaneStart:
    """What tells one lane from the others of its training.

    model: with its initial weights. order: which of the batch orders it follows, 0 where the lanes share one. data:
    which of the data sets it has, None where they share one.
    """

    model: nn.Module
    penalty: Penalty
    lambd: float
    order: int = 0
    data: int | None = None


@dataclass
class LaneInputs:
    """What each lane is given, [K] each, on the device that trains them.

    lambd: its λ. numbers: the penalty's own numbers in which lanes differ, by name. Both stay in double precision, as
    Python's numbers are for one run. order: which of the batch orders it follows. data: which of the data sets.
    """

    lambd: Tensor
    numbers: dict[str, Tensor]
    order: Tensor
    data: Tensor


register_dataclass(LaneInputs)


class StackedModule(TrainingModule, ABC):
    """Evaluates and differentiates data loss + λₖ·Ωₖ(wₖ) of every lane k at once."""

    def __init__(self, starts: Sequence[LaneStart], ingredients: Ingredients) -> None:
        penalties = [lane.penalty for lane in starts]
        super().__init__(stack_models([lane.model for lane in starts]), penalties[0], ingredients)
        self.inputs = LaneInputs(
            torch.tensor([lane.lambd for lane in starts], dtype=torch.float64),
            {
                name: torch.tensor(numbers, dtype=torch.float64)
                for name, numbers in differing_numbers(penalties).items()
            },
            torch.tensor([lane.order for lane in starts]),
            torch.tensor([lane.data or 0 for lane in starts]),
        )
        self.has_orders = any(lane.order > 0 for lane in starts)
        self.has_data = any(lane.data is not None for lane in starts)
        # What `measuring_only` measures: which lanes, and their parameters, None for those that are trained.
        self.selected: tuple[slice | Tensor, dict[str, Tensor] | None] = (slice(None), None)

    @property
    def lanes(self) -> int:
        """How many lanes are in the stack."""
        return len(self.inputs.lambd)

    def penalty_of(self, position: int) -> Penalty:
        """Return the penalty of the lane at a position, with the numbers of its own."""
        numbers = {name: column[position].item() for name, column in self.inputs.numbers.items()}
        return with_numbers(self.penalty, numbers)

    def lambd_of(self, position: int) -> float:
        """Return the λ of the lane at a position."""
        return self.inputs.lambd[position].item()

    @contextmanager
    def measuring_only(self, which: Tensor, named: dict[str, Tensor]) -> Generator[None]:
        """Measure, inside, the lanes of a mask [K] alone, with these parameters [lanes, …]."""
        self.selected = (which.to(self.device), named)
        try:
            yield
        finally:
            self.selected = (slice(None), None)

    def apply_to_each(self, function: Callable[..., Result], *trees: object, at_once: int | None = None) -> Result:
        def one(numbers: Mapping[str, Tensor], lambd: Tensor, *lane: object) -> Result:
            return function(with_numbers(self.penalty, numbers), lambd, *lane)

        which, _ = self.selected
        numbers = {name: column[which] for name, column in self.inputs.numbers.items()}
        mapped = one_by_one(one) if at_once == 1 else torch.vmap(one, chunk_size=at_once)
        return mapped(numbers, self.inputs.lambd[which], *trees)

    def stacked_parameters(self) -> dict[str, Tensor]:
        """Return the parameters of all lanes as they are trained, without their autograd history."""
        return objective.detached(dict(self.model.named_parameters()))

    def parameters_by_name(self) -> dict[str, Tensor]:
        return self.selected[1] or self.stacked_parameters()

    def training_step(self, batch: tuple[Any, ...], batch_idx: int) -> Tensor:
        return self.total(Batch(*batch), self.has_orders)

    def total(self, batch: Batch, has_orders: bool) -> Tensor:
        """Return the sum of the lanes' objectives on a batch, 0-d.

        has_orders: whether it is a batch of each of the orders, [orders, batch, …].
        """

        def one(
            penalty: Penalty, lambd: Tensor, weights: dict[str, Tensor], picked: dict[str, Any] | None = None
        ) -> Tensor:
            rows = batch if picked is None else Batch(**picked)
            penalised = {name: weights[name] for name in self.penalised}
            output = shifted(functional_call(self.model, weights, (rows.x,)), rows.offset)
            return self.loss(penalty, lambd, penalised, output, rows.y, rows.weight)

        weights = dict(self.model.named_parameters())
        with sdpa_kernel(SDPBackend.MATH):
            if not has_orders:
                return self.apply_to_each(one, weights).sum()
            return self.apply_to_each(one, weights, batch.pick(self.inputs.order)).sum()

    def predict(self, batch: Batch) -> Tensor:
        def one(weights: dict[str, Tensor], x: Any = batch.x) -> Tensor:
            return functional_call(self.model, weights, (x,))

        weights = self.parameters_by_name()
        if self.datamodule.is_sparse:
            return shifted(one_by_one(one)(weights), batch.offset)
        with sdpa_kernel(SDPBackend.MATH):
            if not self.has_data:
                return shifted(torch.vmap(one)(weights), batch.offset)
            output = torch.vmap(one)(weights, pick(batch.x, self.data_sets))
        return shifted(output, None if batch.offset is None else batch.offset[self.data_sets])

    def sum_over_rows(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        rows = [batch.y] if batch.weight is None else [batch.y, batch.weight]
        if self.has_data:
            return torch.vmap(self.task.sums)(output, *(each[self.data_sets] for each in rows))
        return torch.vmap(self.task.sums, in_dims=(0, *[None for _ in rows]))(output, *rows)

    def metrics_of_sums(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        return torch.vmap(self.task.measure)(sums)

    def metrics_of_whole(self, outputs: Sequence[Tensor], batches: Sequence[Batch]) -> dict[str, Tensor]:
        # Lane by lane, since sorting is no sum.
        output, (target, weight) = torch.cat(list(outputs), dim=1), joined(batches, dim=1 if self.has_data else 0)
        found = [
            self.task.measure_whole(
                lane,
                target[k] if self.has_data else target,
                None if weight is None else weight[k] if self.has_data else weight,
            )
            for lane, k in zip(output, self.data_sets.tolist(), strict=True)
        ]
        return {name: torch.stack([each[name] for each in found]) for name in found[0]}

    @property
    def evaluation_rows(self) -> int:
        return max(EVALUATED * self.datamodule.rows_at_once // self.lanes, 1)

    @property
    def data_sets(self) -> Tensor:
        """Which of the data sets the lanes that are measured have."""
        return self.inputs.data[self.selected[0]]


def one_by_one(function: Callable[..., Result]) -> Callable[..., Result]:
    """Do what `torch.vmap` does, for functions that it cannot see through, such as those of sparse matrices."""

    def of_each(*trees: object) -> Result:
        count = len(tree_leaves(trees)[0])
        found = [function(*tree_map(lambda tensor: tensor[k], trees)) for k in range(count)]  # noqa: B023
        return tree_map(lambda *tensors: torch.stack(tensors), *found)

    return of_each


def stack_models(models: Sequence[nn.Module]) -> nn.Module:
    """Copy the first model, with every parameter holding that of all of them, [K, …]; for `functional_call`."""
    model = copy.deepcopy(models[0])
    each = [dict(lane.named_parameters()) for lane in models]
    for name, parameter in model.named_parameters():
        parameter.data = torch.stack([lane[name].detach() for lane in each])
    return model


def differing_numbers(penalties: Sequence[Penalty]) -> dict[str, list[float]]:
    """Return, by name, the penalties' own numbers that are not the same in all of them."""
    columns = {f.name: [getattr(penalty, f.name) for penalty in penalties] for f in fields(penalties[0])}
    return {name: column for name, column in columns.items() if any(value != column[0] for value in column)}


def with_numbers(penalty: Penalty, numbers: Mapping[str, Tensor | float]) -> Penalty:
    """Copy a penalty with some numbers replaced, past its constructor's check, which each lane's own has passed."""
    replaced = copy.copy(penalty)
    for name, value in numbers.items():
        object.__setattr__(replaced, name, value)
    return replaced
