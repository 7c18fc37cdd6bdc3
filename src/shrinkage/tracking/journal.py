"""The record of a run on the local disk: one file a run, one event a line, only ever appended to.

Training writes here and nowhere else, so it never waits for a database or a server; a writer process carries the
events to MLflow (`writer.py`) and, when all of it has arrived, moves the file into the run's own folder.

A line is a checksum and an event: eight hexadecimal digits, a space, a JSON object. Delivering a journal twice leaves
the store as delivering it once does.

    {"event": "run", "format": 1, "id": …, "time": …, "name": …, "tags": {…}, "parent": …, "adopt": …, "decided": …,
     "store": …, "experiment": …, "folder": …, "process": {…}}   always first
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
Times are milliseconds since 1970. The order of a journal is its lines', and its times follow it where a store goes by
them, however the clock is set meanwhile: a run ends after all else, and a value that replaces one is later. A later
version may add fields, which are passed over here; where it adds an event, or gives a field another meaning, format
grows, and the journal is left to that version.
"""

import fcntl
import os
import shutil
import sys
import time
import uuid
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

from shrinkage.errors import InputError
from shrinkage.machine import disk
from shrinkage.machine.clock import now
from shrinkage.machine.process import Process, died
from shrinkage.machine.secrets import masked, masked_values

from .story import FORMAT, Reader, Story, line_of

JOURNALS, SUFFIX = "journals", ".journal"  # the folder of those that wait, beside the store; their names' end
KEPT = f"run{SUFFIX}"  # its name in the run's own folder
NOT_ADOPTED = "shrinkage.not_adopted"  # the tag of a run that says why it is not the one of MLFLOW_RUN_ID


class Journal:
    """The writing side. An event is handed to the operating system before `append` returns.

    On a full disk events are held in memory, and written as soon as there is room.
    """

    def __init__(self, path: Path, id: str) -> None:
        self.path, self.id = path, id
        self.pending, self.gathering, self.is_begun = b"", False, False
        self.hindrance = ""  # why nothing could be written the last time
        self.latest = 0  # of all times so far
        self.has_params = False
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
        params: Mapping[str, object] | None = None,
    ) -> "Journal":
        """Begin a run's journal in a folder of journals; in the run's own folder it has the name of a kept one.

        home: the run's own folder. params: those that it begins with. Raises InputError where there is no room.
        """
        folder.mkdir(parents=True, exist_ok=True)
        identifier = uuid.uuid4().hex
        journal = cls(folder / (KEPT if folder == home else f"{identifier}{SUFFIX}"), identifier)
        with journal.gathered():
            journal.append(
                "run",
                format=FORMAT,
                id=identifier,
                time=journal.dated(),
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
            if params is not None:
                journal.params(params)
        if journal.pending:
            raise InputError(f"{folder}: there is no room for the record of a run; free some space on its disk")
        return journal

    @classmethod
    def resumed(cls, folder: Path | None, path: Path) -> "Journal":
        """Open the journal of a run that goes on in this process, and move it into a folder of journals.

        folder: None to leave it where it is. Raises InputError where it is still going on elsewhere.
        """
        with locked(path):
            story = Story.of(path)
            if story.is_alive:
                process = story.process
                raise InputError(
                    f"{story.name}: it is still running, as process {process.pid} on {process.host}; stop it first"
                )
            mend(path)
            journal = cls(path if folder is None else folder / f"{story.id}{SUFFIX}", story.id)
            journal.logged, journal.latest, journal.has_params = logged(path)
            if path != journal.path:
                journal.path.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(path, journal.path)
            if story.status == "RUNNING":  # it died, and nobody has said so
                journal.latest = died(journal.latest, story.heartbeat)
                journal.append("end", status="KILLED", time=journal.latest)
            journal.append("resume", time=journal.dated(), process=asdict(Process.this()))
        return journal

    @classmethod
    def ended(cls, folder: Path, path: Path) -> "Journal":
        """Open the journal of a run that has ended, and move it into a folder of journals.

        Raises InputError if it cannot be read.
        """
        with locked(path):
            journal = cls(folder / f"{Story.of(path).id}{SUFFIX}", Story.of(path).id)
            folder.mkdir(parents=True, exist_ok=True)
            shutil.move(path, journal.path)
        return journal

    def dated(self) -> int:
        """Date an event: now, and never earlier than one before it."""
        self.latest = max(self.latest, now())
        return self.latest

    def append(self, event: str, **fields: object) -> None:
        """Append an event; it is handed to the operating system, or held in memory while the disk is full."""
        self.pending += line_of({"event": event, **fields})
        if not self.gathering:
            self.write()

    @contextmanager
    def gathered(self) -> Generator[None]:
        """Hand the events of a block to the operating system together, when it is left; the run's end at once."""
        before, self.gathering = self.gathering, True
        try:
            yield
        finally:
            self.gathering = before
            if not before:
                self.write()

    def write(self) -> None:
        """Write what is pending, as much as there is room for."""
        if not self.pending:
            return
        try:
            # Opened anew each time: thousands of runs may be going on at once.
            with open(self.path, "ab", buffering=0, opener=self.opened) as file:
                while self.pending:
                    self.pending = self.pending[file.write(self.pending) :]
                    self.is_begun = True
        except OSError as error:
            self.hindrance = error.strerror or str(error)
            warn_once(f"note: {self.path}: {self.hindrance}; training goes on, and its record is held in memory")

    def opened(self, path: str, flags: int) -> int:
        """Open the file. A journal that has lost its file is not begun again: its first lines would be missing."""
        return os.open(path, flags & ~os.O_CREAT if self.is_begun else flags, 0o666)

    def params(self, params: Mapping[str, object]) -> None:
        """Record params as text, without secrets."""
        self.has_params = True
        self.append("params", params=masked_values(params))

    def tags(self, tags: Mapping[str, object]) -> None:
        """Record tags as text, without secrets."""
        self.append("tags", tags=masked_values(tags))

    def metrics(self, metrics: dict[str, float], step: int, time: int | None = None) -> None:
        """Record metrics of a step, measured now or at a time given.

        What a resumed run measures a second time is left out.
        """
        if step in self.logged:
            metrics = {name: value for name, value in metrics.items() if name not in self.logged[step]}
        if metrics:
            time = self.dated() if time is None else time
            self.latest = max(self.latest, time)
            self.append("metrics", step=step, time=time, metrics=metrics)

    def replace(self, metrics: Mapping[str, float], step: int) -> None:
        """Record metrics that replace those of a step: of several values a store takes the latest."""
        self.latest = self.dated() + 1
        self.append("metrics", step=step, time=self.latest, metrics=dict(metrics))

    def artifact(self, path: Path, folder: str = "") -> None:
        """Record a local file, by a path without links, to be stored under a folder of the run's artifacts."""
        self.append("artifact", path=str(path.absolute()), folder=folder)

    def model(self, path: Path, register: str | None, metrics: Mapping[str, float] = MappingProxyType({})) -> None:
        """Record a model that `export.write_model` has written, to be logged and registered under a name.

        metrics: those of the run that are the model's; with early stopping they are not the last ones.
        """
        self.append("model", path=str(path.resolve()), register=register, metrics=dict(metrics))

    def end(self, status: str) -> None:
        """Record the run's end.

        Raises InputError where what is pending cannot be written for half a minute, as on a full disk.
        """
        self.append("end", status=status, time=self.dated())
        self.write()
        deadline = time.monotonic() + disk.SECONDS
        while self.pending and time.monotonic() < deadline:
            time.sleep(0.5)
            self.write()
        if self.pending:
            lines = self.pending.count(b"\n")
            lost = f"the last {lines} events of the record are lost"
            raise InputError(
                f"{self.path} cannot be written ({self.hindrance}), and {lost}; mend that, then resume or run again"
            )


@contextmanager
def locked(path: Path, wait: bool = True) -> Generator[None]:
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


def logged(path: Path) -> tuple[dict[int, set[str]], int, bool]:
    """Read which metrics of each step a journal has, the latest of its times, and whether it has params."""
    found: dict[int, set[str]] = {}
    latest, has_params = 0, False
    for event in Reader(path).events():
        latest = max(latest, event.get("time", 0))
        has_params = has_params or event["event"] == "params"
        if event["event"] == "metrics":
            found.setdefault(event["step"], set()).update(event["metrics"])
    return found, latest, has_params


def end_for(path: Path, status: str, time: int) -> None:
    """Write the end of a run whose process died without a word, with the checkpoints that it has left."""
    mend(path)
    story = Story.of(path)
    journal = Journal(path, story.id)
    if story.folder is not None:
        for checkpoint in checkpoints_in(story.folder):
            journal.artifact(checkpoint, "checkpoints")
    journal.append("end", status=status, time=time)


def checkpoints_in(folder: Path) -> list[Path]:
    """List the checkpoints that a run has in its folder."""
    place = folder / "checkpoints"
    names = sorted(os.listdir(place)) if place.is_dir() else []  # noqa: PTH208 globbing costs five times as much
    return [place / name for name in names if name.endswith(".ckpt")]


warned: set[str] = set()


def warn_once(words: str) -> None:
    """Print words on stderr, the first time that they are said."""
    if words not in warned:
        warned.add(words)
        print(words, file=sys.stderr)
