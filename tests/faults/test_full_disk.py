"""A disk that has room for a part of a journal's last line: the line is whole in the end, or is as if never written."""

import os
import random
import threading
from pathlib import Path

import pytest
from conftest import ROUNDS
from faults import tmpfs

from shrinkage.errors import InputError
from shrinkage.machine import disk
from shrinkage.machine.clock import now
from shrinkage.tracking.journal import Journal, end_for
from shrinkage.tracking.story import Reader, line_of

pytestmark = pytest.mark.xdist_group("faults")

PAGE = os.sysconf("SC_PAGE_SIZE")  # by which a disk in memory gives room
LAST = len(line_of({"event": "end", "status": "FINISHED", "time": now()}))


def events(path: Path) -> list[str]:
    reader = Reader(path)
    found = [event["event"] for event in reader.events()]
    assert reader.damaged == 0
    return found


def fill(folder: Path) -> Path:
    """Take all the room that there is, and return the file that has it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(b"\0" * PAGE)
    return filler


@pytest.mark.parametrize("number", range(ROUNDS))
@pytest.mark.parametrize("is_freed", [True, False])
def test_room_for_a_part_of_the_last_line(
    is_freed: bool, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tmpfs(tmp_path / "disk", "1m") as folder:
        journal = Journal.new(folder, "a run", {})
        journal.metrics({"loss": 1.0}, 0)
        room = random.randrange(LAST)
        empty = len(line_of({"event": "tags", "tags": {"note": ""}}))
        journal.tags({"note": "x" * ((-room - journal.path.stat().st_size - empty) % PAGE)})
        assert (journal.path.stat().st_size + room) % PAGE == 0
        filler = fill(folder)
        if is_freed:
            threading.Timer(0.2, filler.unlink).start()
            journal.end("FINISHED")
        else:
            monkeypatch.setattr(disk, "SECONDS", 0.1)
            with pytest.raises(InputError, match="the last 1 events of the record are lost"):
                journal.end("FINISHED")
            assert events(journal.path) == ["run", "metrics", "tags"]
            filler.unlink()
            end_for(journal.path, "KILLED", now())  # as the next run, sync or writer does
        *_, last = Reader(journal.path).events()
        assert events(journal.path) == ["run", "metrics", "tags", "end"]
        assert last["status"] == ("FINISHED" if is_freed else "KILLED")
