"""The record of a run on the local disk: one file a run, one event a line, only ever appended to.

Training writes here and nowhere else, so it never waits for a database or a server; a writer process carries the
events to MLflow (`writer.py`) and, when all of it has arrived, moves the file into the run's own folder.

A line is a checksum and an event: eight hexadecimal digits, a space, a JSON object. Delivering a journal twice leaves
the store as delivering it once does.

    {"event": "run", "id": …, "time": …, "name": …, "tags": {…}, "parent": …, "adopt": …, "decided": …, "store": …,
     "experiment": …, "folder": …, "process": {…}}   always first
    {"event": "params", "params": {…}}          {"event": "tags", "tags": {…}}
    {"event": "metrics", "step": …, "time": …, "metrics": {…}}
    {"event": "dataset", "name": …, "digest": …, "context": …, "source": {…}, "profile": {…}}
    {"event": "artifact", "path": …, "folder": …}
    {"event": "model", "path": …, "register": …, "metrics": {…}}
    {"event": "end", "status": "FINISHED" | "FAILED" | "KILLED", "time": …}
    {"event": "resume", "time": …, "process": {…}}   only after an end; others follow

A model's path is the folder that `export.write_model` has filled, register the name to register it under, or null,
metrics those of the run that are the model's. parent is the id of the journal of the run that this one stands under,
adopt the store's id of a run which is there already and is to become this one; decided is false where the store could
not be asked whether it may (`adoption.py`). store is where it is meant for, without a password; process is a `Process`.
Times are milliseconds since 1970.
"""

import fcntl
import json
import shutil
import sys
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

from shrinkage.errors import InputError
from shrinkage.machine import disk
from shrinkage.machine.clock import now
from shrinkage.machine.process import SILENT_MILLISECONDS, Process
from shrinkage.machine.secrets import masked, masked_values

JOURNALS, SUFFIX = "journals", ".journal"  # the folder of those that wait, beside the store; their names' end
KEPT = f"run{SUFFIX}"  # its name in the run's own folder
NOT_ADOPTED = "shrinkage.not_adopted"  # the tag of a run that says why it is not the one of MLFLOW_RUN_ID


class Journal:
    """The writing side. An event is handed to the operating system before `append` returns.

    On a full disk events are held in memory, and written as soon as there is room.
    """

    def __init__(self, path: Path, id: str) -> None:
        self.path, self.id = path, id
        self.pending = b""
        self.logged: dict[int, set[str]] = {}  # of a resumed run: the metrics of each step that are there already

    @classmethod
    def new(
        cls,
        folder: Path,
        name: str,
        tags: Mapping[str, str],
        *,
        parent: str | None = None,
        adopt: str | None = None,
        decided: bool = False,
        store: str = "",
        experiment: str = "",
        home: Path | None = None,
    ) -> "Journal":
        """Begin a run's journal in a folder of journals.

        home: the run's own folder. Raises InputError where there is no room.
        """
        folder.mkdir(parents=True, exist_ok=True)
        identifier = uuid.uuid4().hex
        journal = cls(folder / f"{identifier}{SUFFIX}", identifier)
        journal.append(
            "run",
            id=identifier,
            time=now(),
            name=masked(name),
            tags=masked_values(tags),
            parent=parent,
            adopt=adopt,
            decided=decided,
            store=masked(store),
            experiment=experiment,
            folder=None if home is None else str(home),
            process=asdict(Process.this()),
        )
        if journal.pending:
            raise InputError(f"{folder}: there is no room for the record of a run; free some space on its disk")
        return journal

    @classmethod
    def resumed(cls, folder: Path, path: Path) -> "Journal":
        """Open the journal of a run that goes on in this process.

        Raises InputError where it is still going on elsewhere.
        """
        with locked(path):
            story = Story.of(path)
            if story.is_alive:
                process = story.process
                raise InputError(
                    f"{story.name}: it is still running, as process {process.pid} on {process.host}; stop it first"
                )
            folder.mkdir(parents=True, exist_ok=True)
            mend(path)
            journal = cls(folder / f"{story.id}{SUFFIX}", story.id)
            if path != journal.path:
                shutil.move(path, journal.path)
            if story.status == "RUNNING":  # it died, and nobody has said so
                journal.append("end", status="KILLED", time=story.heartbeat)
            journal.append("resume", time=now(), process=asdict(Process.this()))
        journal.logged = story.logged
        return journal

    def append(self, event: str, **fields: object) -> None:
        """Append an event; it is handed to the operating system, or held in memory while the disk is full."""
        text = json.dumps({"event": event, **fields}, ensure_ascii=False).encode()
        self.pending += b"%08x %s\n" % (zlib.crc32(text), text)
        self.write()

    def write(self) -> None:
        """Write what is pending, as much as there is room for."""
        try:
            # Opened anew each time: thousands of runs may be going on at once.
            with self.path.open("ab", buffering=0) as file:
                while self.pending:
                    self.pending = self.pending[file.write(self.pending) :]
        except OSError as error:
            warn_once(f"note: {self.path}: {error.strerror}; training goes on, and its record is held in memory")

    def params(self, params: dict[str, object]) -> None:
        """Record params as text, without secrets."""
        self.append("params", params=masked_values(params))

    def tags(self, tags: dict[str, object]) -> None:
        """Record tags as text, without secrets."""
        self.append("tags", tags=masked_values(tags))

    def metrics(self, metrics: dict[str, float], step: int, time: int | None = None) -> None:
        """Record metrics of a step, measured now or at a time given.

        What a resumed run measures a second time is left out.
        """
        if step in self.logged:
            metrics = {name: value for name, value in metrics.items() if name not in self.logged[step]}
        if metrics:
            self.append("metrics", step=step, time=time or now(), metrics=metrics)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Record a local file, to be stored under a folder of the run's artifacts."""
        self.append("artifact", path=str(path.resolve()), folder=folder)

    def model(self, path: Path, register: str | None, metrics: Mapping[str, float] = MappingProxyType({})) -> None:
        """Record a model that `export.write_model` has written, to be logged and registered under a name.

        metrics: those of the run that are the model's; with early stopping they are not the last ones.
        """
        self.append("model", path=str(path.resolve()), register=register, metrics=dict(metrics))

    def end(self, status: str) -> None:
        """Record the run's end.

        Raises InputError where a full disk has no room for what is pending, after half a minute.
        """
        self.append("end", status=status, time=now())
        deadline = time.monotonic() + disk.SECONDS
        while self.pending and time.monotonic() < deadline:
            time.sleep(0.5)
            self.write()
        if self.pending:
            lines = self.pending.count(b"\n")
            raise InputError(
                f"{self.path}: no room on the disk for the last {lines} events of the record, which are lost; free "
                "some space and run again"
            )


class Reader:
    """The reading side of a journal: each call of `events` yields what has been appended since the last one.

    An event whose handling raises is yielded again. damaged: how many lines were not what had been written.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.offset, self.damaged = path, 0, 0

    def events(self) -> Iterator[dict]:
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


def read(line: bytes) -> dict | None:
    """Decode the event of a line; None where the line is not what was written."""
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    return json.loads(text) if checksum == b"%08x" % zlib.crc32(text) else None


class Story:
    """What a journal tells of its run so far.

    The header's fields; status, RUNNING while there is no end; heartbeat, the last sign of life; logged, the names of
    the metrics of each step.
    """

    def __init__(self, path: Path, header: dict) -> None:
        self.path, self.header = path, header
        self.id, self.name, self.store = header["id"], header["name"], header["store"]
        self.folder = None if header["folder"] is None else Path(header["folder"])
        self.process = Process(**header["process"])
        self.status = "RUNNING"
        self.logged: dict[int, set[str]] = {}
        self.heartbeat = path.stat().st_mtime_ns // 1_000_000

    @classmethod
    def of(cls, path: Path) -> "Story":
        """Read a journal to its end. Raises InputError where its first line is missing or damaged."""
        story = cls.of_header(path)
        for event in Reader(path).events():
            match event["event"]:
                case "metrics":
                    story.logged.setdefault(event["step"], set()).update(event["metrics"])
                case "end":
                    story.status = event["status"]
                case "resume":
                    story.status, story.process = "RUNNING", Process(**event["process"])
        return story

    @classmethod
    def of_header(cls, path: Path) -> "Story":
        """Read a journal's first line alone, which says what run it is. Raises InputError where it is damaged."""
        with path.open("rb") as file:
            line = file.readline()
        header = read(line) if line.endswith(b"\n") else None
        if header is None or header.get("event") != "run":
            raise InputError(f"{path}: its first line, which says what run it is, is damaged; move the file away")
        return cls(path, header)

    @property
    def is_silent(self) -> bool:
        """Whether the run has given no sign of life for long, on whatever host."""
        return now() - self.heartbeat > SILENT_MILLISECONDS

    @property
    def is_alive(self) -> bool:
        """Whether the run may still be going on, here or on another host."""
        return self.status == "RUNNING" and not self.process.is_dead(self.heartbeat)


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold a journal's lock: one process at a time delivers it, ends it for a dead process, or moves it.

    Raises FileNotFoundError where it is gone, moved into its run's folder, and BlockingIOError without waiting.
    """
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        try:
            if not path.exists():
                raise FileNotFoundError(path)
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


def mend(path: Path) -> None:
    """Cut off a last line that was torn by a crash, so that others can be appended."""
    content = path.read_bytes()
    if not content.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


def end_for(path: Path, status: str, time: int) -> None:
    """Write the end of a run whose process died without a word, with the checkpoints that it has left."""
    mend(path)
    story = Story.of_header(path)
    journal = Journal(path, story.id)
    if story.folder is not None:
        for checkpoint in sorted((story.folder / "checkpoints").glob("*.ckpt")):
            journal.artifact(checkpoint, "checkpoints")
    journal.append("end", status=status, time=time)


warned: set[str] = set()


def warn_once(words: str) -> None:
    """Print words on stderr, the first time that they are said."""
    if words not in warned:
        warned.add(words)
        print(words, file=sys.stderr)
