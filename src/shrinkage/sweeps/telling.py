"""What a sweep tells a person: how far it has come, the best run so far, and what went wrong."""

import math
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shrinkage.names import on_a_line
from shrinkage.runs.membership import RESULTS, Membership, Result
from shrinkage.tracking.source import LARGER_IS_BETTER

PATIENCE_SECONDS = 2.0
MOST_CAUSES = 10  # of failures that are printed: where each run's number stands in its words, every run has its own
BAR, BESIDE = 16, 12  # characters: of the bar; of the time that is left, and of what stands between numbers


def show_progress(membership: Membership, metric: str, done: threading.Event) -> None:
    """Show a bar over the jobs with the time left and the best run so far, on a terminal, until they are done."""
    if not sys.stderr.isatty() or done.wait(PATIENCE_SECONDS):
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=BAR),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    is_shown = sys.stdout.isatty()  # else rich would take it away from the file that it goes into
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=is_shown) as progress:
        best = BestRun(metric)
        bar, ended = progress.add_task("sweep", total=None), membership.ended(best.hear)
        while not done.wait(0.5):
            count, total = next(ended), membership.expected()
            room = progress.console.width - BAR - BESIDE - 2 * len(str(total)) - len(best.words)
            words = membership.read_progress() or "sweep"
            words = words if len(words) <= room else f"{words[: max(room - 1, 0)]}…"
            progress.update(bar, completed=count, total=total, description=words + best.words)


class BestRun:
    """The best run of a sweep that has not ended yet, by the metric that λ is chosen by.

    words: its value, to stand beside the progress; none before a run has ended. A single run is the best by chance as
    well; the answer at the sweep's end is over all splits and seeds.
    """

    def __init__(self, metric: str) -> None:
        self.metric, self.value, self.words = metric, math.nan, ""

    def hear(self, told: Mapping[str, Any]) -> None:
        """Compare a job that has ended with the best one before it; later words of a job have no metrics."""
        value = told.get("metrics", {}).get(self.metric, math.nan)
        sign = -1 if self.metric in told.get("tags", {}).get(LARGER_IS_BETTER, "").split() else 1
        if told["status"] == "FINISHED" and math.isfinite(value) and not sign * value >= sign * self.value:
            self.value = value
            self.words = f", best {self.metric} {value:.3g}"


def show_failures(failed: list[Result], folder: Path) -> None:
    """Print what went wrong: each cause once, with the number of jobs that it ended; of many causes the first few."""
    causes: dict[str | None, list[str]] = {}
    for result in failed:
        causes.setdefault(result["error"], []).append(result["name"])
    for error, names in list(causes.items())[:MOST_CAUSES]:
        if len(names) == 1:
            print(f"FAILED: {on_a_line(names[0])}: {error}", file=sys.stderr)
        else:
            from shrinkage.report.answer import listed

            print(f"FAILED, {len(names)} runs: {error} ({on_a_line(listed(names))})", file=sys.stderr)
    if others := list(causes.values())[MOST_CAUSES:]:
        runs = sum(map(len, others))
        print(f"FAILED, {runs:,} more runs for other reasons, which {folder / RESULTS} has", file=sys.stderr)
