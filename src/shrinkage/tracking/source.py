"""What a report reads of single runs, wherever they are kept: in the store, or in their folders."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from .outcome import Outcome

if TYPE_CHECKING:
    import pandas as pd


LARGER_IS_BETTER = "metrics.larger_is_better"  # a tag of every run: the names of its metrics of that direction
COLOUR = "mlflow.runColor"  # a tag of every run: the colour of its penalty, which MLflow's page draws it in, too
AT_LAMBDA_MAX = "path.lambda_max"  # tag of a run whose λ is the λ_max that its path begins at
PARENT = "mlflow.parentRunId"  # MLflow's own tag of a run that stands under another
LOSSES = ("train/loss", "val/loss")  # whose curves a report draws
OUTCOME = "outcome.json"  # what a model to take away does, for pictures
INTERCEPT = "(intercept)"  # the feature of a bias, in coefficients.csv


class RunSummary(TypedDict):
    """One run, as a report sees it, whether it was read from the store or from a sweep's folder.

    run_id: the store's, None where the run is in none. folder: the run's own, None where it is not known. metrics: the
    last value of each. error: what went wrong, None where nothing did.
    """

    name: str
    status: str
    run_id: str | None
    folder: str | None
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    error: str | None


@dataclass(frozen=True)
class Found:
    """Runs that a report is about.

    Those of a sweep, whose own run is the parent, or of an experiment, which has none. title: its name.
    """

    title: str
    parent: str | None
    experiment_id: str
    runs: list[RunSummary]


class Source(ABC):
    """Where a report reads a run's coefficients and history from: a run's folder, or the store."""

    @abstractmethod
    def coefficients(self, run: RunSummary) -> "pd.DataFrame | None":
        """Read a linear model's weights, a row each: output, feature, weight (as trained) and coefficient (in the
        user's units).

        None where the run has none, as where its model is not linear.
        """

    @abstractmethod
    def outcome(self, run: RunSummary) -> Outcome | None:
        """Read what a model to take away does on held-out rows; None where the run has not kept it."""

    @abstractmethod
    def history(self, run: RunSummary) -> list[tuple[int, dict[str, float]]]:
        """Read the run's losses at each step that was kept, sorted by step; empty where there are none."""


class FolderSource(Source):
    """Reads what a run has left in its folder."""

    def coefficients(self, run: RunSummary) -> "pd.DataFrame | None":
        import pandas as pd

        path = Path(run["folder"]) / "coefficients.csv" if run["folder"] else None
        return pd.read_csv(path, keep_default_na=False) if path is not None and path.exists() else None

    def outcome(self, run: RunSummary) -> Outcome | None:
        path = Path(run["folder"]) / OUTCOME if run["folder"] else None
        return Outcome.from_json(path.read_text(encoding="utf-8")) if path is not None and path.exists() else None

    def history(self, run: RunSummary) -> list[tuple[int, dict[str, float]]]:
        path = Path(run["folder"]) / "history.json" if run["folder"] else None
        if path is None or not path.exists():
            return []
        return [(step, measured) for step, measured in json.loads(path.read_text(encoding="utf-8"))]


def describe_tests(metrics: Mapping[str, float]) -> str:
    """List a run's test scores in words, the loss with its standard error if that is known; empty if there are none."""
    error = metrics.get("test/loss_error")
    found = {name: f"{value:.4g}" for name, value in metrics.items() if name.startswith("test/")}
    if error is not None:
        found.pop("test/loss_error")
        found["test/loss"] += f" ± {error:.2g}"
    return ", ".join(f"{name} {value}" for name, value in found.items())
