"""What a table of numbers takes, before it is made."""

import psutil

from shrinkage.errors import InputError

COPIES = 3  # as it is made, as it is split, and in the precision of the training


def check_memory(rows: int, columns: int, way_out: str, copies: int = COPIES) -> None:
    """Look whether so many copies of rows × columns numbers of 8 bytes fit into the memory that is free.

    Raises InputError if they do not.
    """
    needed, free = copies * 8 * rows * columns, psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"{rows:,} rows of {columns:,} numbers need {needed // 10**9:,} GB of memory and {free // 10**9:,} GB are "
            f"free; {way_out}"
        )
