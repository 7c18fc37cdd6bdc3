"""Draws a chart as a piece of a web page: an SVG that takes the width it is given, with no library and no network.

All places are shares of the chart's width and height, so that the browser itself fits it to a telephone or a wide
screen, and writing stays as large as it is. Lines and writing take their colours from the page, light or dark. The
page's script (page.js) only adds what a mouse and the arrow keys ask for.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from shrinkage.names import in_html

from .scale import Scale

FINE = 4000  # places along a side: no screen has more
SHAPES = {"diamond": "M0-6 6 0 0 6-6 0Z", "circle": "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0"}


@dataclass(frozen=True)
class Line:
    """A line through points (x, y), which is interrupted where y is not finite.

    group: the place in the legend that it belongs to, None for lines that nothing is told of. told: what is said of
    each point. band: how far a band reaches to either side of each point.
    """

    points: Sequence[tuple[float, float]]
    colour: str
    group: int | None = None
    told: Sequence[str] | None = None
    band: Sequence[float] | None = None
    width: float = 2.0
    dotted: bool = False
    dots: bool = False
    opacity: float = 1.0


@dataclass(frozen=True)
class Chart:
    """A chart: lines over two scales, marks at points, and upright lines with names.

    label: what it shows, for those who do not see it. legend: name and colour of each group. marks: (x, y, shape,
    colour, group). rules: (x, name, dashes).
    """

    label: str
    x: Scale
    y: Scale
    x_name: str
    y_name: str
    lines: Sequence[Line]
    legend: Sequence[tuple[str, str]] = ()
    legend_title: str | None = None
    marks: Sequence[tuple[float, float, str, str, int]] = ()
    rules: Sequence[tuple[float, str, str]] = ()
    key: Sequence[str] = field(default=())

    def html(self) -> str:
        """Write the chart as HTML."""
        return (
            f'<figure class="chart" tabindex="0" role="group" aria-label="{in_html(self.label)}">{self.head()}'
            f'<div class="plot"><svg class="ground" aria-hidden="true">{self.ground()}</svg>'
            f'<svg class="lines" viewBox="0 0 {FINE} {FINE}" preserveAspectRatio="none" aria-hidden="true">'
            f'{"".join(map(self.path, self.lines))}</svg><svg class="marks" aria-hidden="true">{self.signs()}</svg>'
            f'<output class="told"></output></div><p class="x-name">{in_html(self.x_name)}</p>'
            f'<script type="application/json">{self.told()}</script></figure>'
        )

    def head(self) -> str:
        """Write what stands above the plot: the vertical side's name, the legend, and what the marks mean."""
        buttons = "".join(
            f'<button type="button" data-group="{place}" aria-pressed="true">'
            f'<i style="background:{colour}"></i>{in_html(name)}</button>'
            for place, (name, colour) in enumerate(self.legend)
        )
        title = f"<span>{in_html(self.legend_title)}:</span>" if self.legend_title else ""
        key = "".join(f"<span>{in_html(words)}</span>" for words in self.key)
        legend = f'<div class="legend">{title}{buttons}{key}</div>' if buttons or key else ""
        return f"<figcaption>{in_html(self.y_name)}</figcaption>{legend}"

    def ground(self) -> str:
        """Write the grid, the names along both sides, and the upright lines."""
        parts: list[str] = []
        for value, name in self.y.ticks:
            if 0 <= (share := self.y.share(value)) <= 1:
                y = percent(1 - share)
                parts.append(f'<line x1="0" x2="100%" y1="{y}" y2="{y}"/><text class="y" x="0" y="{y}">{name}</text>')
        for value, name in self.x.ticks:
            if 0 <= (share := self.x.share(value)) <= 1:
                x = percent(share)
                parts.append(
                    f'<line x1="{x}" x2="{x}" y1="0" y2="100%"/><text class="x" x="{x}" y="100%">{name}</text>'
                )
        for number, (value, name, dashes) in enumerate(self.rules):
            share = self.x.share(value)
            side = "start" if share < 0.12 else "end" if share > 0.88 else "middle"
            if len(self.rules) == 2:  # away from each other
                side = "end" if share <= self.x.share(self.rules[1 - number][0]) else "start"
            x = percent(share)
            parts.append(
                f'<line class="rule" x1="{x}" x2="{x}" y1="0" y2="100%" stroke-dasharray="{dashes}"/>'
                f'<text class="rule" x="{x}" y="0" text-anchor="{side}">{in_html(name)}</text>'
            )
        return "".join(parts)

    def path(self, line: Line) -> str:
        """Write a line, with the band around it."""
        places = [self.place(x, y) for x, y in line.points]
        group = "" if line.group is None else f' data-group="{line.group}"'
        band = ""
        if line.band is not None and (known := [k for k, width in enumerate(line.band) if math.isfinite(width)]):
            above = [self.place(line.points[k][0], line.points[k][1] + line.band[k]) for k in known]
            below = [self.place(line.points[k][0], line.points[k][1] - line.band[k]) for k in reversed(known)]
            corners = " ".join(f"{x},{y}" for x, y in (*above, *below))
            band = f'<polygon points="{corners}" fill="{line.colour}"{group}/>'
        thinned = [
            f"{x},{y}"
            for k, (x, y) in enumerate(places)
            if k in (0, len(places) - 1) or not places[k - 1][1] == y == places[k + 1][1]
        ]
        style = f'stroke="{line.colour}" stroke-width="{line.width:g}"'
        style += ' stroke-dasharray="1 4"' * line.dotted + f' opacity="{line.opacity:g}"' * (line.opacity < 1)
        return f'{band}<polyline points="{" ".join(thinned)}" {style}{group}/>'

    def signs(self) -> str:
        """Write the dots of lines, and the marks."""
        parts: list[str] = []
        for line in self.lines:
            if line.dots:
                circles = "".join(
                    f'<circle cx="{percent(self.x.share(x))}" cy="{percent(1 - self.y.share(y))}" r="2.5"/>'
                    for x, y in line.points
                )
                parts.append(f'<g fill="{line.colour}" data-group="{line.group}">{circles}</g>')
        for x, y, shape, colour, group in self.marks:
            parts.append(
                f'<svg class="mark" x="{percent(self.x.share(x))}" y="{percent(1 - self.y.share(y))}" '
                f'width="1" height="1" data-group="{group}"><path d="{SHAPES[shape]}" fill="{colour}"/></svg>'
            )
        return "".join(parts)

    def told(self) -> str:
        """Write what the page's script says of points: of each line its places and words."""
        lines = [
            {
                "group": line.group,
                "colour": line.colour,
                "at": [
                    [round(self.x.share(x), 4), round(1 - self.y.share(y), 4), words]
                    for (x, y), words in zip(line.points, line.told, strict=True)
                ],
            }
            for line in self.lines
            if line.told is not None
        ]
        # A text that holds </script> would end the element.
        return json.dumps(lines, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")

    def place(self, x: float, y: float) -> tuple[int, int]:
        """Find where a point stands in the drawing; one outside of it at its border."""
        across, up = self.x.share(x), self.y.share(y)
        return round(FINE * across), round(FINE * (1 - min(max(up, -0.5), 1.5)))


def percent(share: float) -> str:
    return f"{100 * share:.2f}".rstrip("0").rstrip(".") + "%"
