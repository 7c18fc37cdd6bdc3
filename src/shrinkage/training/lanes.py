"""K lanes trained at once, runs that differ in λ, seed or a penalty's own numbers: each lane's course and end."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self, TypeVar, final

import torch
from torch import Tensor
from torch.export import register_dataclass
from torch.utils._pytree import tree_map

from shrinkage.errors import InputError
from shrinkage.machine.clock import now
from shrinkage.optimum.certifier import Certifier
from shrinkage.optimum.exchangeable_columns import exchangeable
from shrinkage.optimum.polishing import polish_lanes
from shrinkage.optimum.solved_lanes import no_minimum_error, solve_lanes

from .base import Ingredients
from .best import BestCheckpoint
from .checkpoints import checkpoint_now
from .dynamics import steps_an_epoch
from .history import WATCHED, Moment, describe_growth, describe_not_finite, drop_undefined
from .lane import Lane
from .stacked import LaneStart, StackedModule

Tree = TypeVar("Tree")

COMPACT_SHARE = 7 / 8  # ended lanes leave the stack when no more than this share of it is still training


@dataclass
class LaneProgress:
    """How far each lane has come, [K] each, on the CPU, where it is decided on.

    index: which of the lanes that the training began with. running: whether it is still training. best_loss,
    best_epoch, best_values: its smallest val/loss, the epoch, and the metrics then, [K, metrics]. stopping_best and
    waited: early stopping's best val/loss, and for how many epochs nothing was better.
    """

    index: Tensor
    running: Tensor
    best_loss: Tensor
    best_epoch: Tensor
    best_values: Tensor
    stopping_best: Tensor
    waited: Tensor

    @classmethod
    def of_start(cls, lanes: int) -> Self:
        """Return the progress of so many lanes before their first epoch."""
        zeros, infinite = torch.zeros(lanes, dtype=torch.int64), torch.full((lanes,), torch.inf, dtype=torch.float64)
        return cls(
            index=torch.arange(lanes),
            running=torch.ones(lanes, dtype=torch.bool),
            best_loss=infinite,
            best_epoch=zeros,
            best_values=torch.empty(0),
            stopping_best=infinite.clone(),
            waited=zeros.clone(),
        )

    def keep_best(self, better: Tensor, loss: Tensor, values: Tensor, epoch: int) -> None:
        """Note val/loss [K] and metrics [K, metrics] of an epoch as the best of the lanes of a mask [K]."""
        if not len(self.best_values):
            self.best_values = values.clone()
        self.best_values[better] = values[better]
        self.best_loss = torch.where(better, loss, self.best_loss)
        self.best_epoch[better] = epoch

    def stop_early(self, loss: Tensor, patience: int, min_delta: float) -> Tensor:
        """Count an epoch with val/loss [K] as early stopping does, and return the mask of the lanes that it stops."""
        # The rule of Lightning's EarlyStopping.
        progress = loss + min_delta < self.stopping_best
        self.stopping_best = torch.where(progress, loss, self.stopping_best)
        self.waited = torch.where(progress, 0, self.waited + 1)
        return self.running & (self.waited >= patience)


register_dataclass(LaneProgress)


@final
class LanesModule(StackedModule):
    """Trains K lanes, each of which is measured, stopped and failed by itself.

    patience and min_delta are those of early stopping, patience None for none. points: which of so many measured
    moments a lane's history keeps. on_end: is given every lane when it ends; a lane that stops early or diverges ends
    before the others. history: moments with the metrics of all lanes in the stack, [K, metrics], called `names`.
    """

    def __init__(
        self,
        starts: Sequence[LaneStart],
        ingredients: Ingredients,
        patience: int | None,
        min_delta: float,
        points: Callable[[int], Sequence[int]],
        on_end: Callable[[Lane], None],
    ) -> None:
        super().__init__(starts, ingredients)
        self.patience, self.min_delta = patience, min_delta
        self.points, self.on_end = points, on_end
        self.progress = LaneProgress.of_start(len(starts))
        self.history: list[Moment[Tensor]] = []
        self.best_weights: dict[str, Tensor] = {}
        self.names: list[str] = []
        self.without_minimum: dict[int, InputError] = {}  # by lane, where the objective has none

    @property
    def epochs_measured(self) -> int:
        return len(self.history) - 1

    # The course of the training.

    def on_fit_start(self) -> None:
        self.inputs, self.best_weights = tree_map(
            lambda tensor: tensor.to(self.device), (self.inputs, self.best_weights)
        )
        if self.certifier is not None and self.gap is not None and not self.history:
            self.solve(self.certifier, self.gap)

    @torch.no_grad()
    def solve(self, certifier: Certifier, gap: float) -> None:
        """Put the weights of every lane at their optimum and measure them, as of step 0.

        A lane ends when it is solved, so that an interruption loses none of those before. A lane whose objective has no
        minimum fails.
        """
        parameters = dict(self.model.named_parameters())
        l1, l2 = self.strengths(certifier)
        for part in solve_lanes(certifier, l1, l2, self.stacked_parameters(), gap, self.on_polish):
            which = torch.zeros(self.lanes, dtype=torch.bool)
            which[part.lanes] = True
            for lane in part.lanes[~part.has_minimum].tolist():
                self.without_minimum[lane] = no_minimum_error(certifier)
            for name, value in part.named.items():
                parameters[name][which] = value
            with self.measuring_only(which, part.named):
                measured = self.measurements()
            self.keep_solved(which, measured)
            self.end(which)
            self.on_solved(int((~self.progress.running).sum()), self.lanes)

    def keep_solved(self, which: Tensor, measured: dict[str, Tensor]) -> None:
        """Keep what was measured of the solved lanes of a mask [K], as the one moment of their history."""
        self.names = list(measured)
        values = torch.stack(list(measured.values()), dim=1)
        if not self.history:
            self.history.append(Moment(0, now(), values.new_full((self.lanes, len(self.names)), torch.nan)))
            self.progress.best_values = self.history[0].metrics
        self.history[0].metrics[which] = values
        self.progress.best_loss[which] = values[:, self.names.index("val/loss")]
        self.best_weights = self.stacked_parameters()

    def measure(self, step: int) -> None:
        measured = self.measurements()
        self.names = list(measured)
        values = torch.stack(list(measured.values()), dim=1)
        self.history.append(Moment(step, now(), values))
        self.measured = {name: value.nanmean().item() for name, value in measured.items()}  # for the progress bar
        watched = values[:, [self.names.index(name) for name in WATCHED]]
        self.end(self.progress.running & ~watched.isfinite().all(dim=1))

    def on_train_epoch_end(self) -> None:
        self.measure(self.steps_finished)
        values, progress = self.history[-1].metrics, self.progress
        loss = values[:, self.names.index("val/loss")]
        better = progress.running & (loss < progress.best_loss)
        if not self.best_weights:
            self.best_weights = {name: weight.clone() for name, weight in self.stacked_parameters().items()}
        elif better.any():
            for name, weight in self.stacked_parameters().items():
                self.best_weights[name][better] = weight[better]
        progress.keep_best(better, loss, values, self.trainer.current_epoch + 1)
        if self.patience is not None:
            self.end(progress.stop_early(loss, self.patience, self.min_delta))
        if self.until_gap is not None:
            self.end(progress.running & (values[:, self.names.index("optimum/duality_gap")] <= self.until_gap))
        if not progress.running.any():
            self.trainer.should_stop = True
        elif progress.running.double().mean() <= COMPACT_SHARE:
            self.compact()

    def on_train_end(self) -> None:
        self.end(self.progress.running.clone())

    def on_fit_end(self) -> None:
        # Where a checkpoint was of the last epoch, nothing has been trained and `on_train_end` was not called.
        if self.progress.running.any():
            self.to(self.trainer.strategy.root_device)
            self.end(self.progress.running.clone())

    # Lanes that leave the stack.

    @torch.no_grad()
    def compact(self) -> None:
        """Take the lanes that have ended out of the stack, so that they cost nothing any more."""
        left = self.progress.running.nonzero()[:, 0]
        (optimizer,) = self.trainer.optimizers
        for parameter in self.model.parameters():
            optimizer.state[parameter] = self.take_lanes(dict(optimizer.state[parameter]), left)
        self.keep_lanes(left)

    def keep_lanes(self, positions: Tensor) -> None:
        """Make the stack one of the lanes at these positions."""
        for parameter in self.model.parameters():
            parameter.data, parameter.grad = self.take_lanes(parameter.data, positions), None
        of_lanes = (self.inputs, self.progress, self.best_weights, self.history)
        self.inputs, self.progress, self.best_weights, self.history = self.take_lanes(of_lanes, positions)

    def take_lanes(self, tree: Tree, positions: int | Tensor) -> Tree:
        """Take the lanes at these positions out of every tensor of a tree whose first dimension is lanes.

        Anything else comes out as it is: an optimiser's state has that dimension wherever it is not one number for all.
        """
        lanes = self.lanes

        def of(leaf: object) -> object:
            if not isinstance(leaf, Tensor):
                return leaf
            return (leaf[positions] if leaf.dim() > 0 and len(leaf) == lanes else leaf).clone()

        return tree_map(of, tree)

    # Its checkpoints. What a lane leaves behind is Lightning's own; `state_of_lanes` is what all of them go on with.

    def state_of_lanes(self) -> dict[str, Any]:
        """Return all that the lanes in the stack need to go on, beside their weights and the optimiser."""
        steps, times, values = zip(*self.history, strict=True)
        return vars(self.progress) | {
            "best_weights": self.best_weights,
            "lambd": self.inputs.lambd,
            "names": self.names,
            "steps": torch.tensor(steps),
            "times": torch.tensor(times),
            "values": torch.stack(values).mT,  # [moments, metrics, K]
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the stack that of a checkpoint. Raises InputError if that is of another training."""
        self.check_kind(checkpoint, "lanes")
        state, lambd = checkpoint["lanes"], self.inputs.lambd
        index = state["index"]
        if index[-1] >= len(lambd) or not lambd[index].equal(state["lambd"]):
            raise InputError(
                f"{self.trainer.ckpt_path} is of lanes with other λ; resume with those that it was made with"
            )
        self.keep_lanes(index)
        self.check_fits(checkpoint)
        self.progress = LaneProgress(**{field.name: state[field.name] for field in fields(LaneProgress)})
        self.best_weights, self.names = state["best_weights"], state["names"]
        moments = zip(state["steps"].tolist(), state["times"].tolist(), state["values"].mT, strict=True)
        self.history = [Moment(*moment) for moment in moments]

    # The end of a lane.

    def end(self, which: Tensor) -> None:
        """End the lanes of a mask [K], and hand over each with all that it leaves behind."""
        if which.any():
            self.progress.running &= ~which
            for lane in self.conclude_lanes(which):
                self.on_end(lane)

    def conclude_lanes(self, which: Tensor) -> Iterator[Lane]:
        """Yield the lanes of a mask [K] one by one, each with all that it leaves behind."""
        positions = which.nonzero()[:, 0].tolist()
        checkpoint = {key: value for key, value in checkpoint_now(self.trainer).items() if key != "between_epochs"}
        best = self.patience is not None and bool(self.best_weights)
        weights = self.best_weights if best else self.stacked_parameters()
        weights = {name: w[which.to(w.device)] for name, w in weights.items()}
        polished: dict[str, Tensor] = {}
        taken = torch.zeros(len(positions), dtype=torch.int64)
        if self.certifier is not None and self.polish_steps:
            with self.measuring_only(which, weights):
                strengths = self.strengths(self.certifier)
            weights, taken, _ = polish_lanes(
                self.certifier, *strengths, weights, self.polish_steps, self.until_gap, self.on_polish
            )
            if taken.any():
                with self.measuring_only(which, weights):
                    polished = self.measurements()
        with self.measuring_only(which, weights):
            tests = self.evaluate("test") if "test" in self.datamodule.parts else {}
            certificates = self.certificate()
        for number, (position, lane) in enumerate(zip(positions, self.lanes_so_far(positions), strict=True)):
            is_rescued = self.polish_steps > 0 and self.epochs_measured > 0
            if (error := self.without_minimum.get(lane.index)) is not None:
                lane.error = error
                yield lane
                continue
            if not is_rescued and (what := self.divergence(position, lane)) is not None:
                lane.error = self.divergence_error(what, self.penalty_of(position), self.lambd_of(position))
                yield lane
                continue
            own = {name: w[number].clone() for name, w in weights.items()}
            lane.weights = own
            if self.certifier is not None:
                penalty, lambd = self.penalty_of(position), self.lambd_of(position)
                lane.exchangeable = exchangeable(self.certifier, penalty, lambd, own)
            lane.best, lane.best_measured = self.best_of(position)
            if self.patience is not None:
                lane.measured = lane.best_measured
            steps = int(taken[number])
            if steps:
                lane.measured = drop_undefined(polished, [value[number].item() for value in polished.values()])
                lane.history.append(Moment(lane.history[-1].step + steps, now(), lane.measured))
                if not lane.measured["val/loss"] >= lane.best["val/loss"]:
                    lane.best = {
                        "epoch": self.epochs_measured + steps,
                        "val/loss": lane.measured["val/loss"],
                        "state_dict": lane.best["state_dict"] | own,
                    }
                    lane.best_measured = lane.measured
            last = own if steps else {name: w[position].clone() for name, w in self.stacked_parameters().items()}
            lane.last = checkpoint | {
                "state_dict": checkpoint["state_dict"] | {f"model.{name}": value for name, value in last.items()},
                "optimizer_states": self.take_lanes(checkpoint["optimizer_states"], position),
            }
            lane.test = {f"test/{name}": value[number].item() for name, value in tests.items()}
            lane.conclusion = {name: value[number].item() for name, value in certificates.items()}
            lane.conclusion |= self.conclusion_of(position, own, is_polished=steps > 0)
            yield lane

    def divergence(self, position: int, lane: Lane) -> str | None:
        """Say in what a lane shows that it has diverged; None if it has not."""
        if (what := describe_not_finite(lane.measured)) is not None or self.patience is not None:
            return what
        objective = self.names.index("train/objective")
        return describe_growth([moment.metrics[position, objective].item() for moment in self.history])

    def conclusion_of(self, position: int, named: dict[str, Tensor], is_polished: bool) -> dict[str, float]:
        """Return what `PenalisedModule.conclusion` tells of a run beside its certificate, of one lane."""
        lambd = self.lambd_of(position)
        steps = self.trainer.global_step
        if self.patience is not None:
            steps = int(self.progress.best_epoch[position]) * steps_an_epoch(self.trainer)
        known = {} if is_polished else self.measure_memory(lambd, steps)
        if self.certifier is not None:
            known |= self.certifier.against_optimum(self.penalty_of(position), lambd, named)
        return known

    def best_of(self, position: int) -> tuple[BestCheckpoint, dict[str, float]]:
        """Return the best checkpoint of a lane, and the metrics that it had then."""
        progress = self.progress
        best: BestCheckpoint = {
            "epoch": int(progress.best_epoch[position]),
            "val/loss": progress.best_loss[position].item(),
            "state_dict": self.model.state_dict()
            | {name: w[position].clone() for name, w in self.best_weights.items()},
        }
        return best, drop_undefined(self.names, progress.best_values[position].tolist())

    def lanes_so_far(self, positions: list[int]) -> list[Lane]:
        """Return the lanes at these positions with the history that each keeps so far."""
        chosen = [self.history[number] for number in self.points(len(self.history))]
        values = torch.stack([moment.metrics[positions] for moment in chosen], dim=1).tolist()
        lanes = []
        for position, rows in zip(positions, values, strict=True):
            history = [
                Moment(moment.step, moment.time, drop_undefined(self.names, row))
                for moment, row in zip(chosen, rows, strict=True)
            ]
            lanes.append(Lane(int(self.progress.index[position]), history, history[-1].metrics))
        return lanes

    def interrupted(self) -> list[Lane]:
        """Return the lanes that have not ended, as they stand."""
        return self.lanes_so_far(self.progress.running.nonzero()[:, 0].tolist()) if self.history else []
