"""Diabetes progression after one year: 442 patients, 10 measurements (Efron et al., 2004, "Least angle regression")."""

import numpy as np
from sklearn.datasets import load_diabetes

from .tabular import Table, TabularData


class Diabetes(TabularData):
    """As scikit-learn ships it, in its own units."""

    def load(self) -> Table:
        data = load_diabetes(as_frame=True, scaled=False)
        return Table(data.data, data.target.to_numpy(dtype=np.float64))
