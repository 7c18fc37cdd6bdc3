"""A data set that is in memory."""

from dataclasses import replace

import numpy as np
import pandas as pd

from shrinkage.data.tabular import Table, TabularData

VISITOR, PAGE = 4, 6


class Visits(TabularData):
    """Visits of pages: four numbers of the visitor, six of the page, and how long the visitor stayed.

    Split, folds, refit and standardisation are those of every table. flat: the ten numbers as one row, for models that
    read rows of numbers; else a batch is a dict with the two inputs.
    """

    def __init__(self, *, flat: bool, **settings):
        super().__init__(**settings)
        self.flat = flat

    def load(self):
        draw = np.random.default_rng(7)
        x = draw.normal(size=(240, VISITOR + PAGE))
        stay = x[:, 0] * x[:, VISITOR] + 0.5 * x[:, 1] + 0.2 * draw.standard_t(3, size=240)
        names = [f"visitor{number}" for number in range(VISITOR)] + [f"page{number}" for number in range(PAGE)]
        return Table(pd.DataFrame(x, columns=names), stay)

    def make_parts(self):
        parts = super().make_parts()
        if self.flat:
            return parts
        return {
            name: replace(part, x={"visitor": part.x[:, :VISITOR], "page": part.x[:, VISITOR:]})
            for name, part in parts.items()
        }
