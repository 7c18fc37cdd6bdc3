"""Finds the columns that the settings name among those of the file."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from shrinkage.errors import InputError

from .quoting import LENGTH, dropping, override, shown

LISTED = 20  # the most columns that a message names


def find_columns(named: Sequence[tuple[str, str]], columns: Sequence[str], path: Path) -> list[str]:
    """Find the columns that settings name, by their names, or else by their names without blanks at the ends.

    named: the key of each setting after `data.`, and the column that it names. path: of the file. Raises InputError for
    the first column that is not there, or is named by two settings.
    """
    found: dict[str, str] = {}
    names = []
    for key, column in named:
        name = find_column(key, column, columns, path)
        if found.setdefault(name, key) != key:
            raise InputError(
                f"data.{found[name]} and data.{key} are both {shown(name)}: a column has one use; choose "
                "another for one of them"
            )
        names.append(name)
    return names


def find_column(key: str, column: str, columns: Sequence[str], path: Path) -> str:
    """Find the column of this name, blanks at the ends apart. Raises InputError if there is none."""
    if column in columns:
        return column
    close = [name for name in columns if name.strip() == column.strip()]
    if len(close) == 1:
        return close[0]
    raise InputError(describe_absent(key, column, columns, path))


def describe_absent(key: str, column: str, columns: Sequence[str], path: Path) -> str:
    """Say that a column is not there, and which one may be meant."""
    close = difflib.get_close_matches(column, columns, n=1) or [
        name for name in columns if name.strip().casefold() == column.strip().casefold()
    ]
    names = [shown(name, LENGTH) for name in columns[:LISTED]]
    listed = ", ".join(names) + (f", … ({len(columns)} in all)" if len(columns) > LISTED else "")
    way_out = "choose one of them"
    if close:
        way_out = f"did you mean {dropping(close[0]) if key == 'drop' else override(f'data.{key}', close[0])}?"
    if len(columns) == 1 and not columns[0].isidentifier():
        way_out = "if its cells are separated by another sign, say it, as in data.separator=tab"
    return f"data.{key}={shown(column)}: {shown(path)} has no such column, it has {listed}; {way_out}"
