"""A run on two devices is the run on one: the same batches, the same losses, one record."""

import os
from pathlib import Path

import psutil
import pytest
import torch
from conftest import config, runs, train_py

from shrinkage import rules
from shrinkage.data.base import Share
from shrinkage.errors import InputError
from shrinkage.training import ranks as processes
from shrinkage.training.ranks import check_devices, started_ranks
from shrinkage.training.run import Training, build

pytestmark = pytest.mark.xdist_group("ranks")

CASES = {
    # The last batch of an epoch has 21 rows, and is shared unevenly.
    "l1": ("data=diabetes", "penalty=l1", "lambd=0.05", "data.batch_size=32", "polish=50"),
    "adamw": ("data=digits", "model=mlp", "model.widths=[16]", "penalty=adamw", "data.batch_size=100", "dynamics=true"),
    # Fewer rows than processes in the last batch: 309 is one more than 308.
    "one row": ("data=diabetes", "penalty=l2", "penalty.mode=loss", "lambd=0.1", "data.batch_size=308"),
}


def trained(folder: Path, *overrides: str) -> Training:
    cfg = config("trainer.max_epochs=3", "trainer.precision=64-true", *overrides)
    rules.check(cfg)
    with started_ranks(cfg, None) as first:
        training = build(cfg, folder, ranks=first)
        training.run()
    return training


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two processes take two cores")
@pytest.mark.parametrize("case", CASES)
def test_two_processes_come_to_what_one_comes_to(case: str, tmp_path: Path) -> None:
    one, two = (trained(tmp_path / name, *CASES[case], f"trainer={name}") for name in ("cpu", "ddp"))
    assert not torch.distributed.is_initialized()
    assert [moment.step for moment in one.module.history] == [moment.step for moment in two.module.history]
    for (_, _, ours), (_, _, theirs) in zip(two.module.history, one.module.history, strict=True):
        # The loss of a batch is summed in another order, and nothing else is different.
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)
    assert two.test == pytest.approx(one.test, rel=1e-9)
    assert two.conclusion == pytest.approx(one.conclusion, rel=1e-6, abs=1e-9)
    assert (tmp_path / "ddp" / "checkpoints" / "last.ckpt").exists()


def test_a_share_weighs_what_it_holds() -> None:
    rows = torch.arange(7)
    shares = [Share(rank, 3) for rank in range(3)]
    assert sorted(torch.cat([share.of(rows) for share in shares]).tolist()) == rows.tolist()
    for size in range(3, 20):
        means = [share.weight(size) * share.of(torch.arange(size)).double().mean() for share in shares]
        assert sum(means) / 3 == pytest.approx(torch.arange(size).double().mean())


def test_it_is_a_job_of_a_sweep_with_one_record(tmp_path: Path, store: Path) -> None:
    done = train_py("-m", "trainer=ddp", "data=diabetes", "lambd=1", "trainer.max_epochs=2", cwd=tmp_path, store=store)
    assert done.returncode == 0, done.stderr
    found = {run.data.params.get("lambd", "sweep"): run for run in runs(store)}
    assert found.keys() == {"1", "sweep"} and {run.info.status for run in found.values()} == {"FINISHED"}
    assert found["1"].data.params["trainer.devices"] == "2"
    assert not [p for p in psutil.process_iter(["cmdline"]) if "train_as_other" in " ".join(p.info["cmdline"] or [])]


def test_another_process_that_dies_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "OTHER", "import os; os._exit(7)")
    monkeypatch.setattr(processes, "PATIENCE", processes.timedelta(seconds=5))
    with pytest.raises(InputError, match=r"trainer.devices=2: process 1 of 0 to 1 ended with exit code 7 .* resume"):
        trained(tmp_path, *CASES["l1"], "trainer=ddp")


@pytest.mark.parametrize(
    ("override", "words"),
    [("trainer.devices=4096", f"this machine has {os.cpu_count()}"), ("trainer.devices=0", "must be how many devices")],
)
def test_devices_that_are_not_there_are_refused(override: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        rules.check(config(override))


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("devices", ["2", "[0]"])
def test_without_a_gpu_none_is_used(devices: str) -> None:
    with pytest.raises(InputError, match=r"^trainer.accelerator=gpu: PyTorch finds no GPU here; use trainer=cpu"):
        check_devices(config("trainer=gpu", f"trainer.devices={devices}"))
