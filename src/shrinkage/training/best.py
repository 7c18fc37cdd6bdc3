"""The checkpoint of the smallest validation loss, as `best.ckpt` holds it."""

import math
from typing import TypedDict

from torch import Tensor

BestCheckpoint = TypedDict("BestCheckpoint", {"epoch": int, "val/loss": float, "state_dict": dict[str, Tensor]})


def no_best() -> BestCheckpoint:
    """Make what stands for the best checkpoint until there is one: it has no weights, and any loss is better."""
    return {"epoch": 0, "val/loss": math.nan, "state_dict": {}}
