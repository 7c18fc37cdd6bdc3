"""The LightningModule that trains one model at one λ."""

import math
from collections.abc import Callable

import lightning.pytorch as L
import torch
from torch import Tensor, nn

from shrinkage import objective
from shrinkage.errors import InputError
from shrinkage.norms import norms
from shrinkage.penalties.base import Penalty
from shrinkage.schedules import Schedule
from shrinkage.tasks import Task


class PenalisedModule(L.LightningModule):
    """Minimises data loss + λ·Ω(w), and measures both after every epoch on whole parts.

    make_optimizer: the optimiser of an iterable of parameters. After each epoch, and once before the first,
    `measured` holds the metrics of that moment, `history` all of them as (step, metrics).
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        penalty: Penalty,
        lambd: float,
        make_optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Schedule,
    ) -> None:
        super().__init__()
        self.model, self.task, self.penalty, self.lambd = model, task, penalty, lambd
        self.make_optimizer, self.schedule = make_optimizer, schedule
        self.weights, self.biases = objective.split_parameters(model)
        self.penalised = objective.penalised(penalty, model)
        self.measured: dict[str, float] = {}
        self.history: list[tuple[int, dict[str, float]]] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def configure_optimizers(self) -> dict:
        optimizer = self.make_optimizer(self.model.parameters())
        objective.check_optimizer(self.penalty, optimizer)
        steps = self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.schedule(step, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        loss = self.task.loss(self.model(x), y)
        if self.penalty.mode == "loss":
            loss = objective.penalised_loss(self.penalty, loss, self.penalised, self.lambd)
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        # Here, and not earlier in the step, the gradient is already taken at the undecayed weights, as AdamW's is.
        if self.penalty.mode == "decay":
            objective.decay_(self.penalty, self.penalised, optimizer.param_groups[0]["lr"], self.lambd)

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer, optimizer_closure=None) -> None:
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        if self.penalty.mode == "prox":
            group = optimizer.param_groups[0]
            objective.prox_(self.penalty, self.penalised, group["lr"], self.lambd, group["momentum"])

    def on_train_start(self) -> None:
        if self.trainer.global_step == 0:
            self.measure(step=0)

    def on_train_epoch_end(self) -> None:
        counted_in_steps = self.trainer.max_steps > 0
        self.measure(step=self.trainer.global_step if counted_in_steps else self.trainer.current_epoch + 1)
        # Where EarlyStopping looks; `self.log` would round to single precision on the way.
        self.trainer.callback_metrics["val/loss"] = torch.tensor(self.measured["val/loss"], dtype=torch.float64)

    def measure(self, step: int) -> None:
        """Evaluate the training and validation parts and the weights as they are now, and log all of it."""
        train, val = self.evaluate("train"), self.evaluate("val")
        with torch.no_grad():
            penalty = self.lambd * self.penalty.value(objective.detached(self.penalised))
            sizes = norms(objective.detached(self.weights), objective.detached(self.biases))
        measured = {f"val/{name}": value for name, value in val.items()} | {
            "train/loss": train["loss"],
            "train/penalty": penalty,
            "train/objective": train["loss"] + penalty,
            **sizes,
        }
        # One transfer for all of them; r2 is undefined where a part's target is constant, and left out.
        values = torch.stack([value.double().cpu() for value in measured.values()]).tolist()
        self.measured = {
            name: value for name, value in zip(measured, values, strict=True) if name != "val/r2" or value == value
        }
        self.history.append((step, self.measured))
        for logger in self.loggers:
            logger.log_metrics(self.measured, step=step)
        self.check_finite()

    @torch.no_grad()
    def evaluate(self, part: str) -> dict[str, Tensor]:
        """The task's metrics over a whole part, in evaluation mode."""
        training = self.model.training
        self.model.eval()
        sums: dict[str, Tensor] = {}
        for batch in self.trainer.datamodule.evaluation_dataloader(part):
            x, y = self.trainer.strategy.batch_to_device(batch, self.device)
            with self.trainer.precision_plugin.forward_context():
                output = self.model(x)
            for name, value in self.task.statistics(output, y).items():
                sums[name] = sums[name] + value if name in sums else value
        self.model.train(training)
        return self.task.metrics(sums)

    def check_finite(self) -> None:
        """Raises InputError where training has diverged."""
        values = {name: self.measured[name] for name in ("train/loss", "train/objective", "val/loss")}
        for name, value in values.items():
            if not math.isfinite(value):
                lr = self.trainer.optimizers[0].param_groups[0]["initial_lr"]
                raise InputError(
                    f"{name} became {value} in epoch {self.trainer.current_epoch + 1}: with optimizer.lr={lr:g} and "
                    f"lambd={self.lambd:g} the steps are too long and training diverged; "
                    f"use a smaller learning rate, such as optimizer.lr={lr / 10:g}"
                )
