"""Print an answer in the terminal: a table of what was tried, what it rests on, and what to take."""

import os
import sys
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from shrinkage.names import in_terminal

from .answer import FAR, Answer, Setting, distance, error_of, number, percent, short

ROWS, MOST_ROWS, MOST_SETTINGS, WIDTH = 25, 36, 18, 120
SHORT = 24  # letters of a setting's name that stand in one line, where there is little room


def show(answer: Answer) -> None:
    """Print an answer: the table, thinned to what is near the choice, then what it rests on, then itself."""
    is_wide_as_told = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = Console(highlight=False, width=None if is_wide_as_told else WIDTH)
    few = answer.settings[:MOST_SETTINGS]
    each = min(ROWS, max(2, MOST_ROWS // len(few)))
    others = [name for name in ("train/loss", "val/loss") if name != answer.metric]
    far = (answer.table["above"] > FAR).any()
    labelled = len(answer.settings) > 1
    heads = ["setting"] * labelled + [answer.symbol, "runs", answer.metric, "±", *others, "‖w‖₂", "zeros"]
    heads += ["above optimum"] * bool(far) + [""]
    rows: list[tuple[bool, list[str]]] = []
    for setting in few:
        own = answer.table[answer.table["setting"] == setting.label]
        for _, row in own.iloc[kept_rows(own[answer.axis].to_numpy(), setting, each)].iterrows():
            value = row[answer.axis]
            marks = setting.marks(value, answer.axis)
            cells = [setting.name] * labelled + [short(value), f"{row['runs']:.0f}", f"{row['mean']:.5g}"]
            cells += [error_of(row["mean"], row["error"])]
            cells += [*(number(row[name]) for name in (*others, "weight/l2")), percent(row["weight/zeros"])]
            cells += [distance(row["above"])] * bool(far) + [f"← {', '.join(marks)}" * bool(marks)]
            rows.append((bool(marks), cells))
    left_out = [*others, "runs", "‖w‖₂", "zeros"]  # where there is no room, one after the other
    while width_of(table(heads, rows, short_names=True), console) > console.width and any(h in heads for h in left_out):
        place = heads.index(next(head for head in left_out if head in heads))
        heads = heads[:place] + heads[place + 1 :]
        rows = [(marked, cells[:place] + cells[place + 1 :]) for marked, cells in rows]
    console.print(table(heads, rows))
    if len(answer.settings) > len(few):
        console.print(f"… and {len(answer.settings) - len(few)} more settings", style="dim")
    console.print()
    for comparison in answer.comparisons[:MOST_SETTINGS]:
        console.print(in_terminal(f"• {comparison.sentence}"), soft_wrap=True)
    for note in (*answer.notes, *answer.about_error):
        console.print(in_terminal(f"note: {note}"), style="dim", soft_wrap=True)
    for warning in answer.warnings:
        console.print(in_terminal(f"warning: {warning}"), style="yellow", soft_wrap=True)
    console.print(in_terminal(answer.sentence), style="bold", soft_wrap=True)


def table(heads: Sequence[str], rows: Sequence[tuple[bool, Sequence[str]]], short_names: bool = False) -> Table:
    """Build the table. rows: of each whether it is marked, and its cells. short_names: as if names had few letters."""
    shown = Table(box=None, pad_edge=False, title="means over seeds and splits", title_justify="left")
    for head in heads:
        justify = "left" if head in ("setting", "") else "right"
        shown.add_column(head, justify=justify, no_wrap=head != "setting", overflow="fold")
    for marked, cells in rows:
        texts = [
            in_terminal(cell[:SHORT] if short_names and head == "setting" else cell)
            for head, cell in zip(heads, cells, strict=True)
        ]
        shown.add_row(*texts, style="bold" if marked else None)
    return shown


def width_of(shown: Table, console: Console) -> int:
    """Measure how many characters a table would like to have."""
    return Measurement.get(console, console.options.update(max_width=10_000), shown).maximum


def kept_rows(values: np.ndarray, setting: Setting, most: int) -> list[int]:
    """Choose which rows of a setting are shown: those of λ.min and λ.1se, the ends, neighbours, and some between.

    values: the setting's, sorted. Returns their places.
    """
    if len(values) <= most:
        return list(range(len(values)))
    marked = [int(np.flatnonzero(values == value)[0]) for value in (setting.min, setting.one_se) if value is not None]
    wanted = [*marked, 0, len(values) - 1]
    wanted += [place + step for step in (1, -1, 2, -2, 3, -3) for place in marked if 0 <= place + step < len(values)]
    wanted += np.linspace(0, len(values) - 1, most).round().astype(int).tolist()
    return sorted(list(dict.fromkeys(wanted))[:most])
