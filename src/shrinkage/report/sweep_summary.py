"""The table at the end of a sweep whose runs do not tell which λ to take."""

from rich.console import Console
from rich.table import Table

COLUMNS = ("train/loss", "val/loss", "weight/l2", "weight/zeros")
MOST_ROWS = 60


def show_runs(results: list[dict]) -> None:
    """Print a table with a row for each run and its last metrics."""
    shown = Table("run", *COLUMNS, box=None, pad_edge=False)
    for column in shown.columns[1:]:
        column.justify = "right"
    for result in results[:MOST_ROWS]:
        metrics = result["metrics"]
        shown.add_row(result["name"], *(f"{metrics[name]:.5g}" if name in metrics else "" for name in COLUMNS))
    console = Console()
    console.print(shown)
    if len(results) > MOST_ROWS:
        console.print(f"… and {len(results) - MOST_ROWS} more")
