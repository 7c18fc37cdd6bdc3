"""What a step costs in a plain Lightning script with a logger, as a multiple of that of the script without one.

An MLP on batches of 256 rows, with Lightning's default of a logged step in 50; one epoch of so many steps, from its
first batch to the end of its last, by the wall clock and by the processor time of the script's process. Each round
trains without a logger, with `JournalLogger`, and with Lightning's `MLFlowLogger`, all into one SQLite store, and once
more without: what two equal scripts differ by is noise. The medians of the rounds' ratios are printed.

python benchmarks/logger_cost.py [--rounds 15] [--steps 1000]
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import lightning.pytorch as L
import torch
from lightning.pytorch.loggers import Logger, MLFlowLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import shrinkage

torch.set_num_threads(1)
BATCH = 256


class Classifier(L.LightningModule):
    """A layer of 256 between 64 pixels and ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Clock(L.Callback):
    """From the first batch to the end of the last."""

    def on_train_epoch_start(self, *_: object) -> None:
        self.start = time.perf_counter(), time.process_time()

    def on_train_batch_end(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self.start[0], time.process_time() - self.start[1]


def seconds(logger: Logger | bool, steps: int) -> tuple[float, float]:
    """The wall clock and the processor time of an epoch of so many steps."""
    L.seed_everything(0, verbose=False)
    rows = TensorDataset(torch.randn(steps * BATCH, 64), torch.randint(10, (steps * BATCH,)))
    clock, quiet = Clock(), {"enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=logger, callbacks=[clock], enable_checkpointing=False, **quiet
    )
    trainer.fit(Classifier(), DataLoader(rows, batch_size=BATCH))
    return clock.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=1000)
    asked = parser.parse_args()
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        uri = f"sqlite:///{Path(folder, 'mlflow.db')}"
        ways: dict[str, Callable[[], Logger | bool]] = {
            "no logger": lambda: False,
            "JournalLogger": lambda: shrinkage.JournalLogger("mine", store=uri),
            "MLFlowLogger": lambda: MLFlowLogger("plain", tracking_uri=uri),
            "no logger again": lambda: False,
        }
        times: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for number in range(asked.rounds + 1):  # the first one makes the store, and is not counted
            for way, make in ways.items():
                took = seconds(make(), asked.steps)
                if number:
                    times[way].append(took)
    for kind, name in enumerate(("wall clock", "processor")):
        base = [each[kind] for each in times["no logger"]]
        print(f"{name}: {1000 * statistics.median(base) / asked.steps:.3f} ms a step without a logger")
        for way in list(ways)[1:]:
            ratios = sorted(took[kind] / without for took, without in zip(times[way], base, strict=True))
            print(f"    {way}: {statistics.median(ratios):.3f} × (from {ratios[0]:.3f} to {ratios[-1]:.3f})")


if __name__ == "__main__":
    main()
