"""Tables for CSV files in which a spreadsheet finds no formula."""

import pandas as pd

from shrinkage.names import in_csv


def csv_safe(table: pd.DataFrame) -> pd.DataFrame:
    """Escape the names of columns and the cells of text, for `to_csv`; numbers stay as they are."""
    safe = table.rename(columns=lambda name: in_csv(str(name)))
    for name, column in safe.items():
        if not pd.api.types.is_numeric_dtype(column):
            safe[name] = column.map(lambda cell: in_csv(cell) if isinstance(cell, str) else cell)
    return safe
