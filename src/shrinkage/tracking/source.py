"""What a report reads of single runs, wherever they are kept."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


LARGER_IS_BETTER = "metrics.larger_is_better"  # a tag of every run: the names of its metrics of that direction
AT_LAMBDA_MAX = "path.lambda_max"  # tag of a run whose λ is the λ_max that its path begins at
INTERCEPT = "(intercept)"  # the feature of a bias, in coefficients.csv


class Source(ABC):
    """Where a report reads a run's coefficients and history from: a run's folder, or the store."""

    @abstractmethod
    def coefficients(self, run: dict) -> "pd.DataFrame | None":
        """Read a linear model's weights, a row each: output, feature, weight (as trained) and coefficient (in the
        user's units).

        None where the run has none, as where its model is not linear.
        """

    @abstractmethod
    def history(self, run: dict) -> list[tuple[int, dict[str, float]]]:
        """Read the run's losses at each step that was kept, sorted by step; empty where there are none."""
