"""A run of anyone's script: all of it goes into a journal, which a writer process carries into MLflow."""

import atexit
import dataclasses
import json
import numbers
import os
import re
import shutil
import sys
import traceback
from argparse import Namespace
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from shrinkage.boundary import tell
from shrinkage.errors import InputError, ShrinkageError
from shrinkage.machine.disk import patiently
from shrinkage.machine.secrets import learn, masked, masked_tree, masked_values
from shrinkage.names import in_mlflow, on_a_line
from shrinkage.runs import resume
from shrinkage.runs.folder import ABOUT, Earlier
from shrinkage.runs.identity import leaves
from shrinkage.runs.provenance import origin_tags
from shrinkage.runs.yaml_text import yaml_text
from shrinkage.tracking.client import Client, connect
from shrinkage.tracking.journal import KEPT, Journal, checkpoints_in
from shrinkage.tracking.location import home, store_uri
from shrinkage.tracking.story import Reader, Story

SCRIPT = {"kind": "script"}  # the tag of a run that no config can do again


class TrackedRun:
    """A run that a script records, from its first event to its end.

    It begins with the first event, or with `begin`. name: the run's in MLflow, the script's if none is given. store:
    MLflow's URI; None for MLFLOW_TRACKING_URI, else `mlflow.db` in the current folder. earlier: the id, name, folder or
    a checkpoint of a run that goes on; its experiment and name stay. Raises InputError where there is no such run.

    folder: the run's own, on this disk. status: RUNNING until it has ended.
    """

    def __init__(
        self,
        name: str | None,
        *,
        experiment: str,
        tags: Mapping[str, object] | None = None,
        store: str | None = None,
        earlier: str | os.PathLike[str] | None = None,
    ) -> None:
        root, script = Path.cwd(), Path(sys.argv[0] or "python")
        self.uri = store_uri(store, root)
        self.tags = {str(key): str(value) for key, value in (tags or {}).items()}
        self.name, self.experiment = name or script.stem, experiment
        self.origin = origin_tags(root, script.name) | SCRIPT
        self.beside = home(self.uri, root)
        self.earlier: Path | None = None
        self.journal: Journal | None = None
        self.params: dict[str, str] = {}
        self.config: dict[str, Any] = {}
        self.written: dict[str, str] = {}  # names as MLflow takes them, by those that were given
        self.latest: tuple[int, dict[str, float]] = 0, {}  # the last step, and its metrics
        self.kept: dict[Path, int] = {}  # when the checkpoints that are recorded were changed
        self.status = "RUNNING"
        if earlier is None:
            place = re.sub(r"[^\w.-]", "_", in_mlflow(experiment))
            self.folder = root / "outputs" / place / f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
        else:
            found = find_script(earlier, self.uri, root)
            self.folder, self.earlier = found.folder, found.journal(self.beside)
            if self.earlier is None:
                raise InputError(f"{earlier}: the journal of {found.name} is gone, so it cannot go on; begin a new run")
            story = Story.of(self.earlier)
            self.name, self.experiment = story.name, story.experiment
            self.take_over(self.earlier)
        self.error_before = getattr(sys, "last_value", None)
        self.client  # noqa: B018 the writer opens the store meanwhile

    @property
    def client(self) -> Client:
        """The way to the writer process, which is started when this is first asked for."""
        return connect(self.uri, self.experiment, self.beside, 0, "auto")

    @property
    def id(self) -> str:
        """The run's id on this disk, by which it is found again; also the tag `shrinkage.journal` in MLflow."""
        return self.begin().id

    @property
    def run_id(self) -> str | None:
        """The run's id in MLflow; None where the store does not have it yet."""
        return self.client.run_id(self.begin())

    def begin(self, params: Mapping[str, str] | None = None) -> Journal:
        """Begin the run's journal, or go on with it; once begun, return it. Raises InputError where it cannot be."""
        if self.journal is not None and self.status == "RUNNING":
            return self.journal
        if self.journal is not None:  # it had ended: Lightning ends a run after each of fit, validate, test
            self.journal, self.status = self.go_on(self.journal.path), "RUNNING"
            return self.journal
        self.client.wait_until_ready()
        adopt = os.environ.get("MLFLOW_RUN_ID") or None
        if self.earlier is not None:
            self.journal = self.go_on(self.earlier, adopt)
            self.journal.tags(self.tags)
        else:
            tags = self.origin | masked_values(self.tags)
            self.journal = self.client.begin(
                self.name, tags, params=dict(params or {}), adopt=adopt, folder=self.folder
            )
        about = {"id": self.journal.id, "name": self.name, "fingerprint": "", "sweep": None}
        self.write(ABOUT, json.dumps(about))
        atexit.register(self.leave)
        return self.journal

    def go_on(self, path: Path, adopt: str | None = None) -> Journal:
        """Go on with a journal, which a writer may move into the run's folder at this moment.

        Raises InputError where it is gone, or the run still goes on elsewhere.
        """
        for each in (path, self.folder / KEPT):
            with suppress(FileNotFoundError):
                return self.client.resume(each, adopt)
        raise InputError(f"{path}: the journal of {self.name} is gone, so it cannot go on; begin a new run")

    def take_over(self, path: Path) -> None:
        """Read the params that an earlier journal has."""
        for event in Reader(path).events():
            if event["event"] == "params":
                self.params |= event["params"]

    def log(self, metrics: Mapping[str, Any], step: int = 0) -> None:
        """Record metrics of a step. A run that goes on leaves out the points that it has already.

        The same value of the same step is recorded once: Lightning says the epoch beside each of its metrics. Raises
        InputError where a value is not a number.
        """
        values = {self.name_of(name): number(name, value) for name, value in metrics.items()}
        before = self.latest[1] if step == self.latest[0] else {}
        self.latest = step, before | values
        new = {name: value for name, value in values.items() if before.get(name) != value}
        self.begin().metrics(new, int(step))

    def log_params(self, params: Any) -> None:
        """Record params: a mapping, a namespace or a data class, however nested; each leaf by its dotted key.

        MLflow keeps a param's first value: a later one that differs becomes the tag `changed.NAME`, and a note says so.
        What MLflow cuts, a value of more than 6,000 characters, stands whole in the artifact `config.yaml`.
        """
        tree = plain(params)
        learn(tree)
        values = masked_values({self.name_of(name): value for name, value in leaves(tree)})
        new = {name: value for name, value in values.items() if name not in self.params}
        changed = {name: value for name, value in values.items() if self.params.get(name, value) != value}
        has_begun = self.journal is not None or self.earlier is not None
        journal = self.begin(new)
        self.params |= new
        if new and has_begun:
            journal.params(new)
        for name, value in changed.items():
            print(
                f"note: {name}={on_a_line(value[:80])}: the run has {on_a_line(self.params[name][:80])}, and MLflow "
                f"keeps a param's first value; the new one is the tag changed.{name}",
                file=sys.stderr,
            )
        if changed:
            journal.tags({f"changed.{name}": value for name, value in changed.items()})
        if new or changed:
            self.config |= tree
            self.keep_text("config.yaml", yaml_text(masked_tree(self.config)))

    def log_tags(self, tags: Mapping[str, object]) -> None:
        """Record tags as text."""
        self.begin().tags({self.name_of(name): value for name, value in tags.items()})

    def log_artifact(self, path: str | os.PathLike[str], folder: str = "") -> None:
        """Record a file, or all files of a folder, as it is now, under a folder of the run's artifacts.

        What lies outside of the run's own folder is copied there. Raises InputError where there is no such file.
        """
        source, journal = Path(path).absolute(), self.begin()
        if not source.exists():
            raise InputError(f"{path}: there is no such file or folder; give one that is there")
        for file in files_of(source):
            below = str(file.parent.relative_to(source.parent)).replace(".", "", 1) if source.is_dir() else ""
            place = "/".join(part for part in (folder, below) if part)
            if not file.is_relative_to(self.folder):
                copy = self.folder / "artifacts" / place / file.name
                patiently(lambda file=file, copy=copy: shutil.copy2(file, copy), copy)
                file = copy
            journal.artifact(file, place)

    def keep_text(self, file: str, text: str) -> None:
        """Write a text file into the run's folder and record it."""
        self.begin().artifact(self.write(file, text))

    def write(self, file: str, text: str) -> Path:
        """Write a text file into the run's folder."""
        path = self.folder / file
        patiently(lambda: path.write_text(text, encoding="utf-8"), path)
        return path

    def keep_checkpoints(self, others: Iterable[Path] = ()) -> None:
        """Record the checkpoints in the run's folder, and copies of others, where they have changed since last time."""
        journal, place = self.begin(), self.folder / "checkpoints"
        for path in others:
            if path.exists() and not path.is_relative_to(self.folder):
                for file in files_of(path):
                    copy = place / file.relative_to(path.parent)
                    patiently(lambda file=file, copy=copy: shutil.copy2(file, copy), copy)
        for path in checkpoints_in(self.folder):
            for file in files_of(path):
                changed = file.stat().st_mtime_ns
                if self.kept.get(file) != changed:
                    self.kept[file] = changed
                    journal.artifact(file, str(file.parent.relative_to(self.folder)))

    def fail(self, error: BaseException) -> None:
        """Record what went wrong, and end the run: KILLED where somebody stopped it, else FAILED."""
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            self.end("KILLED")
            return
        self.begin().tags({"error": masked(str(error))})
        self.keep_text("traceback.txt", masked("".join(traceback.format_exception(error))))
        self.end("FAILED")

    def end(self, status: str) -> None:
        """End the run; the writer carries its record into the store meanwhile."""
        if self.journal is not None and self.status == "RUNNING":
            self.client.end(self.journal, status)
            self.status = status

    def leave(self) -> None:
        """End the run at the end of the script, wait until the store has all of it, and say where it is.

        A store that is away is not waited for long: the journal has all, and goes into it later.
        """
        atexit.unregister(self.leave)
        if self.journal is None:
            return
        try:
            if self.status == "RUNNING":
                error = getattr(sys, "last_value", None)  # the one that ends the script
                if isinstance(error, BaseException) and error is not self.error_before:
                    self.fail(error)
                else:
                    self.end("FINISHED")
            self.client.wait_for(self.journal)
            print(f"\n{self.status}. {self.client.where(self.journal)}", file=sys.stderr)
        except ShrinkageError as error:
            tell(error)

    def name_of(self, given: str) -> str:
        """Write a name so that MLflow takes it, and no two of a run alike."""
        if given not in self.written:
            name = in_mlflow(str(given))
            while name in self.written.values():
                name += "_"
            self.written[given] = name
        return self.written[given]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if error is None:
            self.end("FINISHED")
        else:
            self.fail(error)


def track(
    name: str,
    *,
    params: object = None,
    tags: Mapping[str, object] | None = None,
    experiment: str = "shrinkage",
    store: str | None = None,
) -> TrackedRun:
    """Begin a run of a script; with `with` it ends when the block is left, else with the script.

        with shrinkage.track("mine", params={"lr": 0.1}) as run:
            run.log({"loss": 0.5}, step=1)

    It ends FINISHED, FAILED with the error that left the block, or KILLED where it was stopped or its process died. The
    block never waits for the store. Raises InputError where the store refuses, or the disk is full.
    """
    run = TrackedRun(name, experiment=experiment, tags=tags, store=store)
    if params is None:
        run.begin()
    else:
        run.log_params(params)
    return run


def find_script(target: str | os.PathLike[str], uri: str, root: Path) -> Earlier:
    """Find the run of a script by its id, name, folder, or a file or folder in that, such as a checkpoint.

    Raises InputError where there is none, or it was trained from a config.
    """
    path = Path(target).absolute()
    if path.exists():
        folders = [each for each in (path, *path.parents) if (each / ABOUT).is_file()]
        if not folders:
            raise InputError(f"{target}: no run has left {ABOUT} there or in a folder above; give the run's id")
        earlier = Earlier.of(folders[0])
    else:
        earlier = Earlier.of(resume.folder_of(str(target), uri, root))
    if not earlier.is_script:
        raise InputError(f"{target}: {earlier.name} was trained from a config; go on by: shrinkage resume={target}")
    return earlier


def files_of(path: Path) -> list[Path]:
    """List a file itself, or all files of a folder, in their order."""
    return sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]


def number(name: str, value: Any) -> float:
    """Turn the value of a metric, a number or a tensor of one, into a float. Raises InputError where it is none."""
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise InputError(
            f"{name}={str(value)[:80]!r}: a metric is one number; give such, or record it as a param or a file"
        ) from None


def plain(value: Any) -> Any:
    """Turn params into plain data: dicts, lists, numbers and text; classes and functions by their names."""
    if isinstance(value, Namespace):
        value = vars(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in value]
    if isinstance(value, numbers.Real):  # of NumPy
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    return getattr(value, "__qualname__", None) or str(value)
