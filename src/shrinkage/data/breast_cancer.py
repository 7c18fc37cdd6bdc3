"""Breast cancer, Wisconsin (diagnostic): 569 tumours, 30 measurements, malignant (0) or benign (1)."""

from sklearn.datasets import load_breast_cancer

from .tabular import Table, TabularData


class BreastCancer(TabularData):
    """As scikit-learn ships it, in its own units."""

    def load(self) -> Table:
        data = load_breast_cancer(as_frame=True)
        return Table(data.data, data.target.to_numpy(dtype="int64"), tuple(map(str, data.target_names)))
