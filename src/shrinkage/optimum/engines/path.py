"""The optimum at every strength of a penalty: each problem by the engine that fits it, each point with its certificate.

The objective is (1/n)Σ ℓ(Wxᵢ + b, yᵢ) + λ₁‖W‖₁ + ½λ₂‖W‖², with the weights, offsets and factors of `ConvexProblem`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from shrinkage.errors import InputError

from ..convex_problem import ConvexProblem
from ..gaps import duality_gaps
from ..problem import Problem
from ..sparse_problem import SparseProblem
from .columns import Array
from .gaussian import gaussian_path
from .newton import newton_path
from .ridge import least_squares, ridge_path
from .rows import Rows
from .unpenalised import has_minimum

CERTIFIED_AT_ONCE = 30  # points of a path at most
NUMBERS_AT_ONCE = 30_000_000  # multiply-adds of their certificates, so that points of a large problem come one by one
SAME = 9  # digits in which the shares of λ₁ agree along one path


@dataclass(frozen=True)
class Solved:
    """Weights and biases at K strengths, and how far they are from their optimum at most.

    weight: [K, outputs, p], a penalised bias the last of p. bias: [K, outputs], zero where it is not free. gap:
    [K], the duality gap of each: its objective is no more than that above the least one. has_minimum: [K], false where
    the objective only tends to its least value, as weights grow for ever; the weights are then zero, the gap is ∞.
    """

    weight: Array
    bias: Array
    gap: Array
    has_minimum: Array


def solve_path(problem: Problem | SparseProblem, strengths: Array) -> Solved:
    """Solve for every strength (λ₁, λ₂) of strengths [K, 2], in any order.

    Raises InputError for a strength that is negative or not finite, and for λ₁ = 0 of a sparse design that would need
    its zeros.
    """
    count, outputs, p = len(strengths), problem.task.outputs, problem.width
    whole = Solved(np.zeros((count, outputs, p)), np.zeros((count, outputs)), np.zeros(count), np.ones(count, bool))
    for places, part in solve_in_turn(problem, strengths):
        for name in ("weight", "bias", "gap", "has_minimum"):
            getattr(whole, name)[places] = getattr(part, name)
    return whole


def solve_in_turn(problem: Problem | SparseProblem, strengths: Array) -> Iterator[tuple[Array, Solved]]:
    """Solve as `solve_path` does, and yield points as soon as they are certified: their places in strengths, and they.

    A path goes from strong to weak with the share of λ₁ as it is; points of other shares are a path of their own. Every
    place comes once.
    """
    strengths = np.asarray(strengths, dtype=np.float64)
    if not (np.isfinite(strengths).all() and (strengths >= 0).all()):
        bad = strengths[~(np.isfinite(strengths) & (strengths >= 0)).all(axis=1)][0]
        raise InputError(f"strengths: λ₁={bad[0]:g}, λ₂={bad[1]:g}; both have to be finite and no less than 0")
    rows = Rows.of(problem)
    at_once = max(min(NUMBERS_AT_ONCE // max(rows.x.numbers * rows.outputs, 1), CERTIFIED_AT_ONCE), 1)
    for places in paths(strengths):
        waiting: list[tuple[int, tuple[Array, Array] | None]] = []
        for place, point in zip(places, solutions(rows, strengths[places]), strict=True):
            waiting.append((int(place), point))
            if len(waiting) == at_once:
                yield certified(problem, strengths, waiting)
                waiting = []
        if waiting:
            yield certified(problem, strengths, waiting)


def paths(strengths: Array) -> list[Array]:
    """Part the places of strengths [K, 2] into paths of the same share of λ₁, each from strong to weak."""
    total = strengths.sum(axis=1)
    share = np.round(strengths[:, 0] / np.where(total > 0, total, 1.0), SAME)
    kinds = np.where(total > 0, share, -1.0)
    parts = (np.flatnonzero(kinds == kind) for kind in np.unique(kinds))
    return [part[np.argsort(-total[part], kind="stable")] for part in parts]


def solutions(rows: Rows, strengths: Array) -> Iterator[tuple[Array, Array] | None]:
    """Solve along one path, strengths [K, 2] from strong to weak; yields W [outputs, p] and b [outputs].

    None stands for a problem that has no minimum.
    """
    l1, l2 = strengths[0]
    rows = rows.under(l1, l2)
    task = rows.problem.task
    if not task.is_least_squares or rows.free is not None or (l1 and rows.together):
        for weight, loose in newton_path(rows, strengths):
            output = rows.outputs_of(weight) + rows.outputs_of_loose(loose)
            exists = l1 + l2 > 0 or has_minimum(rows, output)
            if rows.free is not None:
                exists = exists and has_minimum(rows.of_free_alone(), output)
            yield rows.parameters(weight, loose) if exists else None
        return
    counts, n = rows.weight, len(rows.problem.y)
    targets = -rows.slope(np.zeros((n, task.outputs))) / (1.0 if counts is None else counts[:, None])
    level = (targets.mean(axis=0) if counts is None else counts @ targets / n) * rows.is_free

    def of_one(target: Array) -> Iterable[Array]:
        if l1:
            return gaussian_path(rows.x, target, strengths, counts, rows.ridge)
        x, y = rows.x.whole(), target
        if counts is not None:  # a row's square counts as that of a row so much longer
            x, y = np.sqrt(counts)[:, None] * x, np.sqrt(counts) * y
        return ridge_path(x, y, strengths[:, 1]) if l2 else [least_squares(x, y)] * len(strengths)

    # Of several outputs each is a problem by itself, as far as no penalty holds them together.
    for weights in zip(*map(of_one, (targets - level).T), strict=True):
        whole, _ = rows.parameters(np.stack(weights), level)
        yield whole, level - whole @ rows.mean


def certified(
    problem: ConvexProblem, strengths: Array, points: Sequence[tuple[int, tuple[Array, Array] | None]]
) -> tuple[Array, Solved]:
    """Compute the certificates of points, each a place in strengths with its W and b, together."""
    places, k = np.array([place for place, _ in points]), problem.task.outputs
    none = np.zeros((k, problem.width)), np.zeros(k)
    weights, biases = (np.stack(each) for each in zip(*(point or none for _, point in points), strict=True))
    exists = np.array([point is not None for _, point in points])
    l1, l2 = torch.from_numpy(strengths[places]).T
    gaps = duality_gaps(problem, l1, l2, torch.from_numpy(weights), torch.from_numpy(biases)).numpy()
    return places, Solved(weights, biases, np.where(exists, gaps, np.inf), exists)
