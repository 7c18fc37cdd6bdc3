"""Draw the pictures of a report as charts to point at with the mouse, in HTML that needs no network."""

import itertools
import math
from collections.abc import Iterable
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from shrinkage.names import in_plotly

from .answer import Answer, short
from .evidence import Evidence
from .figures import (
    BLUE,
    COLOURS,
    GREY,
    LABELLED,
    ORANGE,
    SIZES,
    chosen,
    hidden_words,
    is_wide,
    label,
    rows_of_best,
    spread,
)

HEIGHT = 430


def charts(answer: Answer, evidence: Evidence) -> list[tuple[str, str]]:
    """Draw all charts of a report as HTML, each with its heading; the first carries plotly's script for all."""
    found = [(f"{answer.metric} against {answer.symbol}", validation_chart(answer))]
    sizes = [sizes_chart(answer, name, words) for name, words in SIZES.items() if answer.table[name].notna().any()]
    found += [(f"Weights against {answer.symbol}", figure) for figure in sizes[:1]] + [
        ("", figure) for figure in sizes[1:]
    ]
    if evidence.path is not None:
        found.append((f"Coefficient path: {evidence.of}", path_chart(answer, evidence.path)))
    if evidence.curves:
        at = f"{answer.winner.name} at {answer.symbol}.min = {short(answer.winner.min)}"
        found.append((f"Learning curves of {at}", learning_chart(evidence)))
    return [
        (
            heading,
            figure.to_html(
                full_html=False,
                include_plotlyjs=number == 0,
                config={"displaylogo": False, "responsive": True},
                div_id=f"chart-{number}",
            ),
        )
        for number, (heading, figure) in enumerate(found)
    ]


class Strength:
    """The horizontal axis of a chart: where a value of λ stands on it, with a place for 0 left of all others."""

    def __init__(self, answer: Answer) -> None:
        self.logarithmic = answer.axis == "lambd"
        self.values = sorted(set(answer.table[answer.axis]))
        positive = [value for value in self.values if value > 0] or [1.0]
        self.low, self.high = math.log10(positive[0]), math.log10(positive[-1])
        self.zero = self.low - max(0.08 * (self.high - self.low), 0.15)
        self.title = answer.symbol

    def place(self, value: float) -> float:
        """Find where a value stands on the axis; 0 stands a little to the left of the smallest other value."""
        if not self.logarithmic:
            return value
        return math.log10(value) if value > 0 else self.zero

    def places(self, values: Iterable[float]) -> list[float]:
        """Find where several values stand on the axis."""
        return [self.place(value) for value in values]

    def axis(self) -> dict[str, Any]:
        """Build plotly's settings of the axis, with ticks at round values."""
        if not self.logarithmic:
            return {"title": self.title}
        steps = (1,) if self.high - self.low > 2 else (1, 2, 5)
        decades = range(math.floor(self.low), math.ceil(self.high) + 1)
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        ticks = [tick for tick in ticks if self.low - 0.05 <= math.log10(tick) <= self.high + 0.05]
        ticks = ([0.0] if self.values[0] == 0 else []) + ticks
        left = self.zero if self.values[0] == 0 else self.low
        margin = 0.02 * (self.high - left) or 0.1
        return {
            "title": f"{self.title} (logarithmic{', with 0' if self.values[0] == 0 else ''})",
            "tickvals": self.places(ticks),
            "ticktext": [f"{tick:g}" for tick in ticks],
            "range": [left - margin, self.high + margin],
        }


def framed(figure: go.Figure, y: str, **layout: object) -> go.Figure:
    """Give a chart its frame: the name of the vertical axis, a grid, a height."""
    figure.update_layout(
        template="simple_white",
        height=HEIGHT,
        margin={"l": 70, "r": 30, "t": 40, "b": 60},
        yaxis_title=y,
        hoverlabel={"namelength": -1},
        **layout,
    )
    figure.update_xaxes(showgrid=True, gridcolor="#eee")
    figure.update_yaxes(showgrid=True, gridcolor="#eee")
    return figure


def against_strength(figure: go.Figure, strength: Strength, answer: Answer, y: str, **layout: object) -> go.Figure:
    """Give a chart against λ its frame and that axis, with the winner's λ.min and λ.1se as lines."""
    framed(figure, y, **layout).update_xaxes(**strength.axis())
    marks = chosen(answer)
    for value, style, name in marks:
        figure.add_vline(
            strength.place(value),
            line={"color": "black", "width": 1, "dash": "dash" if style == "--" else "dot"},
            annotation={
                "text": name,
                "yref": "paper",
                "y": 1.0,
                "yanchor": "bottom",
                "xanchor": "center" if len(marks) == 1 else "left" if name == "λ.1se" else "right",
            },
        )
    return figure


def validation_chart(answer: Answer) -> go.Figure:
    """Draw the metric against λ, with a band of one standard error; a colour for each setting."""
    figure, strength = go.Figure(), Strength(answer)
    shown = rows_of_best(answer)
    for colour, (setting, rows) in zip(COLOURS, shown, strict=False):
        at, values = strength.places(rows[answer.axis]), [short(value) for value in rows[answer.axis]]
        name, group = in_plotly(setting.name), {"legendgroup": setting.label}
        if rows["error"].notna().any():
            low, high = rows["mean"] - rows["error"], rows["mean"] + rows["error"]
            figure.add_scatter(
                x=[*at, *reversed(at)],
                y=[*high, *low[::-1]],
                fill="toself",
                fillcolor=colour,
                opacity=0.15,
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
                mode="lines",
                **group,
            )
        figure.add_scatter(
            x=at,
            y=rows["mean"],
            mode="lines+markers",
            line={"color": colour},
            marker={"size": 5},
            name=name,
            customdata=list(zip(values, rows["error"].map(lambda error: f"{error:.2g}"), strict=True)),
            hovertemplate=f"{answer.symbol} = %{{customdata[0]}}<br>{answer.metric} %{{y:.5g}} ± %{{customdata[1]}}",
            **group,
        )
        if answer.metric == "val/loss" and rows["train/loss"].notna().any():
            figure.add_scatter(
                x=at,
                y=rows["train/loss"],
                mode="lines",
                line={"color": colour, "dash": "dash", "width": 1},
                name=f"{name}, train/loss".removeprefix(", "),
                customdata=values,
                hovertemplate=f"{answer.symbol} = %{{customdata}}<br>train/loss %{{y:.5g}}",
                **group,
            )
        marked = [(setting.min, setting.mean, "circle")]
        if (at_one_se := setting.at_one_se) is not None:
            marked.append((at_one_se.value, at_one_se.mean, "diamond"))
        for value, mean, symbol in marked:
            figure.add_scatter(
                x=[strength.place(value)],
                y=[mean],
                mode="markers",
                marker={"size": 11, "color": colour, "symbol": symbol, "line": {"width": 1, "color": "black"}},
                hoverinfo="skip",
                showlegend=False,
                **group,
            )
    means = answer.table["mean"]
    if is_wide(means.min(), means.max()):
        figure.update_yaxes(type="log")
    figure.update_layout(legend_title_text=hidden_words(answer, shown))
    return against_strength(figure, strength, answer, f"{answer.metric}, ± one standard error")


def sizes_chart(answer: Answer, column: str, words: str) -> go.Figure:
    """Draw one measure of the weights' size against λ; a colour for each setting."""
    figure, strength = go.Figure(), Strength(answer)
    for colour, (setting, rows) in zip(COLOURS, rows_of_best(answer), strict=False):
        figure.add_scatter(
            x=strength.places(rows[answer.axis]),
            y=rows[column],
            mode="lines+markers",
            line={"color": colour},
            marker={"size": 5},
            name=in_plotly(setting.name),
            customdata=[short(value) for value in rows[answer.axis]],
            hovertemplate=f"{answer.symbol} = %{{customdata}}<br>%{{y:.5g}}",
        )
    figure.update_yaxes(rangemode="tozero")
    return against_strength(figure, strength, answer, words, showlegend=len(answer.settings) > 1).update_layout(
        height=300
    )


def path_chart(answer: Answer, path: pd.DataFrame) -> go.Figure:
    """Draw each weight of the winner against λ: a row of the path is a value of the axis, a column a weight.

    Names stand at the left ends, where the weights are largest, and the scale at the right.
    """
    strength = Strength(answer)
    largest = list(path.abs().max().sort_values(ascending=False, kind="stable").index[:LABELLED])
    styles = dict(zip(largest, itertools.product(("solid", "dash"), COLOURS), strict=False))
    at, values = strength.places(path.index), [short(value) for value in path.index]
    lines: list[dict[str, Any]] = []
    for name in reversed(path.columns):  # the largest last, on top
        dash, colour = styles.get(name, ("solid", GREY))
        lines.append(
            {
                "type": "scatter",
                "x": at,
                "y": path[name].to_numpy(),
                "mode": "lines",
                "line": {"color": colour, "dash": dash, "width": 2 if name in styles else 0.8},
                "opacity": 1 if name in styles else 0.5,
                "name": in_plotly(name),
                "customdata": values,
                "hovertemplate": f"{in_plotly(name)}<br>{answer.symbol} = %{{customdata}}<br>weight %{{y:.5g}}"
                "<extra></extra>",
            }
        )
    figure = go.Figure(lines)  # hundreds at once cost half of what each by itself does
    against_strength(figure, strength, answer, "weight, in the units it was trained in", showlegend=False)
    low, high = min(path.min().min(), 0.0), max(path.max().max(), 0.0)
    margin = 0.06 * (high - low) or 1.0
    ends = path.loc[path.index.min(), largest]
    for name, place in spread(ends, (high - low + 2 * margin) / 24).items():
        figure.add_annotation(
            x=0,
            xref="paper",
            y=place,
            xanchor="right",
            showarrow=False,
            text=in_plotly(label(name)),
            font={"color": styles[name][1]},
        )
    figure.update_yaxes(side="right", range=[low - margin, high + margin], zeroline=True, zerolinecolor="#999")
    return figure.update_layout(margin={"l": 190, "r": 80}, height=HEIGHT + 60)


def learning_chart(evidence: Evidence) -> go.Figure:
    """Draw the losses of the winner's runs at λ.min against the epochs or steps finished."""
    figure, least, largest = go.Figure(), math.inf, -math.inf
    for name, colour in (("train/loss", BLUE), ("val/loss", ORANGE)):
        for number, history in enumerate(evidence.curves):
            points = [(step, measured[name]) for step, measured in history if name in measured]
            least = min([least, *(value for _, value in points)])
            figure.add_scatter(
                x=[step for step, _ in points],
                y=[value for _, value in points],
                mode="lines",
                line={"color": colour, "width": 1 if len(evidence.curves) > 1 else 2},
                name=name,
                legendgroup=name,
                showlegend=number == 0,
            )
            largest = max([largest, *(value for _, value in points)])
    if is_wide(least, largest):
        figure.update_yaxes(type="log", exponentformat="power")
    figure.update_xaxes(title=f"{evidence.unit}s finished")
    return framed(figure, "data loss")
