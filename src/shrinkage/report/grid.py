"""Two numbers that vary at once, as λ and the learning rate: the metric at each pair of them.

What else the runs differ in stays at the winner's choice, and a pair's value is the mean over seeds and splits.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from shrinkage.colours import contrast, mixed
from shrinkage.names import in_html

from .answer import Answer, Setting, plus_minus, short
from .shades import colours_of

MOST_COLUMNS = 14  # of a grid whose cells have their numbers in them
WIDE = 5  # a range of means beyond which colours go by logarithms
PALEST = 0.06


@dataclass(frozen=True)
class Cell:
    """The metric at a pair of numbers. strength: the colour's, from 0 for the worst mean to 1 for the best."""

    value: float
    mean: float
    error: float
    runs: int
    strength: float
    is_best: bool


@dataclass(frozen=True)
class Grid:
    """The metric at each pair of a value of the axis (a column) and of another number (a row, by its key).

    fixed: what stays at the winner's choice. cells: None where a pair was not tried.
    """

    key: str
    rows: tuple[float, ...]
    columns: tuple[float, ...]
    cells: tuple[tuple[Cell | None, ...], ...]
    fixed: str
    colour: str


def grids(answer: Answer) -> list[Grid]:
    """Find each number that varies besides the axis, and the metric at the pairs of both."""
    winner = answer.winner
    found = []
    for key in winner.params:
        others = {name: value for name, value in winner.params.items() if name != key}
        alike = [each for each in answer.settings if {**each.params, key: ""} == {**others, key: ""}]
        rows = {number_in(each.params.get(key, "")): each for each in alike}
        if len(rows) > 1 and None not in rows and winner.values > 1:
            fixed = " ".join(f"{name}={value}" for name, value in others.items())
            found.append(grid_of(answer, key, {row: each for row, each in rows.items() if row is not None}, fixed))
    return found


def number_in(text: str) -> float | None:
    """Read a number, also that of a list of equal ones, as the widths of a network's layers."""
    try:
        found = {float(part) for part in re.split(r"[\[\],\s]+", text) if part}
    except ValueError:
        return None
    return found.pop() if len(found) == 1 else None


def grid_of(answer: Answer, key: str, settings: dict[float, Setting], fixed: str) -> Grid:
    """Gather the means of settings that differ in one number, by which they are given."""
    columns = sorted(answer.winner.runs)
    means = {}
    for row, setting in sorted(settings.items()):
        table = answer.table[answer.table["setting"] == setting.label]
        for column in columns:
            place = nearest(table[answer.axis].tolist(), column, columns)
            if place is not None:
                means[row, column] = table.iloc[place]
    values = [-row["mean"] if answer.larger_is_better else row["mean"] for row in means.values()]
    if not answer.larger_is_better and min(values) > 0 and max(values) > WIDE * min(values):
        worse, values = math.log, list(map(math.log, values))
    else:
        worse = float
    least, largest = min(values), max(values)

    def cell(row: float, column: float) -> Cell | None:
        if (row, column) not in means:
            return None
        found = means[row, column]
        size = worse(-found["mean"] if answer.larger_is_better else found["mean"])
        strength = (largest - size) / (largest - least) if largest > least else 1.0
        is_best = settings[row] is answer.winner and found[answer.axis] == answer.winner.min
        return Cell(found[answer.axis], found["mean"], found["error"], int(found["runs"]), strength, is_best)

    cells = tuple(tuple(cell(row, column) for column in columns) for row in sorted(settings))
    colour = colours_of([answer.winner])[answer.winner.label]
    return Grid(key, tuple(sorted(settings)), tuple(columns), cells, fixed, colour)


def nearest(values: Sequence[float], column: float, columns: Sequence[float]) -> int | None:
    """Find the place of the value that a column stands for: its own, or of another grid the nearest one by its ratio.

    None where that is further from it than half of the way to the next column.
    """
    if column in values:
        return values.index(column)
    if column <= 0 or not (positive := [value for value in values if value > 0]):
        return None
    best = min(positive, key=lambda value: abs(math.log(value / column)))
    gaps = [abs(math.log(other / column)) for other in columns if other > 0 and other != column]
    return values.index(best) if gaps and abs(math.log(best / column)) <= min(gaps) / 2 else None


def heat_map(grid: Grid, answer: Answer) -> str:
    """Write a grid as a table whose cells are the darker, the better they are."""
    step = math.ceil(len(grid.columns) / MOST_COLUMNS)
    with_numbers = step == 1
    head = "".join(
        f'<th scope="colgroup" colspan="{min(step, len(grid.columns) - place)}">{short(grid.columns[place])}</th>'
        for place in range(0, len(grid.columns), step)
    )
    body = "".join(
        f'<tr><th scope="row">{short(row)}</th>'
        + "".join(td(grid, answer, row, cell, with_numbers) for cell in cells)
        + "</tr>"
        for row, cells in zip(grid.rows, grid.cells, strict=True)
    )
    caption = f"{answer.metric}, mean over seeds and splits: the stronger the colour, the better; the best is framed"
    caption += f" ({grid.fixed})" if grid.fixed else ""
    return (
        f'<div class="wide" tabindex="0"><table class="heat"><caption>{in_html(caption)}</caption><thead><tr>'
        f'<th scope="col">{in_html(grid.key)} ↓ &nbsp; {in_html(answer.symbol)} →</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def td(grid: Grid, answer: Answer, row: float, cell: Cell | None, with_numbers: bool) -> str:
    """Write a cell, with black or white numbers, whichever stands out."""
    if cell is None:
        return "<td></td>"
    paper = mixed("#ffffff", grid.colour, PALEST + (1 - PALEST) * cell.strength)
    ink = max(("#000000", "#ffffff"), key=lambda colour: contrast(colour, paper))
    told = (
        f"{grid.key} = {short(row)}, {answer.symbol} = {short(cell.value)}: "
        f"{answer.metric} {plus_minus(cell.mean, cell.error)}, {cell.runs} {'run' if cell.runs == 1 else 'runs'}"
    )
    words = f"{cell.mean:.3g}" if with_numbers else "★" if cell.is_best else ""
    best = ' class="best"' if cell.is_best else ""
    return f'<td{best} style="background:{paper};color:{ink}" title="{in_html(told)}">{words}</td>'
