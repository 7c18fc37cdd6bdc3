"""The table that is printed at the end of a run."""

from collections.abc import Mapping

from shrinkage.names import in_terminal

ROWS = (
    ("train/loss", "data loss on the training part"),
    ("train/penalty", "λ·Ω(w)"),
    ("train/objective", "their sum, what training minimises"),
    ("val/loss", "data loss on the validation part"),
    ("weight/l1", "‖w‖₁"),
    ("weight/l2", "‖w‖₂"),
    ("weight/half_squared_l2", "½‖w‖², which d2l prints as the L2 norm of w"),
    ("weight/zeros", "share of weights that are exactly 0"),
)


def show_summary(
    title: str, measured: dict[str, float], test: dict[str, float], verdict: str, about: Mapping[str, str]
) -> None:
    """Print a table of the run's last metrics with what each is, and how far from its optimum it stopped.

    about: what to say of each of the task's metrics.
    """
    from rich.console import Console  # a tenth of the time in which a typo is answered
    from rich.table import Table

    table = Table(title=in_terminal(title), title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    for name, meaning in ROWS:
        if name in measured:
            table.add_row(name, f"{measured[name]:.6g}", meaning)
        if name == "val/loss":
            for part, metrics in (("val", measured), ("test", test)):
                for metric, explanation in about.items():
                    if f"{part}/{metric}" in metrics:
                        table.add_row(f"{part}/{metric}", f"{metrics[f'{part}/{metric}']:.6g}", explanation)
    if "test/loss" in test:
        table.add_row("test/loss", f"{test['test/loss']:.6g}", "data loss on the test part")
    console = Console()
    console.print(table)
    console.print("[bold]optimum[/] ", in_terminal(verdict), highlight=False)
