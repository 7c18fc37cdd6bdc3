"""The words at the end of a sweep: λ against losses and norms, seeds averaged."""

import math
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

COLUMNS = ("train/loss", "val/loss", "weight/l2", "weight/zeros")
FAR = 0.01  # of the optimum: further above it, a run tells of where it stopped more than of its penalty
MOST_ROWS = 60


def aggregate(results: list[dict]) -> pd.DataFrame:
    """One row a setting (what the sweep varies but the seed), sorted by λ: the number of runs, and each metric's mean.

    `above` is the largest share by which one of the row's runs stopped above its optimum, NaN where none is known.
    results: finished jobs, each with its `setting` (the varied overrides), `lambd` and `metrics`.
    """
    settings = [{key: value for key, value in r["setting"].items() if key not in ("seed", "lambd")} for r in results]
    varied = {key for setting in settings for key in setting if len({s.get(key) for s in settings}) > 1}
    rows = [
        {
            "setting": " ".join(f"{key}={setting[key]}" for key in sorted(varied & setting.keys())),
            "lambd": result["lambd"],
            **{name: result["metrics"][name] for name in COLUMNS},
            "above": above_optimum(result["metrics"]),
        }
        for setting, result in zip(settings, results, strict=True)
    ]
    grouped = pd.DataFrame(rows).groupby(["setting", "lambd"], sort=True)
    table = grouped.mean()
    table["above"] = grouped["above"].max()
    table.insert(0, "runs", grouped.size())
    return table.reset_index()


def above_optimum(metrics: dict[str, float]) -> float:
    """By which share of its optimum a run's objective stopped above it, at most; NaN where that is not known."""
    gap = metrics.get("optimum/gap", metrics.get("optimum/duality_gap", math.nan))
    least = metrics.get("optimum/objective", metrics["train/objective"] - gap)
    return gap / max(least, 1e-12)


def show_sweep(table: pd.DataFrame) -> None:
    """The aggregated table in the terminal, with the smallest val/loss of each setting marked."""
    shown = Table(box=None, pad_edge=False, title="mean over the runs of a row", title_justify="left")
    named = (table["setting"] != "").any()
    certified = table["above"].notna().any()
    names = (
        ["setting"] * bool(named)
        + ["λ", "runs", "train/loss", "val/loss", "‖w‖₂", "zeros"]
        + ["above"] * bool(certified)
    )
    for name in [*names, ""]:
        shown.add_column(name, justify="left" if name in ("setting", "") else "right")
    smallest = set(table.groupby("setting")["val/loss"].idxmin())
    for index, row in table.head(MOST_ROWS).iterrows():
        cells = [f"{row['lambd']:g}", f"{row['runs']:.0f}", *(f"{row[name]:.5g}" for name in COLUMNS)]
        if certified:
            above = 100 * row["above"]
            cells.append("" if math.isnan(above) else "> 1,000 %" if above > 1000 else f"{above:.2g} %")
        shown.add_row(*([row["setting"]] if named else []), *cells, "← smallest" if index in smallest else "")
    console = Console()
    console.print(shown)
    if len(table) > MOST_ROWS:
        console.print(f"… and {len(table) - MOST_ROWS} more rows")
    far = int((table["above"] > FAR).sum())
    if far:
        console.print(
            f"above: how far above its optimum the worst run of a row stopped. In {far} of {len(table)} rows it is "
            f"more than {FAR:.0%}, and λ's are compared by where training stopped; polish=100 goes further, and over "
            "full batches (data.batch_size=null) more epochs with trainer.until_gap=1e-6"
        )


def write_runs(results: list[dict], path: Path) -> None:
    """A CSV with a row a job: name, status, λ, seed, what the sweep varied, and the last metrics."""
    rows = [
        {key: value for key, value in result.items() if key not in ("setting", "metrics")}
        | result.get("setting", {})
        | result.get("metrics", {})
        for result in results
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
