"""Says in words how far from its optimum a run stopped, and what would bring it nearer."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from shrinkage.data.quoting import quoted_list
from shrinkage.penalties.base import Penalty

from .certifier import Certifier

CONVERGED = 1e-6  # a gap of this share of the objective that no weights at all have; glmnet stops at 1e-7
FALLS = 0.7  # what may be left of the excess after a quarter of a noisy run that still falls


def describe_stop(
    certifier: Certifier,
    penalty: Penalty,
    lambd: float,
    known: Mapping[str, float],
    until_gap: float | None,
    help: Callable[[float], str],
    exchangeable: Sequence[Sequence[str]] = (),
) -> str:
    """Say in a sentence how far from its optimum a run stopped.

    known: the metrics. until_gap: the gap that was asked for. help: says what would help a run that has not
    converged, given the least objective. exchangeable: groups of features that can stand for one another.
    """
    l1, l2 = map(float, certifier.strengths(penalty, lambd))
    found = certifier.solve(l1, l2)
    gap = known.get("optimum/gap", known["optimum/duality_gap"])
    if gap <= CONVERGED * certifier.null_objective:
        words = f"converged (gap {gap:.1g})"
    elif until_gap is not None and gap <= until_gap:
        words = f"stopped at a gap of {gap:.1g}, as trainer.until_gap={until_gap:g} asks"
    else:
        least = known.get("optimum/objective", known["train/objective"] - gap)
        if "optimum/gap" not in known:
            far = f"at most {percent(gap / least) if least > gap / 100 else f'{gap:.1g}'} above its optimum"
        elif gap > 100 * least > CONVERGED * certifier.null_objective:
            far = f"at {1 + gap / least:.2g} times its optimum"
        elif least > CONVERGED * certifier.null_objective:
            far = f"{percent(gap / least)} above its optimum"
        else:
            far = "above an optimum of 0"
        words = f"stopped early: {far} (gap {gap:.1g}"
        if known["train/objective"] > certifier.null_objective:
            words += f"; with every weight at zero the objective is smaller, {certifier.null_objective:.3g}"
        words += f"){help(least)}"
    if certifier.factor != 1 and lambd:
        words += (
            f"; under momentum μ = {1 - certifier.factor:.3g} decay tends to the optimum at λ(1 − μ) = "
            f"{certifier.factor * lambd:.3g}, and that is what this certifies"
        )
    if exchangeable and gap <= CONVERGED * certifier.null_objective:
        words += (
            "; the optimum is not unique, since columns can take over weight from one another: "
            f"{quoted_list(exchangeable[0])}{' and others' if len(exchangeable) > 1 else ''} (exchangeable in "
            "coefficients.csv)"
        )
    if found is not None and not found[0].unique and l1 == 0:
        norm = float(np.linalg.norm(found[0].weight))
        words += (
            "; with no penalty and more weights than independent rows the optimum is not unique, the minimum-norm "
            f"solution among them has ‖w‖₂ = {norm:.3g}"
        )
    return words


def describe_pace(certifier: Certifier, curve: Sequence[tuple[int, float]], least: float, key: str, noisy: bool) -> str:
    """Say what would help a run that has not converged: more epochs while its objective falls, else a polish.

    curve: the objective at the steps at which it was measured. key: what sets their number. noisy: whether the
    steps are those of minibatches, whose noise ends the fall.
    """
    if certifier.factor != 1:
        return ""
    last, quarter = curve[-1][0], len(curve) // 4
    if quarter == 0:
        return f"; {key}={10 * last} would help"
    # The mean excess of the last quarter against that of the one before: single epochs are noisy.
    before, now = (
        sum(value - least for _, value in part) / quarter for part in (curve[-2 * quarter : -quarter], curve[-quarter:])
    )
    if 0 < now < (FALLS if noisy else 1.0) * before:
        pace = math.log(now / before) / (curve[-1][0] - curve[-1 - quarter][0])
        needed = last + math.log(CONVERGED * certifier.null_objective / now) / pace
        return f"; {key}={rounded_up(max(needed, last + 1))} would help"
    return "; it hardly falls any more, and polish=100 would go further than more steps"


def percent(share: float) -> str:
    """Write a share with two significant digits: 31 %, 0.42 %, 1,200 %."""
    value = 100 * share
    return f"{value:,.0f} %" if value >= 10 else f"{value:.2g} %"


def rounded_up(number: float) -> int:
    """Round a number > 0 up to two significant digits, or to a whole number."""
    scale = 10 ** max(math.floor(math.log10(number)) - 1, 0)
    return math.ceil(number / scale) * scale
