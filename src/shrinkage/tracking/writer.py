"""The process that carries journals into MLflow, beside the one that trains.

It imports MLflow and opens the store while the other still imports PyTorch, and writes on another core, so that a run
pays for neither. It is told of journals on its standard input, a path a line, and answers on its standard output, a
JSON object a line. When its input ends without a run's end (the training process was killed), it ends the run for it.
"""

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from shrinkage.errors import InputError

from .journal import Reader, now
from .store import Store, furnish, open_store

T = TypeVar("T")

POLL_SECONDS = 1.0
METRICS_A_BATCH, PARAMS_A_BATCH, TAGS_A_BATCH = 1000, 100, 100  # MLflow's limits
LONGEST_PARAM, LONGEST_TAG, LONGEST_NAME = 6000, 8000, 250
CUT = " … (cut: config.yaml has all of it)"

PASSING = ("TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR")  # a locked database, a busy server
RACED = "IntegrityError"  # MLflow looks for a data set and then inserts it: two writers at once may both insert
RETRY_SECONDS = (0.1, 0.3, 1, 3, 10)


def reply(**fields: object) -> None:
    try:
        print(json.dumps(fields), file=sys.__stdout__, flush=True)
    except BrokenPipeError:  # the training process was killed; its runs are ended all the same
        sys.__stdout__ = Path(os.devnull).open("w")  # noqa: SIM115 it lives as long as the process


def patiently(call: Callable[..., T], *args: object, **kwargs: object) -> T:
    """call(*args, **kwargs), tried again while the store is only busy, or another writer was quicker."""
    for seconds in RETRY_SECONDS:
        try:
            return call(*args, **kwargs)
        except MlflowException as error:
            if error.error_code not in PASSING and RACED not in str(error):
                raise
            time.sleep(seconds)
    return call(*args, **kwargs)


class Delivery:
    """One journal on its way into the store."""

    def __init__(self, store: Store, path: Path) -> None:
        self.store, self.client, self.experiment_id = store, store.client, store.experiment_id
        self.reader = Reader(path)
        self.run_id: str | None = None
        self.last_time = now()
        self.ended = False
        self.adopted_params: set[str] = set()  # what stood on an adopted run, which MLflow lets nobody change
        self.metrics: list[Metric] = []
        self.params: list[Param] = []
        self.tags: list[RunTag] = []
        self.inputs: list[DatasetInput] = []

    def carry(self) -> None:
        """Everything that has been appended since the last call."""
        for event in self.reader.events():
            self.last_time = event.get("time", self.last_time)
            getattr(self, f"on_{event.pop('event')}")(**event)
        self.flush()

    def flush(self) -> None:
        # From the last step back: MLflow keeps the latest value of each metric beside the curve, and so writes it once.
        self.metrics.sort(key=lambda metric: -metric.step)
        while self.metrics or self.params or self.tags:
            patiently(
                self.client.log_batch,
                self.run_id,
                metrics=self.metrics[:METRICS_A_BATCH],
                params=self.params[:PARAMS_A_BATCH],
                tags=self.tags[:TAGS_A_BATCH],
                synchronous=True,
            )
            self.metrics = self.metrics[METRICS_A_BATCH:]
            self.params, self.tags = self.params[PARAMS_A_BATCH:], self.tags[TAGS_A_BATCH:]
        if self.inputs:
            patiently(self.client.log_inputs, self.run_id, datasets=self.inputs)
            self.inputs = []

    def end(self, status: str, time: int) -> None:
        self.flush()
        patiently(self.client.set_terminated, self.run_id, status=status, end_time=time)
        self.ended = True

    def on_run(
        self, id: str, time: int, name: str, tags: dict[str, str], parent: str | None, adopt: str | None
    ) -> None:
        tags = {name: cut(value, LONGEST_TAG) for name, value in tags.items()} | {"shrinkage.journal": id}
        if parent is not None:
            tags["mlflow.parentRunId"] = parent
            # MLflow's page shows a run under its parent only within one experiment.
            self.experiment_id = self.store.experiment_of(parent)
        if adopt is None:
            run = patiently(
                self.client.create_run, self.experiment_id, start_time=time, tags=tags, run_name=cut(name, LONGEST_NAME)
            )
        else:
            run = patiently(self.client.get_run, adopt)
            self.adopted_params = set(run.data.params)
            patiently(self.client.update_run, adopt, status="RUNNING", name=name)
            patiently(furnish, self.client, patiently(self.client.get_experiment, run.info.experiment_id))
            self.tags += [RunTag(*tag) for tag in tags.items()]
        self.run_id, self.experiment_id = run.info.run_id, run.info.experiment_id
        # Not through the client, which would read the whole run back from the store to know this.
        self.artifacts = get_artifact_repository(run.info.artifact_uri, tracking_uri=self.store.uri)
        reply(opened=id, run_id=self.run_id, experiment_id=run.info.experiment_id)

    def on_params(self, params: dict[str, str]) -> None:
        self.params += [
            Param(name, cut(value, LONGEST_PARAM)) for name, value in params.items() if name not in self.adopted_params
        ]

    def on_tags(self, tags: dict[str, str]) -> None:
        self.tags += [RunTag(name, cut(value, LONGEST_TAG)) for name, value in tags.items()]

    def on_metrics(self, step: int, time: int, metrics: dict[str, float]) -> None:
        self.metrics += [Metric(name, value, time, step) for name, value in metrics.items()]

    def on_dataset(
        self, name: str, digest: str, context: str, source: dict[str, str], profile: dict[str, object]
    ) -> None:
        dataset = Dataset(
            name=name,
            digest=digest,
            source_type="local",
            source=json.dumps(source),
            profile=json.dumps(profile),
        )
        self.inputs.append(DatasetInput(dataset, [InputTag("mlflow.data.context", context)]))

    def on_artifact(self, path: str, folder: str) -> None:
        patiently(self.artifacts.log_artifact, path, folder or None)

    def on_model(self, path: str, register: str | None, metrics: dict[str, float]) -> None:
        """What fails here is said in an answer and in a tag; the run goes on to its end."""
        self.flush()  # the model takes over params and metrics
        told: dict[str, str] = {}
        try:
            from . import logged_model

            model_id = logged_model.log_model(
                self.client, self.experiment_id, self.run_id, metrics, Path(path), patiently
            )
            told["uri"] = f"models:/{model_id}"
            if register is not None:
                version = logged_model.register(self.client, self.run_id, model_id, register, patiently)
                told["registered"] = f"models:/{register}/{version}"
        except Exception as error:
            told["error"] = f"{type(error).__name__}: {error}"
        self.on_tags({f"model.{name}": value for name, value in told.items()})
        reply(model=self.reader.path.stem, **told)

    def on_end(self, status: str, time: int) -> None:
        self.end(status, time)


def cut(value: str, length: int) -> str:
    return value if len(value) <= length else value[: length - len(CUT)] + CUT


def write(uri: str, experiment: str, artifacts: Path) -> None:
    """Open the store, then carry journals until the input ends."""
    store = open_store(uri, experiment, artifacts)
    reply(ready=True)
    paths: queue.Queue[str | None] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            paths.put(line.rstrip("\n"))
        paths.put(None)

    threading.Thread(target=listen, daemon=True).start()
    deliveries: dict[str, Delivery] = {}

    def carry(path: str) -> None:
        delivery = deliveries[path]
        try:
            delivery.carry()
            if not listening and not delivery.ended:
                delivery.end("KILLED", delivery.last_time)
        except Exception as error:  # the others go on; the journal stays where it is
            reply(undelivered=Path(path).stem, reason=f"{type(error).__name__}: {error}")
            del deliveries[path]
            return
        if delivery.ended:
            Path(path).unlink()
            del deliveries[path]
            reply(closed=Path(path).stem)

    listening, looked = True, time.monotonic()
    while listening:
        try:
            path = paths.get(timeout=POLL_SECONDS)
            if path is None:
                listening = False
            elif path in deliveries or Path(path).exists():  # else its end was seen before this word of it
                deliveries.setdefault(path, Delivery(store, Path(path)))
                carry(path)
        except queue.Empty:
            pass
        if not listening or time.monotonic() - looked >= POLL_SECONDS:
            for path in list(deliveries):
                carry(path)
            looked = time.monotonic()


def main() -> None:
    # Ctrl-C and SIGTERM are for the process that trains; this one ends with it, when all is written.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stdout = sys.stderr  # MLflow prints, and standard output is for answers
    settings = json.loads(sys.argv[1])
    try:
        write(settings["uri"], settings["experiment"], Path(settings["artifacts"]))
    except InputError as error:
        reply(refused=str(error))
    except Exception as error:
        reply(failed=f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
