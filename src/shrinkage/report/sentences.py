"""What an answer says in words: the sentence that it comes to, its warnings and its notes."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from shrinkage import split
from shrinkage.errors import InputError

from .answer import FAR, Comparison, Refit, Setting, listed, plus_minus, short, symbol
from .edges import where
from .rounding import rounding

TO_THE_OPTIMUM = ("polish=20000", "trainer.until_gap=1e-6")  # overrides by which linear models get there


def only_one(settings: Sequence[Setting], runs: int, metric: str, axis: str) -> list[str]:
    """Warn if each of several settings was tried at a single value. Raises InputError if there is but one setting."""
    first = settings[0]
    if max(setting.values for setting in settings) > 1:
        return []
    if len(settings) == 1:
        score = f"{metric} {plus_minus(first.mean, first.error)}, {runs} {'run' if runs == 1 else 'runs'}"
        raise InputError(
            f"one {symbol(axis)}, {short(first.min)}: nothing to choose ({score}); "
            "try several: -m lambd=0.001,0.01,0.1,1 or -m hydra/sweeper=path"
        )
    return [f"each setting was tried at one {symbol(axis)} only, and not at its best; -m hydra/sweeper=path tries many"]


def unconverged(frame: pd.DataFrame, params: pd.DataFrame) -> list[str]:
    """Warn of runs that stopped far above their optimum, with what brings them to it."""
    far = frame["above"] > FAR
    if not far.any():
        return []
    given = params["polish"][far.to_numpy()] if "polish" in params else []
    polish = max((int(steps) for steps in given if steps.isdigit()), default=0)
    further = f"{' '.join(TO_THE_OPTIMUM)} brings linear models to it"
    if polish:
        further = f"polish={5 * polish} goes further, or leave the smallest λ's out"
    return [
        f"{far.sum()} of {len(frame)} runs stopped more than {100 * FAR:g} % above their optimum, and values are "
        f"compared by where training stopped: {further}"
    ]


def findings(winner: Setting, table: pd.DataFrame, axis: str, larger: bool) -> list[str]:
    """Note what the winner's curve says besides its best value."""
    if axis != "lambd" or winner.values == 1:
        return []
    notes = []
    rows = table[table["setting"] == winner.label]
    value, mean = rows["value"].to_numpy(), rows["mean"].to_numpy()
    if np.ptp(mean) <= rounding(winner.mean, larger):
        notes.append(f"{winner.name}: λ makes no difference to this metric")
    elif winner.constant:
        left = f"; λ_max differs by split, and there {1 - winner.zeros:.2g} of the weights were left" * (
            winner.zeros < 1
        )
        notes.append(
            f"{winner.name}: no feature helps here: at λ.min every weight of a model of all rows but the test rows is "
            f"zero, and no larger λ would change that{left}"
        )
    elif winner.vanishing:
        notes.append(
            f"{winner.name}: the weights only shrink towards λ.min, the largest λ tried, where ‖w‖₂ is "
            f"{short(rows['weight/l2'].iloc[-1])}: larger λ's would come to a constant, which is as good"
        )
    elif winner.min == 0 and winner.edge is None:
        notes.append(f"{winner.name}: no penalty is as good as any: the best λ is 0, and towards it the curve is flat")
    if (
        winner.at_one_se is not None
        and winner.at_one_se.value != winner.min
        and winner.at_one_se.value == value[-1]
        and not winner.at_one_se.constant
    ):
        notes.append(f"{winner.name}: λ.1se is the largest λ tried; larger ones may be within the error as well")
    return notes


def about_error(frame: pd.DataFrame, params: pd.DataFrame, settings: Sequence[Setting]) -> list[str]:
    """Note what the standard error is over, and what it leaves out."""
    notes = []
    more = split.SWEEP_SEEDS if split.is_generated(params) else split.SWEEP_FOLDS
    if max(setting.splits for setting in settings) == 1:
        if math.isfinite(settings[0].error):
            notes.append(
                f"one split of the data: the error is over seeds and shows the noise of training only; {more} shows "
                "that of the data"
            )
        else:
            notes.append(f"one split and one seed: no error, and so no λ.1se; {more} gives one")
    if split.FOLDS in params and split.FOLD in params:
        said = pd.to_numeric(params[split.FOLDS], errors="coerce").max()
        found = params[split.FOLD].nunique()
        if found < said:
            notes.append(f"{found} of {said:.0f} folds {'is' if found == 1 else 'are'} there")
    uncertified = int(frame["above"].isna().sum())
    if uncertified:
        notes.append(
            f"{uncertified} of {len(frame)} runs are not certified: how far from an optimum they stopped is not known"
        )
    return notes


def sentence(
    settings: Sequence[Setting],
    comparisons: Sequence[Comparison],
    metric: str,
    axis: str,
    kind: str,
    refit: Refit | None,
) -> str:
    """Say in one sentence what to take, what it scores, and what that rests on."""
    winner, of = settings[0], symbol(axis)
    over = (
        f" over {winner.splits} {kind}s" if winner.splits > 1 else " over seeds" if math.isfinite(winner.error) else ""
    )
    at, score, besides = f"{of} = {short(winner.min)}", f"{metric} {plus_minus(winner.mean, winner.error)}{over}", ""
    taken, zeros, constant = winner.min, winner.zeros, winner.constant
    if winner.at_one_se is None:
        besides = f", the best of {winner.values} values" * (winner.values > 1)
    elif winner.values > 1 and winner.at_one_se.value == winner.min:
        at += ", which is both λ.min and λ.1se"
    elif winner.values > 1:
        at = f"λ.1se = {short(winner.at_one_se.value)}"
        besides = f"; the best, {plus_minus(winner.mean, winner.error).split()[0]}, is at λ.min = {short(winner.min)}"
        score = f"{metric} {plus_minus(winner.at_one_se.mean, winner.at_one_se.error)}{over}"
        taken, zeros, constant = winner.at_one_se.value, winner.at_one_se.zeros, winner.at_one_se.constant
    it = "it"
    if refit is not None and refit.value == taken and not math.isnan(refit.zeros):
        it, zeros, constant = "the refitted model", refit.zeros, refit.zeros == 1
    label = f"{winner.label} with " * bool(winner.label)
    words = f"Take {label}{at} ({score}{besides})"
    if constant and winner.constant:
        words = f"No feature helps here: the model is a constant (its {score}), under {label}{at}"
    elif winner.vanishing:
        words = (
            f"No feature helps here by more than the error: the model is next to a constant (its {score}), under "
            f"{label}{at}"
        )
    elif constant:
        words += ": every weight is zero there, so the features do not help by more than the error"
    elif zeros > 0:
        share = 100 * (1 - zeros)
        words += f": {it} keeps {share:{'.0f' if share >= 1 else '.1g'}} % of the weights"
    beaten = [name_of(settings, each.other) for each in comparisons if each.beats]
    equal = [name_of(settings, each.other) for each in comparisons if not each.beats]
    if beaten:
        words += f"; at {of}.min {winner.name} beats {listed(beaten)}"
    if equal:
        words += f"; these {winner.splits} {kind}s show no difference from {listed(equal)}"
    if winner.edge:
        end = "smallest" if winner.edge == "lower" else "largest"
        words += f"; but {of}.min is the {end} tried, and a better one may lie {where(winner)}"
    return f"{words}."


def name_of(settings: Sequence[Setting], label: str) -> str:
    """Look up the name of the setting with this label."""
    return next(setting.name for setting in settings if setting.label == label)
