"""Draw the pictures of a run and of a report: losses, weights and scores against the epochs or against λ."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from shrinkage.names import in_matplotlib

if TYPE_CHECKING:
    import pandas as pd

    from .answer import Answer, Setting

# Okabe & Ito's colours, told apart by every kind of colour vision.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9")
WIDE = 5  # a range of means beyond which their axis is logarithmic
LABELLED, LONGEST_LABEL = 12, 24
SIZES = {"weight/l1": "‖w‖₁", "weight/l2": "‖w‖₂", "weight/zeros": "share of weights that are exactly 0"}


def empty_panels(rows: int = 1, columns: int = 2, size: tuple[float, float] = (9, 3.6)) -> tuple[Figure, list[Axes]]:
    """Make a figure of so many inches, and its empty panels, row after row."""
    figure = Figure(figsize=size, layout="constrained", dpi=120)
    figure.subplots(rows, columns)
    for axes in figure.axes:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, figure.axes


def write_picture(figure: Figure, path: Path) -> Path:
    """Write a figure as a PNG file, the same as `savefig` writes, and return its path."""
    FigureCanvasAgg(figure).print_png(path)  # `savefig` draws it twice, the first time for its layout alone
    return path


def strength_axis(axes: Axes, lambd: Iterable[float], logarithmic: bool = True) -> None:
    """Make λ the horizontal axis; a logarithmic one has a short straight piece from 0 to the smallest other λ."""
    values = list(lambd)
    if not logarithmic:
        axes.set(xlabel="λ")
        return
    smallest = min((value for value in values if value > 0), default=1.0)
    axes.set_xscale("symlog", linthresh=smallest, linscale=0.3)
    axes.set_xlim(left=-0.2 * smallest if 0 in values else 0.8 * smallest)
    axes.set(xlabel="λ (logarithmic, with 0)" if 0 in values else "λ (logarithmic)")


def learning_curves(history: list[tuple[int, dict[str, float]]], title: str, unit: str) -> Figure:
    """Draw losses and penalty (left) and the norm of the weights (right) against the epochs or steps finished."""
    steps = [step for step, _ in history]
    figure, (losses, sizes) = empty_panels()
    for name, colour, style in (
        ("train/loss", BLUE, "-"),
        ("val/loss", ORANGE, "-"),
        ("train/penalty", GREY, "--"),
    ):
        if name in history[-1][1]:
            losses.plot(steps, [measured[name] for _, measured in history], style, color=colour, label=name)
    if all(measured.get(name, 1.0) > 0 for _, measured in history for name in ("train/loss", "val/loss")):
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
    figure.suptitle(in_matplotlib(title))
    return figure


def validation_curve(answer: "Answer") -> Figure:
    """Draw the metric against λ, with a band of one standard error, the training loss (dashed) and λ.min and λ.1se."""
    figure, (axes,) = empty_panels(1, 1, (7.2, 4.2))
    shown = rows_of_best(answer)
    for colour, (setting, rows) in zip(COLOURS, shown, strict=False):
        at = rows[answer.axis]
        axes.plot(at, rows["mean"], "o-", ms=3, color=colour, label=in_matplotlib(setting.name))
        if rows["error"].notna().any():
            low, high = rows["mean"] - rows["error"], rows["mean"] + rows["error"]
            axes.fill_between(at, low, high, color=colour, alpha=0.15, lw=0)
        if answer.metric == "val/loss" and rows["train/loss"].notna().any():
            axes.plot(at, rows["train/loss"], "--", lw=1, color=colour, alpha=0.8)
        axes.plot(setting.min, setting.mean, "o", ms=8, color=colour, mec="black", zorder=4)
        if (at_one_se := setting.at_one_se) is not None:
            axes.plot(at_one_se.value, at_one_se.mean, "D", ms=7, color=colour, mec="black", zorder=4)
    axes.plot([], [], "o", ms=8, color="white", mec="black", label=f"{answer.symbol}.min")
    if answer.winner.one_se is not None:
        axes.plot([], [], "D", ms=7, color="white", mec="black", label="λ.1se")
    mark([axes], answer)
    means = answer.table["mean"]
    if is_wide(means.min(), means.max()):
        axes.set_yscale("log")
    parts = ["± one standard error"] * bool(answer.table["error"].notna().any())
    parts += ["dashed: train/loss"] * (answer.metric == "val/loss")
    axes.set(ylabel=f"{answer.metric} ({', '.join(parts)})" if parts else answer.metric)
    axes.legend(frameon=False, fontsize="small", title=hidden_words(answer, shown))
    return figure


def weight_sizes(answer: "Answer") -> Figure | None:
    """Draw the size of the weights against λ: ‖w‖₁, ‖w‖₂ and the share of zeros, a colour for each setting.

    None where no run has them.
    """
    known = {name: words for name, words in SIZES.items() if answer.table[name].notna().any()}
    if not known:
        return None
    figure, panels = empty_panels(1, len(known), (3.7 * len(known), 3.6))
    for axes, (name, words) in zip(panels, known.items(), strict=True):
        for colour, (setting, rows) in zip(COLOURS, rows_of_best(answer), strict=False):
            axes.plot(rows[answer.axis], rows[name], "o-", ms=3, color=colour, label=in_matplotlib(setting.name))
        axes.set(ylabel=words)
        axes.set_ylim(bottom=0, top=1.03 if name == "weight/zeros" else None)
    mark(panels, answer)
    panels[0].legend(frameon=False, fontsize="small")
    return figure


def coefficient_path(answer: "Answer", path: "pd.DataFrame", of: str) -> Figure:
    """Draw each weight of the winner against λ; the names of the largest stand where their lines begin.

    path: a row a value of the axis, a column a weight. of: what the weights are, for the title.
    """
    figure, (axes,) = empty_panels(1, 1, (8.4, 4.8))
    largest = list(path.abs().max().sort_values(ascending=False, kind="stable").index[:LABELLED])
    for name in path:
        if name not in largest:
            axes.plot(path.index, path[name], color=GREY, lw=0.6, alpha=0.5)
    styles = itertools.product(("-", "--"), COLOURS)
    colours = {}
    for name, (style, colour) in zip(largest, styles, strict=False):
        axes.plot(path.index, path[name], style, color=colour, lw=1.4)
        colours[name] = colour
    axes.axhline(0, color="black", lw=0.6)
    mark([axes], answer)
    strength_axis_of(axes, answer)
    axes.set_xlim(right=1.05 * path.index.max() if answer.axis == "lambd" else None)
    # The weights are largest at the left end, so the names stand there and the scale at the right.
    axes.yaxis.tick_right()
    axes.yaxis.set_label_position("right")
    axes.spines["right"].set_visible(True)
    axes.spines["left"].set_visible(False)
    low, high = axes.get_ylim()
    ends = path.loc[path.index.min(), largest]
    places = spread(ends, (high - low) / 22)
    for name in largest:
        axes.annotate(
            in_matplotlib(label(name)),
            xy=(0.0, ends[name]),
            xycoords=axes.get_yaxis_transform(),
            xytext=(-0.025, places[name]),
            textcoords=axes.get_yaxis_transform(),
            ha="right",
            va="center",
            fontsize="small",
            color=colours[name],
            arrowprops={
                "arrowstyle": "-",
                "lw": 0.5,
                "color": colours[name],
                "shrinkA": 0,
                "shrinkB": 0,
                "relpos": (1, 0.5),
            },
        )
    axes.set(ylabel="weight, in the units it was trained in")
    axes.set_title(in_matplotlib(of), loc="left", fontsize="medium", pad=16)  # above the names of the λ's
    return figure


def split_curves(answer: "Answer", curves: list[list[tuple[int, dict[str, float]]]], unit: str) -> Figure:
    """Draw the losses of the winner's runs at λ.min against the epochs or steps finished, a thin line a run."""
    figure, (axes,) = empty_panels(1, 1, (7.2, 3.8))
    width, values = (1.8, []) if len(curves) == 1 else (0.8, [])
    for name, colour in (("train/loss", BLUE), ("val/loss", ORANGE)):
        for number, history in enumerate(curves):
            points = [(step, measured[name]) for step, measured in history if name in measured]
            if points:
                values += [value for _, value in points]
                axes.plot(*zip(*points, strict=True), color=colour, lw=width, label=name if number == 0 else None)
    if is_wide(min(values), max(values)):
        axes.set_yscale("log")
    at = f"{answer.winner.name} at {answer.symbol} = {answer.winner.min:.4g}".strip()
    axes.set(xlabel=f"{unit}s finished", ylabel="data loss")
    title = f"{at}, a line for each of {len(curves)} splits" if len(curves) > 1 else at
    axes.set_title(in_matplotlib(title), fontsize="medium")
    axes.legend(frameon=False, fontsize="small")
    return figure


def rows_of_best(answer: "Answer") -> "list[tuple[Setting, pd.DataFrame]]":
    """Select the best settings, as many as there are colours, each with its rows of the table."""
    table = answer.table
    return [(each, table[table["setting"] == each.label]) for each in answer.settings[: len(COLOURS)]]


def is_wide(least: float, largest: float) -> bool:
    """Tell whether values in a range need a logarithmic axis, and can have one."""
    return least > 0 and largest > WIDE * least


def label(name: str) -> str:
    """Cut a feature's name where it is too long to stand beside a picture."""
    return name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 1]}…"


def hidden_words(answer: "Answer", shown: Sequence[object]) -> str | None:
    """Say in a legend that there are more settings than are shown; None where there are not."""
    return f"the best {len(shown)} of {len(answer.settings)} settings" if len(shown) < len(answer.settings) else None


def mark(panels: list[Axes], answer: "Answer") -> None:
    """Mark the winner's λ.min (dashed) and λ.1se (dotted) as lines with their names, on panels whose axis is λ."""
    for axes in panels:
        strength_axis_of(axes, answer)
        for value, style, name in chosen(answer):
            axes.axvline(value, ls=style, color="black", lw=1, alpha=0.6, zorder=0)
            side = {"λ.1se": ("left", 1)}.get(name, ("right", -1) if len(chosen(answer)) > 1 else ("center", 0))
            axes.annotate(
                name,
                xy=(value, 1.0),
                xycoords=axes.get_xaxis_transform(),
                xytext=(side[1], 2),
                textcoords="offset points",
                ha=side[0],
                va="bottom",
                fontsize="x-small",
            )


def chosen(answer: "Answer") -> list[tuple[float, str, str]]:
    """List the winner's λ.min and λ.1se, where there is one, each with the style of its line and its name."""
    winner = answer.winner
    if winner.one_se is None:
        return [(winner.min, "--", f"{answer.symbol}.min")]
    if winner.one_se == winner.min:
        return [(winner.min, "--", "λ.min = λ.1se")]
    return [(winner.min, "--", "λ.min"), (winner.one_se, ":", "λ.1se")]


def strength_axis_of(axes: Axes, answer: "Answer") -> None:
    strength_axis(axes, answer.table[answer.axis], answer.axis == "lambd")
    if answer.axis != "lambd":
        axes.set(xlabel=answer.axis)


def spread(places: "pd.Series", gap: float) -> "pd.Series":
    """Move places apart, as little as need be (in squares), until each is a gap above the one before.

    It is an isotonic regression.
    """
    import pandas as pd
    from scipy.optimize import isotonic_regression

    ordered = places.sort_values()
    steps = gap * pd.RangeIndex(len(ordered)).to_numpy()
    return pd.Series(isotonic_regression(ordered.to_numpy() - steps).x + steps, ordered.index)
