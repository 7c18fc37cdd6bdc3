"""Runs and lanes that are killed anywhere and resumed from their checkpoint, against those that never were: bitwise."""

import random
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from conftest import config
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig
from torch import Tensor

from shrinkage.errors import InputError
from shrinkage.fit_lanes import fit_lanes
from shrinkage.machine import disk
from shrinkage.runs.folder import ABOUT, RunLocation
from shrinkage.runs.membership import VARIABLE, Membership
from shrinkage.runs.record import Record
from shrinkage.studies.base import vary
from shrinkage.training import checkpoints
from shrinkage.training.lane import Lane
from shrinkage.training.lanes_training import LanesTraining, build_lanes
from shrinkage.training.run import Training, build
from shrinkage.training.workshop import Workshop


@pytest.fixture(scope="module", autouse=True)
def a_checkpoint_an_epoch() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "EVERY_SECONDS", -1.0)
        yield


class Killed(SystemExit):
    """What a signal raises, and nobody else."""


class Kill(L.Callback):
    """Ends the training after so many batches; after 0 as soon as it polishes."""

    def __init__(self, batches: int) -> None:
        self.batches, self.done = batches, 0

    def on_train_batch_end(self, *_: object) -> None:
        self.done += 1
        if self.done == self.batches:
            raise Killed

    def polishing(self, done: int, lanes: int) -> None:
        if self.batches == 0:
            raise Killed


def kill(training: Training | LanesTraining, batches: int, checkpoint: Path | None) -> None:
    """Run it to where it is killed; one that has not so many batches left runs to its end."""
    end = Kill(batches)
    training.module.on_polish = end.polishing
    training.trainer.callbacks.append(end)
    with suppress(Killed):
        training.run(checkpoint)


def disturb() -> None:
    """What another process would have in the place of the random states."""
    torch.manual_seed(999)
    np.random.seed(999)
    random.seed(999)


def assert_same(ours: object, theirs: object, at: str = "") -> None:
    """To the last bit; NaN equals NaN."""
    assert type(ours) is type(theirs), at
    if isinstance(ours, dict):
        assert list(ours) == list(theirs), at
        for key in ours:
            assert_same(ours[key], theirs[key], f"{at}.{key}")
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs), at
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            assert_same(*pair, f"{at}[{number}]")
    elif isinstance(ours, np.ndarray):
        np.testing.assert_array_equal(ours, theirs, at, strict=True)
    elif isinstance(ours, Tensor):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape, at
        assert torch.equal(ours.nan_to_num(nan=1.25), theirs.nan_to_num(nan=1.25)), at
    else:
        assert ours == theirs or (ours != ours and theirs != theirs), f"{at}: {ours} {theirs}"


def end_of(training: Training) -> dict[str, object]:
    """All that a run comes to, and its files, but the time of day."""
    module, kept = training.module, training.checkpoints
    files = {path.name: torch.load(path, weights_only=True) for path in kept.files}
    for file in files.values():
        file.get("course", {}).pop("times", None)
    return {
        "weights": dict(module.model.state_dict()),
        "history": [(moment.step, moment.metrics) for moment in module.history],
        "trajectory": module.trajectory,
        "measured": module.measured,
        "test": training.test,
        "conclusion": training.conclusion,
        "verdict": training.verdict(),
        "best": (kept.best, kept.best_measured, training.best_metrics()),
        "files": files,
    }


def begun(cfg: DictConfig, folder: Path) -> Training:
    """To be resumed where there is something to resume."""
    training = build(cfg, folder)
    if training.checkpoints.path.exists():
        disturb()
        (folder / "checkpoints/best.ckpt").unlink(missing_ok=True)  # one that is not of the same moment, either
    return training


def assert_resumes(cfg: DictConfig, *kills: int) -> Training:
    """Killed again and again, after so many batches each time, and resumed."""
    with TemporaryDirectory() as folder:
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        training = build(cfg, whole)
        training.run()
        expected = end_of(training)
        last = killed / "checkpoints" / "last.ckpt"
        for batches in kills:
            kill(begun(cfg, killed), batches, last if last.exists() else None)
        training = begun(cfg, killed)
        training.run(last if last.exists() else None)
        assert_same(end_of(training), expected)
    return training


MLP = ["model=mlp", "model.widths=[5]", "model.dropout=0.5"]
ADAM = ["optimizer=adam", "optimizer.lr=0.01"]
MOMENTUM = ["optimizer.momentum=0.8", "optimizer.lr=0.01"]
PROX = ["penalty=l1", "lambd=0.1"]
COSINE = ["schedule=cosine", "schedule.warmup=0.25"]
DOUBLE = ["trainer.precision=64-true"]
POLISH = ["polish=20"]
STOPPING = ["trainer.max_epochs=12", "early_stopping.patience=1", "early_stopping.min_delta=1e-3"]
GAP = ["trainer.max_epochs=12", "trainer.until_gap=3e-3"]
STEPS = ["trainer.max_steps=22"]  # an epoch has 4
EPOCHS = ["trainer.max_epochs=6"]


@pytest.mark.parametrize(
    ("overrides", "kills"),
    [
        ([*EPOCHS, *MLP, *ADAM, *COSINE], [2, 10]),  # killed before there is a checkpoint, and in an epoch
        ([*STEPS, *MLP, *MOMENTUM, *DOUBLE], [9, 4]),
        ([*STEPS, *PROX, *COSINE, *POLISH], [21, 0]),  # in the last epoch, a part of one, and in the polish
        ([*STOPPING, *MOMENTUM, *POLISH, "lambd=0.1"], [8, 0]),
        ([*STOPPING, *MLP, *ADAM], [99]),  # when training had stopped early
        ([*GAP, *PROX, *MOMENTUM, "certificate=epoch"], [13, 99]),
        ([*EPOCHS, *POLISH], [99]),  # when all was written
        (["data=digits", "data.batch_size=300", "trainer.max_epochs=3", *ADAM, "penalty=none"], [7]),
    ],
)
def test_a_run_that_is_killed_ends_as_one_that_never_was(overrides: list[str], kills: list[int]) -> None:
    assert_resumes(config(*overrides), *kills)


AXES = (
    ([], ["model.init=torch"], MLP),
    ([], ADAM, MOMENTUM, PROX, ["penalty=adamw"]),
    (EPOCHS, STEPS, STOPPING, GAP),
    ([], COSINE),
    ([], DOUBLE),
    ([], POLISH),
    (["data.batch_size=5"], ["data.batch_size=8"], ["data.batch_size=null"]),
)


@given(st.tuples(*map(st.sampled_from, AXES)), st.lists(st.integers(0, 25), min_size=1, max_size=3))
@settings(max_examples=5, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
def test_a_run_is_resumed_from_anywhere(axes: tuple[list[str], ...], kills: list[int]) -> None:
    assert_resumes(config(*(override for axis in axes for override in axis)), *kills)


def together(cfgs: list[DictConfig], folder: Path) -> tuple[LanesTraining, dict[int, Lane], Path]:
    """Lanes to be trained, those that have been handed over, and their checkpoint."""
    ended: dict[int, Lane] = {}
    checkpoint = folder / "lanes.ckpt"
    training = build_lanes(
        cfgs, Workshop(cfgs[0]), folder, lambda lane: ended.update({lane.index: lane}), checkpoint=checkpoint
    )
    return training, ended, checkpoint


def running(checkpoint: Path) -> set[int]:
    """The lanes that had not ended."""
    state = torch.load(checkpoint, weights_only=True)["lanes"]
    return set(state["index"][state["running"]].tolist())


def end_of_lane(lane: Lane) -> dict[str, object]:
    """All but the time of day."""
    history = [(moment.step, moment.metrics) for moment in lane.history]
    return vars(lane) | {"history": history, "error": str(lane.error)}


def assert_lanes_resume(cfgs: list[DictConfig], *kills: int) -> None:
    """Killed again and again, after so many batches each time, and resumed."""
    with TemporaryDirectory() as folder:
        training, expected, _ = together(cfgs, Path(folder) / "whole")
        training.run()
        recorded: dict[int, Lane] = {}
        for batches in [*kills, None]:
            training, ended, checkpoint = together(cfgs, Path(folder) / "killed")
            start = checkpoint if checkpoint.exists() else None
            left = running(checkpoint) if start else set(range(len(cfgs)))
            if batches is None:
                training.run(start)
            else:
                kill(training, batches, start)
            assert set(ended) <= left
            for index in ended.keys() & recorded.keys():
                assert_same(end_of_lane(ended[index]), end_of_lane(recorded[index]), f"again {index}")
            recorded |= ended
        assert set(recorded) == set(expected) == set(range(len(cfgs)))
        for index, lane in recorded.items():
            assert lane.error is not None or "between_epochs" not in lane.last
            assert_same(end_of_lane(lane), end_of_lane(expected[index]), str(index))


@pytest.mark.parametrize(
    ("overrides", "lambdas", "kills"),
    [
        # They end one by one, so that the stack is compacted before, between and after.
        (["trainer.max_epochs=30", "early_stopping.patience=2", "data.num_train=10", *MOMENTUM], range(10), [9, 5, 10]),
        (
            ["trainer.max_epochs=30", "trainer.until_gap=1e-3", "data.batch_size=null", *POLISH, *PROX],
            (0.01, 0.1),
            [9, 0],
        ),
        ([*STEPS, *MLP[:2], *ADAM, *COSINE, *DOUBLE], (0, 0.3), [9]),
        (["trainer.max_epochs=12", "optimizer.lr=0.05"], (1, 500, 0.1), [18]),  # one diverges
        ([*EPOCHS, *POLISH], (1, 3), [0, 0]),  # killed when all was trained
    ],
)
def test_lanes_that_are_killed_end_as_those_that_never_were(
    overrides: list[str], lambdas: Sequence[float], kills: list[int]
) -> None:
    cfg = config(*overrides, "tracking.history=all")
    seeds = [{"seed": 0}, {"seed": 1}] if len(lambdas) == 2 else [{}]
    assert_lanes_resume([vary(cfg, lambd=lambd, **seed) for lambd in lambdas for seed in seeds], *kills)


def test_lanes_on_data_of_their_own_are_resumed() -> None:
    cfg = config(*EPOCHS, "tracking.history=thin")
    assert_lanes_resume([vary(cfg, data__seed=data, seed=seed) for data in (3, 4) for seed in (0, 1)], 14)


def test_what_a_lane_leaves_behind_loads_without_unpickling_and_says_that_it_is_an_end(tmp_path: Path) -> None:
    training, lanes, _ = together([config("trainer.max_epochs=1"), config("trainer.max_epochs=1", "lambd=1")], tmp_path)
    training.run()
    checkpoints.write(tmp_path, best=lanes[1].best, last=lanes[1].last)
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["epoch"] == 1
    with pytest.raises(InputError, match="holds weights, but not all that training needs to go on"):
        checkpoints.load(tmp_path / "last.ckpt")


def test_metrics_that_are_undefined_at_some_steps_stay_out(tmp_path: Path) -> None:
    training = build(config("trainer.max_epochs=3"), tmp_path)
    training.run()
    del training.module.history[1].metrics["val/r2"]
    path = tmp_path / "again.ckpt"
    checkpoints.save(checkpoints.checkpoint_now(training.trainer), path)
    again = build(config("trainer.max_epochs=3"), tmp_path)
    again.run(path)
    assert_same(again.module.history, training.module.history)


def test_a_checkpoint_from_before_moments_had_times_is_resumed(tmp_path: Path) -> None:
    training = build(config("trainer.max_epochs=2"), tmp_path)
    training.run()
    checkpoint = checkpoints.checkpoint_now(training.trainer)
    del checkpoint["course"]["times"]
    checkpoints.save(checkpoint, tmp_path / "older.ckpt")
    again = build(config("trainer.max_epochs=2"), tmp_path)
    again.run(tmp_path / "older.ckpt")
    assert [m[::2] for m in again.module.history] == [m[::2] for m in training.module.history]


def test_lanes_checkpoints_keep_their_keys(ended: Path) -> None:
    """Stacks that an earlier version has written go on, and so do these in it."""
    state = torch.load(ended / "lanes.ckpt", weights_only=True)["lanes"]
    moved = {"index", "running", "best_loss", "best_epoch", "best_values", "best_weights", "stopping_best", "waited"}
    assert set(state) == moved | {"lambd", "names", "steps", "times", "values"}
    assert state["values"].shape == (3, len(state["names"]), 2) and state["best_values"].shape == (
        2,
        len(state["names"]),
    )


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two epochs, and of two lanes."""
    folder = tmp_path_factory.mktemp("ended")
    build(config("trainer.max_epochs=2"), folder).run()
    cfg = config("trainer.max_epochs=2")
    together([vary(cfg, lambd=lambd) for lambd in (0, 1)], folder)[0].run()
    return folder


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: content[: len(content) // 2], "is damaged"),
        (lambda content: b"", "is damaged"),
        (lambda content: None, "cannot be read .No such file"),
    ],
)
def test_a_damaged_checkpoint_is_refused(
    ended: Path, damage: Callable[[bytes], bytes | None], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "damaged.ckpt"
    if (content := damage((ended / "checkpoints/last.ckpt").read_bytes())) is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        build(config("trainer.max_epochs=2"), tmp_path).run(path)


def test_no_flipped_bit_goes_by(ended: Path, tmp_path: Path) -> None:
    """In weights, history and states: what is read is what was written, or nothing."""
    content = (ended / "checkpoints/last.ckpt").read_bytes()
    written, path = checkpoints.load(ended / "checkpoints/last.ckpt"), tmp_path / "flipped.ckpt"
    draw, refused = random.Random(0), 0
    for _ in range(200):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        try:
            assert_same(checkpoints.load(path), written)  # in the padding between the parts
        except InputError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    ("overrides", "file", "words"),
    [
        (
            ["data.num_inputs=7"],
            "checkpoints/last.ckpt",
            r"model.weight torch.float32 \[1, 200\], and here .* \[1, 7\]",
        ),
        (["model=mlp"], "checkpoints/last.ckpt", "made with other settings: model.weight"),
        (["trainer.precision=64-true"], "checkpoints/last.ckpt", "and here torch.float64"),
        (ADAM, "checkpoints/last.ckpt", "optimizer"),
        (["trainer.max_epochs=1"], "checkpoints/last.ckpt", "is of 2 epochs and trainer.max_epochs=1"),
        (["trainer.max_steps=3"], "checkpoints/last.ckpt", "is of 8 steps and trainer.max_steps=3"),
        ([], "checkpoints/best.ckpt", "holds weights, but not all"),
        ([], "lanes.ckpt", "is of several lanes"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(
    ended: Path, overrides: list[str], file: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        build(config("trainer.max_epochs=2", *overrides), tmp_path).run(ended / file)


@pytest.mark.parametrize(
    ("lambdas", "file", "words"),
    [
        ((0, 2), "lanes.ckpt", "other λ"),
        ((0,), "lanes.ckpt", "other λ"),
        ((0, 1), "checkpoints/last.ckpt", "a single run"),
    ],
)
def test_a_checkpoint_of_other_lanes_is_refused(
    ended: Path, lambdas: Sequence[float], file: str, words: str, tmp_path: Path
) -> None:
    cfg = config("trainer.max_epochs=2")
    training, _, _ = together([vary(cfg, lambd=lambd) for lambd in lambdas], tmp_path)
    with pytest.raises(InputError, match=words):
        training.run(ended / file)


class Masking(L.Callback):
    """What PyTorch and Lightning do with a signal that arrives in their midst."""

    def on_train_batch_end(self, *_: object) -> None:
        try:
            raise Killed
        finally:
            raise RuntimeError("unexpected pos 6976 vs 6934")


def test_a_signal_is_not_taken_for_an_error(tmp_path: Path) -> None:
    training = build(config(), tmp_path)
    training.trainer.callbacks.append(Masking())
    with pytest.raises(Killed):
        training.run()


class Clock(L.Callback):
    """The time of `checkpoints`, by which an epoch takes four seconds and a written file so many."""

    def __init__(self, write: float, patch: pytest.MonkeyPatch) -> None:
        self.now, self.epochs_written = 0.0, []

        def save(checkpoint: dict, path: Path) -> None:
            saved(checkpoint, path)
            if path.name == "last.ckpt":
                self.now += write
                epochs = torch.load(path, weights_only=True)["loops"]["fit_loop"]["epoch_progress"]["current"]
                self.epochs_written.append(epochs["processed"])

        saved = checkpoints.save
        patch.setattr(checkpoints, "save", save)
        patch.setattr(checkpoints, "EVERY_SECONDS", 10.0)
        patch.setattr(checkpoints, "time", SimpleNamespace(monotonic=lambda: self.now))

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.now += 4.0


@pytest.mark.parametrize(
    ("write", "epochs"),
    [
        (0.0, [3, 6, 9, 12]),  # the first end of an epoch that is more than ten seconds after a write
        (0.1, [3, 6, 9, 12]),
        (0.3, [3, 11]),  # a write that is three times as long has a pause that is
        (1.0, [3]),
    ],
)
def test_a_checkpoint_is_written_at_the_end_and_before_it_now_and_then(
    write: float, epochs: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(write, monkeypatch)
    training = build(config("trainer.max_epochs=14"), tmp_path)
    training.trainer.callbacks.append(clock)
    training.run()
    assert clock.epochs_written == [*epochs, 14]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """A file that takes what is free but for some KiB."""
    path = folder / "filler"
    path.write_bytes(b"\0" * (shutil.disk_usage(folder).free - 12_288))
    return path


class Disk(L.Callback):
    """Full from the third epoch on, and free again from the fifth."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.current_epoch == 2:
            fill(self.folder)
        if trainer.current_epoch == 4:
            last = torch.load(self.folder / "checkpoints/last.ckpt", weights_only=True)
            assert last["epoch"] == 1 and not list(self.folder.rglob("*.tmp"))
            (self.folder / "filler").unlink()


def test_training_goes_on_while_the_disk_is_full(
    small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = []
    for folder in (small_disk, tmp_path / "roomy"):
        training = build(config(*EPOCHS, *POLISH), folder)
        if folder == small_disk:
            training.trainer.callbacks.append(Disk(folder))
        training.run()
        ends.append(end_of(training))
    assert_same(*ends)
    (note,) = capsys.readouterr().err.splitlines()
    assert note == (
        f"note: {small_disk}/checkpoints/last.ckpt cannot be written (No space left on device); "
        "training goes on and tries again"
    )
    assert not list(small_disk.rglob("*.tmp"))


def test_lanes_go_on_while_the_disk_is_full(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training, lanes, checkpoint = together([config(*EPOCHS), config(*EPOCHS, "lambd=1")], small_disk)
    fill(small_disk)
    training.run()
    assert len(lanes) == 2 and capsys.readouterr().err.count("No space left on device") == 1
    assert not checkpoint.exists() and not list(small_disk.rglob("*.tmp"))


def test_what_cannot_be_kept_in_the_end_is_said(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(disk, "SECONDS", 0.3)
    training = build(config("trainer.max_epochs=1"), small_disk)
    filler = fill(small_disk)
    with pytest.raises(InputError, match=r"last.ckpt cannot be written \(No space left on device\).*free space there"):
        training.run()
    assert "tried again for 0.3 s" in capsys.readouterr().err and not list(small_disk.rglob("*.tmp"))
    with pytest.raises(OSError, match="No space left on device"):
        checkpoints.save({"large": torch.zeros(1_000_000)}, small_disk / "large.ckpt")
    filler.unlink()
    checkpoints.write(small_disk, best={"epoch": 1})
    assert torch.load(small_disk / "best.ckpt", weights_only=True) == {"epoch": 1}


def test_a_lane_whose_state_is_lost_goes_on_as_the_run_that_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfgs = [vary(config("trainer.max_epochs=1"), lambd=lambd) for lambd in (0.1, 0.2)]
    places = [RunLocation(tmp_path, tmp_path / str(number), []) for number in range(2)]
    for cfg, place in zip(cfgs, places, strict=True):
        place.folder.mkdir()
        Record(cfg, place, Membership(tmp_path, None)).begin([])
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    again = Membership(tmp_path, None, times=2)
    again.announce([])
    fit_lanes(cfgs[::-1], [RunLocation(tmp_path, tmp_path / f"again1-{number}", []) for number in range(2)])
    assert {Path(told["folder"]): told["status"] for told in again.results()} == {
        place.folder.resolve(): "FINISHED" for place in places
    }
    assert len(list(tmp_path.glob(f"*/{ABOUT}"))) == 2
