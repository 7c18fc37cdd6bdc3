"""What has to be written, on a disk that may be full for a while."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from shrinkage.errors import InputError

SECONDS = 30.0  # for which a last write is tried


def patiently(write: Callable[[], object], path: Path) -> None:
    """Write a file, in a folder that may be missing, and try again for half a minute where that fails.

    Raises InputError in the end.
    """
    start, failing = time.monotonic(), False
    while True:
        try:
            write_into(path.parent, write)
            return
        except OSError as error:
            if time.monotonic() - start >= SECONDS:
                raise InputError(
                    f"{path} cannot be written ({error.strerror}), and what it should keep is lost; free space there, "
                    "then resume"
                ) from error
            if not failing:
                print(
                    f"note: {path} cannot be written ({error.strerror}); tried again for {SECONDS:g} s", file=sys.stderr
                )
            failing = True
            time.sleep(min(1.0, SECONDS / 10))


def write_into(folder: Path, write: Callable[[], object]) -> None:
    """Write into a folder, and make it only where it is missing: to look for it costs as much as a small file."""
    try:
        write()
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        write()
