"""Draw the pictures of a run and of a report: losses, weights and scores against the epochs or against λ."""

import itertools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator

from shrinkage.names import in_matplotlib
from shrinkage.tracking.outcome import Outcome

from .scale import decades, is_wide, name_of
from .shades import colours_of

if TYPE_CHECKING:
    import pandas as pd

    from .answer import Answer, Setting
    from .grid import Grid

# Okabe & Ito's colours, told apart by every kind of colour vision. Penalties have their own (`shades`).
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9")
MOST_SETTINGS = 6  # in a picture
WIDE = 5  # a range of means beyond which their axis is logarithmic
LABELLED, LONGEST_LABEL = 12, 24
MOST_COLUMNS = 14  # of a heat map whose cells have their numbers in them
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
    ticks = [0.0] * (0 in values) + decades(smallest, max([smallest, *values]))
    axes.set_xticks(ticks, ["0" if tick == 0 else name_of(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="λ (logarithmic, with 0)" if 0 in values else "λ (logarithmic)")


def upright_decades(axes: Axes) -> None:
    """Make the vertical axis logarithmic, with round values named along it."""
    axes.set_yscale("log")
    ticks = decades(*axes.get_ylim())
    axes.set_yticks(ticks, [name_of(tick) for tick in ticks])
    axes.yaxis.set_minor_locator(NullLocator())


def learning_curves(history: list[tuple[int, dict[str, float]]], title: str, unit: str, colour: str) -> Figure:
    """Draw losses and penalty (left) and the norm of the weights (right) against the epochs or steps finished.

    colour: the penalty's.
    """
    steps = [step for step, _ in history]
    figure, (losses, sizes) = empty_panels()
    for name, ink, style in (("val/loss", colour, "-"), ("train/loss", colour, ":"), ("train/penalty", GREY, "--")):
        if name in history[-1][1]:
            losses.plot(steps, [measured[name] for _, measured in history], style, color=ink, label=name)
    if all(measured.get(name, 1.0) > 0 for _, measured in history for name in ("train/loss", "val/loss")):
        upright_decades(losses)
    losses.set(xlabel=f"{unit}s finished", ylabel="loss, and penalty λΩ(w)")
    losses.legend(frameon=False)
    sizes.plot(steps, [measured["weight/l2"] for _, measured in history], color=colour, label="‖w‖₂")
    sizes.set(xlabel=f"{unit}s finished", ylabel="norm of the weights ‖w‖₂")
    sizes.set_ylim(bottom=0)
    share = sizes.twinx()
    share.plot(steps, [measured["weight/zeros"] for _, measured in history], ":", color=GREY)
    share.set(ylabel="share of exact zeros (dotted)", ylim=(-0.02, 1.02))
    sizes.spines["right"].set_visible(True)
    share.spines["top"].set_visible(False)
    figure.suptitle(in_matplotlib(title))
    return figure


def outcome_figure(outcome: Outcome) -> Figure:
    """Draw what a model to take away does: residuals of each target against predictions, or survival over time."""
    if not outcome.is_of_rows:
        figure, (axes,) = empty_panels(1, 1, (7.2, 4.2))
        for colour, each in zip(COLOURS, outcome.series, strict=False):
            axes.plot(*zip(*each.line, strict=True), color=colour, label=in_matplotlib(each.name))
        axes.set(xlabel=outcome.x, ylabel=outcome.y, ylim=(0, 1.02))
        axes.set_xlim(left=0)
        axes.legend(frameon=False, fontsize="small")
    else:
        columns = min(len(outcome.series), 3)
        rows = math.ceil(len(outcome.series) / columns)
        size = (7.2 if columns == 1 else 4.2 * columns, 4.2 if columns == 1 else 3.4 * rows)
        figure, panels = empty_panels(rows, columns, size)
        for axes in panels[len(outcome.series) :]:
            axes.set_visible(False)
        for axes, each in zip(panels, outcome.series, strict=False):
            if outcome.level is not None:
                axes.axhline(outcome.level, color=GREY, lw=1)
            axes.plot(*zip(*each.points, strict=True), ".", ms=4, alpha=0.5, color=BLUE)
            if each.line:
                axes.plot(*zip(*each.line, strict=True), "o-", ms=3, color=ORANGE)
            axes.set(xlabel=in_matplotlib(f"{outcome.x} of {each.name}" if each.name else outcome.x), ylabel=outcome.y)
    figure.suptitle(in_matplotlib(outcome.title), fontsize="medium")
    return figure


def validation_curve(answer: "Answer") -> Figure:
    """Draw the metric against λ, with a band of one standard error, the training loss (dashed) and λ.min and λ.1se."""
    figure, (axes,) = empty_panels(1, 1, (7.2, 4.2))
    shown, colours = rows_of_best(answer), colours_of(answer.settings)
    for setting, rows in shown:
        at, colour = rows[answer.axis], colours[setting.label]
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
    if is_wide(means.tolist(), WIDE):
        upright_decades(axes)
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
    colours = colours_of(answer.settings)
    for axes, (name, words) in zip(panels, known.items(), strict=True):
        for setting, rows in rows_of_best(answer):
            colour = colours[setting.label]
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
    colour = colours_of(answer.settings)[answer.winner.label]
    for name, style in (("train/loss", ":"), ("val/loss", "-")):
        for number, history in enumerate(curves):
            points = [(step, measured[name]) for step, measured in history if name in measured]
            if points:
                values += [value for _, value in points]
                named = name if number == 0 else None
                axes.plot(*zip(*points, strict=True), style, color=colour, lw=width, label=named)
    if is_wide(values, WIDE):
        upright_decades(axes)
    at = f"{answer.winner.name} at {answer.symbol} = {answer.winner.min:.4g}".strip()
    axes.set(xlabel=f"{unit}s finished", ylabel="data loss")
    title = f"{at}, a line for each of {len(curves)} splits" if len(curves) > 1 else at
    axes.set_title(in_matplotlib(title), fontsize="medium")
    axes.legend(frameon=False, fontsize="small")
    return figure


def heat_maps(answer: "Answer", found: "Sequence[Grid]") -> Figure:
    """Draw each pair of numbers that vary, the better the darker; a frame is around the best."""
    rows = max(len(grid.rows) for grid in found)
    figure, panels = empty_panels(
        1, len(found), (6.4 * len(found), 1.4 + (0.45 if rows <= MOST_COLUMNS else 0.2) * rows)
    )
    for axes, grid in zip(panels, found, strict=True):
        axes.grid(visible=False)
        colours = LinearSegmentedColormap.from_list("strength", ["white", grid.colour])
        shares = [[math.nan if cell is None else cell.strength for cell in cells] for cells in grid.cells]
        axes.imshow(shares, cmap=colours, vmin=0, vmax=1, aspect="auto")
        step = math.ceil(len(grid.columns) / MOST_COLUMNS)
        axes.set_xticks(range(0, len(grid.columns), step), [f"{value:.2g}" for value in grid.columns[::step]])
        axes.tick_params(axis="x", rotation=45 if step > 1 else 0)
        axes.set_yticks(range(len(grid.rows)), [f"{value:.4g}" for value in grid.rows])
        axes.set(xlabel=answer.symbol, ylabel=in_matplotlib(grid.key))
        axes.set_title(in_matplotlib(f"{answer.metric} {grid.fixed}".strip()), fontsize="medium")
        for y, cells in enumerate(grid.cells):
            for x, cell in enumerate(cells):
                if cell is not None and cell.is_best:
                    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, ec="black", lw=2))
                if cell is not None and step == 1:
                    ink = "white" if cell.strength > 0.6 else "black"
                    axes.text(x, y, f"{cell.mean:.3g}", ha="center", va="center", color=ink, fontsize="small")
    return figure


def rows_of_best(answer: "Answer") -> "list[tuple[Setting, pd.DataFrame]]":
    """Select the best settings, as many as a picture shows, each with its rows of the table."""
    table = answer.table
    return [(each, table[table["setting"] == each.label]) for each in answer.settings[:MOST_SETTINGS]]


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
