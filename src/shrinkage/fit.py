"""One run, from a composed config to its record. Read this file first.

What is typed is checked, the writer process is started, and only then is PyTorch imported (`training`): a typo is
answered at once, and MLflow opens its store meanwhile.
"""

import getpass
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from shrinkage import config
from shrinkage.errors import InputError
from shrinkage.report.summary import show_summary
from shrinkage.tracking.client import Client, TrackingError, connect
from shrinkage.tracking.journal import Journal
from shrinkage.tracking.location import home, store_uri

if TYPE_CHECKING:
    from shrinkage.training import Training


class Refused(CompactHydraException):
    """An InputError on its way through a sweep: Hydra prints it without a traceback and exits with 1."""


@dataclass(frozen=True)
class Place:
    """Where a run stands: the folder of train.py, the run's own folder, and the overrides it was started with."""

    root: Path
    folder: Path
    overrides: list[str]

    @classmethod
    def of_this_job(cls) -> "Place":
        if not HydraConfig.initialized():
            return cls(Path.cwd(), Path("outputs") / f"{datetime.now():%Y-%m-%d/%H-%M-%S-%f}", [])
        hydra = HydraConfig.get()
        sources = [Path(s.path) for s in hydra.runtime.config_sources if s.provider == "main" and s.schema == "file"]
        root = sources[0].parent if sources else Path.cwd()
        return cls(root, Path(hydra.runtime.output_dir), list(hydra.overrides.task))


def fit(cfg: DictConfig) -> float:
    """Train one config and record it: the final val/loss, which a sweeper may minimise.

    Under early stopping the final weights are the best ones. On bad input the command line gets one line and exit code
    1, everybody else Refused.
    """
    try:
        with interruptible():
            return train(cfg, Place.of_this_job())
    except (InputError, TrackingError) as error:
        message = f"shrinkage: {error}"
        if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.RUN:
            raise SystemExit(message) from None
        raise Refused(message) from None


def train(cfg: DictConfig, place: Place) -> float:
    config.check(cfg)
    client = None
    if cfg.tracking.enabled:
        uri = store_uri(cfg.tracking.uri, place.root)
        client = connect(uri, cfg.tracking.experiment, home(uri, place.root))

    from shrinkage.training import build

    name = config.run_name(cfg, place.overrides)
    training = build(cfg, place.folder, label=name)
    for sentence in training.advice():
        print(f"note: {sentence}", file=sys.stderr)
    with recorded(client, training, place, name) if client else nullcontext():
        training.run()
        show_summary(name, training.module.measured, training.test)
    return training.module.measured["val/loss"]


@contextmanager
def recorded(client: Client, training: "Training", place: Place, name: str) -> Iterator[None]:
    """Keep the record of the training inside, and end the run FINISHED, FAILED or KILLED."""
    from shrinkage.report.figures import learning_curves
    from shrinkage.tracking.logger import JournalLogger

    client.wait_until_ready()
    resolved = OmegaConf.to_container(training.cfg, resolve=True)
    params = config.params(resolved)
    journal = client.begin(name, tags(place), parent=None)
    status = "FAILED"
    try:
        journal.params(params)
        journal.metrics(config.strength(training.cfg.lambd), step=0)
        for part in training.datamodule.describe(training.cfg.choices.data):
            journal.append("dataset", **part)
        for file, content in (("config.yaml", resolved), ("overrides.yaml", place.overrides)):
            journal.artifact(written(place.folder / file, OmegaConf.to_yaml(OmegaConf.create(content))))
        training.trainer.logger = JournalLogger(journal)
        yield
        history = training.module.history
        journal.metrics(training.test | training.best_metrics(), step=history[-1][0])
        figure = place.folder / "learning_curves.png"
        learning_curves(history, name, params["step_unit"]).savefig(figure)
        journal.artifact(figure, "figures")
        status = "FINISHED"
    except SystemExit:
        status = "KILLED"
        raise
    except BaseException as error:
        journal.tags({"error": error})
        journal.artifact(written(place.folder / "traceback.txt", traceback.format_exc()))
        raise
    finally:
        for path in training.checkpoints.files:
            journal.artifact(path, "checkpoints")
        deliver(client, journal, status)


def deliver(client: Client, journal: Journal, status: str) -> None:
    """End the run, wait until the store has it, and say where it is."""
    try:
        client.finish(journal, status)
    except TrackingError as error:
        if status == "FINISHED":
            raise
        print(f"shrinkage: {error}", file=sys.stderr)  # what stopped the run goes before
        return
    print(f"\n{status}. {client.where(journal)}")


def tags(place: Place) -> dict[str, str]:
    """Where a run came from."""
    found = {
        "mlflow.user": getpass.getuser(),
        "mlflow.source.name": "train.py",
        "mlflow.source.type": "LOCAL",
        "overrides": " ".join(place.overrides),
    }
    try:
        commit, changes = (
            subprocess.run(["git", "-C", place.root, *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.CalledProcessError):
        return found  # no git, or no repository
    return found | {"mlflow.source.git.commit": commit, "git.clean": str(not changes).lower()}


def written(path: Path, text: str) -> Path:
    """The path, with the text in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise SystemExit with the code that a shell expects (130, 143), wherever the run is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, _: object) -> None:
        raise SystemExit(128 + signum)

    before = {signum: signal.signal(signum, stop) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
