"""What a split is: one cut of the data into a training, a validation and a test part.

Three keys of the config choose it. `data.seed` deals the rows to the parts; generated data it draws anew. Of K folds
(`data.folds`), into which the rows that are not test rows are dealt, `data.fold` says which one validates, and
`data.repeat` deals them once more. The test rows hang on `data.seed` alone.
"""

from collections.abc import Container, Mapping
from typing import Any

SEED, REPEAT, FOLD = "data.seed", "data.repeat", "data.fold"
KEYS = (SEED, REPEAT, FOLD)
OF_FOLDS = (REPEAT, FOLD)  # which a model that is trained on training and validation rows together has not
FOLDS, VAL, TEST = "data.folds", "data.val", "data.test"  # how many folds; the shares of the other parts
SWEEP_SEEDS = f"'{SEED}=range(5)'"  # as it is typed
SWEEP_FOLDS = f"{FOLDS}=5 '{FOLD}=range(5)'"


def is_generated(keys: Container[str]) -> bool:
    """Whether data with these keys are drawn anew for each seed, as in d2l, and no table is split."""
    return FOLDS not in keys and VAL not in keys


def name_fold(data: Mapping[str, Any]) -> str:
    """Name the fold of a run's data: `fold=1`, and of another dealing `fold=1 repeat=2`."""
    return f"fold={data['fold']}" + (f" repeat={data['repeat']}" if data["repeat"] else "")
