"""What a report reads of single runs, wherever they are kept."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


LARGER_IS_BETTER = "metrics.larger_is_better"  # a tag of every run: the names of its metrics of that direction
AT_LAMBDA_MAX = "path.lambda_max"  # tag of a run whose λ is the λ_max that its path begins at
INTERCEPT = "(intercept)"  # the feature of a bias, in coefficients.csv


class Source(ABC):
    """Reads what stands beside a run's params and last metrics."""

    @abstractmethod
    def coefficients(self, run: dict) -> "pd.DataFrame | None":
        """A row a weight: output, feature, weight (in the units it was trained in) and coefficient (in the user's own).

        None where the run has none, as where its model is not linear.
        """

    @abstractmethod
    def history(self, run: dict) -> list[tuple[int, dict[str, float]]]:
        """The run's losses at each step that was kept, sorted by step; empty where there are none."""
