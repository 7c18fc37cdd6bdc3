"""What a training step costs here, and in a plain Lightning module, as a multiple of a bare PyTorch loop's.

The same model and batches under AdamW; one epoch of so many steps, without what is measured after it, and with it.

python benchmarks/step_cost.py [--rounds 5] [--steps 200]
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import lightning.pytorch as L
import numpy as np
import torch
from conftest import config
from torch.utils.data import DataLoader

from shrinkage.data.base import Part
from shrinkage.training import objective
from shrinkage.training.run import Training, build

PROBLEMS = {
    "MLP 64-256-10, batch 256": ["data=digits", "model=mlp", "model.widths=[256]", "data.batch_size=256"],
    "MLP 64-256-10, batch 32": ["data=digits", "model=mlp", "model.widths=[256]", "data.batch_size=32"],
    "CNN 32-64, 8 × 8 pixels, batch 64": [
        *("data=digits_images", "model=cnn", "model.widths=[32,64]", "data.batch_size=64")
    ],
    "GPT 2 × 64, context 64, batch 32": ["data=text", "model=gpt", "data.batch_size=32", "data.epoch_rows=null"],
}
COMMON = ("penalty=adamw", "lambd=0.1", "trainer.max_epochs=1")


def prepared(overrides: list[str], steps: int, folder: Path) -> Training:
    """A run whose training part has rows for so many steps, taken again and again from its own."""
    training = build(config(*overrides, *COMMON), folder)
    data = training.datamodule
    rows = np.resize(np.arange(len(data.parts["train"])), steps * data.batch_rows)
    data.parts["train"] = Part(data.parts["train"].x[rows], data.parts["train"].y[rows])
    return training


class Clock(L.Callback):
    """From the first batch to the end of the last."""

    def on_train_epoch_start(self, *_: object) -> None:
        self.start = time.perf_counter()

    def on_train_batch_end(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self.start


def ours(training: Training) -> float:
    clock = Clock()
    training.trainer.callbacks.append(clock)
    training.trainer.fit(training.module, training.datamodule)
    return clock.seconds


def measured(training: Training) -> float:
    ours(training)
    start = time.perf_counter()
    training.module.measure(step=2)
    return time.perf_counter() - start


def optimizer(training: Training) -> torch.optim.Optimizer:
    weights, rest = objective.split_parameters(training.module.model)
    groups = [{"params": weights.values(), "weight_decay": 0.1}, {"params": rest.values(), "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.001)


def bare(training: Training) -> float:
    data, model, task, adamw = training.datamodule, training.module.model, training.module.task, optimizer(training)
    x, y = data.tensors("train")[:]
    batches = torch.randperm(len(y)).split(data.batch_rows)
    start = time.perf_counter()
    for rows in batches:
        adamw.zero_grad()
        task.loss(model(x[rows]), y[rows]).backward()
        adamw.step()
    return time.perf_counter() - start


class Plain(L.LightningModule):
    def __init__(self, training: Training) -> None:
        super().__init__()
        self.model, self.task, self.training_of = training.module.model, training.module.task, [training]

    def training_step(self, batch: tuple, batch_idx: int) -> torch.Tensor:
        x, y = batch
        return self.task.loss(self.model(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return optimizer(self.training_of[0])


def plain(training: Training) -> float:
    x, y = training.datamodule.tensors("train")[:]
    rows = torch.utils.data.TensorDataset(x, y)
    loader = DataLoader(rows, batch_size=training.datamodule.batch_rows, shuffle=True)
    clock = Clock()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    L.Trainer(max_epochs=1, accelerator="cpu", logger=False, callbacks=[clock], **quiet).fit(Plain(training), loader)
    return clock.seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    ways: dict[str, Callable[[Training], float]] = {"here": ours, "measuring": measured, "plain Lightning": plain}
    for name, overrides in PROBLEMS.items():
        with TemporaryDirectory() as folder:
            seconds = {way: [] for way in ("bare", *ways)}
            for _ in range(asked.rounds):
                for way, run in {"bare": bare, **ways}.items():
                    seconds[way].append(run(prepared(overrides, asked.steps, Path(folder))))
        medians = {way: statistics.median(times) for way, times in seconds.items()}
        print(
            f"{name}: {1000 * medians['bare'] / asked.steps:.2f} ms a step; "
            + ", ".join(f"{way} {medians[way] / medians['bare']:.2f} ×" for way in ways),
            flush=True,
        )


if __name__ == "__main__":
    main()
