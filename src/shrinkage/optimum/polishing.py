"""Brings the parameters of many lanes nearer to their optima, by full-batch proximal steps."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from .certifier import Certifier
from .exchangeable_columns import sparsest_of_lanes
from .problem import for_steps

POLISH_STEPS = 100  # between two looks at the gap

Result = TypeVar("Result")


def polish_lanes(
    certifier: Certifier,
    l1: Tensor,
    l2: Tensor,
    named: Mapping[str, Tensor],
    steps: int,
    until_gap: float | None,
    tell: Callable[[int, int], None],
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Bring the parameters [K, …] of lanes nearer to their optima by full-batch proximal steps.

    With them come, each [K], how many steps a lane has taken, and whether they began at zero weights because the given
    ones had a larger objective. All take so many steps. With until_gap a lane stops where its gap is no larger, or
    cannot fall any more: no weight has moved by more than the rounding of the largest. That is looked at before the
    first step and after every hundred, in double precision, whatever the parameters are rounded to in the end. The
    steps end on independent columns (`sparsest_of_lanes`), and a lane that stands on others takes some of them whatever
    its gap. tell: hears of the steps taken and of the lanes that are left.
    """
    problem = for_steps(certifier.problem_beside(named))

    def over_lanes(function: Callable[..., Result], *trees: object) -> Result:
        return torch.vmap(function, chunk_size=certifier.at_once)(*trees)

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
                moved = (sparsest_of_lanes(certifier.problem, l1, l2, state["weight"]) - state["weight"]).abs()
                is_left |= (moved > 0).any(dim=(1, 2)).cpu()
            left = left[is_left]
        if done == steps or not len(left):
            found = {name: value.clone() for name, value in named.items()}
            state["weight"] = sparsest_of_lanes(certifier.problem, l1, l2, state["weight"])
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
