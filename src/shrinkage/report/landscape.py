"""Draw the objective that a run minimises: a curve over one weight, contours over two, a slice through more."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from shrinkage.optimum.problem import Problem

from .figures import BLUE, GREEN, GREY, ORANGE, empty_panels

WORK = 300_000_000  # multiply-adds that a picture may take
FINEST, COARSEST = 61, 15  # points along one side of a grid
MARGIN = 0.25  # of the range, around what is marked

Point = tuple[Tensor, Tensor]  # W [outputs, p] and b [outputs]


def objective_curve(
    axes: Axes, w: np.ndarray, loss: np.ndarray, penalty: np.ndarray, minima: dict[str, tuple[float, float]]
) -> None:
    """Draw loss, penalty and their sum over one weight.

    minima: (w, value) by name, the loss's first and then the sum's.
    """
    axes.plot(w, loss, color=BLUE, label="data loss")
    axes.plot(w, penalty, "--", color=GREY, label="penalty λΩ(w)")
    axes.plot(w, loss + penalty, color=ORANGE, label="objective, their sum")
    for (label, (place, value)), colour in zip(minima.items(), (BLUE, ORANGE), strict=True):
        axes.plot(place, value, "o", color=colour, mec="black", ms=8, label=f"{label}: w = {place:.3g}", zorder=4)
    axes.set(xlabel="w")
    axes.legend(frameon=False, fontsize="small")


def contours(
    axes: Axes,
    first: np.ndarray,
    second: np.ndarray,
    values: np.ndarray,
    marks: Mapping[str, tuple[float, float] | np.ndarray],
    path: np.ndarray | None = None,
) -> None:
    """Draw level lines of values [second, first], dense near the smallest.

    marks: points by name. path: the iterates [steps, 2].
    """
    least, largest = values.min(), values.max()
    levels = least + (largest - least) * np.linspace(0.03, 1, 14) ** 2
    axes.contour(first, second, values, levels=levels, cmap="Blues_r", linewidths=0.9)
    if path is not None:
        axes.plot(*path.T, ".-", color=GREY, lw=0.8, ms=3, label="the run, from its start")
    for (label, (x, y)), (marker, colour) in zip(
        marks.items(), (("X", ORANGE), ("o", GREEN), ("s", BLUE), ("^", GREY)), strict=False
    ):
        axes.plot(x, y, marker, color=colour, mec="black", ms=9, label=label, ls="none", zorder=4)
    axes.legend(framealpha=0.85, edgecolor="none", fontsize="small")


def landscape(problem: Problem, l1: float, l2: float, path: Sequence[Point], best: Point | None) -> Figure | None:
    """Draw the objective around a run: over its one or two weights, or on the plane of start, end and optimum.

    path: the model before training and after each epoch. best: the optimum, where it is known. The bias is the best one
    at every point of a picture of one or two weights. None where a slice would need an optimum that is not known, or
    where the picture would take long; and of one or two weights where the loss has no largest curvature, since steps
    that are sure to find its minimum are not known.
    """
    size = path[0][0].numel()
    if size <= 2 and not math.isfinite(problem.task.curvature):
        return None
    cost = problem.design.numel() * problem.task.outputs
    points = int(min(FINEST, (WORK / cost) ** 0.5))
    if points < COARSEST or not all(w.isfinite().all() for w, _ in path):
        return None
    figure, (axes,) = empty_panels(1, 1, (5.6, 4.4))
    if size == 1:
        one(axes, problem, l1, l2, path, best, points)
    elif size == 2:
        two(axes, problem, l1, l2, path, best, points)
    elif best is not None:
        plane(axes, problem, l1, l2, path, best, points)
    else:
        return None
    return figure


def one(
    axes: Axes, problem: Problem, l1: float, l2: float, path: Sequence[Point], best: Point | None, points: int
) -> None:
    """Draw the objective over its only weight, with the run and the minima."""
    loss_only = minimum_of_the_loss(problem, path[-1])
    places = [w.item() for w, _ in path] + [loss_only.item(), 0.0] + ([best[0].item()] if best else [])
    grid = torch.linspace(*around(places), 10 * points, dtype=torch.float64)
    loss = values(problem, 0.0, 0.0, grid[:, None, None])
    total = values(problem, l1, l2, grid[:, None, None])
    minima = {"minimum of the loss": (loss_only.item(), values(problem, 0.0, 0.0, loss_only[None]).item())}
    if best:
        minima["minimum of the objective"] = (best[0].item(), values(problem, l1, l2, best[0][None]).item())
        objective_curve(axes, grid.numpy(), loss.numpy(), (total - loss).numpy(), minima)
    run = torch.stack([w for w, _ in path])
    axes.plot(run.flatten(), values(problem, l1, l2, run), ".", color="black", ms=4, label="the run")
    axes.legend(frameon=False, fontsize="small")


def two(
    axes: Axes, problem: Problem, l1: float, l2: float, path: Sequence[Point], best: Point | None, points: int
) -> None:
    """Draw the objective over its two weights, with the run and the minima."""
    loss_only = minimum_of_the_loss(problem, path[-1]).flatten()
    run = torch.stack([w.flatten() for w, _ in path])
    marks = {"minimum of the objective": best[0].flatten()} if best else {}
    marks["minimum of the loss"] = loss_only
    everything = torch.cat([run, *(mark[None] for mark in marks.values()), torch.zeros(1, 2, dtype=run.dtype)])
    sides = [torch.linspace(*around(everything[:, j].tolist()), points, dtype=torch.float64) for j in (0, 1)]
    grid = torch.stack(torch.meshgrid(*sides, indexing="xy"), dim=-1)
    field = values(problem, l1, l2, grid.reshape(-1, *path[0][0].shape)).reshape(points, points)
    places = {name: (mark[0].item(), mark[1].item()) for name, mark in marks.items()}
    contours(axes, sides[0].numpy(), sides[1].numpy(), field.numpy(), places, run.numpy())
    axes.set(xlabel="w₁", ylabel="w₂", title="the objective; the bias is the best at every point")


def plane(axes: Axes, problem: Problem, l1: float, l2: float, path: Sequence[Point], best: Point, points: int) -> None:
    """Draw the objective on the plane through the start of the run, its end and the optimum."""

    def flat(point: Point) -> Tensor:
        return torch.cat([point[0].flatten(), point[1]])

    origin = flat(best)
    run = torch.stack([flat(point) for point in path]) - origin
    first = run[0] / run[0].norm().clamp(min=1e-12)
    across = run - (run @ first)[:, None] * first
    # Towards the end; where the run has reached the optimum, towards where it was furthest to the side.
    side = across[-1] if across[-1].norm() > 1e-3 * run[0].norm() else across[across.norm(dim=1).argmax()]
    second = side / side.norm().clamp(min=1e-12)
    shown = torch.stack([run @ first, run @ second], dim=1)
    sides = [torch.linspace(*around([*shown[:, j].tolist(), 0.0]), points, dtype=torch.float64) for j in (0, 1)]
    grid = torch.stack(torch.meshgrid(*sides, indexing="xy"), dim=-1).reshape(-1, 2)
    theta = origin + grid @ torch.stack([first, second])
    shape, weights = best[0].shape, best[0].numel()
    objective = torch.vmap(
        lambda t: problem.objective(l1, l2, t[:weights].reshape(shape), t[weights:]), chunk_size=points
    )
    field = objective(theta).reshape(points, points)
    (x_end, y_end), (x_start, y_start) = shown[-1].tolist(), shown[0].tolist()
    marks = {"optimum": (0.0, 0.0), "end of the run": (x_end, y_end), "start": (x_start, y_start)}
    contours(axes, sides[0].numpy(), sides[1].numpy(), field.numpy(), marks, shown.numpy())
    axes.set(
        xlabel="distance from the optimum towards the start",
        ylabel="distance across, towards the end",
        title=f"the objective on a plane through {weights:,} weights",
    )


def values(problem: Problem, l1: float, l2: float, weights: Tensor) -> Tensor:
    """Compute the objective at weights [points, outputs, p], each with its best bias."""

    def objective(weight: Tensor) -> Tensor:
        output = problem.design @ weight.T
        bias = problem.loss.best_bias(output) if problem.bias == "free" else output.new_zeros(())
        return problem.objective(l1, l2, weight, bias)

    return torch.vmap(objective, chunk_size=256)(weights)


def minimum_of_the_loss(problem: Problem, start: Point) -> Tensor:
    """Find the weights [outputs, p] of the least data loss, by accelerated gradient steps."""
    named = {"weight": start[0][:, : problem.x.shape[1]]}
    if problem.bias != "none":
        named["bias"] = start[1] if problem.bias == "free" else start[0][:, -1]
    return problem.parameters(problem.polished(0.0, 0.0, named, 500))[0]


def around(places: Sequence[float]) -> tuple[float, float]:
    """Find a range around all places, with a margin."""
    low, high = min(places), max(places)
    margin = MARGIN * (high - low) or 1.0
    return low - margin, high + margin
