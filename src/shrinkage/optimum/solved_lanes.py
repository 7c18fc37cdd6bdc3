"""Solves many lanes by an engine and hands them over as they are certified, so that an interruption loses few."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from shrinkage.errors import InputError

from .certifier import Certifier
from .engines.path import Solved, solve_in_turn
from .exchangeable_columns import sparsest_of_lanes
from .polishing import polish_lanes
from .problem import Problem

SECONDS = 1.0  # between two times at which solved lanes are handed over
SLOWER_STEPS = 20_000  # of a polish, for points that the engine has left too far from their optimum


@dataclass(frozen=True)
class SolvedLanes:
    """Some lanes that an engine has solved: their numbers in increasing order, and their parameters [lanes, …].

    has_minimum: whether there is an optimum, [lanes]; the parameters of a lane without mean nothing.
    """

    lanes: Tensor
    named: dict[str, Tensor]
    has_minimum: Tensor


def solve_lanes(
    certifier: Certifier,
    l1: Tensor,
    l2: Tensor,
    named: Mapping[str, Tensor],
    gap: float,
    tell: Callable[[int, int], None],
) -> Iterator[SolvedLanes]:
    """Solve for the optima of lanes under λ₁ and λ₂ [K], and yield them as soon as some are certified.

    named: parameters [K, …] whose names, devices and precision the solved ones have. gap: the largest that a point
    may have, as a share of the null objective. Points with a larger one are polished, if the design is not sparse.
    tell: hears of the steps of such a polish and of its lanes. Raises InputError for strengths that are negative or
    not finite.
    """
    largest = gap * certifier.null_objective
    strengths = torch.stack([l1, l2], dim=1).cpu().numpy()
    for places, points in gathered(solve_in_turn(certifier.problem, strengths), SECONDS):
        lanes = torch.from_numpy(places)
        l1_of_part, l2_of_part = l1[lanes], l2[lanes]
        given, bias = torch.from_numpy(points.weight), torch.from_numpy(points.bias)
        weight = sparsest_of_lanes(certifier.problem, l1_of_part, l2_of_part, given)
        for lane in torch.nonzero((weight != given).any(dim=2).any(dim=1))[:, 0]:  # columns may have other means
            bias[lane] = certifier.problem.refitted(certifier.problem.outputs_of(weight[lane]), bias[lane])
        solved = certifier.problem.as_parameters(weight, bias, named)
        has_minimum = torch.from_numpy(points.has_minimum)
        far = has_minimum & ~(torch.from_numpy(points.gap) <= largest)
        if far.any() and isinstance(certifier.problem, Problem):
            left = {name: value[far] for name, value in solved.items()}
            polished, _, _ = polish_lanes(
                certifier, l1_of_part[far], l2_of_part[far], left, SLOWER_STEPS, largest, tell
            )
            for name, value in polished.items():
                solved[name][far] = value
        yield SolvedLanes(lanes, solved, has_minimum)


def no_minimum_error(certifier: Certifier) -> InputError:
    """Make the error of a loss without a penalty that has no least value."""
    if certifier.problem.free is not None:
        return InputError(
            "penalty.factor: columns with the factor 0 alone part the training rows, so that the loss falls for ever "
            "as their weights grow and has no minimum; give them a factor above 0, such as 0.001"
        )
    some = certifier.problem.steepest_at_zero / 1000
    if certifier.problem.task.is_joint:
        reason = "some weights put the training rows into the order of their events"
    elif certifier.classes:
        reason = "the training rows of the classes can be separated"
    else:
        reason = "weights can lower the rates of some training rows of count 0, and change no others"
    return InputError(
        f"lambd=0 or penalty=none: {reason}, so that the loss falls for ever "
        f"as weights grow and has no minimum without a penalty; use penalty=l2 lambd={some:.1g}"
    )


def gathered(parts: Iterable[tuple[np.ndarray, Solved]], seconds: float) -> Iterator[tuple[np.ndarray, Solved]]:
    """Join the points that are solved within so many seconds of one another, in the order of their places."""
    held: list[tuple[np.ndarray, Solved]] = []
    since = time.monotonic()
    for part in parts:
        held.append(part)
        if time.monotonic() - since > seconds:
            yield joined(held)
            held, since = [], time.monotonic()
    if held:
        yield joined(held)


def joined(parts: Sequence[tuple[np.ndarray, Solved]]) -> tuple[np.ndarray, Solved]:
    """Join points and their places, in the order of these."""
    places = np.concatenate([places for places, _ in parts])
    order = np.argsort(places)
    columns = {
        field.name: np.concatenate([getattr(points, field.name) for _, points in parts])[order]
        for field in fields(Solved)
    }
    return places[order], Solved(**columns)
