"""What a journal tells of its run: its events one after the other, or at once what run it is and how it stands.

A start of a run looks at every journal that waits, so what run it is (`Story.of`) is told by its first line and by the
last lines of two kinds, which are found without reading the others.
"""

import json
import os
import stat
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from shrinkage.errors import InputError
from shrinkage.machine.process import Process, is_silent
from shrinkage.names import as_json

FORMAT = 1  # of a journal, in its first line; one more where an earlier version would go wrong with it
LINE = 4096  # bytes: the line of an end or of a resumption is shorter
BLOCK = 1 << 20  # bytes that are looked through at once


class NewerFormat(InputError):
    """A journal that a newer version has written, which this one would go wrong with."""


class Reader:
    """The reading side of a journal: each call of `events` yields what has been appended since the last one.

    An event whose handling raises is yielded again. damaged: how many lines were not what had been written.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.offset, self.damaged = path, 0, 0

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the events that have been appended since the last call, whole lines only."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # still being written, or torn by a crash
                event = read(line)
                if event is None:
                    self.damaged += 1
                else:
                    yield event
                self.offset += len(line)


def read(line: bytes) -> dict[str, Any] | None:
    """Decode the event of a line, whatever its line's end is; None where the line is not what was written."""
    checksum, _, text = line.rstrip(b"\r\n").partition(b" ")
    return json.loads(text.decode()) if checksum == b"%08x" % zlib.crc32(text) else None


def line_of(event: Mapping[str, object]) -> bytes:
    """Encode an event as a line."""
    text = as_json(event).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


@dataclass(slots=True)
class Story:
    """What a journal tells of its run so far, and where the run is to be.

    store, experiment: where it is meant for. parent: the id of the journal of the run that it stands under. adopt: the
    id of the store's run that it is to become. began and heartbeat, the last sign of life, are milliseconds since
    1970. status: RUNNING while there is no end. process: the one that the run has been in last.
    """

    path: Path
    id: str
    name: str
    store: str
    experiment: str
    folder: Path | None
    parent: str | None
    adopt: str | None
    began: int
    heartbeat: int
    status: str
    process: Process

    @classmethod
    def of(cls, path: Path) -> "Story":
        """Read what a journal tells. Raises InputError where it is none, and FileNotFoundError where there is no file.

        Among the errors is NewerFormat.
        """
        try:
            # Without waiting: a pipe by the name of a journal would wait for a writer.
            with FileIO(os.open(path, os.O_RDONLY | os.O_NONBLOCK)) as file:
                about = os.fstat(file.fileno())
                if not stat.S_ISREG(about.st_mode):
                    raise InputError(f"{path}: it is no file, and no journal; move it away")
                return cls.told(path, file, about.st_size, about.st_mtime_ns // 1_000_000)
        except FileNotFoundError:
            raise
        except OSError as error:
            why = error.strerror or error
            raise InputError(f"{path}: it cannot be read ({why}); mend that, or move it away") from error

    @classmethod
    def told(cls, path: Path, file: FileIO, size: int, heartbeat: int) -> "Story":
        """Read the same from an open file. Raises InputError."""
        head = file.read(min(size, BLOCK))
        header = read(head[: head.find(b"\n") + 1])
        if header is None or header.get("event") != "run":
            raise InputError(f"{path}: its first line, which says what run it is, is damaged; move the file away")
        if header.get("format", 1) not in range(1, FORMAT + 1):
            raise NewerFormat(
                f"{path}: a newer version has written it, in format {header['format']}, and this one reads {FORMAT}; "
                "it is left as it is: bring it in with that version"
            )
        end, resume = last(file, head, size)
        try:
            process = Process(**(header if resume is None else resume)["process"])
            folder = header["folder"]
            return cls(
                path,
                id=header["id"],
                name=header["name"],
                store=header["store"],
                experiment=header["experiment"],
                folder=None if folder is None else Path(folder),
                parent=header["parent"],
                adopt=header["adopt"],
                began=int(header["time"]),
                heartbeat=heartbeat,
                status="RUNNING" if end is None else end["status"],
                process=process,
            )
        except KeyError as error:
            raise InputError(f"{path}: its first line does not say {error}; move the file away") from None
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: its first line is none of a journal ({error}); move the file away") from None

    @property
    def is_silent(self) -> bool:
        """Whether the run has given no sign of life for long, on whatever host."""
        return is_silent(self.heartbeat)

    @property
    def is_alive(self) -> bool:
        """Whether the run may still be going on, here or on another host."""
        return self.status == "RUNNING" and not self.process.is_dead(self.heartbeat)


def last(file: FileIO, head: bytes, size: int) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Find the last end, if no run went on after it, and the last resume, of a file of this size that begins so."""
    ended: dict[str, Any] | None = None
    place = size
    while place > 0:
        start = max(0, place - BLOCK)
        block = head
        if size > len(head):
            file.seek(start)
            block = file.read(place - start + LINE)  # with what follows, so that each such line is whole in a block
        resumed, resume = last_within(block, b"resume")
        if ended is None:
            ended = last_within(block[max(resumed, 0) :], b"end")[1]
        if resume is not None:
            return ended, resume
        place = start
    return ended, None


def last_within(block: bytes, kind: bytes) -> tuple[int, dict[str, Any] | None]:
    """Find the last event of a kind in some of a journal's lines, the first and last of which may not be whole.

    Returns its place and the event; -1 and None where there is none.
    """
    mark, before = b' {"event": "%s"' % kind, len(block)  # as `Journal.append` writes it
    while (place := block.rfind(mark, 0, before)) >= 0:
        start, end = place - 8, block.find(b"\n", place) + 1
        event = read(block[start:end]) if start > 0 and block[start - 1 : start] == b"\n" and end else None
        if event is not None:
            return place, event
        before = place
    return -1, None
