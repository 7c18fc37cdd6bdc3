"""Whether weight decay lowers the training loss of a language model that sees its text less than once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from omegaconf import DictConfig

from shrinkage.errors import InputError
from shrinkage.report.figures import COLOURS, empty_panels
from shrinkage.report.findings import Findings
from shrinkage.studies.base import Study, require, train_one, vary
from shrinkage.studies.numbers import check_count, check_list
from shrinkage.training.workshop import Workshop

if TYPE_CHECKING:
    import plotly.graph_objects as go

NEEDED = {"choices.data": "text", "choices.model": "gpt", "choices.penalty": "adamw"}


@dataclass(frozen=True, kw_only=True)
class MechanismTrainingLoss(Study):
    """Every learning rate without decay and with each λ; the λ and learning rate of the config are not used.

    A run is compared with that of λ = 0 with the same learning rate and seed: the same start, the same windows.

    lrs: the largest learning rates of the schedule. lambds: those that are not 0. seeds: of start and order.
    """

    lrs: Sequence[float]
    lambds: Sequence[float]
    seeds: int

    def __post_init__(self) -> None:
        check_count("seeds", self.seeds, 3)
        check_list("lrs", self.lrs, "[0.003,0.03]")
        check_list("lambds", self.lambds, "[0.3,1]")

    def run(self, cfg: DictConfig) -> Findings:
        require(cfg, NEEDED, "the claim is about language models under AdamW;")
        if cfg.trainer.max_steps < 1:
            raise InputError(
                f"trainer.max_steps={cfg.trainer.max_steps}: every run takes so many steps; use trainer.max_steps=300"
            )
        text = Workshop(cfg).datamodule
        windows = len(text.parts["train"])
        seen = cfg.trainer.max_steps * text.batch_rows / windows
        if seen > 1:
            raise InputError(
                f"trainer.max_steps={cfg.trainer.max_steps}: the batches have {seen:.2g} times the {windows:,} "
                "training windows, and the claim is about less than one epoch; use "
                f"trainer.max_steps={windows // text.batch_rows}"
            )
        rows, curves = [], []
        for lr in self.lrs:
            for lambd in (0, *self.lambds):
                for seed in range(self.seeds):
                    own = vary(cfg, optimizer__lr=float(lr), lambd=lambd, seed=seed, dynamics=True)
                    labels = {"lr": lr, "λ": lambd, "seed": seed}
                    course = [(step, measures(measured)) for step, _, measured in train_one(own).module.history]
                    rows.append(labels | course[-1][1])
                    curves += [labels | {"step": step} | found for step, found in course]
        runs, curve = pd.DataFrame(rows), pd.DataFrame(curves)
        runs["difference"] = runs["train/loss"] - beside(runs, "train/loss")
        verdict = verdicts(runs)
        return Findings(
            list(self.answer(runs, verdict, seen)),
            {"mechanism_training_loss": summary(runs), "verdicts": verdict},
            data={"runs": runs, "curves": curve},
            figures={"mechanism_training_loss": picture(runs)},
            pages={"curves": page(curve)},
        )

    def answer(self, runs: pd.DataFrame, verdict: pd.DataFrame, seen: float) -> Iterator[str]:
        lower = verdict[verdict["claim"] == "reproduces"]["lr"]
        where = f"at lr = {', '.join(f'{lr:g}' for lr in lower)}" if len(lower) else "at no learning rate"
        bare, decayed = best(runs[runs["λ"] == 0]), best(runs[runs["λ"] > 0])
        ahead = int((decayed["runs"].to_numpy() < bare["runs"].to_numpy()).sum())
        yield (
            f"Weight decay lowers the final training loss in each of {self.seeds} seeds {where}, of "
            f"{len(self.lrs)} learning rates; a run sees {seen:.2%} of the training text."
        )
        yield (
            f"Each at its best learning rate: {bare['loss']:.3f} without decay (lr = {bare['lr']:g}) and "
            f"{decayed['loss']:.3f} with it (λ = {decayed['λ']:g}, lr = {decayed['lr']:g}), smaller in {ahead} of "
            f"{self.seeds} seeds (medians, nats)."
        )
        for _, row in verdict.iterrows():
            yield (
                f"lr = {row['lr']:g}: the claim {row['claim']}; λ = {row['λ']:g} changes the loss by "
                f"{row['difference']:+.3f} ({row['smallest']:+.3f} to {row['largest']:+.3f}), smaller in "
                f"{row['seeds smaller']} of {self.seeds} seeds."
            )
        most = runs[runs["λ"] == max(self.lambds)]
        shorter, wider = (most[name] / beside(runs, name)[most.index] for name in ("norm", "angle"))
        gap = runs["val/loss"] - runs["train/loss"]
        yield (
            f"With λ = {max(self.lambds):g} ‖w‖ is {shorter.min():.2f} to {shorter.max():.2f} times that of λ = 0, and "
            f"a step turns the matrices by {wider.min():.2f} to {wider.max():.2f} times the angle; val/loss − "
            f"train/loss is {gap[runs['λ'] == 0].median():.3f} without decay and {gap[runs['λ'] > 0].median():.3f} "
            "with it."
        )


def measures(measured: dict[str, float]) -> dict[str, float]:
    """What is kept of a moment; `angle` is the mean over the matrices, in radians a step, nan before the first."""
    angles = [value for name, value in measured.items() if name.startswith("layer/") and name.endswith("/angle")]
    return {
        "train/loss": measured["train/loss"],
        "val/loss": measured["val/loss"],
        "norm": measured["weight/l2"],
        "angle": float(np.mean(angles)) if angles else np.nan,
    }


def beside(runs: pd.DataFrame, name: str) -> pd.Series:
    """Of every run what λ = 0 has with the same learning rate and seed."""
    bare = runs[runs["λ"] == 0].set_index(["lr", "seed"])[name]
    return pd.Series(bare.loc[list(zip(runs["lr"], runs["seed"], strict=True))].to_numpy(), index=runs.index)


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Medians over the seeds, the range of the training loss, and how often it is smaller than without decay."""
    grouped = runs.groupby(["lr", "λ"], sort=False)
    table = grouped[["train/loss"]].median()
    table["smallest"], table["largest"] = grouped["train/loss"].min(), grouped["train/loss"].max()
    table["difference"] = grouped["difference"].median()
    table["seeds smaller"] = grouped["difference"].agg(lambda own: int((own < 0).sum()))
    return table.join(grouped[["norm", "angle", "val/loss"]].median()).reset_index()


def verdicts(runs: pd.DataFrame) -> pd.DataFrame:
    """For each learning rate the λ with the least median loss, and its paired differences to λ = 0.

    The claim reproduces where all of them are below 0.
    """
    rows = []
    for lr, own in runs[runs["λ"] > 0].groupby("lr", sort=False):
        found = best(own)
        difference = own[own["λ"] == found["λ"]]["difference"]
        smaller = int((difference < 0).sum())
        rows.append(
            {
                "lr": lr,
                "λ": found["λ"],
                "difference": difference.median(),
                "smallest": difference.min(),
                "largest": difference.max(),
                "seeds smaller": smaller,
                "claim": "reproduces" if smaller == len(difference) else "does not reproduce",
            }
        )
    return pd.DataFrame(rows)


def best(runs: pd.DataFrame) -> dict[str, Any]:
    """The learning rate and λ with the least median training loss, with that of each seed."""
    medians = runs.groupby(["lr", "λ"], sort=False)["train/loss"].median()
    lr, lambd = medians.idxmin()
    own = runs[(runs["lr"] == lr) & (runs["λ"] == lambd)].sort_values("seed")
    return {"lr": lr, "λ": lambd, "loss": medians.min(), "runs": own["train/loss"]}


def picture(runs: pd.DataFrame) -> Figure:
    """Final training loss, ‖w‖ and angle of a step against the learning rate, a colour a λ; dots are seeds."""
    figure, panels = empty_panels(1, 3, (11, 3.6))
    words = ("final train/loss (nats)", "‖w‖ at the end", "angle of a step at the end (radians)")
    for axes, name, label in zip(panels, ("train/loss", "norm", "angle"), words, strict=True):
        for colour, (lambd, own) in zip(COLOURS, runs.groupby("λ"), strict=False):
            medians = own.groupby("lr")[name].median()
            axes.plot(own["lr"], own[name], "o", ms=3, color=colour, alpha=0.5)
            axes.plot(medians.index, medians, color=colour, label=f"λ = {lambd:g}")
        axes.set(xscale="log", xlabel="learning rate (largest of the schedule)", ylabel=label)
    for axes in panels[1:]:
        axes.set_ylim(bottom=0)
    panels[0].legend(frameon=False, fontsize="small")
    return figure


def page(curve: pd.DataFrame) -> "go.Figure":
    """The median training losses of every learning rate and λ, a colour a λ, to hover over."""
    import plotly.graph_objects as go

    figure = go.Figure()
    colours = dict(zip(sorted(curve["λ"].unique()), COLOURS, strict=False))
    for (lr, lambd), rows in curve.groupby(["lr", "λ"], sort=False):
        own = rows.groupby("step").median(numeric_only=True)
        name = f"lr = {lr:g}, λ = {lambd:g}"
        figure.add_scatter(x=own.index, y=own["train/loss"], name=name, line={"color": colours.get(lambd)})
    figure.update_xaxes(title="optimiser steps")
    figure.update_yaxes(title="train/loss (median of the seeds, nats)", type="log")
    figure.update_layout(template="simple_white", hoverlabel={"namelength": -1})
    return figure
