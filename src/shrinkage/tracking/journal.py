"""The record of a run on the local disk: one file a run, one event a line, only ever appended to.

Training writes here and nowhere else, so it never waits for a database or a server; a writer process carries the
events to MLflow (`writer.py`) and deletes the file when all of it has arrived.

    {"event": "run", "id": …, "time": …, "name": …, "tags": {…}, "parent": …, "adopt": …}   always first
    {"event": "params", "params": {…}}          {"event": "tags", "tags": {…}}
    {"event": "metrics", "step": …, "time": …, "metrics": {…}}
    {"event": "dataset", "name": …, "digest": …, "context": …, "source": {…}, "profile": {…}}
    {"event": "artifact", "path": …, "folder": …}
    {"event": "model", "path": …, "register": …, "metrics": {…}}
    {"event": "end", "status": "FINISHED" | "FAILED" | "KILLED", "time": …}   always last

A model's path is the folder that `export.write_model` has filled, register the name to register it under, or null,
metrics those of the run that are the model's. parent is the id of the run that this one stands under, adopt that of one
which is there already and is to be this one.
Times are milliseconds since 1970.
"""

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType


def now() -> int:
    return time.time_ns() // 1_000_000


class Journal:
    """The writing side. An event is handed to the operating system before `append` returns."""

    def __init__(
        self, folder: Path, name: str, tags: dict[str, str], parent: str | None = None, adopt: str | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.id = uuid.uuid4().hex
        self.path = folder / f"{self.id}.jsonl"
        self.append("run", id=self.id, time=now(), name=name, tags=tags, parent=parent, adopt=adopt)

    def append(self, event: str, **fields: object) -> None:
        # Opened anew each time: thousands of runs may be going on at once.
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": event, **fields}, ensure_ascii=False) + "\n")

    def params(self, params: dict[str, object]) -> None:
        self.append("params", params={name: str(value) for name, value in params.items()})

    def tags(self, tags: dict[str, object]) -> None:
        self.append("tags", tags={name: str(value) for name, value in tags.items()})

    def metrics(self, metrics: dict[str, float], step: int, time: int | None = None) -> None:
        """Measured now, or at a time given."""
        self.append("metrics", step=step, time=time or now(), metrics=metrics)

    def artifact(self, path: Path, folder: str = "") -> None:
        """A local file, to be stored under the folder of the run's artifacts."""
        self.append("artifact", path=str(path.resolve()), folder=folder)

    def model(self, path: Path, register: str | None, metrics: Mapping[str, float] = MappingProxyType({})) -> None:
        """What `export.write_model` has written, to be logged as a model and registered under a name.

        metrics: those of the run that are the model's; with early stopping they are not the last ones.
        """
        self.append("model", path=str(path.resolve()), register=register, metrics=dict(metrics))

    def end(self, status: str) -> None:
        self.append("end", status=status, time=now())


class Reader:
    """The reading side: each call of `events` yields what has been appended since the last one."""

    def __init__(self, path: Path) -> None:
        self.path, self.offset = path, 0

    def events(self) -> Iterator[dict]:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # still being written, or torn by a crash
                self.offset += len(line)
                yield json.loads(line)
