"""The words at the end of a sweep: λ against losses and norms, seeds averaged."""

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

COLUMNS = ("train/loss", "val/loss", "weight/l2", "weight/zeros")
MOST_ROWS = 60


def aggregate(results: list[dict]) -> pd.DataFrame:
    """One row a setting (what the sweep varies but the seed), sorted by λ: the number of runs, and each metric's mean.

    results: finished jobs, each with its `setting` (the varied overrides), `lambd` and `metrics`.
    """
    settings = [{key: value for key, value in r["setting"].items() if key not in ("seed", "lambd")} for r in results]
    varied = {key for setting in settings for key in setting if len({s.get(key) for s in settings}) > 1}
    rows = [
        {
            "setting": " ".join(f"{key}={setting[key]}" for key in sorted(varied & setting.keys())),
            "lambd": result["lambd"],
            **{name: result["metrics"][name] for name in COLUMNS},
        }
        for setting, result in zip(settings, results, strict=True)
    ]
    grouped = pd.DataFrame(rows).groupby(["setting", "lambd"], sort=True)
    table = grouped.mean()
    table.insert(0, "runs", grouped.size())
    return table.reset_index()


def show_sweep(table: pd.DataFrame) -> None:
    """The aggregated table in the terminal, with the smallest val/loss of each setting marked."""
    shown = Table(box=None, pad_edge=False, title="mean over the runs of a row", title_justify="left")
    named = (table["setting"] != "").any()
    for name in [*(["setting"] if named else []), "λ", "runs", "train/loss", "val/loss", "‖w‖₂", "zeros", ""]:
        shown.add_column(name, justify="left" if name in ("setting", "") else "right")
    smallest = set(table.groupby("setting")["val/loss"].idxmin())
    for index, row in table.head(MOST_ROWS).iterrows():
        cells = [f"{row['lambd']:g}", f"{row['runs']:.0f}", *(f"{row[name]:.5g}" for name in COLUMNS)]
        shown.add_row(*([row["setting"]] if named else []), *cells, "← smallest" if index in smallest else "")
    console = Console()
    console.print(shown)
    if len(table) > MOST_ROWS:
        console.print(f"… and {len(table) - MOST_ROWS} more rows")


def write_runs(results: list[dict], path: Path) -> None:
    """A CSV with a row a job: name, status, λ, seed, what the sweep varied, and the last metrics."""
    rows = [
        {key: value for key, value in result.items() if key not in ("setting", "metrics")}
        | result.get("setting", {})
        | result.get("metrics", {})
        for result in results
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
