"""The charts of a report's page: what each draws, and what it tells of a point."""

import math
from collections.abc import Sequence

import pandas as pd

from shrinkage.names import on_a_line
from shrinkage.tracking.outcome import Outcome

from .answer import Answer, Setting, short
from .chart import Chart, Line
from .evidence import Evidence
from .figures import (
    BLUE,
    COLOURS,
    GREY,
    LABELLED,
    ORANGE,
    SIZES,
    WIDE,
    hidden_words,
    label,
    rows_of_best,
)
from .scale import Scale, is_wide, logarithmic, straight
from .shades import colours_of

DASHES = {"λ.min": "5 4", "λ.1se": "1 3"}  # of upright lines
MOST_DOTS = 400  # points of a line beyond which they are not drawn one by one


def main_chart(answer: Answer) -> Chart:
    """Draw the metric against λ, with bands of one standard error; a colour for each setting."""
    colours, shown = colours_of(answer.settings), rows_of_best(answer)
    lines, marks, values = [], [], list[float]()
    with_training = answer.metric == "val/loss"
    for group, (setting, rows) in enumerate(shown):
        colour, at = colours[setting.label], rows[answer.axis].tolist()
        means, errors = rows["mean"].tolist(), rows["error"].tolist()
        values += [
            mean + sign * error for mean, error in zip(means, errors, strict=True) for sign in (-1, 1) if error == error
        ]
        values += means
        told = [
            f"{name_and(setting)}{answer.symbol} = {short(value)}: {answer.metric} {mean:.5g}"
            + (f" ± {error:.2g}" if math.isfinite(error) else "")
            for value, mean, error in zip(at, means, errors, strict=True)
        ]
        points = list(zip(at, means, strict=True))
        lines.append(Line(points, colour, group, told, errors, dots=len(points) <= MOST_DOTS))
        if with_training and rows["train/loss"].notna().any():
            training = rows["train/loss"].tolist()
            values += [value for value in training if math.isfinite(value)]
            told = [
                f"{name_and(setting)}{answer.symbol} = {short(value)}: train/loss {loss:.5g}"
                for value, loss in zip(at, training, strict=True)
            ]
            lines.append(Line(list(zip(at, training, strict=True)), colour, group, told, width=1.5, dotted=True))
        marks.append((setting.min, setting.mean, "circle", colour, group))
        if setting.at_one_se is not None:
            marks.append((setting.at_one_se.value, setting.at_one_se.mean, "diamond", colour, group))
    has_errors = bool(answer.table["error"].notna().any())
    means = answer.table["mean"].tolist()
    up = logarithmic(values) if is_wide(means, WIDE) else straight(values)
    key = [f"● {answer.symbol}.min"] + ["◆ λ.1se"] * (answer.winner.one_se is not None)
    key += ["··· train/loss"] * with_training
    return Chart(
        f"{answer.metric} against {answer.symbol}. {answer.sentence}",
        across(answer),
        up,
        across_name(answer),
        f"{answer.metric}{', mean ± one standard error' if has_errors else ''}{' (logarithmic)' if up.is_log else ''}",
        lines,
        [(setting.name, colours[setting.label]) for setting, _ in shown],
        hidden_words(answer, shown),
        marks,
        rules(answer),
        key,
    )


def size_charts(answer: Answer) -> list[Chart]:
    """Draw each measure of the weights' size against λ; a colour for each setting."""
    colours, shown = colours_of(answer.settings), rows_of_best(answer)
    charts = []
    for column, words in SIZES.items():
        found = answer.table[column]
        if not found.notna().any() or (column == "weight/zeros" and not found.any()):  # no penalty has made zeros
            continue
        lines, values = [], list[float]()
        for group, (setting, rows) in enumerate(shown):
            at, sizes = rows[answer.axis].tolist(), rows[column].tolist()
            values += [size for size in sizes if math.isfinite(size)]
            told = [
                f"{name_and(setting)}{answer.symbol} = {short(value)}: {size:.5g}"
                for value, size in zip(at, sizes, strict=True)
            ]
            points = list(zip(at, sizes, strict=True))
            lines.append(Line(points, colours[setting.label], group, told, dots=len(points) <= MOST_DOTS))
        legend = [(setting.name, colours[setting.label]) for setting, _ in shown]
        charts.append(
            Chart(
                f"{words} against {answer.symbol}",
                across(answer),
                straight([*values, 1.0] if column == "weight/zeros" else values, from_zero=True),
                across_name(answer),
                words,
                lines,
                legend,
                hidden_words(answer, shown),
                rules=rules(answer),
            )
        )
    return charts


def path_chart(answer: Answer, path: pd.DataFrame, of: str) -> Chart:
    """Draw each weight of the winner against λ; the largest have colours and names.

    path: a row a value of the axis, a column a weight. of: what the weights are.
    """
    largest = list(path.abs().max().sort_values(ascending=False, kind="stable").index[:LABELLED])
    at = path.index.tolist()
    lines = []
    for name in reversed(path.columns):  # the largest last, on top
        weights = path[name].tolist()
        points = list(zip(at, weights, strict=True))
        if name in largest:
            group = largest.index(name)
            told = [
                f"{on_a_line(str(name))}, {answer.symbol} = {short(value)}: {weight:.5g}"
                for value, weight in zip(at, weights, strict=True)
            ]
            lines.append(Line(points, COLOURS[group % len(COLOURS)], group, told, dotted=group >= len(COLOURS)))
        else:
            lines.append(Line(points, GREY, width=0.8, opacity=0.5))
    return Chart(
        f"Coefficient path: {of}",
        across(answer),
        straight([*path.min().tolist(), *path.max().tolist(), 0.0]),
        across_name(answer),
        "weight, in the units it was trained in",
        lines,
        [(label(name), COLOURS[place % len(COLOURS)]) for place, name in enumerate(largest)],
        rules=rules(answer),
        legend_title="the largest" if len(largest) < path.shape[1] else None,
    )


def outcome_charts(outcome: Outcome) -> list[Chart]:
    """Draw what a refitted model does: a chart of residuals for each target, or one with all curves of survival."""
    return residual_charts(outcome) if outcome.is_of_rows else [survival_chart(outcome)]


def survival_chart(outcome: Outcome) -> Chart:
    """Draw curves of survival over time, a colour each."""
    everywhere = [point for each in outcome.series for point in each.line]
    colours = [COLOURS[group % len(COLOURS)] for group in range(len(outcome.series))]
    lines, legend = [], []
    for group, (each, colour) in enumerate(zip(outcome.series, colours, strict=True)):
        told = [f"{on_a_line(each.name)}, {outcome.x} {x:.4g}: {y:.3g}" for x, y in each.line]
        lines.append(Line(each.line, colour, group, told))
        legend.append((each.name, colour))
    across = straight([x for x, _ in everywhere], from_zero=True)
    up = straight([0.0, *(y for _, y in everywhere)], from_zero=True)
    return Chart(outcome.title, across, up, outcome.x, outcome.y, lines, legend)


def residual_charts(outcome: Outcome) -> list[Chart]:
    """Draw the residuals of each target against its predictions, with their means along the way."""
    charts = []
    for each in outcome.series:
        level = 0.0 if outcome.level is None else outcome.level
        ends = [min(x for x, _ in each.points), max(x for x, _ in each.points)]
        told = [f"{outcome.x} {x:.4g}: {y:.3g}" for x, y in each.points]
        mean = [f"around {outcome.x} {x:.4g}: mean {y:.3g}" for x, y in each.line]
        lines = [
            Line([(x, level) for x in ends], GREY, width=1.0),
            Line(each.points, BLUE, 0, told, width=0.0, dots=True),
            Line(each.line, ORANGE, 1, mean),
        ]
        x_name = f"{outcome.x} of {each.name}" if each.name else outcome.x
        across, up = straight(x for x, _ in each.points), straight([level, *(y for _, y in each.points)])
        legend = [("rows", BLUE), ("means", ORANGE)][: 2 if each.line else 1]
        charts.append(Chart(outcome.title, across, up, x_name, outcome.y, lines, legend))
    return charts


def learning_chart(answer: Answer, evidence: Evidence) -> Chart:
    """Draw the losses of the winner's runs at λ.min against the epochs or steps finished."""
    colour = colours_of(answer.settings)[answer.winner.label]
    lines, steps, values = [], list[float](), list[float]()
    for group, name in enumerate(("val/loss", "train/loss")):
        for history in evidence.curves:
            points = [(float(step), measured[name]) for step, measured in history if name in measured]
            steps += [step for step, _ in points]
            values += [value for _, value in points if math.isfinite(value)]
            told = [f"after {step:g} {evidence.unit}s: {name} {value:.5g}" for step, value in points]
            width = 2.0 if len(evidence.curves) == 1 else 1.0
            lines.append(Line(points, colour, group, told, width=width, dotted=name == "train/loss"))
    up = logarithmic(values) if is_wide(values, WIDE) else straight(values)
    return Chart(
        f"Learning curves of {answer.winner.name} at {answer.symbol}.min",
        straight(steps),
        up,
        f"{evidence.unit}s finished",
        f"data loss{' (logarithmic)' if up.is_log else ''}"
        + (f", a line for each of {len(evidence.curves)} splits" if len(evidence.curves) > 1 else ""),
        lines,
        [("val/loss", colour), ("train/loss (dotted)", colour)],
    )


def across(answer: Answer) -> Scale:
    """Make the scale of the axis, which is λ or a number of the penalty."""
    values = answer.table[answer.axis].tolist()
    return logarithmic(values, zero=0 in values) if answer.axis == "lambd" else straight(values)


def across_name(answer: Answer) -> str:
    """Name the axis, and say that it is logarithmic."""
    if answer.axis != "lambd":
        return answer.axis
    return f"λ (logarithmic{', with 0' if (answer.table[answer.axis] == 0).any() else ''})"


def rules(answer: Answer) -> Sequence[tuple[float, str, str]]:
    """List the winner's λ.min and λ.1se, where there is one, as upright lines with their names."""
    winner, least = answer.winner, f"{answer.symbol}.min"
    if winner.one_se is None:
        return [(winner.min, least, DASHES["λ.min"])]
    if winner.one_se == winner.min:
        return [(winner.min, "λ.min = λ.1se", DASHES["λ.min"])]
    return [(winner.min, "λ.min", DASHES["λ.min"]), (winner.one_se, "λ.1se", DASHES["λ.1se"])]


def name_and(setting: Setting) -> str:
    """Write a setting's name before what is told of it; nothing where there is but one."""
    return f"{on_a_line(setting.name)}, " if setting.label else ""
