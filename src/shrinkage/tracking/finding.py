"""Finds runs in a store, in the way that is fastest there."""

from collections.abc import Callable

from shrinkage.machine.imports import importing_much

from .source import Found, Source


def find(uri: str, target: str, told: Callable[[int], None] = lambda count: None) -> tuple[Found, Source]:
    """Find runs, and where to read more of them: in a SQLite store's own file, or else by MLflow.

    Raises InputError for what is not there, StoreAway and StoreRefuses as `open_to_read` does.
    """
    from .read_file import find_in_file

    in_file = find_in_file(uri, target, told)
    if in_file is not None:
        return in_file
    with importing_much():  # MLflow takes two seconds, which a file can do without
        from . import read

    client = read.open_to_read(uri)
    return read.find(client, uri, target, told), read.StoreSource(client)
