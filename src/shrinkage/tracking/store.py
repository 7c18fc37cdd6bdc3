"""Where runs are remembered: found, made once, and opened."""

import functools
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from mlflow.entities import Experiment
from mlflow.tracking import MlflowClient

from shrinkage.errors import InputError

from .location import sqlite_path, without_password
from .views import VIEWS

# What MLflow's page makes of an experiment: one of model training, not of prompts and traces, and with our views.
PAGE = {"mlflow.experimentKind": "custom_model_development"} | VIEWS


@dataclass(frozen=True)
class Store:
    """A tracking URI opened: a client of it, and the id of the experiment in it."""

    uri: str
    client: MlflowClient
    experiment_id: str

    @functools.cache  # noqa: B019 there is one store a process
    def experiment_of(self, run_id: str) -> str:
        """The experiment that a run stands in."""
        return self.client.get_run(run_id).info.experiment_id


def open_store(uri: str, experiment: str, artifacts: Path) -> Store:
    """The store at a tracking URI and the id of an experiment in it, both made if they are missing.

    artifacts: where a local store puts its files. Raises InputError where the store cannot be used.

    MLflow migrates a SQLite file without a lock, so that several first uses at once leave it broken for good; and
    several processes may not create one experiment at once either. Both happen here under a lock beside the file.
    """
    path = sqlite_path(uri)
    try:
        if path is None:
            client = MlflowClient(tracking_uri=uri)
            return Store(uri, client, experiment_id(client, uri, experiment, None))
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            client = MlflowClient(tracking_uri=uri)
            identifier = experiment_id(client, uri, experiment, artifacts.resolve().as_uri())
            # Readers and a writer no longer wait for one another; the mode stays with the file.
            connection = sqlite3.connect(path)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.close()
    except InputError:
        raise
    except Exception as error:  # what SQLAlchemy, MLflow or the file system have to say: there is no store to use
        raise InputError(explain(uri, error)) from error
    return Store(uri, client, identifier)


def experiment_id(client: MlflowClient, uri: str, name: str, artifacts: str | None) -> str:
    found: Experiment | None = client.get_experiment_by_name(name)
    if found is None:
        return client.create_experiment(name, artifact_location=artifacts, tags=PAGE)
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
            f"back the store up and run `mlflow db upgrade {uri}`; if it is a newer one, install that MLflow here, or "
            "choose another store with tracking.uri=sqlite:///…"
        )
    reason = words.split(" [SQL")[0][:300]
    return f"the store {uri} cannot be used ({reason}); choose another place with tracking.uri=sqlite:///…"
