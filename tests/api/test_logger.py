"""Anyone's script: Lightning's with a JournalLogger, and one without Lightning."""

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from conftest import train_here, wait_for
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from torch.utils.data import DataLoader, TensorDataset

import shrinkage
from shrinkage import InputError, JournalLogger
from shrinkage.runs.yaml_text import from_yaml

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
ROWS = 4  # batches an epoch
LONG = "x" * 7000  # more than MLflow takes


class Line(L.LightningModule):
    """Its metrics are known without training: the square of the step, and at the end of an epoch its number."""

    def __init__(self, optimizer: dict | None = None, text: str = "", fails_at: int = -1) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="fails_at")
        self.net, self.fails_at = torch.nn.Linear(3, 1), fails_at

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        if self.global_step == self.fails_at:
            raise RuntimeError("as it was told")
        self.log("square@1", float(self.global_step) ** 2)
        return self.net(batch[0]).square().mean()

    def test_step(self, batch: list[torch.Tensor], index: int) -> None:
        self.log("test/three", 3.0)

    def on_train_epoch_end(self) -> None:
        self.log("number", float(self.current_epoch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def rows() -> DataLoader:
    return DataLoader(TensorDataset(torch.ones(ROWS, 3)))


def trainer(logger: JournalLogger, epochs: int, *callbacks: L.Callback) -> L.Trainer:
    return L.Trainer(max_epochs=epochs, log_every_n_steps=1, logger=logger, callbacks=list(callbacks), **QUIET)


def points_of(epochs: int) -> Counter:
    """What `Line` records in so many epochs, each once; Lightning says the epoch beside each of its points."""
    steps = range(epochs * ROWS)
    found = [("square_1", step, step**2) for step in steps] + [("epoch", step, step // ROWS) for step in steps]
    return Counter(found + [("number", ROWS * (epoch + 1) - 1, epoch) for epoch in range(epochs)])


def stored(store: Path, experiment: str) -> tuple[Run, Counter, dict[str, Path]]:
    """The one run of an experiment, all of its points, and its files."""
    client = MlflowClient(f"sqlite:///{store}")
    (run,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    every = [point for name in run.data.metrics for point in client.get_metric_history(run.info.run_id, name)]
    root = store.parent / "mlartifacts" / run.info.run_id / "artifacts"
    files = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    return run, Counter((point.key, point.step, point.value) for point in every), files


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file for all of these tests, each of which has an experiment of its own there."""
    return tmp_path_factory.mktemp("store") / "mlflow.db"


@pytest.fixture
def here(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the store elsewhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
    return tmp_path


def test_a_training_is_recorded_whole(here: Path, store: Path) -> None:
    (here / "notes").mkdir()
    (here / "notes" / "one.txt").write_text("1")
    (here / "elsewhere").mkdir()
    logger = JournalLogger("mine", "a line", tags={"who": "me"})
    module = Line({"name": "sgd", "lr": np.float32(0.5), "weights": (1, 2)}, LONG)
    training = trainer(
        logger, 2, ModelCheckpoint(filename="own"), ModelCheckpoint(here / "elsewhere", "other", every_n_epochs=2)
    )
    training.fit(module, rows())
    training.test(module, rows(), verbose=False)
    logger.log_artifact(here / "notes", "about")
    logger.log_hyperparams({"text": "another"})
    logger.experiment.leave()
    run, points, files = stored(store, "mine")
    assert run.info.status == "FINISHED" and run.info.run_name == "a line"
    expected = points_of(2) + Counter([("test/three", 2 * ROWS, 3.0), ("epoch", 2 * ROWS, 2)])
    assert points == expected
    cut = run.data.params.pop("text")
    assert run.data.params == {"optimizer.name": "sgd", "optimizer.lr": "0.5", "optimizer.weights": "[1, 2]"}
    assert len(cut) == 6000 and cut.startswith("xxx") and "config.yaml has all of it" in cut
    assert run.data.tags["changed.text"] == "another" and run.data.tags["who"] == "me"
    assert files.keys() == {"checkpoints/own.ckpt", "checkpoints/other.ckpt", "about/notes/one.txt", "config.yaml"}
    config = from_yaml(files["config.yaml"].read_text())
    assert config["optimizer"] == {"name": "sgd", "lr": 0.5, "weights": [1, 2]}


def test_a_run_goes_on_from_its_checkpoint(here: Path, store: Path) -> None:
    first = JournalLogger("goes on")
    every = ModelCheckpoint(save_top_k=-1, every_n_epochs=1)
    with pytest.raises(RuntimeError, match="as it was told"):
        trainer(first, 4, every).fit(Line(fails_at=3 * ROWS - 1), rows())
    first.tracked.leave()
    run, points, *_ = stored(store, "goes on")
    assert run.info.status == "FAILED" and run.data.tags["error"] == "as it was told"
    assert points[("square_1", 3 * ROWS - 2, (3 * ROWS - 2) ** 2)] == 1
    checkpoint = here / first.save_dir / first.name / first.version / "checkpoints" / f"epoch=0-step={ROWS}.ckpt"
    for resumed in (JournalLogger(resume=checkpoint), JournalLogger(run=run.info.run_id)):
        trainer(resumed, 4, ModelCheckpoint(save_top_k=0)).fit(Line(), rows(), ckpt_path=checkpoint)
        resumed.tracked.leave()
        again, points, *_ = stored(store, "goes on")
        assert again.info.run_id == run.info.run_id and again.info.status == "FINISHED"
        assert points == points_of(4)


def test_a_script_that_is_killed_is_killed_in_the_store_too(here: Path, store: Path) -> None:
    script = """
import shrinkage, time
run = shrinkage.track("a script", params={"token": "verysecret", "lr": 0.5}, experiment="killed")
for step in range(3):
    run.log({"square": step ** 2}, step=step)
while run.run_id is None:
    time.sleep(0.05)
print("there", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "there\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not list((store.parent / "journals").glob("*.journal")), 60)
    run, points, *_ = stored(store, "killed")
    assert run.info.status == "KILLED" and run.data.params == {"token": "***", "lr": "0.5"}
    assert points == Counter(("square", step, step**2) for step in range(3))


@pytest.mark.parametrize(
    ("error", "status"), [(None, "FINISHED"), (ValueError("no"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_a_block_ends_its_run(error: BaseException | None, status: str, here: Path, store: Path) -> None:
    run = shrinkage.track("a block", experiment=status)
    try:
        with run:
            run.log({"loss": torch.tensor(0.5)})
            if error is not None:
                raise error
    except BaseException as raised:
        assert raised is error
    assert run.status == status
    run.leave()
    found, points, *_ = stored(store, status)
    assert found.info.status == status and points == Counter([("loss", 0, 0.5)])


def test_a_script_that_an_error_ends_has_failed(here: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = shrinkage.track("a script", experiment="raises")
    monkeypatch.setattr(sys, "last_value", ValueError("so it was"), raising=False)  # as the interpreter does
    run.leave()
    found, _, files = stored(store, "raises")
    assert found.info.status == "FAILED" and found.data.tags["error"] == "so it was"
    assert files["traceback.txt"].read_text() == "ValueError: so it was\n"


def test_only_the_first_process_records(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = JournalLogger("mine")
    logger.log_hyperparams({"lr": 1})
    logger.log_metrics({"loss": 1.0}, 1)
    logger.experiment.log({"loss": 1.0})
    logger.log_artifact(here)
    logger.finalize("success")
    assert not list(here.iterdir())


def test_bad_input_is_refused_in_a_line(here: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(InputError, match="give one of them"):
        JournalLogger(run="one", resume="other")
    with pytest.raises(InputError, match=r"no run has left run\.json"):
        JournalLogger(resume=here)
    run = shrinkage.track("a script")
    with pytest.raises(InputError, match="loss='high': a metric is one number"):
        run.log({"loss": "high"})
    with pytest.raises(InputError, match=r"loss=.*a metric is one number"):
        run.log({"loss": torch.ones(2)})
    with pytest.raises(InputError, match="there is no such file"):
        run.log_artifact("nowhere")
    with pytest.raises(InputError, match="still running"):
        JournalLogger(run=run.folder).log_metrics({})
    run.leave()
    with pytest.raises(InputError, match="no run has this id or name"):
        JournalLogger(run="a script of nobody's")
    for key in ("resume", "rerun"):
        done = train_here(f"{key}={run.folder}", cwd=here)
        assert done.returncode == 1 and f"JournalLogger(run='{run.folder}')" in done.stderr
        assert "Traceback" not in done.stderr
