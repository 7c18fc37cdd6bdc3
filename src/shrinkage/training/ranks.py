"""The processes of one run that is trained on several devices of this machine: this one, and others that it starts.

Lightning would start them by the command line once more, which a sweep's has nothing to do with. Here they are given
the config and build the same objects, so that a run on two devices may be a job like any other. They measure nothing by
themselves and write nothing; where this process dies, they end.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from omegaconf import DictConfig, OmegaConf

from shrinkage import config
from shrinkage.data.base import Share
from shrinkage.errors import InputError

if TYPE_CHECKING:
    from io import TextIOWrapper

PATIENCE = timedelta(minutes=10)  # that the processes have for one another; the first writes checkpoints meanwhile
END_SECONDS = 30.0
OTHER = "from shrinkage.training.run import train_as_other; train_as_other()"


class Ranks(LightningEnvironment):
    """Which of the processes this one is. Raises nothing: they meet when training begins."""

    def __init__(self, rank: int, size: int, port: int) -> None:
        super().__init__()
        self.rank, self.size, self.port = rank, size, port

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def share(self) -> Share:
        """The rows of each batch that this process trains on."""
        return Share(self.rank, self.size)

    @property
    def main_address(self) -> str:
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        return self.port

    def local_rank(self) -> int:
        return self.rank

    def node_rank(self) -> int:
        return 0

    def strategy(self) -> DDPStrategy:
        """Make the strategy by which Lightning trains in these processes."""
        return DDPStrategy(cluster_environment=self, timeout=PATIENCE)


@contextmanager
def started_ranks(cfg: DictConfig, checkpoint: Path | None) -> Generator[Ranks | None]:
    """Start the other processes of a run, of which this is the first, and end them.

    Yields this one, None where it is the only one. checkpoint: from which training goes on. Raises InputError where
    another process dies before its time.
    """
    size = config.devices(cfg)
    if size == 1:
        yield None
        return
    check_devices(cfg)
    first = Ranks(0, size, free_port())
    others = [start_other(cfg, Ranks(rank, size, first.port), checkpoint) for rank in range(1, size)]
    try:
        yield first
        for process, _ in others:
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
    except InputError:
        raise
    except Exception as error:
        for rank, (process, errors) in enumerate(others, start=1):
            if (code := exit_code_of(process)) is not None:
                errors.seek(0)
                words = errors.read().strip().splitlines() or ["without a word"]
                raise InputError(
                    f"trainer.devices={cfg.trainer.devices}: process {rank} of 0 to {size - 1} ended with exit code "
                    f"{code} ({words[-1][:300]}); resume the run, or use trainer.devices=1"
                ) from error
        raise
    finally:
        for process, errors in others:
            process.kill()
            process.wait()
            errors.close()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def check_devices(cfg: DictConfig) -> None:
    """Look whether PyTorch finds the GPUs that a run asks for. Raises InputError if it does not."""
    asked, accelerator = cfg.trainer.devices, cfg.trainer.accelerator
    if accelerator not in ("gpu", "cuda"):
        return
    there = torch.accelerator.device_count()
    if not there:
        raise InputError(
            f"trainer.accelerator={accelerator}: PyTorch finds no GPU here; use trainer=cpu, or install the PyTorch "
            "that is made for your GPU"
        )
    if (asked if isinstance(asked, int) else 1 + max(asked)) > there:
        raise InputError(
            f"trainer.devices={asked}: this machine has {there} that PyTorch finds, numbered from 0; use "
            f"trainer.devices={there}"
        )


def start_other(
    cfg: DictConfig, place: Ranks, checkpoint: Path | None
) -> "tuple[subprocess.Popen[str], TextIOWrapper]":
    """Start another process of the run; return it, and the file that its error messages go to."""
    errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 closed when the run ends
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        text=True,
        start_new_session=True,  # so that Ctrl-C at a terminal reaches the first one alone
    )
    about = {
        "cfg": OmegaConf.to_container(cfg, resolve=True),
        "rank": place.rank,
        "size": place.size,
        "port": place.port,
        "checkpoint": None if checkpoint is None else str(checkpoint),
    }
    if process.stdin is not None:
        with suppress(BrokenPipeError):  # it has died already, and is named when it is missed
            os.write(process.stdin.fileno(), f"{json.dumps(about)}\n".encode())
    return process, errors


def receive_part() -> tuple[DictConfig, Ranks, Path | None]:
    """Read what this process, started by the first one, is to train; from then on it ends when the first one does."""
    about = json.loads(sys.stdin.readline())

    def end_with_the_first() -> None:
        sys.stdin.read()
        os._exit(1)

    threading.Thread(target=end_with_the_first, daemon=True).start()
    checkpoint = about["checkpoint"]
    return (
        DictConfig(about["cfg"]),
        Ranks(about["rank"], about["size"], about["port"]),
        None if checkpoint is None else Path(checkpoint),
    )


def exit_code_of(process: subprocess.Popen[str]) -> int | None:
    """Return the exit code of a process that has failed, or is just about to; None if it lives."""
    try:
        return process.wait(1.0) or None
    except subprocess.TimeoutExpired:
        return None


def free_port() -> int:
    """Find a TCP port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
