"""What the training of one model and that of many at once have in common."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import lightning.pytorch as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from shrinkage.data.base import WHOLE, Batch, DataModule, Share
from shrinkage.errors import InputError
from shrinkage.optimum import memory
from shrinkage.optimum.certifier import Certifier
from shrinkage.optimum.learning_rates import working_lr
from shrinkage.penalties.base import Params, Penalty
from shrinkage.tasks.base import Task

from . import objective
from .norms import norms
from .schedules import Schedule

Result = TypeVar("Result")


@dataclass(frozen=True)
class Ingredients:
    """What a training needs beside its model and penalty: the data, the task, and how it is optimised.

    make_optimizer: makes the optimiser of an iterable of parameters. schedule: of the learning rate.
    """

    datamodule: DataModule
    task: Task
    make_optimizer: Callable[..., torch.optim.Optimizer]
    schedule: Schedule


class TrainingModule(L.LightningModule, ABC):
    """Minimises data loss + λ·Ω(w), and measures both after every epoch on whole parts.

    A subclass says what is done once for a model and what is done for many: `PenalisedModule` and `LanesModule`, both
    of them final. What is written here is overridden by neither.

    A subclass keeps a `history`: what was measured after each epoch, and once before the first. measured: the metrics
    of the last moment. callbacks: those of the trainer that know this module. certifier: for a convex problem, what
    tells how far its optimum is. certify_epochs: whether it does after every epoch. until_gap: the duality gap at which
    training may stop, None for never. polish_steps: how many full-batch proximal steps are to close the training of a
    convex problem, which then may diverge: they begin at zero weights where those are better. on_polish: is told how
    many polishing steps are done, and how many lanes are left. gap: where an exact engine solves the problem instead of
    any training, how far above the optimum a point may be, as a share of the null objective; None for a training by
    steps. on_solved: is told how many points of how many are solved.
    """

    def __init__(self, model: nn.Module, penalty: Penalty, ingredients: Ingredients) -> None:
        super().__init__()
        self.model, self.penalty = model, penalty
        self.datamodule, self.task = ingredients.datamodule, ingredients.task
        self.make_optimizer, self.schedule = ingredients.make_optimizer, ingredients.schedule
        self.callbacks: list[L.Callback] = []
        self.weights, self.biases = objective.split_parameters(model)
        self.penalised = objective.penalised(penalty, model)
        self.certifier: Certifier | None = None
        self.certify_epochs = False
        self.until_gap: float | None = None
        self.polish_steps = 0
        self.on_polish: Callable[[int, int], None] = lambda done, lanes: None
        self.gap: float | None = None
        self.on_solved: Callable[[int, int], None] = lambda done, points: None
        self.measured: dict[str, float] = {}
        self.starts_at_zero = not any(w.any() for w in self.weights.values())
        self.rates: dict[int, list[float]] = {}  # the learning rates of the first so many steps

    # What is done once for a model, or for each of many.

    @abstractmethod
    def apply_to_each(self, function: Callable[..., Result], *trees: object, at_once: int | None = None) -> Result:
        """Return function(penalty, λ, *trees); of lanes, each one's with its own penalty, λ and trees, stacked.

        at_once: for how many lanes together, None for all.
        """

    @abstractmethod
    def parameters_by_name(self) -> dict[str, Tensor]:
        """Return the parameters without their autograd history."""

    @abstractmethod
    def predict(self, batch: Batch) -> Tensor:
        """Return the model's outputs for some rows with their offsets, [rows, …]; of lanes [lanes, rows, …]."""

    @abstractmethod
    def sum_over_rows(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return the task's sums over some rows from the outputs of `predict`."""

    @abstractmethod
    def metrics_of_sums(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the task's metrics that follow from its sums over a part."""

    @abstractmethod
    def metrics_of_whole(self, outputs: Sequence[Tensor], batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Return the task's metrics that need all rows of a part, given batch by batch."""

    @property
    @abstractmethod
    def evaluation_rows(self) -> int:
        """How many rows are evaluated at once."""

    @abstractmethod
    def measure(self, step: int) -> None:
        """Evaluate the parts and the weights as they are now, and keep all of it in the history."""

    @property
    @abstractmethod
    def epochs_measured(self) -> int:
        """How many epochs, the last one perhaps a part of one, have been trained and measured."""

    # The objective and its steps.

    def configure_callbacks(self) -> list[L.Callback]:
        return self.callbacks

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.make_optimizer(self.model.parameters())
        objective.check_optimizer(self.penalty, optimizer)
        steps = self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.schedule(step, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def loss(
        self,
        penalty: Penalty,
        lambd: Tensor | float,
        weights: Params,
        output: Tensor,
        y: Tensor,
        row_weight: Tensor | None = None,
        share: float = 1.0,
    ) -> Tensor:
        """Return what is differentiated, 0-d.

        row_weight: how much each row counts, with a mean of 1 over the training part, so that the mean over a batch is
        on average the weighted mean over that part. share: what multiplies the data loss where these rows are a share
        of a batch.
        """
        loss = self.task.loss(output, y) if row_weight is None else (row_weight * self.task.losses(output, y)).mean()
        if share != 1:
            loss = share * loss
        return objective.penalised_loss(penalty, loss, weights, lambd) if penalty.mode == "loss" else loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        # Here, and not earlier in the step, the gradient is already taken at the undecayed weights, as AdamW's is.
        if self.penalty.mode == "decay":
            self.update(objective.decayed, rate=self.decay_rate)
        elif self.penalty.mode == "cautious":
            self.before = {name: w.clone() for name, w in objective.detached(self.penalised).items()}

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: torch.optim.Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        if self.penalty.mode == "prox":
            settings = self.optimizer_settings
            self.update(objective.proxed, lr=settings["lr"], momentum=settings["momentum"])
        elif self.penalty.mode == "cautious":
            self.update(objective.cautiously_decayed, self.before, rate=self.decay_rate)

    @property
    def optimizer_settings(self) -> dict[str, Any]:
        """The numbers of the optimiser that all parameters share, such as the learning rate of this step."""
        return self.trainer.optimizers[0].param_groups[0]

    @property
    def initial_lr(self) -> float:
        """The learning rate that the schedule's factors multiply."""
        return self.optimizer_settings["initial_lr"]

    @property
    def decay_rate(self) -> float:
        """What λ is multiplied by in a decay at this step."""
        return objective.decay_rate(self.penalty, self.optimizer_settings["lr"], self.initial_lr)

    @torch.no_grad()
    def update(self, function: Callable[..., dict[str, Tensor]], *trees: Params, **numbers: float) -> None:
        """Replace the penalised weights by what a function of `objective` makes of them, and of others like them."""

        def updated(penalty: Penalty, lambd: Tensor | float, *trees: Params) -> dict[str, Tensor]:
            return function(penalty, *trees, lambd=lambd, **numbers)

        objective.assign_(self.penalised, self.apply_to_each(updated, objective.detached(self.penalised), *trees))

    # Measuring.

    def on_train_start(self) -> None:
        if self.trainer.global_step == 0:
            self.measure(step=0)

    @property
    def steps_finished(self) -> int:
        """At an epoch's end, what the metrics' steps count: epochs, or optimiser steps where they count the run."""
        return self.trainer.global_step if self.trainer.max_steps > 0 else self.trainer.current_epoch + 1

    @torch.no_grad()
    def measurements(self) -> dict[str, Tensor]:
        """Return every metric of this moment by its name; float64 on the CPU."""

        def strength(penalty: Penalty, lambd: Tensor | float, weights: Params) -> Tensor:
            return lambd * objective.value(penalty, weights)

        def sizes(_: Penalty, __: Tensor | float, weights: Params, biases: Params) -> dict[str, Tensor]:
            return norms(weights, biases)

        train = self.evaluate("train")
        val = self.evaluate("val") if "val" in self.datamodule.parts else {}
        named = self.parameters_by_name()

        def those(names: Iterable[str]) -> dict[str, Tensor]:
            return {name: named[name] for name in names}

        penalty = self.apply_to_each(strength, those(self.penalised)).double()
        measured = {f"val/{name}": value for name, value in val.items()} | {
            "train/loss": train["loss"],
            "train/penalty": penalty,
            "train/objective": train["loss"] + penalty,
            **self.apply_to_each(sizes, those(self.weights), those(self.biases)),
        }
        if self.certify_epochs:
            measured |= self.certificate()
        return {name: value.double().cpu() for name, value in measured.items()}

    @torch.no_grad()
    def evaluate(self, part: str) -> dict[str, Tensor]:
        """Return the task's metrics over a whole part, in evaluation mode.

        Processes that train together share its rows.
        """
        if self.task.is_joint:
            return self.evaluate_jointly(part)
        share = self.datamodule.share if self.trainer.training else WHOLE
        training = self.model.training
        self.model.eval()
        sums: dict[str, Tensor] = {}
        outputs: list[Tensor] = []
        batches: list[Batch] = []
        for output, batch in self.outputs_of(part, share):
            for name, value in self.sum_over_rows(output, batch).items():
                sums[name] = sums[name] + value if name in sums else value
            if self.task.needs_whole_part:
                outputs.append(output)
                batches.append(batch._replace(x=None))
        self.model.train(training)
        if share.size > 1:
            sums = {name: self.trainer.strategy.reduce(value, reduce_op="sum") for name, value in sums.items()}
        measured = self.metrics_of_sums(sums)
        if outputs:
            measured |= self.metrics_of_whole(outputs, batches)
        return measured

    def outputs_of(self, part: str, share: Share = WHOLE) -> Iterator[tuple[Tensor, Batch]]:
        """Give the model's outputs for a part, or for a process's share of it, with the rows, some at a time."""
        for drawn in self.datamodule.evaluation_dataloader(part, self.evaluation_rows, share):
            batch = Batch(*self.trainer.strategy.batch_to_device(drawn, self.device))
            batch = batch._replace(x=self.trainer.precision_plugin.convert_input(batch.x))
            with self.trainer.precision_plugin.forward_context():
                yield self.predict(batch), batch

    @torch.no_grad()
    def evaluate_jointly(self, part: str) -> dict[str, Tensor]:
        """Return the task's metrics over a whole part, whose rows are compared with one another.

        Those of a part that did not train are measured beside the training rows (`Task.held_out`).
        """
        training = self.model.training
        self.model.eval()

        def of_part(name: str) -> tuple[Tensor, Batch]:
            (drawn,) = self.datamodule.evaluation_dataloader(name, len(self.datamodule.parts[name]))
            batch = Batch(*self.trainer.strategy.batch_to_device(drawn, self.device))
            batch = batch._replace(x=self.trainer.precision_plugin.convert_input(batch.x))
            return self.predict(batch), batch._replace(x=None)

        output, batch = of_part(part)
        sums = self.sum_over_rows(output, batch)
        if part != "train":
            other, train = of_part("train")
            both = Batch(None, torch.cat([train.y, batch.y], dim=-2))
            with_train = self.sum_over_rows(torch.cat([other, output], dim=-2), both)
            sums = self.task.held_out(sums, self.sum_over_rows(other, train), with_train)
        self.model.train(training)
        measured = self.metrics_of_sums(sums)
        return measured | (self.metrics_of_whole([output], [batch]) if self.task.needs_whole_part else {})

    # The optimum.

    def certificate(self) -> dict[str, Tensor]:
        """Return the metrics that say how far from its optimum the training stands; none where nothing certifies it."""
        if self.certifier is None:
            return {}
        return self.apply_to_each(self.certifier, self.parameters_by_name(), at_once=self.certifier.at_once)

    def strengths(self, certifier: Certifier) -> tuple[Tensor, Tensor]:
        """Return λ₁ and λ₂ of the problem that the training tends to, 0-d; of lanes [lanes]."""

        def of(penalty: Penalty, lambd: Tensor | float) -> tuple[Tensor, Tensor]:
            l1, l2 = (torch.as_tensor(s, dtype=torch.float64) for s in certifier.strengths(penalty, lambd))
            return l1, l2

        return self.apply_to_each(of)

    def measure_memory(self, lambd: float, steps: int) -> dict[str, float]:
        """Return `init/memory`, the share of the initial weights that is left after so many optimiser steps.

        Empty if it is not known, or the weights began at zero or were solved for.
        """
        if self.starts_at_zero or self.gap is not None:
            return {}
        if self.trainer.gradient_clip_val is not None and self.penalty.mode == "loss":
            return {}
        if steps not in self.rates:
            total = self.trainer.estimated_stepping_batches
            self.rates[steps] = [self.initial_lr * self.schedule(step, total) for step in range(steps)]
        return memory.measure_memory(self.model, self.penalty, lambd, self.trainer.optimizers[0], self.rates[steps])

    # Divergence.

    def divergence_error(self, what: str, penalty: Penalty, lambd: float) -> InputError:
        """Make the error of a run or lane that has diverged. what: in what it shows."""
        lr = self.initial_lr
        cure = self.shorter_steps(penalty, lambd) or f"use a smaller learning rate, such as optimizer.lr={lr / 10:g}"
        return InputError(
            f"{what} in epoch {self.epochs_measured}: with optimizer.lr={lr:g} and lambd={lambd:g} the steps are too "
            f"long and training diverged; {cure}"
        )

    def shorter_steps(self, penalty: Penalty, lambd: float) -> str | None:
        """Say which smaller learning rate works; None if the present one does, or none is known."""
        optimizer, lr = self.trainer.optimizers[0], self.initial_lr
        is_bounded = self.certifier is not None and math.isfinite(self.certifier.problem.task.curvature)
        if self.certifier is not None and is_bounded and isinstance(optimizer, torch.optim.SGD):
            works, words = working_lr(self.certifier, penalty, lambd, optimizer, self.datamodule.batch_rows)
            return words if works < lr else None
        bound = objective.largest_stable_lr(penalty, lambd, optimizer)
        if lr < bound:
            return None
        return f"the penalty alone needs optimizer.lr under {bound:.3g}; use optimizer.lr={bound / 4:.2g}"

    # Going on from a checkpoint.

    def check_kind(self, checkpoint: dict[str, Any], kind: str) -> None:
        """Refuse a checkpoint of a run where one of lanes is needed, or the other way round.

        kind: the key that checkpoints of a run or of lanes have. Raises InputError.
        """
        if kind not in checkpoint:
            other = "several lanes" if "lanes" in checkpoint else "a single run or lane"
            raise InputError(f"{self.trainer.ckpt_path} is of {other}; resume each from its own checkpoint")

    def check_fits(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of a model or an optimiser with other settings. Raises InputError."""
        # Lightning does so only after loading, where it would narrow what is loaded first.
        self.trainer.precision_plugin.convert_module(self)
        optimizer = self.make_optimizer(self.model.parameters())

        def settings(state: dict[str, Tensor], group: dict[str, Any]) -> dict[str, str]:
            sizes = {name: f"{tensor.dtype} {list(tensor.shape)}" for name, tensor in state.items()}
            return sizes | {"the optimizer's": ", ".join(sorted({*group, "initial_lr"} - {"params"}))}

        theirs = settings(checkpoint["state_dict"], checkpoint["optimizer_states"][0]["param_groups"][0])
        ours = settings(self.state_dict(), optimizer.param_groups[0])
        for name in theirs | ours:
            if theirs.get(name) != ours.get(name):
                raise InputError(
                    f"{self.trainer.ckpt_path} was made with other settings: {name} {theirs.get(name)}, and here "
                    f"{ours.get(name)}; resume with those it was made with"
                )


def joined(batches: Sequence[Batch], dim: int = 0) -> tuple[Tensor, Tensor | None]:
    """Join the targets and the weights of batches, each along the dimension of its rows."""
    weights = [batch.weight for batch in batches if batch.weight is not None]
    return torch.cat([batch.y for batch in batches], dim=dim), torch.cat(weights, dim=dim) if weights else None
