"""What is printed is not the run: what cannot be printed, since nobody reads it or a disk is full, is dropped."""

import io
import select
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Forgiving(io.FileIO):
    """A stream that takes everything; what cannot be written to it is lost."""

    def write(self, b: "ReadableBuffer", /) -> int:
        try:
            while (written := super().write(b)) is None:  # it would have to wait
                select.select([], [self.fileno()], [])
            return written
        except OSError:
            return memoryview(b).nbytes


def print_what_can_be_printed() -> None:
    """Have standard output and standard error drop what cannot be written to them, and escape what they cannot encode.

    May be done again. Streams that a program has put in their places stay as they are.
    """
    if sys.stdout is sys.__stdout__:
        sys.stdout = forgiving(sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = forgiving(sys.stderr)


def forgiving(stream: TextIO) -> TextIO:
    """Open a standard stream once more, so that it takes everything; one that is closed, or no file, stays as it is."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    with suppress(OSError):
        stream.flush()
    file = Forgiving(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        file if stream.write_through else io.BufferedWriter(file),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
