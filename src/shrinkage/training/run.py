"""Builds and trains one run from its config, with the advice before it and the verdict after it."""

import math
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping
from omegaconf import DictConfig
from threadpoolctl import threadpool_limits
from torch import nn

from shrinkage.config import exports, step_unit
from shrinkage.data.base import DataModule
from shrinkage.errors import InputError
from shrinkage.models.linear import Linear
from shrinkage.optimum import conventions
from shrinkage.optimum.exchangeable_columns import exchangeable, note_on_columns
from shrinkage.optimum.problem import Problem
from shrinkage.optimum.verdict import describe_pace, describe_stop, percent
from shrinkage.penalties.base import Penalty
from shrinkage.penalties.elastic_net import ElasticNet
from shrinkage.penalties.l1 import L1
from shrinkage.penalties.l2 import L2
from shrinkage.tasks.base import Survival, Task
from shrinkage.tasks.classification import Classification
from shrinkage.tasks.regression import Regression
from shrinkage.tracking.outcome import Outcome

from . import objective
from .checkpoints import Checkpoints
from .dynamics import SMALL, Dynamics, steps_an_epoch
from .history import describe_growth, describe_not_finite
from .module import PenalisedModule
from .outcomes import residuals, survival_curves
from .progress import ProgressBar
from .ranks import Ranks, receive_part
from .workshop import Workshop

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Multiply-adds a step under which one thread is faster than two.
ONE_THREAD_WORK = 10_000_000


@contextmanager
def interruptions_first() -> Generator[None]:
    """Raise SystemExit, as the signal did, where PyTorch or Lightning have made an error of their own out of it."""
    try:
        yield
    except Exception as error:
        behind = error.__context__
        while behind is not None and not isinstance(behind, SystemExit):
            behind = behind.__context__
        if behind is None:
            raise
        raise behind from None


@dataclass
class Training:
    """The objects of one run; `run` trains them once.

    why_not: why its optimum is not certified, None if it is. tags: what it records of itself. test, conclusion: what is
    known when it has ended.
    """

    cfg: DictConfig
    datamodule: DataModule
    module: PenalisedModule
    trainer: L.Trainer
    checkpoints: Checkpoints
    why_not: str | None
    tags: dict[str, str]
    test: dict[str, float] = field(default_factory=dict)
    conclusion: dict[str, float] = field(default_factory=dict)

    @interruptions_first()
    def run(self, checkpoint: Path | None = None) -> None:
        """Train, put back the best weights if early stopping asks for them, polish, and measure what ends a run.

        checkpoint: a last.ckpt of this run, written anywhere in it, from which it goes on. It ends bitwise as the run
        that was never interrupted. Raises InputError if the file is damaged or of other settings, or training diverges.
        """
        self.train(checkpoint)
        if not self.module.history:
            raise InputError(f"trainer.max_time={self.cfg.trainer.get('max_time')}: not a step fits into it; use more")
        # Lightning has taken it from there.
        self.module.to(self.trainer.strategy.root_device)
        steps = self.trainer.global_step
        is_polished = self.module.polished is not None  # before it was interrupted
        if self.stops_early:
            if not is_polished:
                self.checkpoints.restore_best()
            steps = self.checkpoints.best["epoch"] * steps_an_epoch(self.trainer)
        elif not self.module.polish_steps:
            self.module.check_end()
        if self.module.certifier is not None and self.module.polish_steps and not is_polished:
            epochs = self.module.epochs_measured
            taken = self.module.polish(self.module.certifier)
            self.checkpoints.keep_better(epochs + taken)
            self.checkpoints.write_at_last(self.trainer)
        if "test" in self.datamodule.parts:
            self.test = {f"test/{name}": float(value) for name, value in self.module.evaluate("test").items()}
            if exports(self.cfg) and (error := self.module.error_of_loss("test")) is not None:
                self.test["test/loss_error"] = error  # for who takes the model away
        self.conclusion = self.module.conclusion(steps)
        self.module.cpu()

    @property
    def stops_early(self) -> bool:
        """Whether early stopping is asked for, which keeps the weights of the smallest val/loss."""
        return self.cfg.early_stopping.patience is not None

    def train(self, checkpoint: Path | None) -> None:
        """Train, as every process of a run does; what follows it is the first one's alone."""
        set_threads(self.cfg.threads, self.module, self.datamodule)
        self.trainer.fit(self.module, self.datamodule, ckpt_path=checkpoint)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    def verdict(self) -> str:
        """Say how far from its optimum the run stopped."""
        module, certifier = self.module, self.module.certifier
        if certifier is None:
            return f"not certified: {self.why_not}"
        known = module.measured | self.conclusion
        curve = [(moment.step, moment.metrics["train/objective"]) for moment in module.history]

        def help(least: float) -> str:
            if module.gap is not None:
                return "; a slower way has not brought it nearer"
            if module.polish_steps:
                if self.ended_by_rounding:
                    return ""
                return f"; polish={5 * module.polish_steps} would go further"
            if self.stops_early:
                return ", where early_stopping found the smallest val/loss"
            cure = module.shorter_steps(module.penalty, module.lambd) if curve[-1][1] > curve[0][1] else None
            if cure is not None:
                return f"; it has grown over the training, in steps that are too long: {cure}"
            noisy = self.datamodule.batch_rows < len(self.datamodule.parts["train"])
            return describe_pace(certifier, curve, least, f"trainer.max_{step_unit(self.cfg)}s", noisy)

        names = self.datamodule.feature_names
        groups = exchangeable(certifier, module.penalty, module.lambd, module.parameters_by_name())
        named_groups = [
            [names[j] for j in (row == group).nonzero()[0]]
            for row in groups
            for group in range(1, row.max(initial=0) + 1)
        ]
        words = describe_stop(certifier, module.penalty, module.lambd, known, module.until_gap, help, named_groups)
        if module.polished:
            words += f"; the last {module.polished} steps of the curve are full-batch proximal ones (polish)"
            if module.polished_from_zero:
                words += ", from zero weights, which were better than those of the training"
                trained = [moment.metrics for moment in module.history[:-1]]
                if describe_not_finite(trained[-1]) or describe_growth(
                    [measured["train/objective"] for measured in trained]
                ):
                    cure = module.shorter_steps(module.penalty, module.lambd)
                    words += f" (it diverged{f': {cure}' if cure else ''})"
        proven = known["optimum/duality_gap"]
        if module.until_gap is not None and module.until_gap < proven and self.ended_by_rounding:
            words += f"; rounding keeps the proven gap at {proven:.1g}, above trainer.until_gap={module.until_gap:g}"
            if next(module.model.parameters()).dtype != torch.float64:
                words += ", and trainer.precision=64-true rounds less"
        elif module.until_gap is not None and known.get("optimum/gap", math.inf) <= module.until_gap < proven:
            words += (
                f"; trainer.until_gap={module.until_gap:g} goes by the gap that the weights prove by themselves, "
                f"{proven:.1g}: polish=20000 brings it down"
            )
        if known.get("init/memory", 0.0) > 1e-6 and certifier.leaves_directions:
            words += f"; {percent(known['init/memory'])} of the initial weights is left where the data do not reach"
        return words

    @property
    def ended_by_rounding(self) -> bool:
        """Whether the polish ended before its last step: all of the gap that is left then comes from rounding."""
        return self.module.polished is not None and self.module.polished < self.module.polish_steps

    def learning_curves(self, title: str) -> "Figure":
        """Draw losses, penalty and the norm of the weights over the training."""
        from shrinkage.report.figures import learning_curves

        curves = [(moment.step, moment.metrics) for moment in self.module.history]
        return learning_curves(curves, title, step_unit(self.cfg), self.module.penalty.colour)

    def landscape(self) -> "Figure | None":
        """Draw the objective around the run's course; None if it has none, is not convex or has too many weights."""
        from shrinkage.report.landscape import landscape

        module, certifier = self.module, self.module.certifier
        if certifier is None or module.gap is not None or not isinstance(certifier.problem, Problem):
            return None
        l1, l2 = map(float, certifier.strengths(module.penalty, module.lambd))
        path = [certifier.problem.parameters(named) for named in module.trajectory]
        return landscape(certifier.problem, l1, l2, path, certifier.best(l1, l2))

    def outcome(self, survival: Survival | None) -> Outcome | None:
        """Look at what the model does: survival over time, where that is known, or residuals on held-out rows.

        None where it predicts neither, or no rows are held out.
        """
        if survival is not None:
            output, *_ = self.module.predict_part("train")
            return survival_curves(survival, self.datamodule, output)
        part = next((name for name in ("test", "val") if name in self.datamodule.parts), None)
        if part is None or self.module.task.predicts not in ("numbers", "vectors"):
            return None
        output, target, _ = self.module.predict_part(part)
        return residuals(self.module.task, self.datamodule, part, output, target)

    def best_metrics(self) -> dict[str, float]:
        """Return the record's best/* under early stopping; empty without it."""
        if not self.stops_early:
            return {}
        return best_metrics(self.checkpoints.best["epoch"], self.checkpoints.best_measured)

    def advice(self) -> list[str]:
        """Say what the user should know before training begins: of the data, of steps too long, of λ too large."""
        sentences = list(self.datamodule.notes)
        module, cfg = self.module, self.cfg
        if module.certifier is not None:
            sentences += note_on_columns(self.datamodule)
        asked = [
            f"{key}={value}"
            for key, value, default in (
                ("certificate", cfg.certificate, "end"),
                ("trainer.until_gap", cfg.trainer.until_gap, None),
                ("polish", cfg.polish, 0),
            )
            if value != default
        ]
        if asked and module.certifier is None:
            sentences.append(f"{', '.join(asked)}: {self.why_not}; the run goes on without")
        optimizer = module.make_optimizer(module.model.parameters())
        bound = objective.largest_stable_lr(module.penalty, module.lambd, optimizer)
        if cfg.optimizer.lr >= bound:  # the largest factor of every schedule is 1
            sentences.append(
                f"optimizer.lr={cfg.optimizer.lr:g} with lambd={module.lambd:g}: |1 − ηλ| ≥ 1, so the penalty alone "
                f"keeps the weights from shrinking; a learning rate under {bound:.3g} works, such as "
                f"optimizer.lr={bound / 4:.2g}"
            )
        lost = objective.lost_to_rounding(module.penalty, module.lambd, module.penalised, optimizer)
        if lost > 0.5:
            sentences.append(
                f"trainer.precision={cfg.trainer.precision}: of the weights {percent(lost)} are left by a step of the "
                f"penalty bit for bit as they were, since ηλ = {cfg.optimizer.lr * module.lambd:.2g} is lost to "
                "rounding; trainer.precision=bf16-mixed keeps them in single precision"
            )
        held = "that it holds " if module.penalty.factor else ""
        if module.certifier is not None and module.lambd >= (largest := module.certifier.lambda_max(module.penalty)):
            sentences.append(
                f"lambd={module.lambd:g} is at or above λ_max = {largest:.3g} of these training data, from which "
                f"on the optimum has every weight {held}at zero; try lambd={largest / 3:.1g}"
            )
        return sentences


def equivalents(
    cfg: Mapping[str, Any],
    task: Task,
    penalty: Penalty,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    datamodule: DataModule,
) -> dict[str, str]:
    """Return the tags `equivalent.*`, which say how a run's λ is written in other libraries.

    Empty if they have nothing to compare, or the loss is neither least squares nor cross-entropy, of rows that all
    count the same.
    """
    kinds: dict[type[Penalty], str] = {
        L1: conventions.L1,
        L2: conventions.L2,
        ElasticNet: conventions.ELASTIC_NET,
    }
    if not isinstance(task, Regression | Classification) or datamodule.row_terms:
        return {}
    if type(penalty) not in kinds or penalty.scope != "weights" or not penalty.is_plain or cfg["lambd"] == 0:
        return {}
    lambd, momentum = float(cfg["lambd"]), 0.0
    if penalty.mode == "decay":
        if not isinstance(optimizer, torch.optim.SGD):
            return {"equivalent.minimiser": conventions.ADAMW} if isinstance(penalty, L2) else {}
        momentum = optimizer.param_groups[0]["momentum"]
        lambd *= 1 - momentum
    circumstances = conventions.Circumstances(
        len(datamodule.parts["train"]),
        datamodule.classes,
        momentum,
        datamodule.noise_variance,
        penalty.l1_ratio if isinstance(penalty, ElasticNet) else 0.0,
        float(np.asarray(datamodule.scale)) if datamodule.standardize else None,
    )
    return conventions.tags(kinds[type(penalty)], lambd, circumstances, type(model) is Linear)


def best_metrics(epoch: int, measured: dict[str, float]) -> dict[str, float]:
    """Return the record's best/*: the epoch with the smallest val/loss, and the validation metrics then."""
    return {"best/epoch": float(epoch)} | {
        f"best/{name}": value for name, value in measured.items() if name.startswith("val/")
    }


def set_threads(threads: int | None, module: nn.Module, datamodule: DataModule) -> None:
    """Set how many threads PyTorch, NumPy and SciPy use: as many as are asked for, else one if a step is little work.

    If it is much, the libraries choose for themselves. Of several processes each has its share of the machine's cores.
    """
    weights = sum(parameter.numel() for parameter in module.parameters())
    processes = datamodule.share.size
    if processes > 1:
        threads = threads or max((os.cpu_count() or 1) // processes, 1)
    if threads or weights * datamodule.batch_rows < ONE_THREAD_WORK:
        torch.set_num_threads(threads or 1)
        threadpool_limits(threads or 1)


def build(
    cfg: DictConfig,
    folder: Path,
    label: str = "",
    tell: Callable[[str], None] | None = None,
    ranks: Ranks | None = None,
) -> Training:
    """Build the training of one run.

    folder: where its checkpoints go. label, tell: those of the progress bar. ranks: which of its processes this is,
    None if there is one. Raises InputError if a value cannot be used.
    """
    workshop = Workshop(cfg)
    trainer = workshop.trainer(folder, ranks)
    model = workshop.model(cfg.seed, trainer)
    penalty = workshop.penalty(cfg, model)
    module = PenalisedModule(model, penalty, float(cfg.lambd), workshop.ingredients(workshop.datamodule))
    checkpoints = Checkpoints(folder / "checkpoints", module)
    module.callbacks.append(checkpoints)
    if cfg.early_stopping.patience is not None:
        if "val" not in workshop.datamodule.parts:
            raise InputError(
                f"early_stopping.patience={cfg.early_stopping.patience}: it looks at val/loss, and data.refit=true "
                "leaves no validation part; use early_stopping.patience=null"
            )
        module.callbacks.append(
            EarlyStopping("val/loss", patience=cfg.early_stopping.patience, min_delta=cfg.early_stopping.min_delta)
        )
    weights = sum(parameter.numel() for parameter in model.parameters())
    if cfg.dynamics is True or (cfg.dynamics == "auto" and weights >= SMALL):
        module.dynamics = Dynamics(module)
        module.callbacks.append(module.dynamics)
    if cfg.progress:
        bar = ProgressBar(module, label, tell)
        module.callbacks.append(bar)
        module.on_polish, module.on_solved = bar.on_polish, bar.on_solved
    reason = workshop.certify(module, model, float(cfg.lambd))
    optimizer = workshop.make_optimizer(model.parameters())
    tags = equivalents(cfg, workshop.task, penalty, model, optimizer, workshop.datamodule)
    return Training(cfg, workshop.datamodule, module, trainer, checkpoints, reason, workshop.tags(penalty) | tags)


def train_as_other() -> None:
    """Train as one of the processes of a run that the first one has started; only the first keeps what comes of it."""
    cfg, place, checkpoint = receive_part()
    cfg.progress = False
    with TemporaryDirectory() as folder:
        build(cfg, Path(folder), ranks=place).train(checkpoint)
