"""The LightningModule that trains one model at one λ."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from shrinkage.data.base import Batch, shifted
from shrinkage.machine.clock import now
from shrinkage.optimum.certifier import Certifier
from shrinkage.optimum.exchangeable_columns import exchangeable
from shrinkage.optimum.polishing import polish_lanes
from shrinkage.optimum.solved_lanes import no_minimum_error, solve_lanes
from shrinkage.penalties.base import Penalty
from shrinkage.tasks.base import Survival

from . import objective
from .base import Ingredients, Result, TrainingModule, joined
from .dynamics import Dynamics
from .history import Moment, describe_growth, describe_not_finite, drop_undefined

TRAJECTORY_NUMBERS = 10_000_000  # of the parameters after each epoch, that are kept


@final
class PenalisedModule(TrainingModule):
    """Trains one model at one λ; its checkpoints hold the whole course of the training.

    trajectory: the parameters at each moment, of a convex problem that is small enough. on_measured: is told of every
    moment as it is measured. dynamics: looks at a network's steps, as a callback of the trainer; its metrics are among
    those of each epoch. polished: how many polishing steps have closed the training, None before.
    """

    def __init__(self, model: nn.Module, penalty: Penalty, lambd: float, ingredients: Ingredients) -> None:
        super().__init__(model, penalty, ingredients)
        self.lambd = lambd
        self.history: list[Moment[dict[str, float]]] = []
        self.on_measured: Callable[[Moment[dict[str, float]]], None] = lambda moment: None
        self.dynamics: Dynamics | None = None
        self.trajectory: list[dict[str, Tensor]] = []
        self.polished: int | None = None
        self.polished_from_zero = False

    # What is done once.

    def apply_to_each(self, function: Callable[..., Result], *trees: object, at_once: int | None = None) -> Result:
        return function(self.penalty, self.lambd, *trees)

    def parameters_by_name(self) -> dict[str, Tensor]:
        return objective.detached(dict(self.model.named_parameters()))

    def predict(self, batch: Batch) -> Tensor:
        return shifted(self.model(batch.x), batch.offset)

    def sum_over_rows(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        return self.task.sums(output, batch.y, batch.weight)

    def metrics_of_sums(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.task.measure(sums)

    def metrics_of_whole(self, outputs: Sequence[Tensor], batches: Sequence[Batch]) -> dict[str, Tensor]:
        return self.task.measure_whole(torch.cat(list(outputs)), *joined(batches))

    @torch.no_grad()
    def error_of_loss(self, part: str) -> float | None:
        """Compute the standard error of a part's loss, by how its rows differ; None where no single row has a loss.

        With the losses ℓ of n rows, their weights w and their mean m it is √(n/(n − 1)·Σw²(ℓ − m)²)/Σw.
        """
        if self.task.is_joint:
            return None
        output, target, weight = self.predict_part(part)
        loss = self.task.losses(self.task.precise(output), target).double().flatten()
        weight = torch.ones_like(loss) if weight is None else weight.double()
        n, mean = len(loss), weight @ loss / weight.sum()
        if n < 2:
            return None
        return float((n / (n - 1) * (weight * (loss - mean)).square().sum()).sqrt() / weight.sum())

    @torch.no_grad()
    def predict_part(self, part: str) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the outputs for a whole part, its targets, and the weights of its rows; None where these have none."""
        training = self.model.training
        self.model.eval()
        found = [(output, batch._replace(x=None)) for output, batch in self.outputs_of(part)]
        self.model.train(training)
        return torch.cat([output for output, _ in found]), *joined([batch for _, batch in found])

    def survival(self) -> Survival | None:
        """Estimate how long a row goes without an event; None where nothing waits for one."""
        if not self.datamodule.has_events:
            return None
        output, target, _ = self.predict_part("train")
        return self.task.survival(self.task.precise(output), target.double())

    @property
    def evaluation_rows(self) -> int:
        return self.datamodule.rows_at_once

    @property
    def epochs_measured(self) -> int:
        return len(self.history) - 1

    def forward(self, x: Any) -> Tensor:
        return self.model(x)

    def training_step(self, batch: tuple[Any, ...], batch_idx: int) -> Tensor:
        rows = Batch(*batch)
        share = self.datamodule.weight(batch_idx) if self.trainer.world_size > 1 else 1.0
        return self.loss(self.penalty, self.lambd, self.penalised, self.predict(rows), rows.y, rows.weight, share)

    # The course of the training.

    def measure(self, step: int, found: Mapping[str, float] = MappingProxyType({})) -> None:
        """Evaluate the parts and the weights as they are now, and keep all of it with what else is found.

        Raises InputError where training has diverged.
        """
        measured = self.measurements()
        # One transfer for all of them.
        values = torch.stack(list(measured.values())).tolist()
        self.measured = {**drop_undefined(measured, values), **found}
        self.history.append(Moment(step, now(), self.measured))
        numbers = sum(p.numel() for p in self.model.parameters())
        if self.certifier is not None and len(self.trajectory) * numbers < TRAJECTORY_NUMBERS:
            self.trajectory.append({name: value.cpu().clone() for name, value in self.parameters_by_name().items()})
        self.on_measured(self.history[-1])
        is_rescued = self.polish_steps > 0 and step > 0
        if not is_rescued and (what := describe_not_finite(self.measured)) is not None:
            raise self.divergence_error(what, self.penalty, self.lambd)

    def on_fit_start(self) -> None:
        if self.certifier is not None and self.gap is not None and not self.history:
            self.solve(self.certifier, self.gap)

    def on_train_epoch_end(self) -> None:
        self.measure(self.steps_finished, {} if self.dynamics is None else self.dynamics.end_epoch(self.trainer))
        if "val/loss" in self.measured:
            # Where EarlyStopping looks; `self.log` would round to single precision on the way.
            self.trainer.callback_metrics["val/loss"] = torch.tensor(self.measured["val/loss"], dtype=torch.float64)
        if self.until_gap is not None and self.measured["optimum/duality_gap"] <= self.until_gap:
            self.trainer.should_stop = True
        if describe_not_finite(self.measured) is not None:
            self.trainer.should_stop = True

    @torch.no_grad()
    def solve(self, certifier: Certifier, gap: float) -> None:
        """Put the weights at their optimum and measure them, as of step 0. Raises InputError if there is none."""
        l1, l2 = (strength[None] for strength in self.strengths(certifier))
        named = {name: value[None] for name, value in self.parameters_by_name().items()}
        (solved,) = solve_lanes(certifier, l1, l2, named, gap, self.on_polish)
        if not solved.has_minimum.all():
            raise no_minimum_error(certifier)
        parameters = dict(self.model.named_parameters())
        objective.assign_(parameters, {name: value[0] for name, value in solved.named.items()})
        self.measure(0)

    def check_end(self) -> None:
        """Refuse a training that has diverged though its last numbers are finite. Raises InputError."""
        if (what := describe_growth([moment.metrics["train/objective"] for moment in self.history])) is not None:
            raise self.divergence_error(what, self.penalty, self.lambd)

    @torch.no_grad()
    def polish(self, certifier: Certifier) -> int:
        """Close the training with full-batch proximal steps, each of which counts as an epoch, and measure again.

        Returns how many were taken: with until_gap they end where the gap is no larger, or can fall no further. Raises
        InputError if the polished weights are not finite.
        """
        l1, l2 = (strength[None].to(self.device) for strength in self.strengths(certifier))
        named = {name: value[None] for name, value in self.parameters_by_name().items()}
        polished, taken, from_zero = polish_lanes(
            certifier, l1, l2, named, self.polish_steps, self.until_gap, self.on_polish
        )
        self.polished, self.polished_from_zero = int(taken), bool(from_zero)
        if taken:
            if self.polished_from_zero:
                zeros = {name: torch.zeros_like(value).cpu() for name, value in self.parameters_by_name().items()}
                self.trajectory = [zeros]
            objective.assign_(dict(self.model.named_parameters()), {name: value[0] for name, value in polished.items()})
            self.measure(self.history[-1].step + int(taken))
        return self.polished

    # Its end.

    @torch.no_grad()
    def conclusion(self, steps: int) -> dict[str, float]:
        """Return what is known of the weights beside what has been measured: of their optimum, and of their start.

        steps: how many optimiser steps have made them.
        """
        known = {} if self.polished else self.measure_memory(self.lambd, steps)
        known |= {name: float(value) for name, value in self.certificate().items()}
        if self.certifier is not None:
            known |= self.certifier.against_optimum(self.penalty, self.lambd, self.parameters_by_name())
        return known

    def exchangeable(self) -> np.ndarray | None:
        """Return the columns that can stand for one another, as groups [outputs, p]; None if nothing is known of them.

        See `exchangeable_columns.exchangeable`.
        """
        if self.certifier is None:
            return None
        return exchangeable(self.certifier, self.penalty, self.lambd, self.parameters_by_name())

    # Its checkpoints.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        names = list(dict.fromkeys(name for moment in self.history for name in moment.metrics))
        rows = [[moment.metrics.get(name, math.nan) for name in names] for moment in self.history]
        points = self.trajectory
        checkpoint["course"] = {
            "names": names,
            "steps": torch.tensor([moment.step for moment in self.history]),
            "times": torch.tensor([moment.time for moment in self.history]),
            "values": torch.tensor(rows, dtype=torch.float64),
            "path": {name: torch.stack([point[name] for point in points]) for name in next(iter(points), ())},
            "measured": self.measured,
            "polished": self.polished,
            "polished_from_zero": self.polished_from_zero,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the course of a training from its checkpoint. Raises InputError if it is of another one."""
        self.check_kind(checkpoint, "course")
        self.check_fits(checkpoint)
        course = checkpoint["course"]
        steps = course["steps"].tolist()
        times = course["times"].tolist() if "times" in course else [now()] * len(steps)  # older checkpoints have none
        self.history = [
            Moment(
                step, time, {name: value for name, value in zip(course["names"], row, strict=True) if value == value}
            )
            for step, time, row in zip(steps, times, course["values"].tolist(), strict=True)
        ]
        points = zip(*course["path"].values(), strict=True)
        self.trajectory = [dict(zip(course["path"], point, strict=True)) for point in points]
        self.measured, self.polished = course["measured"], course["polished"]
        self.polished_from_zero = course.get("polished_from_zero", False)  # older checkpoints have none
