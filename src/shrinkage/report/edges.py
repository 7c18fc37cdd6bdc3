"""Whether the best λ of a setting ends the grid of those that were tried, and which grid to try next."""

import math
import shlex
from collections.abc import Sequence

import numpy as np
import pandas as pd

from .answer import NAMES, Setting, listed, short, symbol
from .constant import flat, is_constant, only_shrinks
from .rounding import rounding

POINTS_A_DECADE = 5
SMALLEST, LARGEST = 1e-308, 1e308  # between which numbers have all their digits


def edge_of(rows: pd.DataFrame, best: int, axis: str, larger: bool) -> str | None:
    """Tell whether the best of a setting's sorted values ends its grid: "lower", "upper", or None.

    It does not where all values are equal, where the model is a constant already, at λ = 0 where the curve has become
    flat before it, and at the largest λ where the weights only shrink and the curve is flat (`only_shrinks`).
    """
    value, mean, error = (rows[name].to_numpy() for name in ("value", "mean", "error"))
    if len(value) < 2 or np.ptp(mean) <= rounding(mean[best], larger):
        return None
    if axis != "lambd":
        bounded = value[best] in (0, 1)  # a share has no more
        return None if bounded or 0 < best < len(value) - 1 else "upper" if best else "lower"
    if is_constant(rows, axis)[best] or value[best] >= rows["lambda_max"].iloc[best]:
        return None
    if best == len(value) - 1:
        return None if only_shrinks(rows) else "upper"
    if best == 0:
        return None if value[0] == 0 and flat(mean[:2], error[0]) else "lower"
    return None


def next_grid(value: np.ndarray, edge: str, lambda_max: float) -> str:
    """Write the overrides of a geometric grid that has the best of the sorted values inside.

    It goes three decades beyond the edge and one back, or back to the neighbour of the best where that is further; and
    no further up than lambda_max, from which on every weight is zero on every split (NaN where it is not known).
    """
    positive = value[value > 0].tolist()
    if edge == "lower":
        end = positive[0]
        back = positive[1] if value[0] > 0 and len(positive) > 1 else end
        low, high = end / 1000, max(10 * end, back)
    else:
        end = positive[-1]
        back = positive[-2] if len(positive) > 1 else end / 1000
        low, high = min(end / 10, back), 1000 * end
        if lambda_max > end:
            high = min(high, 1.005 * lambda_max)  # with three digits not below it
    low, high = max(low, SMALLEST), min(high, LARGEST)
    points = round(POINTS_A_DECADE * (math.log10(high) - math.log10(low))) + 1
    grid = f"max={float(f'{high:.3g}'):g} ratio={low / high:.3g} num={points}".split() + ["zero=true"] * bool(
        value[0] == 0
    )
    return " ".join(["hydra/sweeper=path", *(f"hydra.sweeper.{word}" for word in grid)])


def edges(settings: Sequence[Setting], table: pd.DataFrame, axis: str) -> list[str]:
    """Warn of the settings whose best value ends the grid, with the grid to try next; of the winner's kind first.

    Settings that want the same grid share a warning.
    """
    alike: dict[tuple[str, str, str], list[Setting]] = {}
    for setting in settings:
        if setting.edge is not None:
            rows = table[table["setting"] == setting.label]
            value, lambda_max = rows["value"].to_numpy(), rows["lambda_max"].max(skipna=False)
            further = next_grid(value, setting.edge, lambda_max) if axis == "lambd" else ""
            alike.setdefault((setting.edge, short(setting.min), further), []).append(setting)
    warnings: list[str] = []
    for (edge, best, further), members in list(alike.items())[:NAMES]:
        end = "smallest" if edge == "lower" else "largest"
        if axis == "lambd":
            beyond = f"try the same with {' '.join([*overrides_of(members), further])}"
        else:
            beyond = f"try {'smaller' if edge == 'lower' else 'larger'} ones"
        warnings.append(
            f"{listed([each.name for each in members])}: the best {symbol(axis)}, {best}, is the {end} of "
            f"{members[0].values} tried, and a better one may lie {where(members[0])}; {beyond}"
        )
    hidden = sum(map(len, list(alike.values())[NAMES:]))
    if hidden:
        warnings.append(f"the best {symbol(axis)} is at its grid's end in {hidden} more settings")
    return warnings


def overrides_of(settings: Sequence[Setting]) -> list[str]:
    """Write the overrides that lead to settings: a list of values where they differ in one key, else the first's."""
    first = settings[0].params
    differing = [key for key in first if len({each.params.get(key) for each in settings}) > 1]
    if len(differing) > 1:
        return [shlex.quote(f"{key}={value}") for key, value in first.items()]
    values = {
        key: ",".join(dict.fromkeys(each.params.get(key, value) for each in settings)) for key, value in first.items()
    }
    return [shlex.quote(f"{key}={value}") for key, value in values.items()]


def where(setting: Setting) -> str:
    """Say in which direction from the best at its grid's end a better one may be."""
    return "between it and the next" if setting.edge == "lower" and setting.min == 0 else "beyond"
