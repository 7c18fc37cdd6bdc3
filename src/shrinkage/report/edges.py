"""Whether the best λ of a setting ends the grid of those that were tried, and which grid to try next."""

import math
import shlex
from collections.abc import Sequence

import numpy as np
import pandas as pd

from .answer import NAMES, Setting, short, symbol
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
    """Warn of each setting whose best value ends the grid, with the grid to try next; of the winner first."""
    warnings = []
    ending = [(setting, setting.edge) for setting in settings if setting.edge]
    for setting, edge in ending[:NAMES]:
        rows = table[table["setting"] == setting.label]
        value, lambda_max = rows["value"].to_numpy(), rows["lambda_max"].max(skipna=False)
        end = "smallest" if edge == "lower" else "largest"
        if axis == "lambd":
            overrides = [shlex.quote(f"{key}={chosen}") for key, chosen in setting.params.items()]
            beyond = f"try the same with {' '.join([*overrides, next_grid(value, edge, lambda_max)])}"
        else:
            beyond = f"try {'smaller' if edge == 'lower' else 'larger'} ones"
        warnings.append(
            f"{setting.name}: the best {symbol(axis)}, {short(setting.min)}, is the {end} of {setting.values} tried, "
            f"and a better one may lie {where(setting)}; {beyond}"
        )
    if len(ending) > NAMES:
        warnings.append(f"the best {symbol(axis)} is at its grid's end in {len(ending) - NAMES} more settings")
    return warnings


def where(setting: Setting) -> str:
    """Say in which direction from the best at its grid's end a better one may be."""
    return "between it and the next" if setting.edge == "lower" and setting.min == 0 else "beyond"
