"""Where runs are remembered: found, made once, and opened."""

import contextlib
import errno
import os
import sqlite3
from collections.abc import Generator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from filelock import FileLock
from mlflow.entities import Experiment, Run
from mlflow.exceptions import MlflowException
from mlflow.store.db.base_sql_model import Base
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.store.db.utils import create_sqlalchemy_engine
from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient
from sqlalchemy import inspect

from shrinkage.errors import InputError, StoreRefuses, StoreReplaced

from .answers import asking, own_words
from .journal import JOURNALS
from .location import sqlite_path, without_password
from .views import VIEWS

# What MLflow's page makes of an experiment: one of model training, not of prompts and traces, and with our views.
PAGE = {"mlflow.experimentKind": "custom_model_development"} | VIEWS
JOURNAL = "shrinkage.journal"  # the tag of a run that has its journal's id
EXPERIMENTS_A_PAGE = 1000


@dataclass(frozen=True)
class Store:
    """A tracking URI opened: a client of it, the id of the experiment in it, and which file it is, if it is one."""

    uri: str
    client: MlflowClient
    experiment_id: str
    file: tuple[int, int] | None = None
    found: dict[str, Run] = field(default_factory=dict)

    def check_in_place(self) -> None:
        """Raise StoreReplaced where what is written does not come into the file that others open by its name."""
        path = sqlite_path(self.uri)
        if path is not None and self.file is not None and identity(path) != self.file:
            raise StoreReplaced(f"{path} has been deleted or replaced meanwhile")

    def find(self, journal: str) -> Run | None:
        """Find the run that came from the journal of this id, in any experiment; None where there is none."""
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
    """Open the store at a tracking URI and find the experiment of this name in it; make what is missing.

    artifacts: where a database, which has no place for them, has its files. Raises StoreAway where the store does not
    answer at this moment, StoreRefuses where it cannot be used, and InputError where the experiment was deleted.

    MLflow migrates a database without a lock, so that several first uses at once leave it broken for good; and
    several processes may not create one experiment at once either. Both happen here under a lock beside the file.
    """
    path = sqlite_path(uri)
    with asking(partial(explain, uri)), first_use(uri, artifacts):
        if path is not None and not path.exists():
            make(path.resolve())  # where a link leads that has no file yet
        if path is not None and not os.access(path, os.W_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, "this user may not write it", str(path))
        refuse_older(uri)
        client = MlflowClient(tracking_uri=uri)
        place = None if uri.startswith("http") else artifacts.resolve().as_uri()
        identifier = experiment_id(client, uri, experiment, place)
        if path is not None:
            # Readers and a writer no longer wait for one another; the mode stays with the file.
            with contextlib.closing(sqlite3.connect(path)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
    return Store(uri, client, identifier, None if path is None else identity(path))


def identity(path: Path) -> tuple[int, int] | None:
    """Tell which file a path leads to, whatever its content; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def make(path: Path) -> None:
    """Make a SQLite store, complete or not at all: MLflow cannot go on with migrations of which a part is done.

    They are made in a file beside it, which is renamed when they are through; one that was left is begun anew.
    """
    unfinished = path.with_name(f"{path.name}.new")
    for part in (unfinished, unfinished.with_name(f"{unfinished.name}-journal")):
        part.unlink(missing_ok=True)
    unfinished.touch()  # with the permissions of any new file; SQLite would let nobody else write it
    SqlAlchemyStore(f"sqlite:///{unfinished}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH).engine.dispose()
    if not path.exists():  # else MLflow itself was quicker, which knows no lock
        unfinished.rename(path)


def refuse_older(uri: str) -> None:
    """Refuse a database that has tables of MLflow's, and lacks others: an older version has made it.

    MLflow would bring it to its own schema as soon as it opens it, without a copy, and for good broken where it is
    stopped half-way. Raises StoreRefuses, and at once what the driver does where there is no database, or it is away:
    MLflow would try again for nearly an hour.
    """
    if uri.partition(":")[0].partition("+")[0] not in DATABASE_ENGINES:
        return
    engine = create_sqlalchemy_engine(uri)
    with engine.connect() as connection:
        there = set(inspect(connection).get_table_names())
    engine.dispose()
    lacking = Base.metadata.tables.keys() - there
    if lacking and lacking != Base.metadata.tables.keys():
        raise StoreRefuses(of_another_version(uri, f"it has no table {min(lacking)}"))


@contextlib.contextmanager
def first_use(uri: str, artifacts: Path) -> Generator[None]:
    """Let one process of this machine at a time open a database; a server has its own order."""
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


def experiment_id(client: MlflowClient, uri: str, name: str, artifacts: str | None) -> str:
    """Find the experiment of this name, or make it. Raises InputError where it was deleted."""
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
    """Say in one sentence why a store cannot be opened, and what to do."""
    uri, words = without_password(uri), " ".join(str(error).split())
    if "out-of-date database schema" in words:
        return of_another_version(uri, words.split(". ")[0])
    if isinstance(error, MlflowException) and (meaning := REFUSALS.get(error.get_http_status_code())):
        return f"the store {uri} {meaning}"
    if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("psycopg"):
        return f"the store {uri} needs a driver ({own_words(error)}); use pip install 'shrinkage[server]'"
    return f"the store {uri} cannot be used ({own_words(error)}); choose another place with tracking.uri=sqlite:///…"


def of_another_version(uri: str, sign: str) -> str:
    """Say that another version of MLflow has made a store, and what to do. sign: by which it is known."""
    return (
        f"the store {without_password(uri)} was made by another version of MLflow ({sign}); if it is an older one, "
        "python -m shrinkage.doctor says how to mend it; if it is a newer one, install that MLflow here, or "
        "choose another store with tracking.uri=sqlite:///…"
    )
