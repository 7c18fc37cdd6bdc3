"""Where runs are remembered: found, made once, and opened."""

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock
from mlflow.entities import Experiment, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from shrinkage.errors import InputError
from shrinkage.machine.secrets import masked

from .journal import JOURNALS
from .location import sqlite_path, without_password
from .views import VIEWS

# What MLflow's page makes of an experiment: one of model training, not of prompts and traces, and with our views.
PAGE = {"mlflow.experimentKind": "custom_model_development"} | VIEWS
JOURNAL = "shrinkage.journal"  # the tag of a run that has its journal's id
EXPERIMENTS_A_PAGE = 1000


# What a store says where asking again cannot help. Everything else may pass: a lock, a restart, a full disk.
FOR_GOOD = {
    "INVALID_PARAMETER_VALUE",
    "RESOURCE_DOES_NOT_EXIST",
    "RESOURCE_ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "ENDPOINT_NOT_FOUND",
    "INVALID_STATE",
    "BAD_REQUEST",
    "NOT_IMPLEMENTED",
}
RACED = "IntegrityError"  # MLflow looks for a data set and then inserts it: two writers at once may both insert


def passes(error: Exception) -> bool:
    """Whether asking the store again later may help."""
    if isinstance(error, MlflowException):
        return error.error_code not in FOR_GOOD or RACED in str(error)
    return isinstance(error, OSError)  # of the network, or of a disk


@dataclass(frozen=True)
class Store:
    """A tracking URI opened: a client of it, and the id of the experiment in it."""

    uri: str
    client: MlflowClient
    experiment_id: str
    found: dict[str, Run] = field(default_factory=dict)

    def find(self, journal: str) -> Run | None:
        """The run that came from the journal of this id, in any experiment; None where there is none."""
        if journal not in self.found:
            of_it = f"tags.`{JOURNAL}` = '{journal}'"
            runs, token = self.client.search_runs([self.experiment_id], of_it, max_results=1), ""
            while not runs and token is not None:  # a run that MLflow made stands where MLflow put it
                page = self.client.search_experiments(max_results=EXPERIMENTS_A_PAGE, page_token=token)
                runs = self.client.search_runs([each.experiment_id for each in page], of_it, max_results=1)
                token = page.token or None
            if not runs:
                return None
            self.found[journal] = runs[0]
        return self.found[journal]


def open_store(uri: str, experiment: str, artifacts: Path) -> Store:
    """The store at a tracking URI and the id of an experiment in it, both made if they are missing.

    artifacts: where a database, which has no place for them, has its files. Raises InputError where the store cannot be
    used, and what MLflow or the network raises where it cannot be used at this moment (`is_away`).

    MLflow migrates a database without a lock, so that several first uses at once leave it broken for good; and
    several processes may not create one experiment at once either. Both happen here under a lock beside the file.
    """
    path = sqlite_path(uri)
    try:
        with first_use(uri, artifacts):
            client = MlflowClient(tracking_uri=uri)
            identifier = experiment_id(
                client, uri, experiment, None if uri.startswith("http") else artifacts.resolve().as_uri()
            )
            if path is not None:
                # Readers and a writer no longer wait for one another; the mode stays with the file.
                with contextlib.closing(sqlite3.connect(path)) as connection:
                    connection.execute("PRAGMA journal_mode=WAL")
    except InputError:
        raise
    except Exception as error:  # what SQLAlchemy, MLflow or the file system have to say: there is no store to use
        if is_away(error):
            raise
        raise InputError(explain(uri, error)) from error
    return Store(uri, client, identifier)


@contextlib.contextmanager
def first_use(uri: str, artifacts: Path) -> Iterator[None]:
    """One process of this machine at a time opens a database; a server has its own order."""
    path = sqlite_path(uri)
    if path is None and uri.startswith("http"):
        yield
        return
    lock = Path(f"{path}.lock") if path else artifacts.parent / JOURNALS / "store.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        yield


# What a server with users answers to those whom it does not know, or not there.
REFUSALS = {
    401: (
        "does not know you: it asks for a user and a password; set MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD to those that its administrator gave you"
    ),
    403: (
        "does not let you use this experiment; ask its owner or the administrator for the permission, or use "
        "tracking.experiment=… for one of your own"
    ),
}
# What the drivers of databases, and MLflow's client of a server, say of one that is not there, or not at this moment.
AWAY = (
    "database is locked",
    "database or disk is full",
    "disk i/o error",
    "connection refused",
    "could not connect",
    "connection to server",
    "server closed the connection",
    "the database system is",
    "timed out",
    "timeout",
    "max retries exceeded",
    "failed to establish",
    "name or service not known",
    "temporary failure in name resolution",
    "remote end closed",
    "connection reset",
    "connection aborted",
    "broken pipe",
    "too many connections",
)
REFUSED = ("authentication failed", "does not exist", "access denied", "no password supplied", 'role "', "no such")


def is_away(error: Exception) -> bool:
    """Whether a store that does not open may open later: nobody answers, or it is locked, busy or full."""
    words = " ".join(str(error).lower().split())
    if any(said in words for said in REFUSED):
        return False
    if isinstance(error, MlflowException) and error.error_code == "TEMPORARILY_UNAVAILABLE":
        return True
    return any(said in words for said in AWAY) or (" error code 5" in words or "too many 50" in words)


PLAIN = {
    "timed out": "no answer in time",
    "database is locked": "another process has locked the database",
    "max retries exceeded": "the connection breaks off",
    "connection aborted": "the connection breaks off",
}


def reason(error: Exception) -> str:
    """Why a store does not answer, in a few words."""
    words = " ".join(str(error).split()).split(" [SQL")[0]
    system = re.search(r"\[Errno -?\d+\] ([\w ]+)", words)
    answered = re.search(r"failed with error code (\d+)", words)
    if system:
        return system[1]
    if answered:
        return f"it answers {answered[1]}"
    for said, plain in PLAIN.items():
        if said in words.lower():
            return plain
    return masked(words[:200])


def experiment_id(client: MlflowClient, uri: str, name: str, artifacts: str | None) -> str:
    found: Experiment | None = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location=artifacts, tags=PAGE)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return experiment_id(client, uri, name, artifacts)  # somebody else of this server's was quicker
    if found.lifecycle_stage == "deleted":
        raise InputError(
            f"tracking.experiment={name}: it was deleted in {without_password(uri)}; restore it with "
            f"`mlflow experiments restore --experiment-id {found.experiment_id}`, or choose another name"
        )
    furnish(client, found)
    return found.experiment_id


def furnish(client: MlflowClient, experiment: Experiment) -> None:
    """Say what MLflow's page is to make of an experiment, where nobody has said something else."""
    for tag in PAGE.keys() - experiment.tags:
        client.set_experiment_tag(experiment.experiment_id, tag, PAGE[tag])


def explain(uri: str, error: Exception) -> str:
    """One sentence for a store that does not open."""
    uri, words = without_password(uri), " ".join(str(error).split())
    if "out-of-date database schema" in words:
        return (
            f"the store {uri} was made by another version of MLflow ({words.split('. ')[0]}); if it is an older one, "
            "python -m shrinkage.doctor says how to mend it; if it is a newer one, install that MLflow here, or "
            "choose another store with tracking.uri=sqlite:///…"
        )
    for code, meaning in REFUSALS.items():
        if f"error code {code}" in words:
            return f"the store {uri} {meaning}"
    reason = words.split(" [SQL")[0][:300]
    return f"the store {uri} cannot be used ({reason}); choose another place with tracking.uri=sqlite:///…"
