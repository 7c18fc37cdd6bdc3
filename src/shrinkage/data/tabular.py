"""Data sets of rows and columns: seeded split, one-hot columns and standardisation from the training part alone."""

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from shrinkage.errors import InputError

from .base import DataModule, Part


@dataclass(frozen=True)
class Table:
    """features: numeric and text columns; target [n], floats, or class codes where class_names are given."""

    features: pd.DataFrame
    target: np.ndarray
    class_names: tuple[str, ...] = ()


class TabularData(DataModule):
    """val and test are shares of all rows (test=0 for no test part); the split is drawn from seed, stratified by class.

    standardize: (x − mean)/standard deviation of the training part, in every column, one-hot ones too, and in a
    regression target; a constant column is only centred. The standard deviation is that of the population (1/n).
    """

    def __init__(
        self,
        *,
        val: float,
        test: float,
        seed: int,
        standardize: bool,
        batch_size: int | None,
        order_seed: int,
    ) -> None:
        super().__init__(seed=seed, batch_size=batch_size, order_seed=order_seed)
        if not (0 < val < 1 and 0 <= test < 1 and val + test < 1):
            raise InputError(
                f"data.val={val} data.test={test}: shares of the rows, val > 0, test ≥ 0, together under 1; "
                "use data.val=0.2 data.test=0.2"
            )
        self.val, self.test, self.standardize = val, test, standardize

    @abstractmethod
    def load(self) -> Table:
        """All the rows. Raises InputError on bad input."""

    def make_parts(self) -> dict[str, Part]:
        table = self.load()
        self.class_names = table.class_names
        self.classes = len(table.class_names) or None
        rows = self.split(table)
        if self.classes is None and np.ptp(table.target[rows["train"]]) == 0:
            raise InputError(
                f"the target is {table.target[rows['train'][0]]:g} in every training row: there is nothing to learn; "
                "choose another data.target"
            )

        text = [c for c in table.features if not pd.api.types.is_numeric_dtype(table.features[c])]
        numbers = [c for c in table.features if c not in text]
        encode = make_column_transformer(
            (SimpleImputer(keep_empty_features=True), numbers),
            (OneHotEncoder(handle_unknown="ignore", sparse_output=False), text),
            verbose_feature_names_out=False,
        )
        # Learned from the training rows alone, so that nothing of the other parts leaks into them.
        self.preprocessing = make_pipeline(encode, StandardScaler()) if self.standardize else encode
        self.preprocessing.fit(table.features.iloc[rows["train"]])
        self.feature_names = tuple(map(str, encode.get_feature_names_out()))
        target = table.target
        if self.classes is None and self.standardize:
            self.center, self.scale = target[rows["train"]].mean(), target[rows["train"]].std()
            target = (target - self.center) / self.scale
        return {
            name: Part(
                np.asarray(self.preprocessing.transform(table.features.iloc[index]), dtype=np.float64),
                target[index],
            )
            for name, index in rows.items()
        }

    def split(self, table: Table) -> dict[str, np.ndarray]:
        """The row numbers of each part."""
        total = len(table.target)
        counts = {"val": int(np.ceil(self.val * total)), "test": int(np.ceil(self.test * total))}
        if total - sum(counts.values()) < 2:
            raise InputError(
                f"{total} row{'s' * (total != 1)} for data.val={self.val} data.test={self.test}: at least 2 must be "
                "left to train on; bring more rows or smaller shares"
            )
        if table.class_names:
            members = np.bincount(table.target, minlength=len(table.class_names))
            if members.min() < len(counts):
                raise InputError(
                    f"class {table.class_names[members.argmin()]!r} has {members.min()} row(s): every class needs at "
                    "least one in each part; bring more of its rows, or take them out"
                )
        index = {"train": np.arange(total)}
        for part, count in counts.items():
            if count == 0:
                continue
            left = index["train"]
            try:
                index["train"], index[part] = train_test_split(
                    left,
                    test_size=count,
                    random_state=self.seed,
                    stratify=table.target[left] if table.class_names else None,
                )
            except ValueError as error:
                raise InputError(f"the rows cannot be split with every class in every part: {error}") from error
        return index
