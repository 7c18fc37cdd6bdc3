"""A journal on its way into the store. Every step may be made twice: what is there already is not made anew."""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from shrinkage.errors import StoreAway, StoreRefuses, TrackingError
from shrinkage.machine.process import died
from shrinkage.names import encodable

from .adoption import adopt
from .answers import asking
from .journal import KEPT, NOT_ADOPTED, end_for, locked
from .own_files import NotOwn, named, opened
from .store import JOURNAL, Store, furnish
from .story import Reader
from .views import jobs_view

METRICS_A_BATCH, PARAMS_A_BATCH, TAGS_A_BATCH = 1000, 100, 100  # MLflow's limits
METRICS_HELD = 50_000  # of a long journal, before they are sent
LONGEST_PARAM, LONGEST_TAG, LONGEST_NAME = 6000, 8000, 250
SOURCE_TYPE, CONTEXT = "local", "mlflow.data.context"  # of a data set; the second is a tag's name
CUT = " … (cut: config.yaml has all of it)"


class Waiting(TrackingError):
    """The run that this one stands under is not in the store yet."""

    may_pass = True


class Delivery:
    """One journal, carried into the store as far as it goes each time.

    fresh: nobody else can have begun to deliver it. run_id: in the store, empty until the run is there. lost: files
    that were gone when they were to be stored, or none of the run's own. said: hears what is to be told at once.
    """

    def __init__(
        self, store: Store, path: Path, fresh: bool, said: Callable[..., None] = lambda **fields: None
    ) -> None:
        self.store, self.client, self.path, self.said = store, store.client, path, said
        self.reader = Reader(path)
        self.fresh = fresh
        self.id = self.run_id = ""  # until the journal's first event is delivered
        self.experiment_id = store.experiment_id
        self.folder: Path | None = None
        self.status, self.latest = "RUNNING", 0  # the latest time in the journal, in milliseconds since 1970
        self.closed = False
        self.adopted_params: set[str] = set()  # names that `mlflow run` has written, which MLflow lets nobody change
        self.metrics: list[Metric] = []
        self.params: list[Param] = []
        self.tags: list[RunTag] = []
        self.inputs: list[DatasetInput] = []
        self.artifacts: list[tuple[str, str]] = []
        self.lost: list[str] = []

    def carry(self) -> None:
        """Deliver everything that has been appended since the last call.

        Raises StoreAway or StoreRefuses where the store does not take it; what could not be delivered is kept, and
        tried at the next call. Raises Waiting where the run's sweep comes first, and FileNotFoundError where another
        process has delivered the journal.
        """
        with locked(self.path), asking():
            self.deliver()

    def end(self, status: str, time: int) -> None:
        """End the run of a process that has died, where its journal has no end, and deliver everything.

        Raises InputError if the journal cannot be read, and what `carry` does.
        """
        self.fresh = False  # any process may have begun to deliver it by now
        with locked(self.path), asking():
            self.deliver()
            if self.status == "RUNNING":
                end_for(self.path, status, died(self.latest, time))
                self.deliver()

    def deliver(self) -> None:
        """Carry what has been appended, without the lock."""
        for event in self.reader.events():
            handle = getattr(self, f"on_{event['event']}", None)
            if handle is None:
                raise StoreRefuses(f"nobody here knows its event {event['event']}; bring it in with a newer version")
            handle(**{name: value for name, value in event.items() if name != "event"})
            self.latest = max(self.latest, event.get("time", 0))
            if len(self.metrics) >= METRICS_HELD:
                self.flush()
        self.flush()
        if self.status == "RUNNING":
            self.try_artifacts()
        else:
            self.send_artifacts()
            self.close()

    def flush(self) -> None:
        # From the last step back: MLflow keeps the latest value of each metric beside the curve, and so writes it once.
        """Send the metrics, params, tags and data sets that have been read, in batches that MLflow takes."""
        self.metrics.sort(key=lambda metric: -metric.step)
        while self.metrics or self.params or self.tags:
            self.client.log_batch(
                self.run_id,
                metrics=self.metrics[:METRICS_A_BATCH],
                params=self.params[:PARAMS_A_BATCH],
                tags=self.tags[:TAGS_A_BATCH],
                synchronous=True,
            )
            self.metrics = self.metrics[METRICS_A_BATCH:]
            self.params, self.tags = self.params[PARAMS_A_BATCH:], self.tags[TAGS_A_BATCH:]
        if self.inputs:
            self.client.log_inputs(self.run_id, datasets=self.inputs)
            self.inputs = []

    def send_artifacts(self) -> None:
        """Send the run's files; those that are gone, or none of the run's own, are noted as lost."""
        while self.artifacts:
            path, folder = self.artifacts[0]
            try:
                with named(Path(path), self.folder, self.path) as found:
                    self.repository.log_artifact(str(found), folder or None)
            except NotOwn as why:
                self.lost.append(f"{path} ({why})")
            except FileNotFoundError:
                self.lost.append(path)
            self.artifacts.pop(0)

    def try_artifacts(self) -> None:
        """Send the run's files, or leave them for later: what else is known of a run does not wait for them."""
        with suppress(StoreAway), asking():
            self.send_artifacts()

    def close(self) -> None:
        """Move the journal, all of which is in the store, into its run's folder."""
        if told := lost_tags(self.lost, self.reader.damaged):
            self.on_tags(told)
            self.flush()
        self.store.check_in_place()
        put_away(self.path, self.folder)
        self.closed = True

    def on_run(
        self,
        id: str,
        time: int,
        name: str,
        tags: dict[str, str],
        parent: str | None,
        adopt: str | None,
        store: str,
        experiment: str,
        folder: str | None,
        process: dict[str, object],
        decided: bool = False,  # journals of earlier versions do not say
        **others: object,  # of later versions
    ) -> None:
        self.id, self.folder = id, None if folder is None else Path(folder)
        self.experiment_id, above = place_under(self.store, self.path, parent)
        tags = first_tags(id, time, tags, folder, process) | above
        name = cut(name, LONGEST_NAME)
        run = None if self.fresh else self.store.find(id)
        if run is None and adopt is not None:
            run = self.adopted(adopt, decided, name, tags)
        if run is None:
            self.fresh = False  # should the answer get lost, the run is looked for
            run = self.client.create_run(self.experiment_id, start_time=time, tags=tags, run_name=name)
            if adopt is not None:
                self.said(note=tags[NOT_ADOPTED])
        elif run.info.run_id == adopt:
            self.adopted_params = set(run.data.params)
        self.take_run(run)

    def adopted(self, run_id: str, decided: bool, name: str, tags: dict[str, str]) -> Run | None:
        """Take over the run of this id, by its name and tags; or leave it, return None, and add to the tags why."""
        run = adopt(self.client, run_id, self.id, None if decided else self.first_params())
        if isinstance(run, str):
            tags[NOT_ADOPTED] = cut(run, LONGEST_TAG)
            return None
        self.client.update_run(run_id, status="RUNNING", name=name)  # `mlflow run` may have ended it by now
        furnish(self.client, self.client.get_experiment(run.info.experiment_id))
        # The tag with the journal's id is the sign that all of this is done, so it comes last, with the others.
        self.client.log_batch(run_id, tags=[RunTag(*tag) for tag in tags.items()], synchronous=True)
        return run

    def first_params(self) -> dict[str, str]:
        """The params that the run began with. They are in the journal before anybody hears of it."""
        return next((event["params"] for event in Reader(self.path).events() if event["event"] == "params"), {})

    def take_run(self, run: Run) -> None:
        """Remember the run in the store that this journal is about, and tell of it."""
        self.run_id, self.experiment_id = run.info.run_id, run.info.experiment_id
        if run.info.artifact_uri is None:
            raise StoreRefuses(f"the store has no place for the files of run {self.run_id}")
        # Not through the client, which would read the whole run back from the store to know this.
        self.repository = get_artifact_repository(run.info.artifact_uri, tracking_uri=self.store.uri)
        self.said(opened=self.id, run_id=self.run_id, experiment_id=self.experiment_id)

    def on_resume(self, time: int, process: dict[str, object]) -> None:
        self.flush()
        self.client.update_run(self.run_id, status="RUNNING")
        self.tags += [RunTag(*tag) for tag in process_tags(process, time).items()]
        self.status = "RUNNING"

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
            source_type=SOURCE_TYPE,
            source=json.dumps(source),
            profile=json.dumps(profile),
        )
        self.inputs.append(DatasetInput(dataset, [InputTag(CONTEXT, context)]))

    def on_view(self, name: str, only: dict[str, str] | None = None) -> None:
        """Give the experiment a view of the runs that stand under this one. only: the params of those that it shows."""
        self.client.set_experiment_tag(self.experiment_id, *jobs_view(self.run_id, name, only or {}))

    def on_artifact(self, path: str, folder: str) -> None:
        self.artifacts.append((path, folder))

    def on_model(self, path: str, register: str | None, metrics: dict[str, float]) -> None:
        """Log a model. What cannot be kept is said in an answer and in a tag; the run goes on to its end."""
        self.flush()  # the model takes over params and metrics
        told: dict[str, str] = {}
        try:
            with asking():
                self.log_model(Path(path), register, metrics, told)
        except StoreRefuses as error:
            told["error"] = str(error)
        self.on_tags({f"model.{name}": value for name, value in told.items()})
        self.said(model=self.id, **told)

    def log_model(self, folder: Path, register: str | None, metrics: dict[str, float], told: dict[str, str]) -> None:
        """Log the model that lies in a folder, and register it; add to `told` where it is."""
        from . import logged_model

        with TemporaryDirectory() as copied:
            for name in logged_model.FILES.values():
                try:
                    with opened(folder / name, self.folder, self.path) as file:
                        shutil.copyfile(f"/dev/fd/{file}", Path(copied, name))
                except NotOwn as why:
                    raise StoreRefuses(f"{folder / name}: it is not stored: {why}") from None
                except FileNotFoundError:
                    raise StoreRefuses(f"FileNotFoundError: {folder / name} is gone") from None
            model_id = logged_model.log_model(self.client, self.experiment_id, self.run_id, metrics, Path(copied))
        told["uri"] = f"models:/{model_id}"
        if register is not None:
            version = logged_model.register(self.client, self.run_id, model_id, register)
            told["registered"] = f"models:/{register}/{version}"

    def on_end(self, status: str, time: int) -> None:
        """End the run in the store, as soon as everything before it is there. Raises StoreRefuses or StoreAway."""
        self.flush()
        self.try_artifacts()  # so that a run that has ended is whole, if that can be
        self.client.set_terminated(self.run_id, status=status, end_time=time)
        self.status = status


def first_tags(
    id: str, time: int, tags: dict[str, str], folder: str | None, process: dict[str, object]
) -> dict[str, str]:
    """Build the tags that a run of its own is made with, from the first event of its journal."""
    tags = {name: cut(value, LONGEST_TAG) for name, value in tags.items()}
    return tags | {JOURNAL: id, "folder": encodable(folder or "")} | process_tags(process, time)


def place_under(store: Store, journal: Path, parent: str | None) -> tuple[str, dict[str, str]]:
    """Find the experiment of a run and the tags that put it under its sweep, by the id of the sweep's journal.

    Raises Waiting where the sweep is not in the store yet and will be.
    """
    if parent is None:
        return store.experiment_id, {}
    above = store.find(parent)
    if above is not None:
        # MLflow's page shows a run under its parent only within one experiment.
        return above.info.experiment_id, {"mlflow.parentRunId": above.info.run_id}
    if journal.with_stem(parent).exists():
        raise Waiting(f"the sweep {parent} is not in the store yet")
    return store.experiment_id, {"shrinkage.parent": parent}


def lost_tags(lost: list[str], damaged: int) -> dict[str, str]:
    """Build the tags that say which files of a run were not stored, and how many lines of its journal were damaged."""
    told = {"artifacts": " ".join(lost), "lines": damaged or ""}
    return {f"lost.{name}": str(value) for name, value in told.items() if value}


def put_away(journal: Path, folder: Path | None) -> None:
    """Move a journal, all of which is in the store, into its run's folder; one that lies there already stays."""
    if journal.name == KEPT:
        return
    if folder is not None and folder.is_dir():
        shutil.move(journal, folder / KEPT)
    else:
        journal.unlink()


def process_tags(process: dict[str, object], time: int) -> dict[str, str]:
    """Build the tags by which it can be told whether a run that is RUNNING does run.

    time: the heartbeat, in milliseconds since 1970.
    """
    return {f"process.{name}": str(value) for name, value in process.items()} | {"process.heartbeat": str(time)}


def cut(value: str, length: int) -> str:
    """Cut a text to MLflow's limit, and say so in it; what no database can hold of it is escaped."""
    value = value if value.isascii() else encodable(value)
    return value if len(value) <= length else value[: length - len(CUT)] + CUT
