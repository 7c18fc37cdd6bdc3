"""Makes the table that a choice rests on: a row for each run, those on every split, and means with their errors."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from shrinkage.tracking.source import AT_LAMBDA_MAX, RunSummary

from .answer import listed, short, symbol
from .rounding import deviation, means, weighted_deviation, weighted_mean

COLUMNS = ("train/loss", "val/loss", "weight/l1", "weight/l2", "weight/zeros")
VAL_WEIGHT = "data.weight.val"  # the tag that says how much the validation rows of a run count together


def tabulate_metrics(runs: Sequence[RunSummary], metric: str) -> pd.DataFrame:
    """Make a table with a row for each run: λ, the metric, COLUMNS, and what is known of its optimum.

    rows_weight: Σ weight of its validation rows, NaN where they have no weights. above: by which share of its optimum
    the run stopped above it. lambda_max: λ_max of the rows it was trained on, NaN where there is none. at_lambda_max:
    whether its λ is the λ_max that its path begins at.
    """
    metrics = pd.DataFrame([run["metrics"] for run in runs], dtype=float)
    typed = pd.to_numeric(pd.Series([run["params"].get("lambd") for run in runs]), errors="coerce")
    wanted = (
        "lambd",
        "train/objective",
        "optimum/gap",
        "optimum/duality_gap",
        "optimum/objective",
        "optimum/lambda_max",
        *COLUMNS,
    )
    found = pd.DataFrame({name: metrics.get(name, pd.Series(math.nan, metrics.index)) for name in wanted})
    frame = found[list(COLUMNS)].copy()
    frame["metric"] = metrics[metric]
    frame["rows_weight"] = [float(run.get("tags", {}).get(VAL_WEIGHT, math.nan)) for run in runs]
    frame["lambd"] = found["lambd"].fillna(typed)
    gap = found["optimum/gap"].fillna(found["optimum/duality_gap"])
    least = found["optimum/objective"].fillna(found["train/objective"] - gap)
    frame["above"] = gap / least.clip(lower=1e-12)
    frame["lambda_max"] = found["optimum/lambda_max"]
    frame["at_lambda_max"] = [AT_LAMBDA_MAX in run.get("tags", {}) for run in runs]
    return frame


def find_complete(frame: pd.DataFrame, axis: str) -> tuple[pd.Series, list[str]]:
    """Find the runs whose value of the axis was tried on every split of their setting, and warn of the others.

    A setting's splits are those on which at least half of its values were tried: one that a single run was tried on
    for itself does not make all other values incomplete.
    """
    complete = frame["value"].notna()
    lacking, extra = [], 0
    for label, rows in frame[complete].groupby("setting"):
        there = pd.crosstab(rows["value"], rows["split"]) > 0
        usual = 2 * there.sum() >= len(there)
        whole = there.loc[:, usual].all(axis=1)
        lacking += [
            f"{label} {symbol(axis)}={short(value)} (has {there.loc[value, usual].sum()} of {usual.sum()})"
            for value in there.index[~whole]
        ]
        outside = ~rows["split"].map(usual) & rows["value"].map(whole)
        extra += int(outside.sum())
        complete[rows.index] = rows["value"].map(whole) & ~outside
    warnings = []
    if frame["value"].isna().any():
        warnings.append(f"left out {frame['value'].isna().sum()} runs that have no {symbol(axis)}")
    if lacking:
        warnings.append(f"left out, for they lack splits that others were tried on: {listed(lacking)}")
    if extra:
        warnings.append(f"left out {extra} runs on splits that most values of their setting were not tried on")
    return complete, warnings


def summarise(frame: pd.DataFrame, by_split: pd.DataFrame) -> pd.DataFrame:
    """Make a table with a row for each setting and value: the mean and its standard error.

    The error is over the splits; of a single split it is over the seeds. Where validation rows have weights, a split
    counts by their sum, in its error too: SE² = Σw(m − m̄)²/Σw/(J − 1), which is s²/J of equal weights, as `cv.glmnet`
    has it. Rows are sorted by setting and value.
    """
    by = ["setting", "value"]
    groups = by_split.groupby(by)
    table = means(by_split.reset_index(by), by).rename(columns={"metric": "mean"})
    splits = groups.size()
    runs = frame.groupby(by)
    seeds = means(frame[[*by, "seed", "metric"]], [*by, "seed"]).groupby(by)["metric"]
    over_splits = groups["metric"].agg(lambda values: deviation(values.tolist())) / np.sqrt(splits)
    over_seeds = seeds.agg(lambda values: deviation(values.tolist())) / np.sqrt(seeds.size())
    table["error"] = over_splits.where(splits > 1, over_seeds)
    for place, rows in groups:
        scores, weights = rows["metric"].tolist(), rows["rows_weight"].tolist()
        if len(rows) > 1 and not any(map(math.isnan, weights)):
            table.loc[place, "mean"] = weighted_mean(scores, weights)
            table.loc[place, "error"] = weighted_deviation(scores, weights) / math.sqrt(len(rows))
    table["above"] = runs["above"].max()
    table.insert(0, "runs", runs.size())
    table.insert(1, "splits", splits)
    table["lambda_max"] = runs["lambda_max"].agg(lambda values: values.max(skipna=False))
    table["at_lambda_max"] = runs["at_lambda_max"].any()
    columns = ["setting", "value", "runs", "splits", "mean", "error", *COLUMNS]
    columns += ["above", "lambda_max", "at_lambda_max"]
    return table.reset_index()[columns]
