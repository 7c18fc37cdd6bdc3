"""The rows of MLflow's tables that a run which has ended comes to, made from its journal alone.

They are those that `delivery.py` leaves by MLflow's API. A run of which that is not certain is left to the API: one
that was resumed, adopted, or that has a model, and one that MLflow would refuse.
"""

import functools
import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mlflow.utils.validation import (
    MAX_DATASET_DIGEST_SIZE,
    MAX_DATASET_NAME_SIZE,
    MAX_DATASET_PROFILE_SIZE,
    MAX_DATASET_SOURCE_SIZE,
    MAX_ENTITY_KEY_LENGTH,
    MAX_INPUT_TAG_VALUE_SIZE,
    MAX_PARAM_VAL_LENGTH,
    MAX_TAG_VAL_LENGTH,
    path_not_unique,
    validate_param_and_metric_name,
)

from shrinkage.errors import TrackingError

from .delivery import (
    LONGEST_NAME,
    LONGEST_PARAM,
    LONGEST_TAG,
    cut,
    first_tags,
    lost_tags,
    place_under,
)
from .own_files import NotOwn, located
from .store import Store
from .story import LINE, Reader

LARGEST = 1.7976931348623157e308  # what MLflow stores for ∞
INTEGERS = range(-(2**63), 2**63)  # what a database holds
LONGEST_USER = 256  # characters, where the database counts them
NAME_TAG, USER_TAG = "mlflow.runName", "mlflow.user"


class ForTheAPI(TrackingError):
    """A run that only MLflow's API is to write."""


class RunRow(NamedTuple):
    """A row of `runs`."""

    run_uuid: str
    name: str
    source_type: str
    source_name: str
    entry_point_name: str
    user_id: str
    status: str
    start_time: int
    end_time: int
    deleted_time: None
    source_version: str
    lifecycle_stage: str
    artifact_uri: str
    experiment_id: int


class TextRow(NamedTuple):
    """A row of `params` or `tags`."""

    key: str
    value: str
    run_uuid: str


class MetricRow(NamedTuple):
    """A row of `metrics` or `latest_metrics`; value is 0 where is_nan."""

    key: str
    value: float
    timestamp: int
    step: int
    is_nan: bool
    run_uuid: str


class DatasetRow(NamedTuple):
    """A row of `datasets`."""

    dataset_uuid: str
    experiment_id: int
    name: str
    digest: str
    dataset_source_type: str
    dataset_source: str
    dataset_schema: None
    dataset_profile: str


class InputRow(NamedTuple):
    """A row of `inputs`: that a run has used a data set."""

    input_uuid: str
    source_type: str
    source_id: str
    destination_type: str
    destination_id: str
    step: int


class InputTagRow(NamedTuple):
    """A row of `input_tags`: what for."""

    input_uuid: str
    name: str
    value: str


Row = RunRow | TextRow | MetricRow | DatasetRow | InputRow | InputTagRow
# In an order in which no row is written before one that it refers to.
TABLES: dict[str, type[Row]] = {
    "runs": RunRow,
    "params": TextRow,
    "tags": TextRow,
    "metrics": MetricRow,
    "latest_metrics": MetricRow,
    "datasets": DatasetRow,
    "inputs": InputRow,
    "input_tags": InputTagRow,
}


@dataclass(frozen=True)
class UsedDataset:
    """A data set that a run has used, and what for."""

    name: str
    digest: str
    source: str
    profile: str
    context: str


@dataclass(frozen=True)
class EndedRun:
    """A run that has ended, as its rows without those that depend on what else is in the store.

    run_id: begins with the run's time, so that rows of one time lie together in a database's indices, and follows from
    the journal, so that it is the same whenever it is delivered. artifacts: where each file was, and under what folder
    of the run's artifacts it is to be stored. lost: those that were gone.
    """

    path: Path
    folder: Path | None
    id: str
    run_id: str
    experiment_id: str
    name: str
    user: str
    status: str
    began: int
    ended: int
    params: dict[str, str]
    tags: dict[str, str]
    metrics: list[MetricRow]
    datasets: list[UsedDataset]
    artifacts: list[tuple[Path, str]]
    lost: list[str]
    damaged: int

    @classmethod
    def read(cls, path: Path, store: Store) -> "EndedRun":
        """Read a journal that nobody else is delivering.

        Raises ForTheAPI where the rows may not be made here, and Waiting where the run's sweep comes first.
        """
        reader = Reader(path)
        events = list(reader.events())
        if len(events) < 2 or events[0]["event"] != "run" or events[-1]["event"] != "end":
            raise ForTheAPI(f"{path}: it does not go from a beginning to an end")
        header, end = events[0], events[-1]
        if header["adopt"] is not None or not re.fullmatch("[0-9a-f]{32}", header["id"]) or not header["name"]:
            raise ForTheAPI(f"{path}: not a run of its own")
        folder = None if header["folder"] is None else Path(header["folder"])
        experiment_id, above = place_under(store, path, header["parent"])
        began = header["time"]
        tags = first_tags(header["id"], began, header["tags"], header["folder"], header["process"]) | above
        user = tags.get(USER_TAG, "unknown")
        run_id = f"{began:012x}7{header['id'][13:]}"
        params: dict[str, str] = {}
        metrics: list[MetricRow] = []
        datasets: list[UsedDataset] = []
        artifacts: list[tuple[Path, str]] = []
        lost: list[str] = []
        for event in events[1:-1]:
            match event["event"]:
                case "params":
                    if params.keys() & event["params"].keys():
                        raise ForTheAPI(f"{path}: a param twice")
                    params |= {name: cut(value, LONGEST_PARAM) for name, value in event["params"].items()}
                case "tags":
                    tags |= {name: cut(value, LONGEST_TAG) for name, value in event["tags"].items()}
                case "metrics":
                    metrics += metric_rows(run_id, event)
                case "dataset":
                    datasets.append(used_dataset(event))
                case "artifact":
                    if is_there(file := Path(event["path"]), folder, path):
                        artifacts.append((file, event["folder"]))
                    else:
                        lost.append(event["path"])
                case other:
                    raise ForTheAPI(f"{path}: it has the event {other}")
        if NAME_TAG in tags:
            raise ForTheAPI(f"{path}: its tags say another name")
        name = cut(header["name"], LONGEST_NAME)
        tags |= {key: cut(value, LONGEST_TAG) for key, value in lost_tags(lost, reader.damaged).items()}
        tags[NAME_TAG] = name
        run = cls(
            path=path,
            folder=folder,
            id=header["id"],
            run_id=run_id,
            experiment_id=experiment_id,
            name=name,
            user=user,
            status=end["status"],
            began=began,
            ended=end["time"],
            params=params,
            tags=tags,
            metrics=metrics,
            datasets=datasets,
            artifacts=artifacts,
            lost=lost,
            damaged=reader.damaged,
        )
        run.refuse_what_mlflow_refuses()
        return run

    def refuse_what_mlflow_refuses(self) -> None:
        """Raise ForTheAPI for what MLflow's API would refuse, so that it is refused there, and alone."""
        texts = [(self.params, MAX_PARAM_VAL_LENGTH), (self.tags, MAX_TAG_VAL_LENGTH)]
        free = [self.name, self.user, *self.params.values(), *self.tags.values()]
        if not (
            all(map(is_name, {*self.params, *self.tags, *(row.key for row in self.metrics)}))
            and all(len(value) <= longest for values, longest in texts for value in values.values())
            and len(self.user) <= LONGEST_USER
            and not any("\0" in text for text in free)  # which PostgreSQL does not take
            and all(is_point(row) for row in self.metrics)
            and all(is_dataset(used) for used in self.datasets)
            and all(is_place(path, folder) for path, folder in self.artifacts)
            and 0 < self.began < 2**48
            and 0 < self.ended < 2**63
        ):
            raise ForTheAPI(f"{self.path}: MLflow may refuse it")

    def run_row(self, artifact_uri: str) -> RunRow:
        """Build the row of the run itself."""
        return RunRow(
            run_uuid=self.run_id,
            name=self.name,
            source_type="UNKNOWN",
            source_name="",
            entry_point_name="",
            user_id=self.user,
            status=self.status,
            start_time=self.began,
            end_time=self.ended,
            deleted_time=None,
            source_version="",
            lifecycle_stage="active",
            artifact_uri=artifact_uri,
            experiment_id=int(self.experiment_id),
        )

    def points(self) -> tuple[list[MetricRow], list[MetricRow]]:
        """Build the rows of `metrics`, each once, and those of `latest_metrics`.

        The latest value is the largest (step, time, value), where NaN counts as 0; of equals the first, from the last
        step back, as the API is given them.
        """
        once = list(dict.fromkeys(sorted(self.metrics, key=lambda row: -row.step)))
        latest: dict[str, MetricRow] = {}
        for row in once:
            last = latest.get(row.key)
            if last is None or (row.step, row.timestamp, row.value) > (last.step, last.timestamp, last.value):
                latest[row.key] = row
        return once, list(latest.values())

    def used(self) -> list[UsedDataset]:
        """List the data sets that the run has used, each once."""
        once: dict[tuple[str, str], UsedDataset] = {}
        for dataset in self.datasets:
            once.setdefault((dataset.name, dataset.digest), dataset)
        return list(once.values())


def metric_rows(run_id: str, event: dict[str, Any]) -> list[MetricRow]:
    """Build the rows of an event's metrics. Raises ForTheAPI where one is not a number."""
    time, step = event["time"], event["step"]
    if type(step) is not int or type(time) is not int:
        raise ForTheAPI(f"step {step} at {time}")
    rows = []
    for name, value in event["metrics"].items():
        if type(value) is not float:
            if type(value) is not int or value not in INTEGERS:
                raise ForTheAPI(f"{name}={value}")
            value = float(value)
        if math.isfinite(value):
            rows.append(MetricRow(name, value, time, step, False, run_id))
        elif math.isnan(value):
            rows.append(MetricRow(name, 0.0, time, step, True, run_id))
        else:
            rows.append(MetricRow(name, math.copysign(LARGEST, value), time, step, False, run_id))
    return rows


def used_dataset(event: dict[str, Any]) -> UsedDataset:
    """Read the event of a data set."""
    source, profile = json.dumps(event["source"]), json.dumps(event["profile"])
    return UsedDataset(event["name"], event["digest"], source, profile, event["context"])


@functools.cache
def is_name(name: str) -> bool:
    """Tell whether MLflow takes a name of a param, tag or metric."""
    taken = validate_param_and_metric_name(name) and not path_not_unique(name)
    return bool(taken) and len(name) <= MAX_ENTITY_KEY_LENGTH


def is_point(row: MetricRow) -> bool:
    """Tell whether MLflow takes a metric's time, and a database its numbers."""
    return 0 <= row.timestamp < 2**63 and row.step in INTEGERS


def is_there(path: Path, folder: Path | None, journal: Path) -> bool:
    """Tell whether a file of a run is in its folder. Raises ForTheAPI where it is to be in another."""
    try:
        own, parts = located(path, folder, journal)
    except NotOwn as why:
        raise ForTheAPI(f"{path}: {why}") from None
    return own.joinpath(*parts).exists()


def is_dataset(used: UsedDataset) -> bool:
    """Tell whether MLflow takes a data set."""
    return (
        len(used.name) <= MAX_DATASET_NAME_SIZE
        and len(used.digest) <= MAX_DATASET_DIGEST_SIZE
        and len(used.source) <= MAX_DATASET_SOURCE_SIZE
        and len(used.profile) <= MAX_DATASET_PROFILE_SIZE
        and len(used.context) <= MAX_INPUT_TAG_VALUE_SIZE
    )


def is_place(path: Path, folder: str) -> bool:
    """Tell whether a file may be stored under its name in a folder of the artifacts."""
    return not path.name.startswith(".") and not (folder and path_not_unique(folder))


def has_ended(path: Path) -> bool:
    """Tell whether the last event of a journal is its run's end; true for a journal that is gone, too."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LINE))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return True
    return bool(lines) and b'{"event": "end"' in lines[-1][:32]
