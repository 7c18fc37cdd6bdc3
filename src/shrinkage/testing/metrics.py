"""The laws of a metric."""

from typing import Any

import torch
from torch import Tensor

from shrinkage.tasks.metrics.base import Metric, SumMetric, WholePartMetric

from .laws import require, require_close, require_lanes

ROWS, CLASSES, CONTEXT = 30, 3, 4
EXACT = 1e-12  # of numbers of about 1 in double precision, in sums of a few dozen


def check_metric(metric: Metric, seed: int = 0) -> None:
    """Check the laws of a metric on predictions that are drawn from a seed.

    It says its name, its direction and what a person should know of it; its value is one number, which the order of the
    rows does not change; of a `SumMetric` the sums of batches add up to those of the whole, and can be vectorised over
    lanes. Raises AssertionError for the first law that is broken.
    """
    for name, kind in (("name", str), ("about", str), ("larger_is_better", bool)):
        value = getattr(metric, name, None)
        require(isinstance(value, kind) and value != "", metric, f"`{name}` is a {kind.__name__}", found=value)
    kinds = ("numbers", "vectors", "risks", "classes", "tokens")
    predicts = getattr(metric, "predicts", None)
    require(predicts in kinds, metric, f"`predicts` is one of {', '.join(kinds)}", found=predicts)
    law = "a metric is a SumMetric or a WholePartMetric"
    require(isinstance(metric, SumMetric | WholePartMetric), metric, law)
    prediction, target = draw(metric.predicts, torch.Generator().manual_seed(seed))
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(seed))
    value = measure(metric, prediction, target)
    require(
        isinstance(value, Tensor) and value.shape == (), metric, "its value is a tensor of no dimension", value=value
    )
    law = "its value does not depend on the order of the rows"
    require_close(measure(metric, prediction[order], target[order]), value, EXACT * ROWS, metric, law)
    if isinstance(metric, SumMetric):
        check_sums(metric, prediction, target)


def draw(predicts: str, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw predictions of a kind, as a task has them, and targets; every class is among these."""
    shapes = {"numbers": (ROWS,), "risks": (ROWS,), "vectors": (ROWS, CLASSES), "classes": (ROWS, CLASSES)}
    shape = shapes.get(predicts, (ROWS, CONTEXT, CLASSES))
    prediction = torch.randn(shape, generator=generator, dtype=torch.float64)
    if predicts == "risks":
        times = torch.randint(1, ROWS // 2, (ROWS,), generator=generator).double()
        return prediction, torch.stack([times, (torch.arange(ROWS) % 3 > 0).double()], dim=1)
    if predicts in ("numbers", "vectors"):
        return prediction, torch.randn(shape, generator=generator, dtype=torch.float64)
    return prediction, (torch.arange(prediction[..., 0].numel()) % CLASSES).reshape(shape[:-1])


def check_sums(metric: SumMetric, prediction: Tensor, target: Tensor) -> None:
    """Check that sums of batches add up, and that both methods can be vectorised."""
    whole = all_sums(metric, prediction, target)
    parts = [all_sums(metric, prediction[rows], target[rows]) for rows in (slice(0, 11), slice(11, None))]
    added = {name: value + parts[1][name] for name, value in parts[0].items()}
    require_close(added, whole, EXACT * ROWS, metric, "the sums of two batches add up to those of both together")
    stacked = torch.stack([prediction, prediction.flip(0)])
    law = "sums and value can be vectorised by torch.vmap: no .item(), no if on the values"
    require_lanes(lambda seen: measure(metric, seen, target), (stacked,), EXACT * ROWS, metric, law)


def all_sums(metric: SumMetric, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Add up what a metric asks for, with the sums that are there anyway; a row's loss is its prediction's square."""
    losses = prediction.reshape(len(prediction), -1).square().mean(dim=1)
    return {"rows": torch.ones_like(losses).sum(), "loss": losses.sum(), **metric.sums(prediction, target)}


def measure(metric: Metric, prediction: Tensor, target: Tensor) -> Any:
    """Compute a metric of all rows."""
    if isinstance(metric, SumMetric):
        return metric.value(all_sums(metric, prediction, target))
    assert isinstance(metric, WholePartMetric)
    return metric.value(prediction, target)
