"""The training side of the writer process: start it, wait for it, hear its answers."""

import functools
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Container
from pathlib import Path

from shrinkage.errors import InputError

from .journal import Journal
from .location import run_page, runs_page, sqlite_path, without_password

# No child of this process, so that whoever kills this one with all its children (joblib does) leaves it to end the run.
DETACHED_WRITER = "import os; os.fork() and os._exit(0); from shrinkage.tracking.writer import main; main()"
FIRST_ANSWER_SECONDS = 120.0  # a new store takes MLflow's migrations, and its turn behind other first users
SILENCE_SECONDS = 60.0


@functools.cache
def connect(uri: str, experiment: str, home: Path, number: int) -> "Client":
    """The writer process of this number for a store; it starts now and is ready later. One, 0, serves a single run."""
    return Client(uri, experiment, home)


class Client:
    def __init__(self, uri: str, experiment: str, home: Path) -> None:
        self.uri = without_password(uri)
        self.journals = home / "journals"
        settings = {"uri": uri, "experiment": experiment, "artifacts": str(home / "mlartifacts")}
        self.errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 it lives as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-c", DETACHED_WRITER, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=writer_environment(),
            start_new_session=True,  # so that Ctrl-C at a terminal does not reach it
        )
        self.answers: queue.Queue[dict | None] = queue.Queue()
        self.opened: dict[str, dict] = {}
        self.closed: set[str] = set()
        self.undelivered: dict[str, str] = {}
        self.models: dict[str, dict[str, str]] = {}  # by journal: uri, registered and error, those that there are
        self.is_ready = False
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self) -> None:
        for line in self.process.stdout:
            self.answers.put(json.loads(line))
        self.answers.put(None)
        self.process.wait()

    def hear(self, seconds: float) -> None:
        """Take in one answer. Raises InputError where the store refuses, TrackingError where the writer is gone."""
        try:
            answer = self.answers.get(timeout=seconds)
        except queue.Empty:
            raise TrackingError(f"the store {self.uri} has not answered for {seconds:.0f} s") from None
        if answer is None:
            self.answers.put(None)
            self.errors.seek(0)
            raise TrackingError(f"the writer to {self.uri} stopped: {self.errors.read()[-2000:] or 'without a word'}")
        if "refused" in answer:
            raise InputError(answer["refused"])
        if "failed" in answer:
            raise TrackingError(f"the store {self.uri} failed: {answer['failed']}")
        if "undelivered" in answer:
            self.undelivered[answer["undelivered"]] = answer["reason"]
        elif "opened" in answer:
            self.opened[answer["opened"]] = answer
        elif "model" in answer:
            self.models[answer.pop("model")] = answer
        elif "closed" in answer:
            self.closed.add(answer["closed"])
        else:
            self.is_ready = True

    def wait_until_ready(self) -> None:
        while not self.is_ready:
            self.hear(FIRST_ANSWER_SECONDS)

    def begin(self, name: str, tags: dict[str, str], *, parent: str | None = None, adopt: str | None = None) -> Journal:
        """A new run's journal, which the writer follows from now on."""
        try:
            journal = Journal(self.journals, name, tags, parent, adopt)
        except OSError as error:
            raise InputError(
                f"{self.journals} cannot be written ({error.strerror}): each run keeps its record there first; "
                "make it writable, or run from a copy that is"
            ) from error
        self.follow(journal)
        return journal

    def follow(self, journal: Journal) -> None:
        """Have the writer look at a journal now."""
        try:
            self.process.stdin.write(f"{journal.path}\n")
            self.process.stdin.flush()
        except OSError:
            pass  # the writer is gone; whoever waits for it hears why

    def run_id(self, journal: Journal) -> str:
        """A run's id in the store, as soon as it is there."""
        self.wait(journal, self.opened)
        return self.opened[journal.id]["run_id"]

    def end(self, journal: Journal, status: str) -> None:
        """End a run; the writer goes on with it."""
        journal.end(status)
        self.follow(journal)

    def wait_for(self, journal: Journal) -> None:
        """Until all of an ended run is in the store."""
        self.wait(journal, self.closed)
        self.closed.discard(journal.id)

    def wait(self, journal: Journal, answered: Container[str]) -> None:
        """Until the writer has answered for a journal."""
        while journal.id not in answered:
            if journal.id in self.undelivered:
                raise TrackingError(
                    f"the store {self.uri} did not take the run ({self.undelivered[journal.id]}); "
                    f"its record lies in {journal.path}"
                )
            self.hear(SILENCE_SECONDS)

    def page(self, journal: Journal, file: str | None = None) -> str:
        """A run on MLflow's page, or a file among its artifacts, from the page's root."""
        answer = self.opened[journal.id]
        return run_page(answer["experiment_id"], answer["run_id"], file)

    def runs_page(self, journal: Journal) -> str:
        """The runs of a run's experiment, sorted by λ."""
        return runs_page(self.opened[journal.id]["experiment_id"])

    def where(self, journal: Journal) -> str:
        """Where a run is and how to look at it."""
        answer = self.opened[journal.id]
        page = self.page(journal)
        if self.uri.startswith("http"):
            return f"Run {answer['run_id']}: {self.uri.rstrip('/')}/{page}"
        command = "mlflow ui" if self.is_beside else f"mlflow ui --backend-store-uri {self.uri}"
        return f"Run {answer['run_id']} in {self.uri}\nTo look at it: {command}, then http://127.0.0.1:5000/{page}"

    def how_to_predict(self, model: str) -> str:
        """What to do with a registered model."""
        command = f"mlflow models predict --env-manager local -m {model} -t csv -i rows.csv"
        return f"The model is {model}: " + ("" if self.is_beside else f"MLFLOW_TRACKING_URI={self.uri} ") + command

    @property
    def is_beside(self) -> bool:
        """Whether MLflow finds the store by itself from where this process was started."""
        database = sqlite_path(self.uri)
        return database is not None and database.name == "mlflow.db" and database.parent.resolve() == Path.cwd()


class TrackingError(Exception):
    """The store cannot be reached; what was recorded lies in the journal."""


def writer_environment() -> dict[str, str]:
    environment = dict(os.environ)
    # Nothing leaves this machine unless the user has asked for it.
    environment.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # A lock file in the current folder is not what a logged model needs.
    environment.setdefault("MLFLOW_UV_AUTO_DETECT", "false")
    environment.pop("MLFLOW_RUN_ID", None)
    environment["PYTHONIOENCODING"] = "utf-8"
    return environment
