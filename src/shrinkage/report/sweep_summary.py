"""The table at the end of a sweep whose runs do not tell which λ to take."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from shrinkage.names import in_terminal
from shrinkage.tracking.source import RunSummary

COLUMNS = ("train/loss", "val/loss", "weight/l2", "weight/zeros")
MOST_ROWS = 60


def show_runs(results: Sequence[RunSummary]) -> None:
    """Print a table with a row for each run and its last metrics."""
    shown = Table("run", *COLUMNS, box=None, pad_edge=False)
    for column in shown.columns[1:]:
        column.justify = "right"
    for result in results[:MOST_ROWS]:
        metrics = result["metrics"]
        cells = [f"{metrics[name]:.5g}" if name in metrics else "" for name in COLUMNS]
        shown.add_row(in_terminal(result["name"]), *cells)
    console = Console()
    console.print(shown)
    if len(results) > MOST_ROWS:
        console.print(f"… and {len(results) - MOST_ROWS} more")
