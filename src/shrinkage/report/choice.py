"""Which λ, and which setting: from the runs of a sweep to an answer, with its error and what it rests on.

A *split* is one cut of the data into training and validation part, a *setting* what the runs differ in besides λ, the
seed and the split. The metric's values of one setting at one λ are averaged over the seeds within a split first; of the
J splits the mean m and its standard error SE = s/√J are taken, with s² = Σ(mⱼ − m)²/(J − 1).

λ.min has the smallest m, and of those that only rounding tells apart (`rounding`) it is the largest. λ.1se is the
largest λ with m ≤ m(λ.min) + SE(λ.min), up to rounding: the least flexible of the models that the splits cannot tell
from the best one. No order of the runs, splits or seeds changes any of it. Breiman, Friedman, Olshen & Stone (1984),
*Classification and Regression Trees*, § 3.4.3; Hastie, Tibshirani & Friedman (2009), *The Elements of Statistical
Learning*, § 7.10. Where larger values of a metric are better, everything is mirrored.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from shrinkage import split
from shrinkage.errors import InputError
from shrinkage.tracking.source import AT_LAMBDA_MAX, LARGER_IS_BETTER

from .answer import Answer, Setting, listed, short, symbol
from .comparison import compared, overlap
from .constant import is_constant, only_shrinks
from .edges import edge_of, edges
from .refit import ASIDE, is_refit, refitted
from .rounding import deviation, means, rounding
from .words import about_error, findings, only_one, sentence, unconverged

BEFORE_TAGS = "r2 accuracy"  # whose larger values are better, in records that do not say so themselves
GROUPS = ("penalty", "model", "optimizer", "schedule")
COLUMNS = ("train/loss", "val/loss", "weight/l1", "weight/l2", "weight/zeros")
INFINITE = 1e300  # MLflow keeps ∞ as the largest float


def choose(runs: list[dict], metric: str = "val/loss") -> Answer:
    """The choice among runs. Raises InputError where there is none to make.

    runs: each with its name, status, params (text), metrics and tags. Those that have not FINISHED, or have no finite
    value of the metric, are left out, and so are values of λ that lack a split which others of their setting have.
    """
    runs = sorted(runs, key=lambda run: (run["name"], run["run_id"] or "", run["folder"] or ""))
    counted, left_out, warnings = countable(runs, metric)
    larger = is_better_when_larger(counted, metric)
    params = pd.DataFrame([run["params"] for run in counted])
    params = params[sorted(params)].fillna("None")  # a key that a run lacks has the value that it has by default
    check_comparable(params, counted)
    frame = measured(counted, metric)
    axis, frame["value"] = find_axis(params, frame)
    keys, code = find_settings(params, axis)
    labels = pd.Series([label_of(run["params"], keys) for run in counted])
    frame["setting"] = labels.groupby(code).transform("min")
    in_split = [key for key in split.KEYS if key in params and params[key].nunique() > 1]
    frame["split"] = params[in_split].agg(" ".join, axis=1) if in_split else ""
    frame["seed"] = params.get("seed", "")
    complete, incomplete = complete_values(frame, axis)
    left_out += [counted[place]["name"] for place in frame.index[~complete]]
    warnings += incomplete
    if not complete.any():
        raise InputError(
            f"no {symbol(axis)} was tried on every split that others were tried on ({frame['split'].nunique()} splits, "
            f"{frame['value'].nunique()} values): run those that are missing"
        )
    frame, params = frame[complete], params[complete]
    seeds = means(
        frame[["setting", "value", "split", "seed", *COLUMNS, "metric"]], ["setting", "value", "split", "seed"]
    )
    by_split = means(seeds.reset_index(["setting", "value", "split"]), ["setting", "value", "split"])
    table = summarised(frame, by_split)
    settings = ranked(
        (
            setting_of(rows, frame[frame["setting"] == label], counted, keys, axis, larger)
            for label, rows in table.groupby("setting")
        ),
        larger,
    )
    warnings += only_one(settings, len(frame), metric, axis)
    warnings += edges(settings, table, axis) + unconverged(frame, params)
    notes = findings(settings[0], table, axis, larger) + about_error(frame, params, settings)
    kind = "fold" if in_split == [split.FOLD] else "split"
    share = overlap(params, [counted[place] for place in frame.index])
    comparisons = compared(settings, by_split, share, kind, metric, larger)
    if comparisons:
        at_once = "; the intervals hold for all pairs of settings at once (Bonferroni)" if len(settings) > 2 else ""
        notes.append(
            f"each setting is taken at its own {symbol(axis)}.min, chosen on the {kind}s that score it, which "
            f"flatters all of them{at_once}"
        )
    refit = refitted(runs, settings[0], axis)
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
        left_out=tuple(left_out),
        runs=len(frame),
        refit=refit,
        sentence=sentence(settings, comparisons, metric, axis, kind, refit),
    )


def countable(runs: list[dict], metric: str) -> tuple[list[dict], list[str], list[str]]:
    """The runs that count, the names of the others, and a warning that says what they are.

    A model that was trained on training and validation rows together is no candidate, and nobody expects it to be one.
    """
    candidates = [run for run in runs if not is_refit(run)]
    if runs and not candidates:
        raise InputError(
            "every run has data.refit=true and so was trained on training and validation rows together: there is no "
            "validation part to choose by; leave data.refit out, and refit=1se (or min) trains the chosen model on all "
            "of these rows"
        )
    runs = candidates
    finished = [run for run in runs if run["status"] == "FINISHED"]
    if not finished:
        found = ", ".join(f"{count} {status}" for status, count in Counter(run["status"] for run in runs).items())
        raise InputError(f"no run has FINISHED ({found or 'there are none'}): there is nothing to choose from")
    if not any(metric in run["metrics"] for run in finished):
        there = sorted({name for run in finished for name in run["metrics"]})
        raise InputError(f"{metric}: no run has this metric; there are {', '.join(there) or 'none at all'}")
    counted, others = [], {}
    for run in runs:
        value = run["metrics"].get(metric)
        if run["status"] != "FINISHED":
            others.setdefault(run["status"], []).append(run["name"])
        elif value is None:
            others.setdefault(f"without {metric}", []).append(run["name"])
        elif not abs(value) < INFINITE:
            others.setdefault(f"of infinite {metric}", []).append(run["name"])
        else:
            counted.append(run)
    if not counted:
        raise InputError(f"{metric} is infinite in every run: the training diverged; try a smaller optimizer.lr")
    left_out = [name for names in others.values() for name in names]
    if not left_out:
        return counted, [], []
    what = "; ".join(f"{len(names)} {why} ({listed(names)})" for why, names in others.items())
    return counted, left_out, [f"left out {len(left_out)} of {len(runs)} runs: {what}"]


def is_better_when_larger(runs: Sequence[dict], metric: str) -> bool:
    """Whether larger values of a metric are better, as the runs have recorded it."""
    names = " ".join(run.get("tags", {}).get(LARGER_IS_BETTER, BEFORE_TAGS) for run in runs)
    return metric.rpartition("/")[2] in names.split()


def check_comparable(params: pd.DataFrame, runs: list[dict]) -> None:
    """Raises InputError where the runs are not about the same data."""
    apart = (*split.KEYS, "data.batch_size")
    same = [key for key in params if f"{key}.".startswith("data.") and key not in apart]
    differing = {key: params[key].value_counts() for key in same if params[key].nunique() > 1}
    digests = pd.DataFrame(
        {
            # Generated data are others with another seed; a table's rows are the same whatever the split.
            "drawn": params[split.SEED] if split.is_generated(params) and split.SEED in params else "",
            "digest": [run.get("tags", {}).get("data.digest") for run in runs],
        }
    ).dropna()
    if not differing and (digests.groupby("drawn")["digest"].nunique() > 1).any():
        differing = {"data.digest": digests["digest"].value_counts()}
    if "data" in differing:
        differing = {"data": differing["data"]}  # the rest follows
    if differing:
        what = "; ".join(
            f"{key} is " + ", ".join(f"{value} in {count} runs" for value, count in sorted(counts.items()))
            for key, counts in sorted(differing.items())
        )
        raise InputError(
            f"the runs are not comparable, for their data differ: {what}; choose among runs on the same data, "
            "such as those of one sweep"
        )


def measured(runs: list[dict], metric: str) -> pd.DataFrame:
    """A row a run: λ, the metric, COLUMNS, and what is known of its optimum.

    above: by which share of its optimum the run stopped above it. lambda_max: λ_max of the rows it was trained on, NaN
    where there is none. at_lambda_max: whether its λ is the λ_max that its path begins at.
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
    frame["lambd"] = found["lambd"].fillna(typed)
    gap = found["optimum/gap"].fillna(found["optimum/duality_gap"])
    least = found["optimum/objective"].fillna(found["train/objective"] - gap)
    frame["above"] = gap / least.clip(lower=1e-12)
    frame["lambda_max"] = found["optimum/lambda_max"]
    frame["at_lambda_max"] = [AT_LAMBDA_MAX in run.get("tags", {}) for run in runs]
    return frame


def find_axis(params: pd.DataFrame, frame: pd.DataFrame) -> tuple[str, pd.Series]:
    """What is chosen among, and each run's value of it: λ, or else the one number of the penalty that varies."""
    if frame["lambd"].isna().all():
        raise InputError("no run has a λ (metric or param lambd): there is nothing to choose")
    if frame["lambd"].nunique() > 1:
        return "lambd", frame["lambd"]
    numbers = {}
    for key in params:
        if key.startswith("penalty.") and params[key].nunique() > 1:
            values = pd.to_numeric(params[key], errors="coerce")
            if values.nunique() > 1 and (values.notna() | (params[key] == "None")).all():
                numbers[key] = values
    return next(iter(numbers.items())) if len(numbers) == 1 else ("lambd", frame["lambd"])


def find_settings(params: pd.DataFrame, axis: str) -> tuple[list[str], np.ndarray]:
    """The keys that tell the settings apart, and each run's setting as a number.

    A key that follows from those before it is none of them: `optimizer` under penalty=adamw, `penalty.mode`.
    """
    varied = [
        key
        for key in params
        if params[key].nunique() > 1
        and key not in ("lambd", "seed", axis, *split.KEYS)
        and not key.startswith(ASIDE)
        and (key == "data.batch_size" or not f"{key}.".startswith("data."))
    ]

    def order(key: str) -> tuple:
        group = key.partition(".")[0]
        return (
            GROUPS.index(group) if group in GROUPS else len(GROUPS),
            key != group,
            key.endswith("_target_"),  # the least readable, where another says the same
            key,
        )

    kept, codes = [], np.zeros(len(params), dtype=int)
    for key in sorted(varied, key=order):
        finer = pd.DataFrame({"codes": codes, "key": params[key]}).groupby(["codes", "key"], sort=True).ngroup()
        if finer.max() > codes.max():
            kept.append(key)
            codes = finer.to_numpy()
    return kept, codes


def label_of(params: dict[str, str], keys: Sequence[str]) -> str:
    """A run's setting as it would be typed; the penalty where all runs have one setting."""
    return " ".join(f"{key}={value}" for key, value in told(params, keys).items())


def told(params: dict[str, str], keys: Sequence[str]) -> dict[str, str]:
    found = {key: params[key] for key in keys or ("penalty",) if key in params}
    return {key: "null" if value == "None" else value for key, value in found.items()}


def complete_values(frame: pd.DataFrame, axis: str) -> tuple[pd.Series, list[str]]:
    """Which runs belong to a value that has every split of its setting, on such a split; and warnings of the others.

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


def summarised(frame: pd.DataFrame, by_split: pd.DataFrame) -> pd.DataFrame:
    """A row a setting and value, sorted: mean and standard error over the splits, or over the seeds of a single one."""
    by = ["setting", "value"]
    groups = by_split.groupby(by)
    table = means(by_split.reset_index(by), by).rename(columns={"metric": "mean"})
    splits = groups.size()
    runs = frame.groupby(by)
    seeds = means(frame[[*by, "seed", "metric"]], [*by, "seed"]).groupby(by)["metric"]
    over_splits = groups["metric"].agg(lambda values: deviation(values.tolist())) / np.sqrt(splits)
    over_seeds = seeds.agg(lambda values: deviation(values.tolist())) / np.sqrt(seeds.size())
    table["error"] = over_splits.where(splits > 1, over_seeds)
    table["above"] = runs["above"].max()
    table.insert(0, "runs", runs.size())
    table.insert(1, "splits", splits)
    table["lambda_max"] = runs["lambda_max"].agg(lambda values: values.max(skipna=False))
    table["at_lambda_max"] = runs["at_lambda_max"].any()
    columns = ["setting", "value", "runs", "splits", "mean", "error", *COLUMNS]
    columns += ["above", "lambda_max", "at_lambda_max"]
    return table.reset_index()[columns]


def ranked(settings: Iterable[Setting], larger: bool) -> tuple[Setting, ...]:
    """The best setting first; those whose means only rounding tells apart by their labels."""

    def worse(setting: Setting) -> float:
        return -setting.mean if larger else setting.mean

    ranks: list[list[Setting]] = []
    for setting in sorted(settings, key=lambda setting: (worse(setting), setting.label)):
        if ranks and worse(setting) - worse(ranks[-1][0]) <= rounding(setting.mean, larger):
            ranks[-1].append(setting)
        else:
            ranks.append([setting])
    return tuple(setting for equals in ranks for setting in sorted(equals, key=lambda setting: setting.label))


def setting_of(
    rows: pd.DataFrame, members: pd.DataFrame, runs: list[dict], keys: Sequence[str], axis: str, larger: bool
) -> Setting:
    """A setting with its λ.min and λ.1se, from its rows of the table, sorted by value."""
    value, mean, error, zeros = (rows[name].to_numpy() for name in ("value", "mean", "error", "weight/zeros"))
    worse = -mean if larger else mean
    slack = rounding(worse.min(), larger)
    best = int(np.flatnonzero(worse <= worse.min() + slack)[-1])  # of equals the largest
    one_se = None
    if axis == "lambd" and math.isfinite(error[best]):
        one_se = int(np.flatnonzero(worse <= worse[best] + error[best] + slack)[-1])
    constant = is_constant(rows, axis)
    edge = edge_of(rows, best, axis, larger)
    places = members.groupby("value").indices
    return Setting(
        label=rows["setting"].iloc[0],
        params=told(runs[members.index[0]]["params"], keys),
        min=float(value[best]),
        one_se=None if one_se is None else float(value[one_se]),
        mean=float(mean[best]),
        error=float(error[best]),
        mean_1se=None if one_se is None else float(mean[one_se]),
        error_1se=None if one_se is None else float(error[one_se]),
        zeros=float(zeros[best]),
        zeros_1se=None if one_se is None else float(zeros[one_se]),
        constant=bool(constant[best]),
        constant_1se=None if one_se is None else bool(constant[one_se]),
        vanishing=axis == "lambd" and 0 < best == len(rows) - 1 and edge is None and only_shrinks(rows),
        values=len(rows),
        splits=int(rows["splits"].iloc[best]),
        edge=edge,
        runs={at: tuple(runs[index] for index in members.index[found]) for at, found in places.items()},
    )
