"""The training of `module.py` for K lanes at once: runs that differ in λ, seed or a penalty's own numbers.

The model's parameters are stacked, [K, …], and `torch.vmap` takes one lane's objective over all of them. The gradient
of the lanes' sum is each lane's own gradient, so that any optimiser that works entry by entry serves unchanged.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel  # vmap has no rule for fused attention, but for its parts
from torch.utils._pytree import tree_leaves, tree_map

from shrinkage.errors import InputError
from shrinkage.machine.clock import now
from shrinkage.penalties.base import Params, Penalty
from shrinkage.tasks.base import Task

from . import objective
from .checkpoints import Resumable, held, save
from .module import WATCHED, PenalisedModule, defined, grown, not_finite

# Optimisers that treat every entry of a parameter by itself, so that stacked lanes do not feel one another.
ELEMENTWISE = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.Adamax,
    torch.optim.Adagrad,
    torch.optim.Adadelta,
    torch.optim.RMSprop,
    torch.optim.Rprop,
    torch.optim.ASGD,
)
EVALUATED = 16  # lanes, with as many rows as one has alone, that are evaluated at once; of more lanes fewer rows
# The attributes with a dimension of lanes: what each lane is given, and what has become of it.
GIVEN = ("lambd", "numbers", "order", "data")
BECOME = ("index", "running", "best_loss", "best_epoch", "best_values", "best_weights", "stopping_best", "waited")
COMPACT_SHARE = 7 / 8  # ended lanes leave the stack when no more than this share of it is still training


class CannotShare(Exception):
    """Why runs cannot be lanes of one training; each has to be trained by itself."""


@dataclass
class Lane:
    """What one lane leaves behind, as if it had been trained alone.

    index: which of the lanes. history: (step, milliseconds since 1970, metrics). measured: the metrics of the weights
    that it ends with. best: the checkpoint of its smallest val/loss. last: Lightning's checkpoint of its end.
    conclusion: what is known of its optimum. weights: the parameters that it ends with. exchangeable: of its
    columns, as `PenalisedModule.exchangeable`. error: why it diverged. Where
    training was interrupted, best and last are None.
    """

    index: int
    history: list[tuple[int, int, dict[str, float]]]
    measured: dict[str, float]
    best: dict | None = None
    best_measured: dict[str, float] = field(default_factory=dict)
    last: dict | None = None
    test: dict[str, float] = field(default_factory=dict)
    conclusion: dict[str, float] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)
    exchangeable: np.ndarray | None = None
    error: InputError | None = None


class LanesCheckpoint(Resumable):
    """Writes all that the lanes together need to go on; at their end each has its own."""

    def write(self, checkpoint: dict, trainer: L.Trainer) -> None:
        save(checkpoint | {"lanes": trainer.lightning_module.state_of_lanes()}, self.path)


def why(error: Exception) -> str:
    """PyTorch's refusal to vectorise a step, in the words of someone who chose a model."""
    words = str(error)
    if "randomness" in words:
        return "the model draws random numbers while it trains (dropout), which lanes would have to share"
    if "running_mean" in words:
        return "batch normalisation keeps running statistics, which lanes cannot keep apart"
    if "data-dependent control flow" in words or ".item()" in words:
        return "the model or penalty branches on its data (data-dependent control flow)"
    return f"PyTorch cannot vectorise the step: {words.splitlines()[0][:200]}"


def stacked(models: Sequence[nn.Module]) -> nn.Module:
    """A copy of the first model whose every parameter holds that of all of them, [K, …]; for `functional_call`."""
    model = copy.deepcopy(models[0])
    each = [dict(lane.named_parameters()) for lane in models]
    for name, parameter in model.named_parameters():
        parameter.data = torch.stack([lane[name].detach() for lane in each])
    return model


def varied(penalties: Sequence[Penalty]) -> dict[str, list[float]]:
    """The penalties' own numbers that are not the same in all of them."""
    columns = {f.name: [getattr(penalty, f.name) for penalty in penalties] for f in fields(penalties[0])}
    return {name: column for name, column in columns.items() if any(value != column[0] for value in column)}


def with_numbers(penalty: Penalty, numbers: Mapping[str, Tensor]) -> Penalty:
    """The penalty with some of its numbers replaced by tensors, past its constructor's check of each lane's own."""
    replaced = copy.copy(penalty)
    for name, value in numbers.items():
        object.__setattr__(replaced, name, value)
    return replaced


class LanesModule(PenalisedModule):
    """Minimises data loss + λₖ·Ωₖ(wₖ) for every lane k, each measured, stopped and failed by itself.

    models: the initial model of each lane. order: which of the batch orders each lane follows, all 0 where they share
    one. patience and min_delta are those of early stopping, patience None for none. points: which of so many measured
    moments a lane's history keeps. on_end: told of every lane when it ends, of one that stops early or diverges before
    the others.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        task: Task,
        penalties: Sequence[Penalty],
        lambd: Sequence[float],
        order: Sequence[int],
        data: Sequence[int] | None,
        make_optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Callable[[int, int], float],
        patience: int | None,
        min_delta: float,
        points: Callable[[int], Sequence[int]],
        on_end: Callable[[Lane], None],
    ) -> None:
        super().__init__(stacked(models), task, penalties[0], 0.0, make_optimizer, schedule)
        # λ and the penalties' numbers stay in double precision, as Python's own numbers are for one lane.
        self.lambd = torch.tensor(lambd, dtype=torch.float64)
        numbers = {name: torch.tensor(column, dtype=torch.float64) for name, column in varied(penalties).items()}
        self.numbers: dict[str, Tensor] = numbers
        self.order, self.has_orders, self.has_data = torch.tensor(order), max(order) > 0, data is not None
        self.data = torch.tensor(data if data is not None else [0] * len(lambd))
        self.patience, self.min_delta = patience, min_delta
        self.points, self.on_end = points, on_end
        self.index = torch.arange(len(lambd))
        self.running = torch.ones(len(lambd), dtype=torch.bool)
        self.log_of_all: list[tuple[int, int, Tensor]] = []  # step, time, [metrics, K]
        self.names: list[str] = []
        self.best_loss = torch.full((len(lambd),), torch.inf, dtype=torch.float64)
        self.best_epoch = torch.zeros(len(lambd), dtype=torch.int64)
        self.best_values = torch.empty(0)  # [K, metrics]
        self.best_weights: dict[str, Tensor] = {}
        self.stopping_best, self.waited = self.best_loss.clone(), torch.zeros(len(lambd), dtype=torch.int64)
        self.selected: tuple[slice | Tensor, dict[str, Tensor] | None] = (slice(None), None)

    def on_fit_start(self) -> None:
        for name in (*GIVEN, "best_weights"):
            setattr(self, name, tree_map(lambda tensor: tensor.to(self.device), getattr(self, name)))

    # What one lane does, over all of them.

    def each(self, function: Callable, *trees: object, at_once: int | None = None) -> object:
        """function(penaltyₖ, λₖ, *treesₖ) of every lane k; the trees' tensors are stacked, and so is the result.

        at_once: of how many lanes it is taken together, None for all.
        """

        def one(numbers: Mapping[str, Tensor], lambd: Tensor, *lane: object) -> object:
            return function(with_numbers(self.penalty, numbers), lambd, *lane)

        which, _ = self.selected
        numbers = {name: column[which] for name, column in self.numbers.items()}
        return torch.vmap(one, chunk_size=at_once)(numbers, self.lambd[which], *trees)

    @contextmanager
    def only(self, which: Tensor, named: dict[str, Tensor]) -> Iterator[None]:
        """What is measured inside is measured of the lanes of a mask [K], with these parameters [lanes, …]."""
        self.selected = (which.to(self.device), named)
        try:
            yield
        finally:
            self.selected = (slice(None), None)

    def parameters_by_name(self) -> dict[str, Tensor]:
        return self.selected[1] or super().parameters_by_name()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self.total(*batch, self.has_orders)

    def total(self, x: Tensor, y: Tensor, has_orders: bool) -> Tensor:
        """The sum of the lanes' objectives on a batch; has_orders: on one of each of the orders, [orders, batch, …]."""

        def one(penalty: Penalty, lambd: Tensor, weights: Params, x: Tensor = x, y: Tensor = y) -> Tensor:
            penalised = {name: weights[name] for name in self.penalised}
            return self.loss(penalty, lambd, penalised, functional_call(self.model, weights, (x,)), y)

        weights = dict(self.model.named_parameters())
        with sdpa_kernel(SDPBackend.MATH):
            if not has_orders:
                return self.each(one, weights).sum()
            return self.each(one, weights, x[self.order], y[self.order]).sum()

    def outputs(self, x: Tensor) -> Tensor:
        """What each lane's model gives for some rows, [lanes, rows, …]."""

        def one(weights: Params, x: Tensor = x) -> Tensor:
            return functional_call(self.model, weights, (x,))

        weights = self.parameters_by_name()
        with sdpa_kernel(SDPBackend.MATH):
            return (
                torch.vmap(one)(weights, x[self.data[self.selected[0]]]) if self.has_data else torch.vmap(one)(weights)
            )

    def sums(self, output: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The task's sums over some rows, of each lane."""
        if self.has_data:
            return torch.vmap(self.task.sums)(output, y[self.data[self.selected[0]]])
        return torch.vmap(self.task.sums, in_dims=(0, None))(output, y)

    def measure_sums(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """The task's metrics from its sums over a part, of each lane."""
        return torch.vmap(self.task.measure)(sums)

    def measure_whole(self, outputs: Sequence[Tensor], targets: Sequence[Tensor]) -> dict[str, Tensor]:
        """The task's metrics that need all rows of a part, [lanes] each; lane by lane, since sorting is no sum."""
        output, target = torch.cat(list(outputs), dim=1), torch.cat(list(targets), dim=1 if self.has_data else 0)
        data = self.data[self.selected[0]].tolist()
        found = [
            self.task.measure_whole(lane, target[k] if self.has_data else target)
            for lane, k in zip(output, data, strict=True)
        ]
        return {name: torch.stack([each[name] for each in found]) for name in found[0]}

    @property
    def evaluation_rows(self) -> int:
        return max(EVALUATED * super().evaluation_rows // len(self.running), 1)

    def bytes_of_a_lane(self, x: Tensor, y: Tensor) -> int:
        """The memory that one lane takes in training, measured in a step on a batch of each lane's kind.

        Raises CannotShare where the step cannot be taken for many lanes at once.
        """
        optimizer = self.make_optimizer(self.model.parameters())
        if type(optimizer) not in ELEMENTWISE:
            raise CannotShare(f"{type(optimizer).__name__} does not treat every weight by itself")
        saved: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        try:
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                loss = self.total(x, y, has_orders=False)
            loss.backward()
            if self.penalty.mode == "prox":
                self.update(objective.proxed, lr=0.0)
            elif self.penalty.mode != "loss":
                self.update(objective.decayed, rate=0.0)
        except (RuntimeError, NotImplementedError) as error:
            raise CannotShare(why(error)) from error
        optimizer.step()
        state = [leaf for leaf in tree_leaves(optimizer.state_dict()["state"]) if isinstance(leaf, Tensor)]
        weights = sum(parameter.nbytes for parameter in self.model.parameters())
        # The weights, their gradient, the best ones, and a copy in the making; and what a step and its optimiser keep.
        total = 4 * weights + sum(saved.values()) + sum(tensor.nbytes for tensor in state)
        return total // len(self.index)

    # Each lane's own course.

    def measure(self, step: int) -> None:
        measured = self.measurements()
        self.names = list(measured)
        values = torch.stack(list(measured.values()))
        self.log_of_all.append((step, now(), values))
        self.measured = {name: value.nanmean().item() for name, value in measured.items()}  # for the progress bar
        watched = values[[self.names.index(name) for name in WATCHED]]
        self.end(self.running & ~watched.isfinite().all(dim=0))

    def on_train_epoch_end(self) -> None:
        self.measure(self.steps_finished)
        values = self.log_of_all[-1][2]
        loss = values[self.names.index("val/loss")]
        better = self.running & (loss < self.best_loss)
        if not self.best_weights:
            self.best_weights = {name: p.detach().clone() for name, p in self.model.named_parameters()}
            self.best_values = values.T.clone()
        elif better.any():
            for name, parameter in self.model.named_parameters():
                self.best_weights[name][better] = parameter.detach()[better]
            self.best_values[better] = values.T[better]
        self.best_loss = torch.where(better, loss, self.best_loss)
        self.best_epoch[better] = self.trainer.current_epoch + 1
        if self.patience is not None:
            # The rule of Lightning's EarlyStopping.
            progress = loss + self.min_delta < self.stopping_best
            self.stopping_best = torch.where(progress, loss, self.stopping_best)
            self.waited = torch.where(progress, 0, self.waited + 1)
            self.end(self.running & (self.waited >= self.patience))
        if self.until_gap is not None:
            self.end(self.running & (values[self.names.index("optimum/duality_gap")] <= self.until_gap))
        if not self.running.any():
            self.trainer.should_stop = True
        elif self.running.double().mean() <= COMPACT_SHARE:
            self.compact()

    def on_train_end(self) -> None:
        self.end(self.running.clone())

    def on_fit_end(self) -> None:
        # Where a checkpoint was of the last epoch, nothing has been trained and `on_train_end` was not called.
        if self.running.any():
            self.to(self.trainer.strategy.root_device)
            self.end(self.running.clone())

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """What a lane leaves behind is Lightning's own; `state_of_lanes` is what all of them need to go on."""

    def state_of_lanes(self) -> dict:
        """Beside the weights and the optimiser, all that has become of the lanes in the stack."""
        steps, times, values = zip(*self.log_of_all, strict=True)
        return {name: getattr(self, name) for name in BECOME} | {
            "lambd": self.lambd,
            "names": self.names,
            "steps": torch.tensor(steps),
            "times": torch.tensor(times),
            "values": torch.stack(values),  # [moments, metrics, K]
        }

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        if (state := checkpoint.get("lanes")) is not None:
            index = state["index"]
            if index[-1] >= len(self.lambd) or not self.lambd[index].equal(state["lambd"]):
                raise InputError(
                    f"{self.trainer.ckpt_path} is of lanes with other λ; resume with those that it was made with"
                )
            self.keep(index)
        self.check_fits(checkpoint, "lanes")
        for name in BECOME:
            setattr(self, name, state[name])
        self.names = state["names"]
        self.log_of_all = list(zip(state["steps"].tolist(), state["times"].tolist(), state["values"], strict=True))

    def end(self, which: Tensor) -> None:
        """Hand over the lanes of a mask [K] with all that they leave behind."""
        positions = which.nonzero()[:, 0].tolist()
        if not positions:
            return
        self.running &= ~which
        checkpoint = {key: value for key, value in held(self.trainer).items() if key != "between_epochs"}
        best = self.patience is not None and bool(self.best_weights)
        weights = self.best_weights if best else super().parameters_by_name()
        weights = {name: w[which.to(w.device)] for name, w in weights.items()}
        polished: dict[str, Tensor] = {}
        taken = torch.zeros(len(positions), dtype=torch.int64)
        if self.polish_steps:
            with self.only(which, weights):
                strengths = self.strengths()
            weights, taken, _ = self.certifier.polished(
                *strengths, weights, self.polish_steps, self.until_gap, self.on_polish
            )
            if taken.any():
                with self.only(which, weights):
                    polished = self.measurements()
        with self.only(which, weights):
            tests = self.evaluate("test") if "test" in self.trainer.datamodule.parts else {}
            certificates = self.certificate() if self.certifier is not None else {}
        for number, (position, lane) in enumerate(zip(positions, self.lanes(positions), strict=True)):
            is_rescued = self.polish_steps > 0 and self.epochs_measured > 0
            if not is_rescued and (what := self.divergence(position, lane)) is not None:
                lane.error = self.diverged(what, self.penalty_of(position), self.lambd[position].item())
                self.on_end(lane)
                continue
            own = {name: w[number].clone() for name, w in weights.items()}
            lane.weights = own
            if self.certifier is not None:
                lambd = self.lambd[position].item()
                lane.exchangeable = self.certifier.exchangeable(self.penalty_of(position), lambd, own)
            lane.best, lane.best_measured = self.best(position)
            if self.patience is not None:
                lane.measured = lane.best_measured
            last = own if taken[number] else {name: p[position].clone() for name, p in self.model.named_parameters()}
            if taken[number]:
                lane.measured = defined(polished, [value[number].item() for value in polished.values()])
                lane.history.append((lane.history[-1][0] + int(taken[number]), now(), lane.measured))
                if not lane.measured["val/loss"] >= lane.best["val/loss"]:
                    lane.best |= {
                        "epoch": self.epochs_measured + int(taken[number]),
                        "val/loss": lane.measured["val/loss"],
                        "state_dict": lane.best["state_dict"] | own,
                    }
                    lane.best_measured = lane.measured
            lane.last = checkpoint | {
                "state_dict": checkpoint["state_dict"]
                | {f"model.{name}": value.detach() for name, value in last.items()},
                "optimizer_states": tree_map(self.chosen(position), checkpoint["optimizer_states"]),
            }
            lane.test = {f"test/{name}": value[number].item() for name, value in tests.items()}
            lane.conclusion = {name: value[number].item() for name, value in certificates.items()}
            lane.conclusion |= self.known_of(position, own, bool(taken[number]))
            self.on_end(lane)

    def divergence(self, position: int, lane: Lane) -> str | None:
        """In what a lane shows that it has diverged, None where it has not."""
        if (what := not_finite(lane.measured)) is not None or self.patience is not None:
            return what
        objective = self.names.index("train/objective")
        return grown([values[objective, position].item() for _, _, values in self.log_of_all])

    @property
    def epochs_measured(self) -> int:
        return len(self.log_of_all) - 1

    def penalty_of(self, position: int) -> Penalty:
        """The penalty of one lane, with the numbers of its own."""
        return with_numbers(self.penalty, {name: column[position].item() for name, column in self.numbers.items()})

    def known_of(self, position: int, named: dict[str, Tensor], is_polished: bool) -> dict[str, float]:
        """What `conclusion` says of a run beside its certificate."""
        lambd = self.lambd[position].item()
        steps = self.trainer.global_step
        if self.patience is not None:
            steps = int(self.best_epoch[position]) * self.trainer.num_training_batches
        known = {} if is_polished else self.memory(lambd, steps)
        if self.certifier is not None:
            known |= self.certifier.against_optimum(self.penalty_of(position), lambd, named)
        return known

    def lanes(self, positions: list[int]) -> list[Lane]:
        """Lanes of the stack with their history so far."""
        chosen = [self.log_of_all[number] for number in self.points(len(self.log_of_all))]
        values = torch.stack([values[:, positions] for _, _, values in chosen]).permute(2, 0, 1).tolist()
        lanes = []
        for position, rows in zip(positions, values, strict=True):
            history = [
                (step, time, defined(self.names, row)) for (step, time, _), row in zip(chosen, rows, strict=True)
            ]
            lanes.append(Lane(int(self.index[position]), history, history[-1][2]))
        return lanes

    def interrupted(self) -> list[Lane]:
        """The lanes that have not ended, as they stand."""
        return self.lanes(self.running.nonzero()[:, 0].tolist()) if self.log_of_all else []

    def best(self, position: int) -> tuple[dict, dict[str, float]]:
        """The best checkpoint of a lane, and the metrics that it had then."""
        best = {
            "epoch": int(self.best_epoch[position]),
            "val/loss": self.best_loss[position].item(),
            "state_dict": self.model.state_dict()
            | {name: w[position].clone() for name, w in self.best_weights.items()},
        }
        return best, defined(self.names, self.best_values[position].tolist())

    def chosen(self, which: int | Tensor) -> Callable[[object], object]:
        """Takes one lane, or the lanes of a list of positions, out of a tensor with a dimension of lanes.

        An optimiser's state has that dimension wherever it is not one number for all.
        """
        lanes = len(self.running)

        def own(leaf: object) -> object:
            if not isinstance(leaf, Tensor):
                return leaf
            return (leaf[which] if leaf.dim() > 0 and len(leaf) == lanes else leaf).clone()

        return own

    @torch.no_grad()
    def compact(self) -> None:
        """Take the lanes that have ended out of the stack, so that they cost nothing any more."""
        left = self.running.nonzero()[:, 0]
        (optimizer,) = self.trainer.optimizers
        for parameter in self.model.parameters():
            optimizer.state[parameter] = tree_map(self.chosen(left), dict(optimizer.state[parameter]))
        self.keep(left)

    def keep(self, positions: Tensor) -> None:
        """Make the stack one of the lanes at these positions."""
        kept = self.chosen(positions)
        for parameter in self.model.parameters():
            parameter.data, parameter.grad = kept(parameter.data), None
        self.log_of_all = [(step, time, values[:, positions]) for step, time, values in self.log_of_all]
        for name in (*GIVEN, *BECOME):
            setattr(self, name, tree_map(kept, getattr(self, name)))


def thinned(count: int, points: int = 20) -> list[int]:
    """Which of `count` moments a thinned curve keeps: so many, or all; the first, the last, dense at the beginning."""
    chosen = [0] if count else []
    while len(chosen) < min(points, count):
        # The next of a geometric series from here to the last.
        left, last = min(points, count) - len(chosen), max(chosen[-1], 1)
        chosen.append(max(chosen[-1] + 1, round(last * ((count - 1) / last) ** (1 / left))))
    return chosen
