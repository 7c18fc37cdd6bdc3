"""From scratch and concise: weight decay written into the loss or left to the optimiser, and versions that differ."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning.pytorch as L
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.utilities.types import STEP_OUTPUT
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.utils.data import DataLoader

from shrinkage.data.base import Batches
from shrinkage.errors import InputError
from shrinkage.report.figures import BLUE, COLOURS, GREEN, GREY, ORANGE, empty_panels
from shrinkage.report.findings import Findings
from shrinkage.studies.base import Study, vary
from shrinkage.studies.numbers import check_list, check_positive
from shrinkage.training.run import Training, build

FLOOR = 1e-20  # where a difference of exactly 0 is drawn


class Trajectory(L.Callback):
    """The weights, and last the bias, before training and after every step."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.points: list[Tensor] = []

    def note(self) -> None:
        """Add the parameters as they are now."""
        self.points.append(parameters_to_vector(self.model.parameters()).detach())

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.note()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        self.note()


@dataclass(frozen=True)
class Version:
    """One way of writing the training: its loss is the mean or sum of r², halved or not, + penalty·Σw².

    decay: the optimiser's own weight decay; decay_bias: whether it is of the bias, too.
    """

    lr: float
    decay: float = 0.0
    decay_bias: bool = False
    penalty: float = 0.0
    half: bool = True
    reduction: str = "mean"


def followed(cfg: DictConfig, **numbers: object) -> tuple[Training, Tensor]:
    """A run and its trajectory [steps + 1, p + 1]."""
    with TemporaryDirectory() as folder:
        training = build(vary(cfg, **numbers), Path(folder), "training")
        trajectory = Trajectory(training.module.model)
        vars(training.trainer)["callbacks"].append(trajectory)
        training.run()
    return training, torch.stack(trajectory.points)


def by_hand(run: Training, start: Tensor, version: Version) -> Tensor:
    """The trajectory of a version from a start [p + 1], over the batches that a run has had."""
    model = nn.Linear(len(start) - 1, 1, dtype=start.dtype)
    vector_to_parameters(start.clone(), model.parameters())
    weight = {"params": [model.weight], "lr": version.lr, "weight_decay": version.decay}
    bias = {"params": [model.bias], "lr": version.lr, "weight_decay": version.decay if version.decay_bias else 0.0}
    optimizer, points = run.module.make_optimizer([weight, bias]), [start]
    for x, y in itertools.islice(batches(run), run.trainer.global_step):
        optimizer.zero_grad()
        loss = mse_loss(model(x)[:, 0], y, reduction=version.reduction) / (2 if version.half else 1)
        (loss + version.penalty * model.weight.square().sum()).backward()
        optimizer.step()
        points.append(parameters_to_vector(model.parameters()).detach())
    return torch.stack(points)


def batches(run: Training) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of a run's epochs, one after the other, without an end."""
    loader = run.datamodule.train_dataloader()
    assert isinstance(loader, DataLoader) and isinstance(loader.sampler, Batches)
    for epoch in itertools.count():
        loader.sampler.set_epoch(epoch)
        yield from loader


def apart(first: Tensor, second: Tensor) -> Tensor:
    """The largest difference of any parameter after every step, [steps + 1]."""
    return (first - second).abs().amax(dim=1)


def largest(differences: Tensor) -> float:
    """Over all steps, to one digit: of what is rounding, more are noise."""
    return float(f"{differences.max().item():.1g}")


@dataclass(frozen=True, kw_only=True)
class ScratchAndConcise(Study):
    """strengths: the λ's at which both are trained. summed_lr: the learning rate of the edition that sums its loss.

    Losses are means of ½r², whatever a version itself minimises. The versions have the config's λ.
    """

    strengths: Sequence[float]
    summed_lr: float

    def __post_init__(self) -> None:
        check_list("strengths", self.strengths, "[0,3]", zero=True)
        check_positive("summed_lr", self.summed_lr, 0.003)

    def run(self, cfg: DictConfig) -> Findings:
        for group, choice in (("data", "d2l"), ("model", "linear"), ("penalty", "l2")):
            if cfg.choices[group] != choice:
                raise InputError(f"{group}={cfg.choices[group]}: both are written for {choice}; use {group}={choice}")
        figure, (losses, differences) = empty_panels()
        rows, paths = [], []
        for colour, lambd in zip(itertools.cycle(COLOURS), self.strengths, strict=False):
            scratch, path = followed(cfg, lambd=lambd, penalty__mode="loss")
            concise, decayed = followed(cfg, lambd=lambd, penalty__mode="decay")
            own = by_hand(scratch, path[0], Version(cfg.optimizer.lr, decay=lambd))
            paths.append((lambd, path, decayed, own))
            measured = scratch.module.measured
            rows.append(
                {"λ": lambd, "|Δw|, decay": largest(apart(path, decayed)), "|Δw|, SGD": largest(apart(path, own))}
                | {"train": measured["train/loss"], "val": measured["val/loss"]}
                | {"½‖w‖²": measured["weight/half_squared_l2"], "‖w‖₂": measured["weight/l2"]}
            )
            for part, style in (("train", "--"), ("val", "-")):
                for run, look, label in ((scratch, style, f"λ = {lambd:g}, {part}"), (concise, "o", None)):
                    values = [m[f"{part}/loss"] for _, _, m in run.module.history]
                    losses.plot(values, look, color=colour, ms=4, mfc="white", label=label)
        versions, mse, mse_equal = self.versions(cfg)
        lambd, path, decayed, own = paths[-1]
        losses.set(xlabel="epochs finished", ylabel="data loss (mean ½r²)", yscale="log")
        losses.legend(frameon=False, fontsize="small", title="lines: scratch, circles: concise", title_fontsize="small")
        for label, shade, values in (
            ("nn.MSELoss, at the same λ and η", ORANGE, mse),
            ("nn.MSELoss, at λ/2 and 2η", GREEN, mse_equal),
            (f"mode decay, λ = {lambd:g}", BLUE, apart(path, decayed)),
            (f"SGD(weight_decay=λ), λ = {lambd:g}", GREY, apart(path, own)),
        ):
            differences.plot(values.clamp(min=FLOOR), ".-", color=shade, label=label, lw=1)
        differences.set(xlabel="steps taken", ylabel=f"largest difference (0 drawn at {FLOOR:g})", yscale="log")
        differences.legend(frameon=False, fontsize="small")

        table, lambd, lr = pd.DataFrame(rows), cfg.lambd, cfg.optimizer.lr
        worst, steps = float(table.filter(like="|Δw|").max(axis=None)), len(path) - 1
        rounding = steps * torch.finfo(path.dtype).eps * path.abs().max().item()
        at = versions.set_index("version").to_dict("index")
        ours, mean, summed, bias, squared = (at[name] for name in ("½MSE", "MSE", "ΣSE", "bias too", "½MSE + λw²"))

        def relation(case: dict[str, float]) -> str:
            """The run here that a version was put beside, and whether it is the same."""
            same = "is" if case["|Δw|"] <= rounding else "is not"
            return f"{same} ours at λ = {case['λ here']:g}, lr = {case['lr here']:g} (apart by {case['|Δw|']:.1g})"

        norms = "; ".join(f"{r['½‖w‖²']:.3g} at λ = {r['λ']:g}, where ‖w‖₂ = {r['‖w‖₂']:.3g}" for r in rows)
        answer = [
            f"From scratch (λ·½‖w‖² in the loss) and concise (the optimiser's decay): over {steps} steps no parameter "
            f"differs by more than {worst:.1g}, "
            + ("rounding: one algorithm, written twice." if worst <= rounding else "more than rounding."),
            f"What the chapter prints as “L2 norm of w” is ½‖w‖²: {norms}.",
            f"nn.MSELoss lacks the ½: weight_decay={lambd:g} {relation(mean)}; at the same λ and lr they are apart by "
            f"{largest(mse):.1g}, and the training losses are {mean['train']:.2g} and {ours['train']:.2g}.",
            f"Squared residuals summed over a batch: weight_decay={lambd:g} {relation(summed)}. With the bias decayed "
            f"too, b = {bias['b']:.2g} instead of {ours['b']:.2g}.",
        ]
        if not np.isnan(ours["kept"]):
            answer.append(
                f"In directions that no row reaches a step under L + λ‖w‖² keeps {squared['kept']:.4g} of the weights "
                f"(1 − 2ηλ = {1 - 2 * lr * lambd:.4g}), under L + ½λ‖w‖² {ours['kept']:.4g} (1 − ηλ = "
                f"{1 - lr * lambd:.4g})."
            )
        tables = {"scratch_and_concise": table, "other_versions": versions}
        metrics = {"largest_difference": worst}
        return Findings(answer, tables, figures={"scratch_and_concise": figure}, metrics=metrics)

    def versions(self, cfg: DictConfig) -> tuple[pd.DataFrame, Tensor, Tensor]:
        """Each version beside the run here that it equals; how far nn.MSELoss is from this run, and from its equal."""
        run, path = followed(cfg, penalty__mode="loss")
        lambd, lr, doubled = cfg.lambd, cfg.optimizer.lr, 2 * run.datamodule.batch_rows
        # A version by hand, and its λ, learning rate and scope here.
        cases = {
            "½MSE": (Version(lr, decay=lambd), (lambd, lr, "weights")),
            "MSE": (Version(lr, decay=lambd, half=False), (lambd / 2, 2 * lr, "weights")),
            "ΣSE": (
                Version(self.summed_lr, decay=lambd, half=False, reduction="sum"),
                (lambd / doubled, doubled * self.summed_lr, "weights"),
            ),
            "bias too": (Version(lr, decay=lambd, decay_bias=True), (lambd, lr, "all")),
            "½MSE + λw²": (Version(lr, penalty=lambd), (2 * lambd, lr, "weights")),
            "MSE + λw²": (Version(lr, penalty=lambd, half=False), (lambd, 2 * lr, "weights")),
        }
        train = run.datamodule.parts["train"]
        inputs = train.x.shape[1]
        null = np.eye(inputs) - np.linalg.pinv(train.x) @ train.x  # onto what no row reaches
        all_reached = np.linalg.matrix_rank(train.x) == inputs
        rows, theirs, equal = [], {}, {}
        for name, (there, (here, rate, scope)) in cases.items():
            theirs[name] = by_hand(run, path[0], there)
            numbers = {"lambd": here, "optimizer__lr": rate, "penalty__scope": scope, "penalty__mode": "loss"}
            _, equal[name] = followed(cfg, **numbers)
            points = theirs[name].double().numpy()
            end, start = (np.linalg.norm(null @ points[step, :-1]) for step in (-1, 0))
            kept = np.nan if all_reached or start == 0 else (end / start) ** (1 / (len(points) - 1))
            residual = train.x @ points[-1, :-1] + points[-1, -1] - train.y
            rows.append(
                {"version": name, "λ here": here, "lr here": rate, "|Δw|": largest(apart(theirs[name], equal[name]))}
                | {"kept": kept, "train": np.mean(residual**2) / 2}
                | {"½‖w‖²": np.sum(points[-1, :-1] ** 2) / 2, "b": points[-1, -1]}
            )
        return pd.DataFrame(rows), apart(theirs["MSE"], path), apart(theirs["MSE"], equal["MSE"])
