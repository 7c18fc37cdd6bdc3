"""Runs read back from MLflow, as a report sees them."""

import gc
import os
import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import pandas as pd
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList
from mlflow.tracking import MlflowClient

from shrinkage.errors import InputError, StoreAway

from .answers import asking
from .jobs_table import JOBS, ROWS, read_rows, without_runs, without_sweeps
from .location import ENVIRONMENT, sqlite_path, without_password
from .outcome import Outcome
from .source import LOSSES, OUTCOME, PARENT, FolderSource, Found, RunSummary, Source
from .store import explain, refuse_older
from .views import jobs_view

PAGE = 1000

Item = TypeVar("Item")


def open_to_read(uri: str, option: str = "--store ") -> MlflowClient:
    """Open a store that is there, to read from it; nothing is made. option: by which a person says another one.

    Raises InputError where there is none, StoreAway where it does not answer, StoreRefuses where it cannot be used.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    path = sqlite_path(uri)
    if path is not None and not has_runs_table(path):
        raise InputError(
            f"{without_password(uri)}: there is no store; give the one that the runs are in with {option}…"
        )
    try:
        with asking(lambda error: explain(uri, error).replace("tracking.uri=", option)):
            refuse_older(uri)
            client = MlflowClient(tracking_uri=uri)
            client.search_experiments(max_results=1)
    except StoreAway as error:
        raise StoreAway(
            f"the store {without_password(uri)} does not answer ({error}); start it, or try again"
        ) from error
    return client


def has_runs_table(path: Path) -> bool:
    """Tell whether a SQLite file is there and has MLflow's tables, which a client would make where they are missing."""
    if not path.is_file():
        return False
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            return bool(connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchall())
        finally:
            connection.close()
    except sqlite3.DatabaseError:
        return False


def find(client: MlflowClient, uri: str, target: str, told: Callable[[int], None] = lambda count: None) -> Found:
    """Read the runs of a sweep by its own run's id, or those of an experiment by its name or id that have FINISHED.

    told hears how many runs have been read so far. Raises InputError for what is not there, or has nothing under it.
    """
    try:
        run = client.get_run(target)
    except MlflowException:
        run = None
    if run is not None:
        return sweep(client, run, told)
    experiments = list(pages(lambda token: client.search_experiments(max_results=PAGE, page_token=token)))
    for experiment in experiments:
        if target in (experiment.name, experiment.experiment_id):
            found = searched(client, experiment.experiment_id, "attributes.status = 'FINISHED'", told)
            source = StoreSource(client)
            tables = searched(client, experiment.experiment_id, f"tags.`{ROWS}` != ''", told)
            rows = [row for sweep in tables for row in source.rows(str(sweep["run_id"])) if row["status"] == "FINISHED"]
            runs = without_sweeps(found) + without_runs(rows, found)
            return Found(experiment.name, None, experiment.experiment_id, runs)
    names = ", ".join(f"{experiment.name} ({experiment.experiment_id})" for experiment in experiments)
    raise InputError(
        f"{target}: no run has this id and no experiment this name or id in {without_password(uri)}; its experiments "
        f"are {names or 'none'}"
    )


def one(client: MlflowClient, uri: str, target: str) -> Run:
    """Read the run of this id or name; of several of one name the last. Raises InputError where there is none."""
    try:
        return client.get_run(target)
    except MlflowException:
        everywhere = [e.experiment_id for e in pages(lambda token: client.search_experiments(page_token=token))]
        words = target.replace("'", "''")
        found = client.search_runs(everywhere, f"attributes.run_name = '{words}'", max_results=1) if everywhere else []
        if not found:
            raise InputError(f"{target}: no run has this id or name in {without_password(uri)}") from None
        return found[0]


def sweep(client: MlflowClient, run: Run, told: Callable[[int], None]) -> Found:
    """Read the runs under a parent. Raises InputError where there are none."""
    run_id, experiment_id = run.info.run_id, run.info.experiment_id
    runs = searched(client, experiment_id, f"tags.`{PARENT}` = '{run_id}'", told)
    if ROWS in run.data.tags:
        runs += without_runs(StoreSource(client).rows(run_id), runs)
    if not runs:
        parent = run.data.tags.get(PARENT)
        raise InputError(
            f"{run_id}: no runs stand under this one; give the id of a sweep's own run, "
            + (f"which is {parent} here" if parent else f"or the experiment, {experiment_id}")
        )
    return Found(run.info.run_name or run_id, run_id, experiment_id, runs)


def searched(client: MlflowClient, experiment_id: str, condition: str, told: Callable[[int], None]) -> list[RunSummary]:
    """Read the runs of an experiment that meet a condition, a page at a time."""
    found = []
    with without_collecting():
        for run in pages(
            lambda token: client.search_runs([experiment_id], condition, max_results=PAGE, page_token=token)
        ):
            found.append(as_seen(run))
            if len(found) % PAGE == 0:
                told(len(found))
    return found


@contextmanager
def without_collecting() -> Generator[None]:
    """Stop Python's search for garbage, which takes half the time where SQLAlchemy makes a hundred objects a run."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def pages(read: Callable[[str | None], PagedList[Item]]) -> Iterator[Item]:
    """Yield the items of all pages; `read` takes a page's token."""
    token: str | None = None
    while True:
        page = read(token)
        yield from page
        token = page.token
        if not token:
            return


def as_seen(run: Run) -> RunSummary:
    """Turn a run of MLflow's into what a report sees."""
    return {
        "name": run.info.run_name or run.info.run_id,
        "status": run.info.status,
        "run_id": run.info.run_id,
        "folder": None,
        "params": run.data.params,
        "metrics": run.data.metrics,
        "tags": run.data.tags,
        "error": run.data.tags.get("error"),
    }


class StoreSource(Source):
    """Reads a run's files and curves from MLflow."""

    def __init__(self, client: MlflowClient) -> None:
        self.client = client

    def coefficients(self, run: RunSummary) -> pd.DataFrame | None:
        if run["run_id"] is None:
            return FolderSource().coefficients(run)
        with TemporaryDirectory() as folder:
            try:
                path = self.client.download_artifacts(run["run_id"], "coefficients.csv", folder)
            except (MlflowException, OSError):  # it has none; which of them, the kind of store decides
                return None
            return pd.read_csv(path, keep_default_na=False)

    def outcome(self, run: RunSummary) -> Outcome | None:
        if run["run_id"] is None:
            return FolderSource().outcome(run)
        with TemporaryDirectory() as folder:
            text = text_of(self.client, run["run_id"], OUTCOME, folder)
        return None if text is None else Outcome.from_json(text)

    def rows(self, sweep: str) -> list[RunSummary]:
        """Read the jobs that the sweep's own run of this id keeps as rows of a table.

        Raises InputError where the table is gone.
        """
        with TemporaryDirectory() as folder:
            try:
                return read_rows(Path(self.client.download_artifacts(sweep, JOBS, folder)))
            except MlflowException as error:
                raise InputError(f"the sweep {sweep} has lost its {JOBS}, which holds its jobs: {error}") from error

    def history(self, run: RunSummary) -> list[tuple[int, dict[str, float]]]:
        if run["run_id"] is None:
            return FolderSource().history(run)
        steps: dict[int, dict[str, float]] = {}
        for name in LOSSES:
            if name in run["metrics"]:
                for point in self.client.get_metric_history(run["run_id"], name):
                    steps.setdefault(point.step, {})[name] = point.value
        return sorted(steps.items())


def text_of(client: MlflowClient, run_id: str, file: str, folder: str) -> str | None:
    """Read a text file among a run's artifacts, by way of a folder; None where there is none."""
    try:
        return Path(client.download_artifacts(run_id, file, folder)).read_text(encoding="utf-8")
    except (MlflowException, OSError):
        return None


def keep_report(
    client: MlflowClient, run_id: str, files: list[Path], tags: dict[str, str], only: dict[str, str]
) -> None:
    """Store a report's files with a run, and its answer as the run's tags.

    only: the params of those of its jobs that their view shows; none for all.

    Raises InputError where the store does not take them.
    """
    try:
        run = client.get_run(run_id)
        client.set_experiment_tag(run.info.experiment_id, *jobs_view(run_id, run.info.run_name or run_id, only))
        for path in files:
            client.log_artifact(run_id, str(path))
        for name, value in tags.items():
            client.set_tag(run_id, name, value)
    except (MlflowException, OSError) as error:
        raise InputError(f"the report is in {files[0].parent}, but run {run_id} could not take it: {error}") from error
