"""Data sets of rows and columns: seeded split, one-hot columns and standardisation from the training part alone."""

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from shrinkage.errors import InputError

from .base import EXAMPLE_ROWS, DataModule, Part
from .recipe import GAP, Column, Feature, Recipe, kind
from .splits import Rows, Split


@dataclass(frozen=True)
class Table:
    """features: numeric and text columns; target [n], floats, or class codes where class_names are given.

    groups [n] and times [n], where the rows have any, are what `Rows` says. raw: the features as the user has them,
    where they are not so already. fills: whether gaps are filled in, and not refused.
    """

    features: pd.DataFrame
    target: np.ndarray
    class_names: tuple[str, ...] = ()
    groups: np.ndarray | None = None
    times: np.ndarray | None = None
    raw: pd.DataFrame | None = None
    fills: bool = False


class TabularData(DataModule):
    """The rows are split as `Split` says (val, test, seed, folds, fold, repeat, refit).

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
        folds: int | None = None,
        fold: int = 0,
        repeat: int = 0,
        refit: bool = False,
    ) -> None:
        super().__init__(seed=seed, batch_size=batch_size, order_seed=order_seed)
        self.split = Split(val, test, seed, folds, fold, repeat, refit)
        self.standardize = standardize

    @abstractmethod
    def load(self) -> Table:
        """All the rows. Raises InputError on bad input."""

    def make_parts(self) -> dict[str, Part]:
        table = self.load()
        self.class_names = table.class_names
        self.classes = len(table.class_names) or None
        self.digest = digest(table)
        rows = self.split.parts(Rows(table.target, table.class_names, table.groups, table.times))
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
        raw = table.features if table.raw is None else table.raw
        self.kinds, self.fills = {name: kind(column) for name, column in raw.items()}, table.fills
        self.example_rows = raw.iloc[rows["train"][:EXAMPLE_ROWS]]
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

    def recipe(self) -> Recipe:
        encode = self.preprocessing[0] if self.standardize else self.preprocessing
        (_, imputer, numbers), (_, encoder, text) = encode.transformers_
        origins = [(name, None) for name in numbers]
        if text:
            categories = zip(text, encoder.categories_, strict=True)
            origins += [(name, str(category)) for name, known in categories for category in known]
        means, scales = np.zeros(len(origins)), np.ones(len(origins))
        if self.standardize:
            means, scales = self.preprocessing[-1].mean_, self.preprocessing[-1].scale_
        gaps: dict[str, float | str] = {}
        if self.fills:
            gaps = dict.fromkeys(text, GAP)
            gaps |= zip(numbers, map(float, imputer.statistics_), strict=True) if numbers else {}
        return Recipe(
            tuple(Column(name, kind, gaps.get(name)) for name, kind in self.kinds.items()),
            tuple(
                Feature(name, *origin, float(mean), float(scale))
                for name, origin, mean, scale in zip(self.feature_names, origins, means, scales, strict=True)
            ),
        )

    def example(self) -> pd.DataFrame:
        return self.example_rows


def digest(table: Table) -> str:
    """16 hexadecimal digits of all the rows, whatever the split."""
    features = pd.util.hash_pandas_object(table.features, index=False).to_numpy()
    return Part(features, table.target).digest
