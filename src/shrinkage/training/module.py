"""The LightningModule that trains one model at one λ."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor, nn

from shrinkage.data.base import WHOLE
from shrinkage.errors import InputError
from shrinkage.optimum import certifier as certify
from shrinkage.optimum.certifier import Certifier
from shrinkage.penalties.base import Params, Penalty
from shrinkage.tasks.base import Task

from . import objective
from .dynamics import Dynamics, steps_an_epoch
from .norms import norms
from .schedules import Schedule

PATH = 10_000_000  # numbers of a run's path that are kept
WATCHED = ("train/loss", "train/objective", "val/loss")  # metrics that stay finite unless training diverges
GROWTH = 100.0  # of the objective over the whole training, from which on it has diverged


class PenalisedModule(L.LightningModule):
    """Minimises data loss + λ·Ω(w), and measures both after every epoch on whole parts.

    make_optimizer: the optimiser of an iterable of parameters. After each epoch, and once before the first,
    `measured` holds the metrics of that moment, `history` all of them as (step, metrics); `path` the parameters then,
    of a convex problem that is small enough. Its checkpoints hold all of it.

    dynamics: what looks at a network's steps, a callback of the trainer's; its metrics are among those of each epoch.
    certifier: for a convex problem, what tells how far its optimum is; certify_epochs: after every epoch too;
    until_gap: the duality gap at which training may stop, None for never. polish_steps: how many full-batch proximal
    steps are to close the training, which then may diverge: they begin at zero weights where those are better.
    on_polish: hears how many polishing steps are done, and how many lanes are left.
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
        self.certifier: Certifier | None = None
        self.certify_epochs, self.until_gap = False, None
        self.polish_steps = 0
        self.dynamics: Dynamics | None = None
        self.on_polish: Callable[[int, int], None] = lambda done, lanes: None
        self.measured: dict[str, float] = {}
        self.history: list[tuple[int, dict[str, float]]] = []
        self.path: list[dict[str, Tensor]] = []
        self.starts_at_zero = not any(w.any() for w in self.weights.values())
        self.polished: int | None = None  # how many polishing steps have closed the training, None where none could yet
        self.polished_from_zero = False
        self.rates: dict[int, list[float]] = {}  # the learning rates of the first so many steps

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def configure_optimizers(self) -> dict:
        optimizer = self.make_optimizer(self.model.parameters())
        objective.check_optimizer(self.penalty, optimizer)
        steps = self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.schedule(step, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def each(self, function: Callable, *trees: object, at_once: int | None = None) -> object:
        """function(penalty, λ, *trees): here once, over lanes once for each of them, so many at once."""
        return function(self.penalty, self.lambd, *trees)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        weight = self.trainer.datamodule.weight(batch_idx) if self.trainer.world_size > 1 else 1.0
        return self.loss(self.penalty, self.lambd, self.penalised, self.model(x), y, weight)

    def loss(
        self,
        penalty: Penalty,
        lambd: Tensor | float,
        weights: Params,
        output: Tensor,
        y: Tensor,
        weight: float = 1.0,
    ) -> Tensor:
        """What is differentiated, 0-d. weight: of the data loss, where these rows are a share of a batch."""
        loss = self.task.loss(output, y)
        if weight != 1:
            loss = weight * loss
        return objective.penalised_loss(penalty, loss, weights, lambd) if penalty.mode == "loss" else loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        # Here, and not earlier in the step, the gradient is already taken at the undecayed weights, as AdamW's is.
        if self.penalty.mode == "decay":
            self.update(objective.decayed, rate=self.decay_rate(optimizer))
        elif self.penalty.mode == "cautious":
            self.before = {name: w.clone() for name, w in objective.detached(self.penalised).items()}

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer, optimizer_closure=None) -> None:
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        group = optimizer.param_groups[0]
        if self.penalty.mode == "prox":
            self.update(objective.proxed, lr=group["lr"], momentum=group["momentum"])
        elif self.penalty.mode == "cautious":
            self.update(objective.cautiously_decayed, self.before, rate=self.decay_rate(optimizer))

    def decay_rate(self, optimizer: torch.optim.Optimizer) -> float:
        group = optimizer.param_groups[0]
        return objective.decay_rate(self.penalty, group["lr"], group["initial_lr"])

    @torch.no_grad()
    def update(self, function: Callable, *trees: Params, **numbers: float) -> None:
        """Put what a function of `objective` makes of the penalised weights, and of others like them, in place."""

        def updated(penalty: Penalty, lambd: Tensor | float, *trees: Params) -> dict[str, Tensor]:
            return function(penalty, *trees, lambd=lambd, **numbers)

        objective.assign_(self.penalised, self.each(updated, objective.detached(self.penalised), *trees))

    def parameters_by_name(self) -> dict[str, Tensor]:
        """The model's parameters without their history."""
        return objective.detached(dict(self.model.named_parameters()))

    def on_train_start(self) -> None:
        if self.trainer.global_step == 0:
            self.measure(step=0)

    @property
    def steps_finished(self) -> int:
        """At an epoch's end, what the metrics' steps count: epochs, or optimiser steps where they count the run."""
        return self.trainer.global_step if self.trainer.max_steps > 0 else self.trainer.current_epoch + 1

    def on_train_epoch_end(self) -> None:
        found = {}
        if self.dynamics is not None:
            found = self.dynamics.end_epoch(self, self.trainer.optimizers[0], steps_an_epoch(self.trainer))
        self.measure(self.steps_finished, found)
        if "val/loss" in self.measured:
            # Where EarlyStopping looks; `self.log` would round to single precision on the way.
            self.trainer.callback_metrics["val/loss"] = torch.tensor(self.measured["val/loss"], dtype=torch.float64)
        if self.until_gap is not None and self.measured["optimum/duality_gap"] <= self.until_gap:
            self.trainer.should_stop = True
        if not_finite(self.measured) is not None:
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        names = list(dict.fromkeys(name for _, measured in self.history for name in measured))
        rows = [[measured.get(name, math.nan) for name in names] for _, measured in self.history]
        checkpoint["course"] = {
            "names": names,
            "steps": torch.tensor([step for step, _ in self.history]),
            "values": torch.tensor(rows, dtype=torch.float64),
            "path": {name: torch.stack([point[name] for point in self.path]) for name in next(iter(self.path), ())},
            "measured": self.measured,
            "polished": self.polished,
            "polished_from_zero": self.polished_from_zero,
        }

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        self.check_fits(checkpoint, "course")
        course = checkpoint["course"]
        rows = zip(course["steps"].tolist(), course["values"].tolist(), strict=True)
        self.history = [
            (step, {name: value for name, value in zip(course["names"], row, strict=True) if not math.isnan(value)})
            for step, row in rows
        ]
        points = zip(*course["path"].values(), strict=True)
        self.path = [dict(zip(course["path"], point, strict=True)) for point in points]
        self.measured, self.polished = course["measured"], course["polished"]
        self.polished_from_zero = course.get("polished_from_zero", False)  # older checkpoints have none

    def check_fits(self, checkpoint: dict, kind: str) -> None:
        """Raises InputError where the checkpoint, of a kind that is known by its key, is of another training."""
        if kind not in checkpoint:
            other = "several lanes" if "lanes" in checkpoint else "a single run or lane"
            raise InputError(f"{self.trainer.ckpt_path} is of {other}; resume each from its own checkpoint")
        # Lightning does so only after loading, where it would narrow what is loaded first.
        self.trainer.precision_plugin.convert_module(self)
        optimizer = self.make_optimizer(self.model.parameters())

        def settings(state: dict[str, Tensor], group: dict) -> dict[str, str]:
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

    def measure(self, step: int, found: Mapping[str, float] = MappingProxyType({})) -> None:
        """Evaluate the parts and the weights as they are now, and log all of it with what else is found."""
        measured = self.measurements()
        # One transfer for all of them.
        values = torch.stack(list(measured.values())).tolist()
        self.measured = defined(measured, values) | found
        self.history.append((step, self.measured))
        if self.certifier is not None and len(self.path) * sum(p.numel() for p in self.model.parameters()) < PATH:
            self.path.append({name: value.cpu().clone() for name, value in self.parameters_by_name().items()})
        for logger in self.loggers:
            logger.log_metrics(self.measured, step=step)
        is_rescued = self.polish_steps > 0 and step > 0
        if not is_rescued and (what := not_finite(self.measured)) is not None:
            raise self.diverged(what, self.penalty, self.lambd)

    def check_end(self) -> None:
        """Raises InputError where training has diverged, though its last numbers are finite."""
        if (what := grown([measured["train/objective"] for _, measured in self.history])) is not None:
            raise self.diverged(what, self.penalty, self.lambd)

    def diverged(self, what: str, penalty: Penalty, lambd: float) -> InputError:
        """What to say of a run or lane in which this has happened."""
        lr = self.initial_lr
        cure = self.shorter_steps(penalty, lambd) or f"use a smaller learning rate, such as optimizer.lr={lr / 10:g}"
        return InputError(
            f"{what} in epoch {self.epochs_measured}: with optimizer.lr={lr:g} and lambd={lambd:g} the steps are too "
            f"long and training diverged; {cure}"
        )

    def shorter_steps(self, penalty: Penalty, lambd: float) -> str | None:
        """Which smaller learning rate works, in words; None where the present one does, or none is known."""
        optimizer, lr = self.trainer.optimizers[0], self.initial_lr
        if self.certifier is not None and isinstance(optimizer, torch.optim.SGD):
            works, words = self.certifier.working_lr(penalty, lambd, optimizer, self.trainer.datamodule.batch_rows)
            return words if works < lr else None
        bound = objective.largest_stable_lr(penalty, lambd, optimizer)
        if lr < bound:
            return None
        return f"the penalty alone needs optimizer.lr under {bound:.3g}; use optimizer.lr={bound / 4:.2g}"

    @property
    def epochs_measured(self) -> int:
        """How many epochs, the last one perhaps a part of one, have been trained and measured."""
        return len(self.history) - 1

    @torch.no_grad()
    def measurements(self) -> dict[str, Tensor]:
        """Every metric of this moment by its name; float64 on the CPU."""

        def strength(penalty: Penalty, lambd: Tensor | float, weights: Params) -> Tensor:
            return lambd * objective.value(penalty, weights)

        def sizes(_: Penalty, __: Tensor | float, weights: Params, biases: Params) -> dict[str, Tensor]:
            return norms(weights, biases)

        train = self.evaluate("train")
        val = self.evaluate("val") if "val" in self.trainer.datamodule.parts else {}
        named = self.parameters_by_name()

        def those(names: Iterable[str]) -> dict[str, Tensor]:
            return {name: named[name] for name in names}

        penalty = self.each(strength, those(self.penalised)).double()
        measured = {f"val/{name}": value for name, value in val.items()} | {
            "train/loss": train["loss"],
            "train/penalty": penalty,
            "train/objective": train["loss"] + penalty,
            **self.each(sizes, those(self.weights), those(self.biases)),
        }
        if self.certifier is not None and self.certify_epochs:
            measured |= self.certificate()
        return {name: value.double().cpu() for name, value in measured.items()}

    def certificate(self) -> dict[str, Tensor]:
        """How far from its optimum the training stands; vectorised over lanes."""
        return self.each(self.certifier, self.parameters_by_name(), at_once=self.certifier.at_once)

    def exchangeable(self) -> np.ndarray | None:
        """Columns that can stand for one another, by groups [outputs, p]; None where nothing is known of them."""
        if self.certifier is None:
            return None
        return self.certifier.exchangeable(self.penalty, self.lambd, self.parameters_by_name())

    def strengths(self) -> tuple[Tensor, Tensor]:
        """λ₁ and λ₂ of the problem that the training tends to, 0-d."""

        def of(penalty: Penalty, lambd: Tensor | float) -> tuple[Tensor, Tensor]:
            l1, l2 = (torch.as_tensor(s, dtype=torch.float64) for s in self.certifier.strengths(penalty, lambd))
            return l1, l2

        return self.each(of)

    @torch.no_grad()
    def polish(self) -> None:
        """Close the training with full-batch proximal steps, each of which counts as an epoch, and measure again.

        `polished` is how many were taken: with until_gap they end where the gap is no larger, or can fall no further.
        """
        l1, l2 = (strength[None].to(self.device) for strength in self.strengths())
        named = {name: value[None] for name, value in self.parameters_by_name().items()}
        polished, taken, from_zero = self.certifier.polished(
            l1, l2, named, self.polish_steps, self.until_gap, self.on_polish
        )
        self.polished, self.polished_from_zero = int(taken), bool(from_zero)
        if taken:
            if self.polished_from_zero:
                self.path = [{name: torch.zeros_like(value).cpu() for name, value in self.parameters_by_name().items()}]
            objective.assign_(dict(self.model.named_parameters()), {name: value[0] for name, value in polished.items()})
            self.measure(self.history[-1][0] + int(taken))

    @torch.no_grad()
    def conclusion(self, steps: int) -> dict[str, float]:
        """What is known of the weights, which so many optimiser steps have made, beside what has been measured."""
        known = {} if self.polished else self.memory(self.lambd, steps)
        if self.certifier is not None:
            known |= {name: float(value) for name, value in self.certificate().items()}
            known |= self.certifier.against_optimum(self.penalty, self.lambd, self.parameters_by_name())
        return known

    def memory(self, lambd: float, steps: int) -> dict[str, float]:
        """The share of the start that is left after so many optimiser steps, where it is known and no zero."""
        if self.starts_at_zero:
            return {}
        if self.trainer.gradient_clip_val is not None and self.penalty.mode == "loss":
            return {}
        if steps not in self.rates:
            total = self.trainer.estimated_stepping_batches
            self.rates[steps] = [self.initial_lr * self.schedule(step, total) for step in range(steps)]
        return certify.memory(self.model, self.penalty, lambd, self.trainer.optimizers[0], self.rates[steps])

    @property
    def initial_lr(self) -> float:
        return self.trainer.optimizers[0].param_groups[0]["initial_lr"]

    @torch.no_grad()
    def evaluate(self, part: str) -> dict[str, Tensor]:
        """The task's metrics over a whole part, in evaluation mode; processes that train together share its rows."""
        datamodule = self.trainer.datamodule
        share = datamodule.share if self.trainer.training else WHOLE
        training = self.model.training
        self.model.eval()
        sums: dict[str, Tensor] = {}
        outputs: list[Tensor] = []
        targets: list[Tensor] = []
        for batch in datamodule.evaluation_dataloader(part, self.evaluation_rows, share):
            x, y = self.trainer.strategy.batch_to_device(batch, self.device)
            x = self.trainer.precision_plugin.convert_input(x)
            with self.trainer.precision_plugin.forward_context():
                output = self.outputs(x)
                found = self.sums(output, y)
            for name, value in found.items():
                sums[name] = sums[name] + value if name in sums else value
            if self.task.needs_whole_part:
                outputs.append(output)
                targets.append(y)
        self.model.train(training)
        if share.size > 1:
            sums = {name: self.trainer.strategy.reduce(value, reduce_op="sum") for name, value in sums.items()}
        measured = self.measure_sums(sums)
        if outputs:
            measured |= self.measure_whole(outputs, targets)
        return measured

    @property
    def evaluation_rows(self) -> int:
        """How many rows are evaluated at once."""
        return self.trainer.datamodule.rows_at_once

    def outputs(self, x: Tensor) -> Tensor:
        """What the model gives for some rows."""
        return self.model(x)

    def sums(self, output: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The task's sums over some rows."""
        return self.task.sums(output, y)

    def measure_sums(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """The task's metrics from its sums over a part."""
        return self.task.measure(sums)

    def measure_whole(self, outputs: Sequence[Tensor], targets: Sequence[Tensor]) -> dict[str, Tensor]:
        """The task's metrics that need all rows of a part, from those of its batches."""
        return self.task.measure_whole(torch.cat(list(outputs)), torch.cat(list(targets)))


def defined(names: Iterable[str], values: Iterable[float]) -> dict[str, float]:
    """Metrics by name. A task's metric that is not defined for a part, NaN, is left out; a loss that is NaN is not."""
    return {
        name: value
        for name, value in zip(names, values, strict=True)
        if not (math.isnan(value) and name.startswith("val/") and name != "val/loss")
    }


def not_finite(measured: Mapping[str, float]) -> str | None:
    """Which metric that decides about a training is infinite or undefined, in words; None where none is."""
    for name in WATCHED:
        if not math.isfinite(measured.get(name, 0.0)):
            return f"{name} became {measured[name]}"
    return None


def grown(objectives: Sequence[float]) -> str | None:
    """Whether an objective, measured before training and after each epoch, grows without bounds, in words; else None.

    It does where it ends at more than GROWTH times what it was before training, and at more than twice what it was
    halfway: steps that are merely noisy come to rest at some height.
    """
    first, halfway, last = objectives[0], objectives[len(objectives) // 2], objectives[-1]
    if last > GROWTH * first and last > 2 * halfway:
        return f"train/objective, {first:.3g} before training, has grown to {last:.3g}"
    return None
