"""What a trained model does on rows that it was not trained on: residuals against predictions, survival over time."""

import numpy as np
import torch
from torch import Tensor

from shrinkage.data.base import DataModule
from shrinkage.tasks.base import Survival, Task
from shrinkage.tracking.outcome import Outcome, Points, Series

MOST_ROWS, MOST_SERIES = 2_000, 6  # in a picture
BINS, FEW = 10, 5  # of the line through residuals, and how many rows each has at least
QUARTILES = {0.25: "a low risk (lower quartile)", 0.5: "the median risk", 0.75: "a high risk (upper quartile)"}
PARTS = {"test": "test rows", "val": "validation rows"}


def residuals(task: Task, data: DataModule, part: str, output: Tensor, target: Tensor) -> Outcome:
    """Plot residuals of a part's rows against predictions of numbers, in the user's units.

    Under a log link they are deviance residuals: the sign of y − μ times the root of the row's deviance, which vary
    alike for all predictions where the distribution is right.
    """
    output, target = output.detach().cpu().double(), target.cpu().double()
    if task.link == "log":
        seen = task.predictions(output)
        left = (target - seen).sign() * (2 * task.losses(output, target)).clamp(min=0).sqrt()
        predicted, left, kind = seen[:, None].numpy(), left[:, None].numpy(), "deviance residual"
    else:
        scale, center = np.asarray(data.scale), np.asarray(data.center)
        predicted = output.numpy() * scale + center
        left, kind = target.reshape(output.shape).numpy() * scale + center - predicted, "residual"
    names = data.target_names or ("",)
    series = [
        Series(name, spread(predicted[:, k], left[:, k]), means(predicted[:, k], left[:, k]))
        for k, name in enumerate(names[:MOST_SERIES])
    ]
    of = f", {MOST_SERIES} of {len(names)} targets" if len(names) > MOST_SERIES else ""
    title = f"Residuals of {len(output)} {PARTS.get(part, part)}{of}; the line: means of groups of equal size"
    return Outcome("residuals", title, "prediction", f"{kind} (observed − predicted)", series, 0.0)


def spread(x: np.ndarray, y: np.ndarray) -> Points:
    """List points in the order of x, some of them at even distances where they are too many for a picture."""
    order = np.argsort(x, kind="stable")
    kept = order[np.unique(np.linspace(0, len(order) - 1, min(len(order), MOST_ROWS)).round().astype(int))]
    return [(float(a), float(b)) for a, b in zip(x[kept], y[kept], strict=True) if np.isfinite(a) and np.isfinite(b)]


def means(x: np.ndarray, y: np.ndarray) -> Points:
    """List the means of y against those of x, in groups of equal size in the order of x; none of too few points."""
    order = np.argsort(x, kind="stable")
    groups = np.array_split(order, max(min(BINS, len(order) // FEW), 1)) if len(order) >= 2 * FEW else []
    return [(float(x[rows].mean()), float(y[rows].mean())) for rows in groups]


def survival_curves(survival: Survival, data: DataModule, output: Tensor) -> Outcome:
    """Plot the share of rows without an event over time, at the quartiles of the training rows' risks.

    With strata at the median risk, for each of the first few. output: [n, 1], of the training rows.
    """
    risks = {share: float(torch.quantile(output[:, 0].double().cpu(), share).exp()) for share in QUARTILES}
    strata, series = data.strata_names, list[Series]()
    if len(strata) > 1:
        for number, name in list(enumerate(strata))[:MOST_SERIES]:
            shown = name if isinstance(name, str) else f"{name:g}"
            series.append(Series(shown, [], curve(survival, number, risks[0.5])))
    else:
        series = [Series(words, [], curve(survival, 0, risks[share])) for share, words in QUARTILES.items()]
    of = f", {len(series)} of {len(strata)} strata" if len(strata) > len(series) else ""
    at = "the median risk in each stratum" if len(strata) > 1 else "quartiles of the training rows' risks"
    return Outcome("survival", f"Survival at {at}{of}", "time", "share without an event", series)


def curve(survival: Survival, stratum: int, risk: float) -> Points:
    """List the corners of a stratum's curve of survival at a relative risk, from time 0 until it was seen last."""
    points, height = [(0.0, 1.0)], 1.0
    for time, expected in zip(*(each.tolist() for each in survival.steps[stratum]), strict=True):
        points.append((time, height))
        height = float(np.exp(-expected * risk))
        points.append((time, height))
    return [*points, (survival.ends[stratum], height)]
