"""Which λ, and which setting: from the runs of a sweep to an answer, with its error and what it rests on.

A *split* is one cut of the data into training and validation part, a *setting* what the runs differ in besides λ, the
seed and the split. The metric's values of one setting at one λ are averaged over the seeds within a split first; of the
J splits the mean m and its standard error SE = s/√J are taken, with s² = Σ(mⱼ − m)²/(J − 1). Where rows have weights
(`data.weight`), a split counts by the sum of those that validate, in both (`table.summarise`).

λ.min has the smallest m, and of those that only rounding tells apart (`rounding`) it is the largest. λ.1se is the
largest λ with m ≤ m(λ.min) + SE(λ.min), up to rounding: the least flexible of the models that the splits cannot tell
from the best one. No order of the runs, splits or seeds changes any of it. Breiman, Friedman, Olshen & Stone (1984),
*Classification and Regression Trees*, § 3.4.3; Hastie, Tibshirani & Friedman (2009), *The Elements of Statistical
Learning*, § 7.10. Where larger values of a metric are better, everything is mirrored.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from shrinkage import split
from shrinkage.errors import InputError
from shrinkage.old_configs import params_in_todays_names
from shrinkage.tracking.source import RunSummary

from .answer import Answer, AtOneSE, Setting, symbol
from .comparable import check_comparable, is_better_when_larger, select_countable
from .comparison import compare, shared_rows
from .constant import is_constant, only_shrinks
from .edges import edge_of, edges
from .refit import find_refit
from .rounding import means, rounding
from .sentences import about_error, findings, only_one, sentence, unconverged
from .settings import find_axis, find_settings, label_of, params_of
from .table import COLUMNS, find_complete, summarise, tabulate_metrics


def choose(runs: Sequence[RunSummary], metric: str = "val/loss") -> Answer:
    """Choose a λ and a setting among runs. Raises InputError if there is nothing to choose.

    runs: each with its name, status, params (text), metrics and tags. Those that have not FINISHED, or have no finite
    value of the metric, are left out, and so are values of λ that lack a split which others of their setting have. What
    earlier versions recorded counts as what it meant then.
    """
    runs = [{**run, "params": params_in_todays_names(run["params"])} for run in runs]
    runs = sorted(runs, key=lambda run: (run["name"], run["run_id"] or "", run["folder"] or ""))
    counted, left_out, warnings = select_countable(runs, metric)
    larger = is_better_when_larger(counted, metric)
    params = pd.DataFrame([run["params"] for run in counted])
    params = params[sorted(params)].fillna("None")  # a key that a run lacks has the value that it has by default
    check_comparable(params, counted)
    frame = tabulate_metrics(counted, metric)
    axis, frame["value"] = find_axis(params, frame)
    keys, code = find_settings(params, axis)
    labels = pd.Series([label_of(run["params"], keys) for run in counted])
    frame["setting"] = labels.groupby(code).transform("min")
    in_split = [key for key in split.KEYS if key in params and params[key].nunique() > 1]
    frame["split"] = params[in_split].agg(" ".join, axis=1) if in_split else ""
    frame["seed"] = params.get("seed", "")
    complete, incomplete = find_complete(frame, axis)
    left_out += [counted[place]["name"] for place in frame.index[~complete]]
    warnings += incomplete
    if not complete.any():
        raise InputError(
            f"no {symbol(axis)} was tried on every split that others were tried on ({frame['split'].nunique()} splits, "
            f"{frame['value'].nunique()} values): run those that are missing"
        )
    frame, params = frame[complete], params[complete]
    seeds = means(
        frame[["setting", "value", "split", "seed", *COLUMNS, "metric", "rows_weight"]],
        ["setting", "value", "split", "seed"],
    )
    by_split = means(seeds.reset_index(["setting", "value", "split"]), ["setting", "value", "split"])
    table = summarise(frame, by_split)
    settings = rank(
        (
            describe_setting(rows, frame[frame["setting"] == label], counted, keys, axis, larger)
            for label, rows in table.groupby("setting")
        ),
        larger,
    )
    winner = settings[0]
    warnings += only_one(settings, len(frame), metric, axis)
    warnings += edges(settings, table, axis) + unconverged(frame, params)
    notes = findings(winner, table, axis, larger)
    certainty = about_error(frame, params, settings)
    kind = "fold" if in_split == [split.FOLD] else "split"
    share = shared_rows(params, [counted[place] for place in frame.index])
    comparisons = compare(settings, by_split, share, kind, metric, larger)
    if comparisons:
        at_once = "; the intervals hold for all pairs of settings at once (Bonferroni)" if len(settings) > 2 else ""
        certainty.append(
            f"each setting is taken at its own {symbol(axis)}.min, chosen on the {kind}s that score it, which "
            f"flatters all of them{at_once}"
        )
    refit = find_refit(runs, winner, axis)
    order = {setting.label: place for place, setting in enumerate(settings)}
    table = table.sort_values("setting", key=lambda column: column.map(order), kind="stable")
    return Answer(
        metric=metric,
        larger_is_better=larger,
        axis=axis,
        table=table.rename(columns={"value": axis}).reset_index(drop=True),
        settings=settings,
        comparisons=comparisons,
        warnings=tuple(warnings),
        notes=tuple(notes),
        about_error=tuple(certainty),
        left_out=tuple(left_out),
        runs=len(frame),
        refit=refit,
        sentence=sentence(settings, comparisons, metric, axis, kind, refit),
    )


def rank(settings: Iterable[Setting], larger: bool) -> tuple[Setting, ...]:
    """Sort settings, the best first. Those whose means only rounding tells apart are sorted by their labels."""

    def worse(setting: Setting) -> float:
        return -setting.mean if larger else setting.mean

    ranks: list[list[Setting]] = []
    for setting in sorted(settings, key=lambda setting: (worse(setting), setting.label)):
        if ranks and worse(setting) - worse(ranks[-1][0]) <= rounding(setting.mean, larger):
            ranks[-1].append(setting)
        else:
            ranks.append([setting])
    return tuple(setting for equals in ranks for setting in sorted(equals, key=lambda setting: setting.label))


def describe_setting(
    rows: pd.DataFrame, members: pd.DataFrame, runs: Sequence[RunSummary], keys: Sequence[str], axis: str, larger: bool
) -> Setting:
    """Describe a setting with its λ.min and λ.1se. rows: those of the table, sorted by value; members: its runs."""
    value, mean, error, zeros = (rows[name].to_numpy() for name in ("value", "mean", "error", "weight/zeros"))
    worse = -mean if larger else mean
    slack = rounding(worse.min(), larger)
    best = int(np.flatnonzero(worse <= worse.min() + slack)[-1])  # of equals the largest
    constant = is_constant(rows, axis)
    at_one_se = None
    if axis == "lambd" and math.isfinite(error[best]):
        at = int(np.flatnonzero(worse <= worse[best] + error[best] + slack)[-1])
        at_one_se = AtOneSE(
            value=float(value[at]),
            mean=float(mean[at]),
            error=float(error[at]),
            zeros=float(zeros[at]),
            constant=bool(constant[at]),
        )
    edge = edge_of(rows, best, axis, larger)
    places = members.groupby("value").indices
    return Setting(
        label=rows["setting"].iloc[0],
        params=params_of(runs[members.index[0]]["params"], keys),
        min=float(value[best]),
        mean=float(mean[best]),
        error=float(error[best]),
        zeros=float(zeros[best]),
        constant=bool(constant[best]),
        at_one_se=at_one_se,
        vanishing=axis == "lambd" and 0 < best == len(rows) - 1 and edge is None and only_shrinks(rows),
        values=len(rows),
        splits=int(rows["splits"].iloc[best]),
        edge=edge,
        runs={at: tuple(runs[index] for index in members.index[found]) for at, found in places.items()},
    )
