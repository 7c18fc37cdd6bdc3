"""What runs differ in: the values of one axis, which is λ or a number of the penalty, and settings besides."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from shrinkage import split
from shrinkage.errors import InputError

from .refit import ASIDE

GROUPS = ("penalty", "model", "optimizer", "schedule")


def find_axis(params: pd.DataFrame, frame: pd.DataFrame) -> tuple[str, pd.Series]:
    """Find the axis, which is λ or else the one number of the penalty that varies, and each run's value of it.

    Raises InputError if no run has a λ.
    """
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
    """Find the keys that tell the settings apart, and number each run's setting.

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

    def order(key: str) -> tuple[int, bool, bool, str]:
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
    """Write a run's setting as it is typed: `penalty=elastic_net penalty.l1_ratio=0.5`."""
    return " ".join(f"{key}={value}" for key, value in params_of(params, keys).items())


def params_of(params: dict[str, str], keys: Sequence[str]) -> dict[str, str]:
    """Select the params that name a run's setting, as they are typed; the penalty if all runs have one setting."""
    found = {key: params[key] for key in keys or ("penalty",) if key in params}
    return {key: "null" if value == "None" else value for key, value in found.items()}
