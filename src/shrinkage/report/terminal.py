"""Print an answer in the terminal: a table of what was tried, what it rests on, and what to take."""

import sys

import numpy as np
from rich.console import Console
from rich.table import Table

from shrinkage.names import in_terminal

from .answer import FAR, Answer, Setting, number, percent, short

ROWS, MOST_ROWS, MOST_SETTINGS, WIDTH = 25, 36, 18, 120


def show(answer: Answer) -> None:
    """Print an answer: the table, thinned to what is near the choice, then what it rests on, then itself."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    few = answer.settings[:MOST_SETTINGS]
    each = min(ROWS, max(2, MOST_ROWS // len(few)))
    others = [name for name in ("train/loss", "val/loss") if name != answer.metric]
    shown = Table(box=None, pad_edge=False, title="means over seeds and splits", title_justify="left")
    far = (answer.table["above"] > FAR).any()
    labelled = len(answer.settings) > 1
    heads = ["setting"] * labelled + [answer.symbol, "runs", answer.metric, "±", *others, "‖w‖₂", "zeros"]
    for head in [*heads, *["above optimum"] * bool(far), ""]:
        shown.add_column(head, justify="left" if head in ("setting", "") else "right", no_wrap=True)
    for setting in few:
        rows = answer.table[answer.table["setting"] == setting.label]
        for _, row in rows.iloc[kept_rows(rows[answer.axis].to_numpy(), setting, each)].iterrows():
            value = row[answer.axis]
            marks = setting.marks(value, answer.axis)
            cells = [in_terminal(setting.name)] * labelled + [short(value), f"{row['runs']:.0f}", f"{row['mean']:.5g}"]
            cells += [number(row["error"], ".2g"), *(number(row[name]) for name in (*others, "weight/l2"))]
            cells += [percent(row["weight/zeros"])]
            cells += ["> 1,000 %" if row["above"] > 10 else percent(row["above"], ".2g")] * bool(far)
            shown.add_row(*cells, f"← {', '.join(marks)}" if marks else "", style="bold" if marks else None)
    console.print(shown)
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
