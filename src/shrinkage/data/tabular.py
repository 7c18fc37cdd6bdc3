"""Data sets of rows and columns: seeded split, one-hot columns and standardisation from the training part alone."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from shrinkage.errors import InputError

from .base import EXAMPLE_ROWS, DataModule, Part
from .memory import check_memory
from .quoting import dropping, quoted
from .recipe import GAP, Column, Feature, Recipe, kind
from .splits import Rows, Split

LARGEST = 1e150  # whose square is a number


@dataclass(frozen=True)
class Table:
    """features: numeric and text columns; target [n], floats, or class codes where class_names are given.

    groups, times, parts and folds, where the rows have any, are what `Rows` says. raw: the features as the user has
    them, where they are not so already. fills: whether gaps are filled in, and not refused.
    """

    features: pd.DataFrame
    target: np.ndarray
    class_names: tuple[str, ...] = ()
    groups: np.ndarray | None = None
    times: np.ndarray | None = None
    parts: np.ndarray | None = None
    folds: np.ndarray | None = None
    raw: pd.DataFrame | None = None
    fills: bool = False

    @property
    def rows(self) -> Rows:
        """What a split must respect."""
        return Rows(self.target, self.class_names, self.groups, self.times, self.parts, self.folds)


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
        rows = self.split.parts(table.rows)
        if self.classes is None:
            check_range("the target", table.target)
            if np.ptp(table.target[rows["train"]]) == 0:
                raise InputError(
                    f"the target is {table.target[rows['train'][0]]:g} in every training row: there is nothing to "
                    "learn; choose another data.target"
                )

        features = table.features
        text = [c for c in features if not pd.api.types.is_numeric_dtype(features[c])]
        numbers = [c for c in features if c not in text]
        for name in numbers:
            check_range(f"column {quoted(name)}", features[name].to_numpy())
        empty = features[numbers].iloc[rows["train"]].isna().all()
        for name in empty.index[empty]:
            raise InputError(
                f"column {quoted(name)} has no value in any training row, so there is no mean to fill in; leave it out "
                f"with {dropping(name)}, or choose another data.seed"
            )
        categories = sum(features[name].nunique() for name in text)
        check_memory(
            len(features),
            len(numbers) + categories,
            "leave columns out with data.drop, take fewer rows, or use data=stream with a Parquet file",
        )
        encode = make_column_transformer(
            (SimpleImputer(), numbers),
            (OneHotEncoder(handle_unknown="ignore", sparse_output=False), text),
        )
        # Learned from the training rows alone, so that nothing of the other parts leaks into them.
        self.preprocessing = make_pipeline(encode, StandardScaler()) if self.standardize else encode
        self.preprocessing.fit(features.iloc[rows["train"]])
        self.origins = origins(encode)
        self.feature_names = names(self.origins)
        raw = features if table.raw is None else table.raw
        self.kinds, self.fills = {name: kind(column) for name, column in raw.items()}, table.fills
        self.example_rows = raw.iloc[rows["train"][:EXAMPLE_ROWS]]
        target = table.target
        if self.classes is None and self.standardize:
            self.center, self.scale = target[rows["train"]].mean(), target[rows["train"]].std()
            target = (target - self.center) / self.scale
        x = np.asarray(self.preprocessing.transform(features), dtype=np.float64)
        return {name: Part(x[index], target[index]) for name, index in rows.items()}

    def recipe(self) -> Recipe:
        encode = self.preprocessing[0] if self.standardize else self.preprocessing
        (_, imputer, numbers), (_, _, text) = encode.transformers_
        means, scales = np.zeros(len(self.origins)), np.ones(len(self.origins))
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
                for name, origin, mean, scale in zip(self.feature_names, self.origins, means, scales, strict=True)
            ),
        )

    def example(self) -> pd.DataFrame:
        return self.example_rows


def digest(table: Table) -> str:
    """16 hexadecimal digits of all the rows, whatever the split."""
    features = pd.util.hash_pandas_object(table.features, index=False).to_numpy()
    return Part(features, table.target).digest


def check_range(name: str, values: np.ndarray) -> None:
    """Raises InputError where a square, of which standard deviations and losses are made, would be infinite or 0.

    NaN is a gap.
    """
    least, largest = np.nanmin(values), np.nanmax(values)
    if max(abs(least), abs(largest)) > LARGEST or 0 < largest - least < 1 / LARGEST:
        raise InputError(
            f"{name} goes from {least:g} to {largest:g}: numbers must be under {LARGEST:g}, and differ by more than "
            f"{1 / LARGEST:g}; write them in another unit"
        )


def origins(encode: ColumnTransformer) -> list[tuple[str, str | None]]:
    """The column of each feature, and the category that it stands for."""
    (_, _, numbers), (_, encoder, text) = encode.transformers_
    known = zip(text, encoder.categories_, strict=True) if text else ()
    return [(name, None) for name in numbers] + [(name, str(each)) for name, found in known for each in found]


def names(features: Sequence[tuple[str, str | None]]) -> tuple[str, ...]:
    """The names of features from a column and a category each: that of the column, or column_category."""
    found: dict[str, str] = {}
    for column, category in features:
        name = column if category is None else f"{column}_{category}"
        if name in found:
            raise InputError(
                f"columns {quoted(found[name])} and {quoted(column)} both have a feature called {quoted(name)}, since "
                "a category is called column_category; give one of them another name"
            )
        found[name] = column
    return tuple(found)
