"""Whether one setting is better than another, on the splits that they share.

By dⱼ, the difference on split j, and its mean d̄ with variance s_d²·(1/J + n_val/n_train): the splits share rows, so the
dⱼ are correlated, and s_d²/J alone would find a difference between equals almost every second time. Nadeau & Bengio
(2003), "Inference for the generalization error", *Machine Learning* 52, 239–281.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from shrinkage import split
from shrinkage.tracking.source import RunSummary

from .answer import Comparison, Setting, plus_minus
from .rounding import deviation, mean, rounding

LEVEL = 0.05  # share of comparisons between equals that may find a difference


def compare(
    settings: Sequence[Setting], by_split: pd.DataFrame, overlap: float, kind: str, metric: str, larger: bool
) -> tuple[Comparison, ...]:
    """Compare the winner with each other setting, each at its λ.min, on the splits that both have."""
    # The winner was picked after looking, so that any pair might have been compared.
    pairs = math.comb(len(settings), 2)
    scores = [by_split.loc[(setting.label, setting.min), "metric"] for setting in settings]
    winner, found = settings[0], []
    for setting, score in zip(settings[1:], scores[1:], strict=True):
        differences = [
            0.0 if abs(better - value) <= rounding(value, larger) else better - value if larger else value - better
            for better, value in pd.concat([scores[0], score], axis=1, join="inner").to_numpy().tolist()
        ]
        if len(differences) < 2:
            continue
        difference, half_width = interval_of(differences, overlap, pairs)
        beats, by = difference > half_width, plus_minus(difference, half_width)
        words = (
            f"{winner.name} beats {setting.name} by {by} ({metric})"
            if beats
            else f"no difference between {winner.name} and {setting.name} that these {len(differences)} {kind}s can "
            f"show ({metric} {by})"
        )
        found.append(Comparison(winner.label, setting.label, difference, half_width, len(differences), beats, words))
    return tuple(found)


def interval_of(differences: Sequence[float], overlap: float, pairs: int = 1) -> tuple[float, float]:
    """Compute the mean d̄ of the differences on J ≥ 2 splits, and the half-width of its interval at level 1 − LEVEL.

    t·√(s²·(1/J + overlap)) with J − 1 degrees of freedom (Nadeau & Bengio, 2003); overlap is n_val/n_train, or 0 for
    independent splits. pairs: how many such intervals are to hold at once (Bonferroni).
    """
    count = len(differences)
    error = deviation(differences) * math.sqrt(1 / count + overlap)
    return mean(differences), float(stdtrit(count - 1, 1 - LEVEL / (2 * pairs))) * error


def shared_rows(params: pd.DataFrame, runs: Sequence[RunSummary]) -> float:
    """Compute n_val/n_train, by which splits that share rows are correlated; 0 if each split draws its own rows."""
    if split.is_generated(params):
        return 0.0
    tags = pd.DataFrame(
        {part: [run.get("tags", {}).get(f"data.rows.{part}") for run in runs] for part in ("train", "val")}
    )
    rows = tags.apply(pd.to_numeric, errors="coerce")
    share = mean_of(rows["val"] / rows["train"])
    if math.isfinite(share):
        return share
    known = {
        key: mean_of(pd.to_numeric(params.get(key, pd.Series(dtype=float)), errors="coerce"))
        for key in (split.FOLDS, split.VAL, split.TEST)
    }
    if known[split.FOLDS] > 1:
        return 1 / (known[split.FOLDS] - 1)
    return float(known[split.VAL] / (1 - known[split.VAL] - np.nan_to_num(known[split.TEST])))


def mean_of(column: pd.Series) -> float:
    """Average the values that are there; NaN if there are none."""
    values = column.dropna().tolist()
    return mean(values) if values else math.nan
