"""The training side of the writer process: start it, wait for it, hear its answers."""

import functools
import json
import os
import queue
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from shrinkage.errors import InputError, TrackingError

from .journal import JOURNALS, KEPT, NOT_ADOPTED, Journal
from .location import ENVIRONMENT, jobs_page, run_page, sqlite_path, without_password
from .story import Story

# No child of this process, so that whoever kills this one with all its children (joblib does) leaves it to end the run.
DETACHED_WRITER = """
import os
os.fork() and os._exit(0)
from shrinkage.machine.imports import importing_much
with importing_much():
    from shrinkage.tracking.writer import main
main()
"""
AT_LEAST_SECONDS = 120.0  # a new store takes MLflow's migrations, and its turn behind other first users
PATIENCE_SECONDS = 15.0  # how long a run waits for a store to open before it goes on without
ANSWER_SECONDS = 5.0  # how long for a store that is open to say whether a run may be adopted
END_SECONDS, NEVER_SECONDS = 15.0, 3.0  # how long the end of a run waits for a store that is away, or has always been
SILENCE_SECONDS = 60.0  # how long for one that is at work and says nothing
MOST_WRITERS = 5  # that are started anew where one dies


@functools.cache
def connect(uri: str, experiment: str, home: Path, number: int, offline: bool | str) -> "Client":
    """Start the writer process of this number for a store; it is ready later. One, 0, serves a single run.

    offline: True writes journals alone; False has to have the store; "auto" goes on without where it does not answer.
    """
    return Client(uri, experiment, home, number, offline)


os.register_at_fork(after_in_child=connect.cache_clear)  # a fork has no thread that hears the writer


class Client:
    """What a training process knows of its writer: it hands journals over, and hears what becomes of them."""

    def __init__(self, uri: str, experiment: str, home: Path, number: int = 0, offline: bool | str = "auto") -> None:
        self.uri, self.experiment, self.home, self.offline = without_password(uri), experiment, home, offline
        self.journals = home / JOURNALS
        self.started_in = Path.cwd()  # which may be gone when the run ends
        # By standard input, and not as an argument, which everybody on this machine can read.
        self.settings = {"uri": uri, "experiment": experiment, "home": str(home), "errands": number == 0}
        self.answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.open: dict[str, Path] = {}  # the journals that are being followed
        self.opened: dict[str, dict[str, str]] = {}
        self.closed: set[str] = set()
        self.undelivered: dict[str, str] = {}
        self.adoptions: dict[str, str | None] = {}  # by the id of a run: why it must not be adopted; None if it may
        self.models: dict[str, dict[str, str]] = {}  # by journal: uri, registered and error, those that there are
        self.is_ready = False
        self.away: str | None = None  # why the store does not answer, while it does not
        self.over: InputError | TrackingError | None = None  # why no writer delivers anything any more
        self.noted = self.given_up = False
        self.writers = 0
        self.sending = threading.Lock()
        if offline is not True:
            self.start()

    def start(self) -> None:
        """Start a writer process, and a thread that takes in its answers."""
        self.writers += 1
        self.errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 it lives as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-c", DETACHED_WRITER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=writer_environment(),
            start_new_session=True,  # so that Ctrl-C at a terminal does not reach it
        )
        self.send(self.settings)
        threading.Thread(target=self.listen, args=(self.process,), daemon=True).start()

    def listen(self, process: subprocess.Popen[str]) -> None:
        """Take in a writer's answers; where it dies without having given up, another one goes on with its journals."""
        gave_up = False
        for line in process.stdout or ():
            answer = json.loads(line)
            gave_up = gave_up or "refused" in answer or "failed" in answer
            self.answers.put(answer)
        process.wait()
        if gave_up or self.writers == MOST_WRITERS:
            self.answers.put(None)
            return
        self.start()
        for path in list(self.open.values()):
            self.send({"follow": str(path), "fresh": False})

    def send(self, word: Mapping[str, object]) -> None:
        """Say a word to the writer, if it is there."""
        try:
            with self.sending:
                print(json.dumps(word), file=self.process.stdin, flush=True)
        except OSError:
            pass  # the writer is gone; another one is told, or whoever waits for it hears why

    def hear(self, seconds: float) -> bool:
        """Take in one answer, if there is one in this time; returns whether there was.

        Raises InputError where the store refuses, TrackingError where the writer is gone.
        """
        try:
            answer = self.answers.get(timeout=max(seconds, 0))
        except queue.Empty:
            return False
        if answer is None:
            self.answers.put(None)
            self.errors.seek(0)
            said = self.errors.read()[-2000:] or "without a word"
            raise self.over or TrackingError(f"the writer to {self.uri} stopped: {said}")
        if "refused" in answer:
            self.over = InputError(answer["refused"])
            raise self.over
        if "failed" in answer:
            self.over = TrackingError(f"the store {self.uri} failed: {answer['failed']}")
            raise self.over
        if "undelivered" in answer:
            self.undelivered[answer["undelivered"]] = answer["reason"]
        elif "away" in answer:
            self.away = answer["away"]
        elif "adopt" in answer:
            self.adoptions[answer["adopt"]] = answer["objection"]
        elif "note" in answer:
            print(f"note: {answer['note']}", file=sys.stderr)
        elif "opened" in answer:
            self.opened[answer["opened"]] = answer
        elif "model" in answer:
            self.models[answer.pop("model")] = answer
        elif "closed" in answer:
            self.closed.add(answer["closed"])
            self.open.pop(answer["closed"], None)
        if answer.keys() & {"ready", "back", "opened", "closed"}:
            self.is_ready, self.away, self.given_up = True, None, False
        return True

    def wait_until_ready(self) -> None:
        """Wait until the store is open, or known not to be; with offline=auto training does not wait for it long.

        Raises InputError where it refuses, and where it does not answer and may not be missing.
        """
        if self.offline is True:
            return
        deadline = time.monotonic() + (AT_LEAST_SECONDS if self.offline is False else PATIENCE_SECONDS)
        while not self.is_ready and self.away is None and time.monotonic() < deadline:
            self.hear(deadline - time.monotonic())
        if self.is_ready or self.noted:
            return
        reason = self.away or f"it has not opened for {PATIENCE_SECONDS:.0f} s"
        if self.offline is False:
            raise InputError(
                f"the store {self.uri} cannot be reached ({reason}), and tracking.offline=false; start it, or use "
                "tracking.offline=auto, which records on this disk meanwhile"
            )
        if sqlite_path(self.uri) is None or self.away is not None:
            print(
                f"note: the store {self.uri} cannot be reached ({reason}); the run goes on, its record is kept in "
                f"{self.journals} and goes into the store when that answers",
                file=sys.stderr,
            )
            self.noted = True

    def begin(
        self,
        name: str,
        tags: dict[str, str],
        *,
        params: dict[str, str] | None = None,
        parent: str | None = None,
        adopt: str | None = None,
        folder: Path,
    ) -> Journal:
        """Begin a new run's journal, which the writer follows from now on.

        Raises InputError where it cannot be written. folder: the run's own.

        parent: the id of the journal of the run that it stands under. adopt: the id of a run in the store that this one
        is to become, if that may be (`adoption.py`); if not, it is a run of its own, and a note and a tag say why.
        """
        decided = False
        if adopt is not None and self.ask_to_adopt(adopt, params or {}):
            decided = True
            if (objection := self.adoptions.pop(adopt)) is not None:
                print(f"note: {objection}", file=sys.stderr)
                tags, adopt = tags | {NOT_ADOPTED: objection}, None
        try:
            journal = Journal.new(
                self.journals,
                name,
                tags,
                parent=parent,
                adopt=adopt,
                decided=decided,
                store=self.uri,
                experiment=self.experiment,
                home=folder.resolve(),
                params=params,
            )
        except OSError as error:
            raise InputError(
                f"{self.journals} cannot be written ({error.strerror}): each run keeps its record there first; "
                "make it writable, or run from a copy that is"
            ) from error
        self.follow(journal, fresh=True)
        return journal

    def bring_in(self, kept: Path) -> Journal:
        """Have the writer carry a run that has ended, and whose journal has stayed in its folder, into the store.

        Raises InputError if the journal cannot be read.
        """
        journal = Journal.ended(self.journals, kept)
        self.follow(journal)
        return journal

    def ask_to_adopt(self, run_id: str, params: dict[str, str]) -> bool:
        """Ask the store whether a run may become one with these params; returns whether it has answered.

        A store that is away is not waited for: whoever delivers the journal asks then.
        """
        self.adoptions.pop(run_id, None)
        if self.offline is True or not self.is_ready or self.away is not None:
            return False
        self.send({"adopt": run_id, "params": params})
        deadline = time.monotonic() + ANSWER_SECONDS
        while run_id not in self.adoptions and self.away is None and time.monotonic() < deadline:
            self.hear(deadline - time.monotonic())
        return run_id in self.adoptions

    def resume(self, path: Path, adopt: str | None = None) -> Journal:
        """Go on with the journal of a run in this process. adopt: a run that it can no longer become.

        Raises InputError if the journal cannot be read.
        """
        journal = Journal.resumed(self.journals, path)
        deadline = time.monotonic() + ANSWER_SECONDS
        while path.name == KEPT and journal.id in self.open and time.monotonic() < deadline:
            self.hear(deadline - time.monotonic())  # the writer is about to say that it has put the journal there
        self.closed.discard(journal.id)
        if adopt not in (None, Story.of(journal.path).adopt):
            print(f"note: MLFLOW_RUN_ID={adopt}: a run that goes on stays the run that it is", file=sys.stderr)
        self.follow(journal, fresh=False)
        return journal

    def follow(self, journal: Journal, fresh: bool = False) -> None:
        """Have the writer look at a journal now."""
        if self.offline is not True:
            self.open[journal.id] = journal.path
            self.send({"follow": str(journal.path), "fresh": fresh})

    def run_id(self, journal: Journal) -> str | None:
        """Look up a run's id in the store; None where the store does not have it yet."""
        with suppress(InputError, TrackingError):  # `wait_for` says that the store cannot be used
            while self.hear(0):
                pass
        return self.opened[journal.id]["run_id"] if journal.id in self.opened else None

    def end(self, journal: Journal, status: str) -> None:
        """End a run; the writer goes on with it."""
        journal.end(status)
        self.follow(journal)

    def wait_for(self, journal: Journal) -> bool:
        """Wait until all of an ended run is in the store; returns whether it is.

        A store that is away is not waited for long. Raises TrackingError, which says where the run's record lies, if
        the store refuses the run, or cannot be used at all.
        """
        if self.offline is True:
            return False
        try:
            return self.is_delivered(journal)
        except (InputError, TrackingError) as error:
            raise TrackingError(f"{error}; its record lies in {journal.path}") from None

    def is_delivered(self, journal: Journal) -> bool:
        """Wait for an ended run, as `wait_for` does. Raises TrackingError, and InputError where the store refuses."""
        silent = time.monotonic()
        while journal.id not in self.closed:
            if journal.id in self.undelivered:
                raise TrackingError(f"the store {self.uri} did not take the run ({self.undelivered[journal.id]})")
            limit = (END_SECONDS if self.is_ready else NEVER_SECONDS) if self.away else SILENCE_SECONDS
            limit = 0.0 if self.given_up and self.away else limit
            if self.hear(min(1.0, limit)):
                silent = time.monotonic() if self.away is None else silent
            elif time.monotonic() - silent >= limit:
                self.given_up = True
                return False
        self.closed.discard(journal.id)
        return True

    def pages(self, journal: Journal, file: str | None = None) -> tuple[str, str] | tuple[None, None]:
        """Find the pages of a run, or of a file of it, and of the runs under it by λ, from the root of MLflow's page.

        None where the store does not have the run yet.
        """
        if self.run_id(journal) is None:
            return None, None
        answer = self.opened[journal.id]
        run = answer["experiment_id"], answer["run_id"]
        return run_page(*run, file), jobs_page(*run)

    def where(self, journal: Journal) -> str:
        """Say where a run is and how to look at it, or how to bring it in."""
        if journal.id not in self.opened or journal.path.exists():
            reason = "it cannot be used" if self.over else self.away or "it is slow"
            reason = "tracking.offline=true" if self.offline is True else reason
            where = "" if self.home == self.started_in else f" {self.journals}"
            store = "" if self.is_beside else f" --store {self.uri}"
            return (
                f"Not all of it is in the store {self.uri} yet ({reason}); the record lies in {journal.path}\n"
                f"The next run brings it in, or: python -m shrinkage.tracking.sync{where}{store}"
            )
        answer = self.opened[journal.id]
        page, _ = self.pages(journal)
        if self.uri.startswith("http"):
            return f"Run {answer['run_id']}: {self.uri.rstrip('/')}/{page}"
        command = "mlflow ui" if self.is_beside else f"mlflow ui --backend-store-uri {self.uri}"
        return f"Run {answer['run_id']} in {self.uri}\nTo look at it: {command}, then http://127.0.0.1:5000/{page}"

    def how_to_predict(self, model: str, folder: Path) -> str:
        """Say how to predict with a registered model, whose example rows a run has written to its folder.

        The rows are JSON: of a CSV `mlflow models predict` guesses anew what each column is.
        """
        example = folder / "model" / "example.json"
        if example.is_relative_to(self.started_in):
            example = example.relative_to(self.started_in)
        command = f"mlflow models predict --env-manager local -m {model} -t json -i {shlex.quote(str(example))}"
        return f"The model is {model}: " + ("" if self.is_beside else f"MLFLOW_TRACKING_URI={self.uri} ") + command

    @property
    def is_beside(self) -> bool:
        """Whether MLflow finds the store by itself from where this process was started."""
        database = sqlite_path(self.uri)
        return database is not None and database.name == "mlflow.db" and database.parent.resolve() == self.started_in


def writer_environment() -> dict[str, str]:
    # MLflow itself would send a request again that may have been served: a run would be made twice.
    """Build the environment of the writer process."""
    environment = ENVIRONMENT | os.environ | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    # A lock file in the current folder is not what a logged model needs.
    environment.setdefault("MLFLOW_UV_AUTO_DETECT", "false")
    environment.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    environment.pop("MLFLOW_RUN_ID", None)
    environment["PYTHONIOENCODING"] = "utf-8"
    return environment
