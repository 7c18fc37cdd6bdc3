"""Data sets of rows and columns: seeded split, categories and standardisation from the training part alone."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csc_array
from sklearn.preprocessing import StandardScaler

from shrinkage.errors import InputError

from .base import EXAMPLE_ROWS, DataModule, Part
from .column_rules import read_typed
from .features import find_levels, plan
from .leaks import find_leaks
from .memory import check_memory
from .quoting import dropping, quoted
from .recipe import GAP, Column, Feature, Recipe, describe_unseen
from .row_terms import ClassWeight, weigh_classes
from .sparse import divided, encode_sparse
from .splits import Rows, Split

TITLES = {"val": "validation"}
LARGEST = 1e150  # whose square is a number


@dataclass(frozen=True)
class Table:
    """All the rows of a data set, before they are split and made into numbers.

    features: the columns as pandas has them. target [n]: floats, or class codes if class_names are given; of several
    columns [n, targets], with target_names; with has_events [n, 2], times and whether an event was seen then, or [n, 3]
    with the number of a stratum. groups, times, parts, folds, weights and offsets: what `Rows` says, or None.
    class_weight: what weights are multiplied by, as `weigh_classes` says. offset_column, offset_cells: of the column
    that the offsets come from, with the rule by which it is read; is_exposure: whether they are its logarithm.
    strata_column, strata_cells: the same of strata; strata_names: by their numbers. columns: the rules by which
    features were read, if their types do not tell them. fills: whether gaps are filled in, and not refused. encoding
    and date_parts: by which `features.plan` makes features. unseen: what `Recipe` says.
    """

    features: pd.DataFrame
    target: np.ndarray
    class_names: tuple[str, ...] = ()
    target_names: tuple[str, ...] = ()
    has_events: bool = False
    groups: np.ndarray | None = None
    times: np.ndarray | None = None
    parts: np.ndarray | None = None
    folds: np.ndarray | None = None
    weights: np.ndarray | None = None
    offsets: np.ndarray | None = None
    class_weight: ClassWeight = None
    offset_column: Column | None = None
    offset_cells: pd.Series | None = None
    is_exposure: bool = False
    strata_column: Column | None = None
    strata_cells: pd.Series | None = None
    strata_names: tuple[str | float, ...] = ()
    columns: Mapping[str, Column] = field(default_factory=dict)
    fills: bool = False
    encoding: str = "auto"
    date_parts: Sequence[str] = ()
    unseen: str = "zero"

    @property
    def rows(self) -> Rows:
        """What a split must know of the rows."""
        return Rows(self.target, self.class_names, self.groups, self.times, self.parts, self.folds)

    @cached_property
    def rules(self) -> dict[str, Column]:
        """By which rule each column is read, with what no split changes: whether it has gaps, and the level of a gap.

        Raises InputError for numbers that are too large, or too near to one another.
        """
        found = {}
        for name, values in self.values.items():
            column = self.columns_as_read[name]
            if column.kind != "text":
                check_range(f"column {quoted(name)}", values)
            gap = GAP if self.fills and column.kind == "text" else None
            found[name] = replace(column, has_gaps=bool(pd.isna(values).any()), gap=gap)
        return found

    @cached_property
    def columns_as_read(self) -> dict[str, Column]:
        """By which rule each column is read."""
        return {name: self.columns.get(name) or read_typed(self.features[name])[0] for name in self.features}

    @cached_property
    def values(self) -> dict[str, np.ndarray]:
        """The values of each column, as `Column.read` has them."""
        return {name: column.read(self.features[name]) for name, column in self.columns_as_read.items()}

    @cached_property
    def digest(self) -> str:
        """All the rows, whatever their split, in 16 hexadecimal digits."""
        seen = {
            name: self.rules[name].fill(values) if self.rules[name].kind == "text" else values
            for name, values in self.values.items()
        }
        hashes = pd.util.hash_pandas_object(pd.DataFrame(seen), index=False).to_numpy()
        return Part(hashes, self.target, self.weights, self.offsets).digest

    def weigh(self, train: np.ndarray) -> np.ndarray | None:
        """Say how much each row counts, by its own weight and its class's, which training rows may tell; [n].

        None where all count the same. Raises InputError for the weight of a class that is not there.
        """
        if self.class_weight is None:
            return self.weights
        own = None if self.weights is None else self.weights[train]
        of_classes = weigh_classes(self.class_weight, self.class_names, self.target[train], own)[self.target]
        return of_classes if self.weights is None else self.weights * of_classes


class SplitData(DataModule):
    """A data set whose rows are split by a seed, and standardised by what its training part tells.

    The rows are split as `Split` says (val, test, seed, folds, fold, repeat, refit). standardize: (x − mean)/standard
    deviation of the training part, in every feature, those of categories too, and in a regression target unless it has
    to keep its own units; a constant column is only centred. The standard deviation is that of the population (1/n).
    Sparse features are divided and not centred. Rows count by their weights in both; of a target they are those of what
    its offsets leave.
    After `setup`: rows, the indices of each part's rows.
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

    def split_rows(self, given: Rows) -> dict[str, np.ndarray]:
        """Split the rows, and look at their target. Returns the indices of each part's rows.

        Raises InputError if they cannot be split, or there is nothing to learn.
        """
        self.class_names = given.class_names
        self.classes = len(given.class_names) or None
        rows = self.rows = self.split.parts(given)
        if self.classes is None:
            self.least_target = float(given.target.min())  # of rows that are in no part of this split, too
            for name, own in self.each_target(given.target):
                check_range(name, own)
                if np.ptp(own[rows["train"]]) == 0:
                    raise InputError(
                        f"{name} is {own[rows['train'][0]]:g} in every training row: there is nothing to learn; "
                        "choose another data.target"
                    )
        return rows

    def each_target(self, target: np.ndarray) -> list[tuple[str, np.ndarray]]:
        """List the targets, as a message calls each, with their values [n]."""
        if not self.target_names:
            return [("the target", target[:, 0] if self.has_events else target)]
        return [(f"the target {quoted(name)}", target[:, k]) for k, name in enumerate(self.target_names)]

    def as_parts(self, x: Any, given: Rows, weight: np.ndarray | None = None) -> dict[str, Part]:
        """Make the parts of rows that have been split. x: an array or a sparse matrix that takes row numbers [n, p].

        weight: how much each row counts, [n], in place of what the rows say.
        """
        rows, target, offset = self.rows, given.target, given.offsets
        known_weight = None if weight is None else weight[rows["train"]]
        if self.classes is None and self.standardize and not (self.own_units or self.has_events):
            left = target[rows["train"]] if offset is None else (target - offset)[rows["train"]]
            center, scale = weighted_mean_and_deviation(left, known_weight)
            target = (target - center) / scale
            one = not self.target_names
            self.center, self.scale = (float(each) if one else tuple(each.tolist()) for each in (center, scale))
            offset = None if offset is None else offset / scale
        if weight is not None and known_weight is not None:
            self.total_weights = {name: float(weight[index].sum()) for name, index in rows.items()}
            weight = weight / known_weight.mean()
        self.row_terms = tuple(key for key, given in (("weight", weight), ("offset", offset)) if given is not None)
        return {
            name: Part(
                csc_array(x[index]) if self.is_sparse else x[index],
                target[index],
                *(None if each is None else each[index] for each in (weight, offset)),
            )
            for name, index in rows.items()
        }

    def scaler(self, x: Any, weight: np.ndarray | None) -> StandardScaler:
        """Learn the means and standard deviations of training rows x [n, p] that count by weights [n]."""
        return StandardScaler(with_mean=not self.is_sparse).fit(x, sample_weight=weight)


class TabularData(SplitData):
    """A data set of rows and columns, of which categories and dates are made into numbers.

    sparse: whether the features are held without their zeros.
    """

    def __init__(self, *, sparse: bool = False, **settings: Any) -> None:
        super().__init__(**settings)
        self.is_sparse = sparse

    @abstractmethod
    def load(self) -> Table:
        """Load all the rows. Raises InputError on bad input."""

    def make_parts(self) -> dict[str, Part]:
        table = self.load()
        self.target_names, self.has_events = table.target_names, table.has_events
        rows = self.split_rows(table.rows)
        if table.has_events:
            self.count_events(table.target[:, 1], rows)
        rules, values = table.rules.values(), table.values
        weight = table.weigh(rows["train"])
        known_weight = None if weight is None else weight[rows["train"]]
        columns = [learn_gap(column, values[column.name], rows["train"], table.fills, weight) for column in rules]
        filled = {column.name: column.fill(values[column.name]) for column in columns}
        self.digest = table.digest
        known = {name: found[rows["train"]] for name, found in filled.items()}
        for target, of_target in self.each_target(table.target):
            for name, how in find_leaks(known, of_target[rows["train"]], self.classes).items():
                self.notes.append(
                    f"column {quoted(name)} alone nearly determines {target} ({how}): if it is not known where the "
                    f"model is to predict, leave it out with {dropping(name)}."
                )
        # Learned from the training rows alone, so that nothing of the other parts leaks into them.
        columns = [learn_levels(column, filled[column.name][rows["train"]], table.date_parts) for column in columns]
        recipe = replace(plan(columns, table.encoding, table.date_parts), unseen=table.unseen)
        self.feature_names = name_features(recipe.features)
        if not self.is_sparse:
            check_memory(
                len(columns),
                len(recipe.features),
                "leave columns out with data.drop, take fewer rows, or use data=stream with a Parquet file",
            )
        for part in [part for part in rows if part != "train"]:
            self.tell_unseen(
                recipe, part, recipe.count_unseen({name: found[rows[part]] for name, found in filled.items()})
            )
        x = encode_sparse(recipe, filled) if self.is_sparse else recipe.encode(filled)
        if self.standardize:
            scaler = self.scaler(x[rows["train"]], known_weight)
            mean = np.zeros(len(recipe.features)) if self.is_sparse else scaler.mean_
            recipe = standardized(recipe, mean, scaler.scale_)
            if self.is_sparse:
                x = divided(x, scaler.scale_)
            else:
                x -= mean
                x /= scaler.scale_
        self.example_rows = table.features.iloc[rows["train"][:EXAMPLE_ROWS]]
        if table.offset_column is not None and table.offset_cells is not None:
            column = table.offset_column
            named = {"offset": column.name, "is_exposure": table.is_exposure}
            recipe = replace(recipe, columns=(*recipe.columns, column), **named)
            self.example_rows = self.example_rows.assign(**{column.name: table.offset_cells})
        if table.strata_column is not None and table.strata_cells is not None:
            self.strata_column, self.strata_names = table.strata_column, table.strata_names
            self.example_rows = self.example_rows.assign(**{table.strata_column.name: table.strata_cells})
        self.its_recipe = recipe
        return self.as_parts(x, replace(table.rows, offsets=table.offsets), weight)

    def count_events(self, event: np.ndarray, rows: Mapping[str, np.ndarray]) -> None:
        """Let each part count by its events. Raises InputError where a part has none."""
        self.total_weights = {name: float(event[index].sum()) for name, index in rows.items()}
        for name, count in self.total_weights.items():
            if not count:
                raise InputError(
                    f"data.event: none of the {len(rows[name])} {TITLES.get(name, name)} rows has an event, and "
                    "nothing can be compared; take fewer folds or larger parts, or another data.seed"
                )

    def tell_unseen(self, recipe: Recipe, part: str, counts: Mapping[str, Counter[str]]) -> None:
        """Note the levels of a part's rows that no training row had. Raises InputError if they are refused."""
        if not counts:
            return
        found = f"of the {TITLES.get(part, part)} rows {describe_unseen(counts)}"
        if recipe.unseen == "error":
            raise InputError(
                f"{found}; use data.unseen=zero to count each as none of the column's categories, or leave the column "
                "out with data.drop"
            )
        self.notes.append(
            f"{found}; each counts as none of the column's categories, and data.unseen=error refuses them."
        )

    def recipe(self) -> Recipe:
        return self.its_recipe

    def example(self) -> pd.DataFrame:
        return self.example_rows


def weighted_mean_and_deviation(values: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean and the standard deviation (1/n) of values [n, …] that count by weights [n]; each […]."""
    if weights is None:
        return values.mean(axis=0), values.std(axis=0)
    mean = np.average(values, axis=0, weights=weights)
    return mean, np.sqrt(np.average(np.square(values - mean), axis=0, weights=weights))


def learn_gap(
    column: Column, values: np.ndarray, train: np.ndarray, fills: bool, weight: np.ndarray | None = None
) -> Column:
    """Learn from the training rows what fills the gaps of numbers: their mean, in which they count by their weights.

    Raises InputError if no training row has a value.
    """
    if not fills or column.kind == "text":
        return column
    there = train[~np.isnan(values[train])]
    if not len(there):
        raise InputError(
            f"column {quoted(column.name)} has no value in any training row, so there is no mean to fill in; leave it "
            f"out with {dropping(column.name)}, or choose another data.seed"
        )
    mean = values[there].mean() if weight is None else np.average(values[there], weights=weight[there])
    return replace(column, gap=float(mean))


def learn_levels(column: Column, values: np.ndarray, date_parts: Sequence[str]) -> Column:
    """Learn a column's levels from the training values, and the first day of a date."""
    if column.kind not in ("date", "text"):
        return column
    start = float(np.floor(values.min())) if column.kind == "date" else 0.0
    return replace(column, start=start, levels=find_levels(column, values, date_parts))


def standardized(recipe: Recipe, means: np.ndarray, scales: np.ndarray) -> Recipe:
    """Give each feature of a recipe its mean and scale."""
    found = zip(recipe.features, means, scales, strict=True)
    return replace(
        recipe, features=tuple(replace(each, mean=float(mean), scale=float(scale)) for each, mean, scale in found)
    )


def check_range(name: str, values: np.ndarray) -> None:
    """Look whether the squares of numbers, of which losses are made, would be infinite or 0; NaN is a gap.

    Raises InputError if they would.
    """
    least, largest = np.nanmin(values), np.nanmax(values)
    if max(abs(least), abs(largest)) > LARGEST or 0 < largest - least < 1 / LARGEST:
        raise InputError(
            f"{name} goes from {least:g} to {largest:g}: numbers must be under {LARGEST:g}, and differ by more than "
            f"{1 / LARGEST:g}; write them in another unit"
        )


def name_features(features: Sequence[Feature]) -> tuple[str, ...]:
    """List the names of features. Raises InputError if two columns have a feature of one name."""
    found: dict[str, str] = {}
    for feature in features:
        if feature.name in found:
            raise InputError(
                f"columns {quoted(found[feature.name])} and {quoted(feature.column)} both have a feature called "
                f"{quoted(feature.name)}, since a category is called column_category; give one of them another name"
            )
        found[feature.name] = feature.column
    return tuple(found)
