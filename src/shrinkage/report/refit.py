"""Refits: runs that were trained on training and validation rows together, after the choice."""

import math
from collections.abc import Sequence

from shrinkage import split
from shrinkage.tracking.source import RunSummary

from .answer import Refit, Setting

# Of no consequence for what a run learns.
ASIDE = ("tracking.", "hydra.", "progress", "threads", "certificate", "metric", "refit", "export")


def is_refit(run: RunSummary) -> bool:
    """Whether the run was trained on training and validation rows together."""
    return run["params"].get("data.refit") == "True"


def find_refit(runs: Sequence[RunSummary], winner: Setting, axis: str) -> Refit | None:
    """Find the run that trained the winner at λ.min or λ.1se on training and validation rows; None if there is none."""
    example = winner.runs_at(winner.min)[0]["params"]

    def essence(params: dict[str, str]) -> dict[str, str]:
        apart = ("lambd", "seed", "data.refit", axis, *split.KEYS)
        return {key: value for key, value in params.items() if key not in apart and not key.startswith(ASIDE)}

    for run in runs:
        if run["status"] == "FINISHED" and is_refit(run) and essence(run["params"]) == essence(example):
            value, zeros = float(run["params"][axis]), run["metrics"].get("weight/zeros", math.nan)
            if value in (winner.min, winner.one_se):
                return Refit(value, zeros, run)
    return None
