"""The runs of a store as a table."""

import ast
from pathlib import Path
from typing import TYPE_CHECKING

from shrinkage.tracking.finding import find
from shrinkage.tracking.location import store_uri

if TYPE_CHECKING:
    import pandas as pd


def runs(sweep: str | None = None, *, experiment: str = "shrinkage", store: str | None = None) -> "pd.DataFrame":
    """Read runs from the store, a row each: name, status, run_id, params, and the last value of each metric.

    sweep: the id of a sweep's own run, for the runs under it; None for all of the experiment that have FINISHED. store:
    MLflow's URI; None for MLFLOW_TRACKING_URI, else `mlflow.db` in the current folder. Params are the numbers, truths,
    lists and texts that they say; what is a param and a metric, such as λ (`lambd`), is the metric. Raises InputError
    for what is not there.
    """
    import pandas as pd

    found = find(store_uri(store, Path.cwd()), experiment if sweep is None else sweep)[0].runs
    rows = [
        {"name": run["name"], "status": run["status"], "run_id": run["run_id"]}
        | {name: typed(text) for name, text in run["params"].items()}
        | run["metrics"]
        for run in found
    ]
    return pd.DataFrame(rows)


def typed(text: str) -> object:
    """Read the text of a param: a number, a truth value, None, a list or dict of them; else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return float(text) if text in ("nan", "inf", "-inf") else text
