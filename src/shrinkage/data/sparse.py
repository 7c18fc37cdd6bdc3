"""Features of which most are zero, as sparse matrices: how they are made of columns, and how they are scaled."""

from collections.abc import Mapping
from itertools import groupby

import numpy as np
import pandas as pd
from scipy.sparse import coo_array, csr_array

from .recipe import Recipe


def encode_sparse(recipe: Recipe, values: Mapping[str, np.ndarray]) -> csr_array:
    """Make what `Recipe.encode` makes of values without gaps, and write no zero: float64 [rows, features].

    The features have neither means nor scales yet.
    """
    columns, n = {column.name: column for column in recipe.columns}, len(next(iter(values.values())))
    rows, places, numbers = [], [], []
    numbered = enumerate(recipe.features)
    for (name, part, is_category), group in groupby(
        numbered, lambda each: (each[1].column, each[1].part, each[1].category is not None)
    ):
        found, features = columns[name].part(values[name], part), list(group)
        if is_category:
            levels = pd.Index(columns[name].levels[part], dtype=object)
            place_of = np.full(len(levels) + 1, -1)  # the last is that of a level that is unseen
            place_of[levels.get_indexer([feature.category for _, feature in features])] = [at for at, _ in features]
            place = place_of[levels.get_indexer(found)]
            number = np.ones(n)
        else:
            place, number = np.full(n, features[0][0]), np.asarray(found, dtype=np.float64)
        there = np.flatnonzero((place >= 0) & (number != 0))
        rows.append(there)
        places.append(place[there])
        numbers.append(number[there])
    at = np.concatenate(rows), np.concatenate(places)
    return csr_array(coo_array((np.concatenate(numbers), at), shape=(n, len(recipe.features))))


def divided(x: csr_array, scale: np.ndarray) -> csr_array:
    """Divide each column of x [n, p] by a number of its own, [p]."""
    return csr_array((x.data / scale[x.indices], x.indices, x.indptr), shape=x.shape)
