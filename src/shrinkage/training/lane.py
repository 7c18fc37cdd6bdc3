"""What one lane leaves behind."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from shrinkage.errors import InputError

from .best import BestCheckpoint, no_best
from .history import Moment


@dataclass
class Lane:
    """What one lane leaves behind, as if it had been trained alone.

    index: which of the lanes it is, in the order that they were given in. measured: the metrics of the weights that it
    ends with. best: the checkpoint of its smallest val/loss; best_measured: the metrics then. last: Lightning's
    checkpoint of its end. conclusion: what is known of its optimum. weights: the parameters that it ends with.
    exchangeable: see `PenalisedModule.exchangeable`. error: why it diverged. Where it did, or where training was
    interrupted, there is no best checkpoint, and last is empty.
    """

    index: int
    history: list[Moment[dict[str, float]]]
    measured: dict[str, float]
    best: BestCheckpoint = field(default_factory=no_best)
    best_measured: dict[str, float] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)
    conclusion: dict[str, float] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)
    exchangeable: np.ndarray | None = None
    error: InputError | None = None
