"""Handwritten digits: 1,797 images of 8 × 8 pixels, ten classes (UCI, optical recognition)."""

from sklearn.datasets import load_digits

from .tabular import Table, TabularData


class Digits(TabularData):
    """As scikit-learn ships it, in its own units."""

    def load(self) -> Table:
        data = load_digits(as_frame=True)
        return Table(data.data, data.target.to_numpy(dtype="int64"), tuple(map(str, data.target_names)))
