"""A run on a GPU is the run on the CPU: the same start, the same batches, the same numbers but for rounding.

Skipped where there is none.
"""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from conftest import config, runs, train_py
from lightning.pytorch.callbacks import LambdaCallback
from omegaconf import DictConfig
from torch.distributed import get_backend

from shrinkage.studies.base import vary
from shrinkage.training.lane import Lane
from shrinkage.training.lanes_training import build_lanes, lanes_that_fit
from shrinkage.training.ranks import Ranks, free_port
from shrinkage.training.run import Training, build
from shrinkage.training.workshop import Workshop

pytestmark = [
    pytest.mark.xdist_group("gpu"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use"),
]

DOUBLE, GPU = "trainer.precision=64-true", "trainer=gpu"
LINEAR = ("data=diabetes", "data.batch_size=64", "trainer.max_epochs=4")
DIGITS = ("data=digits", "model=mlp", "model.widths=[16]", "data.batch_size=100", "trainer.max_epochs=2")
IMAGES = ("data=digits_images", "data.batch_size=200", "trainer.max_epochs=1")
CASES = {
    "prox, certified and polished": (*LINEAR, "penalty=l1", "lambd=0.05", "certificate=epoch", "polish=150"),
    "a gap": (*LINEAR, "penalty=l1", "lambd=0.05", "polish=2000", "trainer.until_gap=1e-9", "certificate=exact"),
    "in the loss": (*LINEAR, "penalty=l2", "penalty.mode=loss", "lambd=0.1", "penalty.scope=all", "polish=10"),
    "momentum": (*LINEAR, "penalty=elastic_net", "lambd=0.1", "optimizer.momentum=0.8", "early_stopping.patience=1"),
    "two classes": ("data=breast_cancer", "penalty=l2", "lambd=0.1", "trainer.max_epochs=2", "polish=10"),
    "AdamW": (*DIGITS, "penalty=adamw", "lambd=0.1", "dynamics=true"),
    "cautious": (*DIGITS, "penalty=adamw", "penalty.mode=cautious", "lambd=0.1", "schedule=cosine"),
    "singular values": (*DIGITS, "penalty=nuclear", "lambd=0.01"),
    "groups": (*DIGITS, "penalty=sparse_group_lasso", "lambd=0.01", "trainer.gradient_clip_val=0.1"),
    "images": (*IMAGES, "model=cnn", "penalty=l2", "lambd=0.01"),
}


def trained(folder: Path, *overrides: str) -> Training:
    training = build(config(*overrides), folder)
    training.run()
    return training


def assert_same(ours: Training, theirs: Training) -> None:
    """But for the order in which sums are taken, which a step of Adam's or a square root may enlarge."""
    assert [moment.step for moment in ours.module.history] == [moment.step for moment in theirs.module.history]
    for (_, _, found), (_, _, expected) in zip(ours.module.history, theirs.module.history, strict=True):
        assert found == pytest.approx(expected, rel=1e-8, abs=1e-10)
    assert ours.test == pytest.approx(theirs.test, rel=1e-8, abs=1e-10)
    assert ours.conclusion == pytest.approx(theirs.conclusion, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("case", CASES)
def test_a_run_on_a_gpu_is_the_run_on_the_cpu(case: str, tmp_path: Path) -> None:
    cpu, gpu = (trained(tmp_path / name, *CASES[case], DOUBLE, f"trainer={name}") for name in ("cpu", "gpu"))
    assert gpu.trainer.strategy.root_device.type == "cuda"
    assert_same(gpu, cpu)
    assert gpu.verdict().split(" (")[0] == cpu.verdict().split(" (")[0]


def test_one_process_of_several_on_gpus_is_the_run_on_one(tmp_path: Path) -> None:
    """By NCCL, with as many processes as one GPU serves."""
    alone = trained(tmp_path / "alone", *CASES["AdamW"], DOUBLE, GPU)
    training = build(config(*CASES["AdamW"], DOUBLE, GPU), tmp_path / "shared", ranks=Ranks(0, 1, free_port()))
    backends = []
    training.trainer.callbacks.append(LambdaCallback(on_train_start=lambda *_: backends.append(get_backend())))
    training.run()
    assert backends == ["nccl"] and not torch.distributed.is_initialized()
    assert_same(training, alone)


def together(cfgs: list[DictConfig], folder: Path) -> list[Lane]:
    lanes: dict[int, Lane] = {}
    training = build_lanes(cfgs, Workshop(cfgs[0]), folder, lambda lane: lanes.setdefault(lane.index, lane))
    training.run()
    return [lanes[number] for number in range(len(cfgs))]


@pytest.mark.parametrize("case", ["prox, certified and polished", "a gap", "momentum", "two classes", "AdamW"])
def test_lanes_on_a_gpu_are_the_runs_alone_on_the_cpu(case: str, tmp_path: Path) -> None:
    numbers = [{"lambd": lambd, "seed": seed} for lambd in (0.01, 0.05, 0.5) for seed in (0, 1)]
    lanes_of = [override for override in CASES[case] if override != "dynamics=true"]  # looks at one model's steps
    cpu, gpu = (config(*lanes_of, DOUBLE, f"trainer={name}", "tracking.history=all") for name in ("cpu", "gpu"))
    cfgs = [vary(gpu, **each) for each in numbers]
    assert lanes_that_fit(cfgs, Workshop(gpu), tmp_path) > 1_000
    for number, lane in enumerate(together(cfgs, tmp_path)):
        alone = build(vary(cpu, **numbers[number]), tmp_path / str(number))
        alone.run()
        assert lane.measured == pytest.approx(alone.module.measured, rel=1e-8, abs=1e-10)
        assert lane.test == pytest.approx(alone.test, rel=1e-8, abs=1e-10)
        known = {name: value for name, value in alone.conclusion.items() if name in lane.conclusion}
        assert lane.conclusion == pytest.approx(known, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("case", ["momentum", "AdamW", "images"])
def test_a_run_goes_on_from_its_checkpoint_on_either_device(case: str, tmp_path: Path) -> None:
    epochs = [override for override in CASES[case] if not override.startswith(("trainer.max", "early"))]
    whole = trained(tmp_path / "whole", *epochs, DOUBLE, GPU, "trainer.max_epochs=4")
    for first, then in (("gpu", "gpu"), ("gpu", "cpu"), ("cpu", "gpu")):
        folder = tmp_path / f"{first} {then}"
        half = trained(folder, *epochs, DOUBLE, f"trainer={first}", "trainer.max_epochs=2")
        rest = build(config(*epochs, DOUBLE, f"trainer={then}", "trainer.max_epochs=4"), folder)
        rest.run(half.checkpoints.path)
        assert_same(rest, whole)


def test_half_precision_learns(tmp_path: Path) -> None:
    training = trained(tmp_path, *IMAGES, "model=cnn", "penalty=l2", GPU, "trainer.precision=bf16-mixed")
    losses = [measured["train/loss"] for _, _, measured in training.module.history]
    assert all(after < before for before, after in pairwise(losses))


def test_the_command_trains_alone_and_in_lanes_and_records_both(tmp_path: Path, store: Path) -> None:
    done = train_py(GPU, *DIGITS, "penalty=adamw", "lambd=0.1", cwd=tmp_path, store=store)
    assert done.returncode == 0, done.stderr
    lanes = ("-m", "hydra/launcher=lanes", "penalty=l1", "lambd=0.01,0.1,1", "seed=0,1")
    done = train_py(*lanes, GPU, *LINEAR, cwd=tmp_path, store=store)
    assert done.returncode == 0 and "one by one" not in done.stderr, done.stderr
    found = runs(store)
    assert len(found) == 8 and {run.info.status for run in found} == {"FINISHED"}


def test_gpus_that_are_not_there_are_refused_in_one_line(tmp_path: Path, store: Path) -> None:
    asked = torch.cuda.device_count() + 1
    for trainer in ("ddp", "gpu"):
        words = (f"trainer={trainer}", "trainer.accelerator=gpu", f"trainer.devices={asked}")
        done = train_py(*words, *LINEAR, cwd=tmp_path, store=store)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("shrinkage: ")]
        assert f"trainer.devices={asked}" in line and str(asked - 1) in line
