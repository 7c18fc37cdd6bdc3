"""Settings whose best model is a constant, or as good as one: no feature helps there."""

import numpy as np
import pandas as pd

CLOSE = 0.01  # relative difference of means that are as good as one
SHRINKS = 0.1  # relative difference of two ratios that are as good as one


def is_constant(rows: pd.DataFrame, axis: str) -> np.ndarray:
    """Tell at which of a setting's values the model that is trained on all rows but the test rows is a constant.

    It is where every weight is zero on every split, and from the λ_max of all these rows on, at which a path begins:
    there some splits may still keep weights, since each has a λ_max of its own rows.
    """
    constant = (rows["weight/zeros"] == 1).to_numpy()
    if axis == "lambd" and rows["at_lambda_max"].any():
        constant = constant | (rows["value"] >= rows.loc[rows["at_lambda_max"], "value"].min()).to_numpy()
    return constant


def only_shrinks(rows: pd.DataFrame) -> bool:
    """Whether larger λ's than a setting's largest would come to nothing but the constant, which is as good.

    Under ½‖w‖² and a large λ, w ≈ −∇L(0)/λ: from the last λ but one to the last, ‖w‖₂ falls as λ grows (here within
    SHRINKS), and it will go on so. A loss is convex along this line to w = 0, so the constant gains on the last λ
    at most the last gain divided by λ_last/λ_previous − 1. It is as good where that is no more than the error (`flat`).
    """
    value, mean, error, norm = (rows[name].to_numpy()[-2:] for name in ("value", "mean", "error", "weight/l2"))
    if not (value[0] > 0 and norm[1] > 0):
        return False
    growth = value[1] / value[0]
    in_proportion = abs(norm[0] / norm[1] / growth - 1) <= SHRINKS
    return bool(in_proportion and flat(np.array([mean[1], mean[1] + (mean[0] - mean[1]) / (growth - 1)]), error[1]))


def flat(means: np.ndarray, error: float) -> bool:
    """Whether two means are as good as one. error: that of the first."""
    return abs(means[1] - means[0]) <= max(np.nan_to_num(error), CLOSE * abs(means[0]))
