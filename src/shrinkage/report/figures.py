"""Pictures of runs."""

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

# Okabe & Ito's colours, told apart by every kind of colour vision.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9")


def empty_panels(
    rows: int = 1, columns: int = 2, size: tuple[float, float] = (9, 3.6)
) -> tuple[Figure, "Axes | np.ndarray"]:
    """A figure of so many inches with its panels, of the shape that matplotlib's `subplots` gives them."""
    figure = Figure(figsize=size, layout="constrained", dpi=120)
    panels = figure.subplots(rows, columns)
    for axes in figure.axes:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def strength_axis(axes: Axes, lambd: Iterable[float], logarithmic: bool = True) -> None:
    """λ as the horizontal axis; a logarithmic one has a short straight piece from 0 to the smallest other λ."""
    values = list(lambd)
    if not logarithmic:
        axes.set(xlabel="λ")
        return
    smallest = min((value for value in values if value > 0), default=1.0)
    axes.set_xscale("symlog", linthresh=smallest, linscale=0.3)
    axes.set_xlim(left=-0.2 * smallest if 0 in values else 0.8 * smallest)
    axes.set(xlabel="λ (logarithmic, with 0)" if 0 in values else "λ (logarithmic)")


def learning_curves(history: list[tuple[int, dict[str, float]]], title: str, unit: str) -> Figure:
    """Losses and penalty (left) and the norm of the weights (right) against the epochs or steps finished."""
    steps = [step for step, _ in history]
    figure, (losses, sizes) = empty_panels()
    for name, colour, style in (
        ("train/loss", BLUE, "-"),
        ("val/loss", ORANGE, "-"),
        ("train/penalty", GREY, "--"),
    ):
        losses.plot(steps, [measured[name] for _, measured in history], style, color=colour, label=name)
    if all(measured[name] > 0 for _, measured in history for name in ("train/loss", "val/loss")):
        losses.set_yscale("log")
    losses.set(xlabel=f"{unit}s finished", ylabel="loss, and penalty λΩ(w)")
    losses.legend(frameon=False)
    sizes.plot(steps, [measured["weight/l2"] for _, measured in history], color=GREEN, label="‖w‖₂")
    sizes.set(xlabel=f"{unit}s finished", ylabel="norm of the weights ‖w‖₂")
    sizes.set_ylim(bottom=0)
    share = sizes.twinx()
    share.plot(steps, [measured["weight/zeros"] for _, measured in history], ":", color=GREY)
    share.set(ylabel="share of exact zeros (dotted)", ylim=(-0.02, 1.02))
    sizes.spines["right"].set_visible(True)
    share.spines["top"].set_visible(False)
    figure.suptitle(title)
    return figure


def sweep_curves(table: "pd.DataFrame") -> Figure:
    """Losses (left) and the norm of the weights (right) against λ, a colour a setting; λ = 0 stands left of a gap.

    table: rows with `setting`, `lambd`, `train/loss`, `val/loss` and `weight/l2`, sorted by λ within a setting.
    """
    figure, (losses, sizes) = empty_panels()
    for colour, (setting, rows) in zip(itertools.cycle(COLOURS), table.groupby("setting"), strict=False):
        label = f"{setting} " if setting else ""
        losses.plot(rows["lambd"], rows["val/loss"], "o-", ms=4, color=colour, label=f"{label}val/loss")
        losses.plot(rows["lambd"], rows["train/loss"], "o--", ms=3, color=colour, alpha=0.6, label=f"{label}train/loss")
        sizes.plot(rows["lambd"], rows["weight/l2"], "o-", ms=4, color=colour, label=setting or "‖w‖₂")
    if (table[["train/loss", "val/loss"]] > 0).all(axis=None):
        losses.set_yscale("log")
    losses.set(ylabel="data loss (dashed: training)")
    sizes.set(ylabel="norm of the weights ‖w‖₂")
    sizes.set_ylim(bottom=0)
    for axes in (losses, sizes):
        strength_axis(axes, table["lambd"])
        axes.legend(frameon=False, fontsize="small")
    return figure
