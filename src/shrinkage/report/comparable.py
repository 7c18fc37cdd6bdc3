"""Which runs count in a choice, and whether they are about the same data."""

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from shrinkage import split
from shrinkage.errors import InputError
from shrinkage.tracking.source import LARGER_IS_BETTER, RunSummary

from .answer import listed
from .refit import is_refit

BEFORE_TAGS = "r2 accuracy"  # whose larger values are better, in records that do not say so themselves
# How the text of a file is read, which shows in its rows.
READING = ("data.separator", "data.decimal", "data.thousands", "data.comment")
INFINITE = 1e300  # MLflow keeps ∞ as the largest float


def select_countable(runs: Sequence[RunSummary], metric: str) -> tuple[list[RunSummary], list[str], list[str]]:
    """Select the runs that count; with them come the names of the others, and a warning that says why.

    A model that was trained on training and validation rows together is no candidate, and nobody expects it to be one.
    Raises InputError if no run counts.
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
    counted: list[RunSummary] = []
    others: dict[str, list[str]] = {}
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


def is_better_when_larger(runs: Sequence[RunSummary], metric: str) -> bool:
    """Whether larger values of a metric are better; the runs have recorded it."""
    names = " ".join(run.get("tags", {}).get(LARGER_IS_BETTER, BEFORE_TAGS) for run in runs)
    return metric.rpartition("/")[2] in names.split()


def check_comparable(params: pd.DataFrame, runs: Sequence[RunSummary]) -> None:
    """Raise an InputError if the runs are not about the same data."""
    digests = pd.DataFrame(
        {
            # Generated data are others with another seed; a table's rows are the same whatever the split.
            "drawn": params[split.SEED] if split.is_generated(params) and split.SEED in params else "",
            "digest": [run.get("tags", {}).get("data.digest") for run in runs],
        }
    ).dropna()
    several = bool((digests.groupby("drawn")["digest"].nunique() > 1).any())
    are_same_rows = len(digests) == len(runs) and not several
    apart = (*split.KEYS, "data.batch_size", *(READING if are_same_rows else ()))
    same = [key for key in params if f"{key}.".startswith("data.") and key not in apart]
    differing = {key: params[key].value_counts() for key in same if params[key].nunique() > 1}
    if not differing and several:
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
