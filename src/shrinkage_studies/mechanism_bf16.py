"""What weight decay does in bfloat16: whether it prevents divergence, and where it is lost to rounding."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig

from shrinkage.errors import InputError
from shrinkage.report.figures import BLUE, GREEN, GREY, ORANGE, empty_panels
from shrinkage.report.findings import Findings
from shrinkage.studies.base import Study, require, vary
from shrinkage.studies.numbers import check_count, check_list
from shrinkage.training import objective
from shrinkage.training.run import Training, build

SINGLE, MIXED, HALF = "32-true", "bf16-mixed", "bf16-true"
NEEDED = {"choices.model": "gpt", "choices.penalty": "adamw", "penalty.mode": "decay", "penalty.rate": "lr"}
CONSTANT = {"_target_": "shrinkage.training.schedules.Constant", "warmup": 0.0}
LOST = 2**-9  # ηλ below which w·(1 − ηλ) is rounded back to w in bfloat16, for every w


@dataclass(frozen=True, kw_only=True)
class MechanismBf16(Study):
    """Three precisions, each without decay and with each λ; precision, λ and seed of the config are not used.

    lambds: those that are not 0. seeds: of start and order.
    """

    lambds: Sequence[float]
    seeds: int

    def __post_init__(self) -> None:
        check_count("seeds", self.seeds, 2)
        check_list("lambds", self.lambds, "[0.1,1]")

    def run(self, cfg: DictConfig) -> Findings:
        require(cfg, NEEDED, "the study is of decay steps by ηλ of a language model;")
        if cfg.schedule != CONSTANT:
            raise InputError(f"schedule={cfg.schedule}: ηλ is to be the same in every step; use schedule=constant")
        rows, curves = [], []
        for precision, seed in itertools.product((SINGLE, MIXED, HALF), range(self.seeds)):
            bare = None
            for lambd in (0, *self.lambds):
                training = ended(vary(cfg, trainer__precision=precision, lambd=lambd, seed=seed, dynamics=True))
                weights = training.module.state_dict()
                bare = bare or weights
                labels = {"precision": precision, "λ": lambd, "seed": seed}
                equal = all(torch.equal(weights[name], own) for name, own in bare.items())
                rows.append(labels | measures(training) | {"equal": equal})
                curves += [
                    labels | {"step": step, "train/loss": measured["train/loss"], "norm": measured["weight/l2"]}
                    for step, _, measured in training.module.history
                ]
        runs = pd.DataFrame(rows)
        table = summary(runs)
        return Findings(
            list(self.answer(runs, table, cfg.optimizer.lr)),
            {"mechanism_bf16": table},
            data={"runs": runs, "curves": pd.DataFrame(curves)},
            figures={"mechanism_bf16": picture(table)},
        )

    def answer(self, runs: pd.DataFrame, table: pd.DataFrame, lr: float) -> Iterator[str]:
        yield on_divergence(runs)
        half = runs[(runs["precision"] == HALF) & (runs["λ"] > 0)]
        equal = half.groupby("λ", sort=False)["equal"].sum()
        parts = [
            f"{count} of {self.seeds} seeds with λ = {lambd:g} (ηλ = {lr * lambd:.2g} "
            f"{'<' if lr * lambd < LOST else '≥'} 2⁻⁹)"
            for lambd, count in equal.items()
        ]
        yield f"{HALF}: the weights are bit for bit those of λ = 0 in {', '.join(parts)}."
        others = runs[(runs["precision"] != HALF) & (runs["λ"] > 0)]
        yield (
            f"In {SINGLE} and {MIXED}, whose weights are in single precision, they are so in "
            f"{others['equal'].sum()} of {len(others)} runs."
        )
        norms = table.pivot(index="λ", columns="precision", values="norm")
        strong = [
            f"λ = {lambd:g}: {row[SINGLE]:.3f} in {SINGLE}, {row[MIXED]:.3f} in {MIXED}, {row[HALF]:.3f} in {HALF}"
            for lambd, row in norms.iterrows()
        ]
        yield f"‖w‖ at the end (medians): {'; '.join(strong)}."


def ended(cfg: DictConfig) -> Training:
    """One run, not recorded by itself; one that diverged too, with what was measured last."""
    with TemporaryDirectory() as folder:
        training = build(cfg, Path(folder), "training")
        try:
            training.run()
        except InputError:
            if is_finite(training.module.measured):
                raise
    return training


def is_finite(measured: dict[str, float]) -> bool:
    return all(math.isfinite(measured.get(name, 0.0)) for name in ("train/loss", "train/objective", "val/loss"))


def measures(training: Training) -> dict[str, float | bool]:
    """What is kept of a run; `left` is the share of its weights that one more step of the decay leaves as they are."""
    module = training.module
    optimizer = module.make_optimizer(module.model.parameters())
    return {
        "train/loss": module.measured["train/loss"],
        "val/loss": module.measured["val/loss"],
        "norm": module.measured["weight/l2"],
        "spikes": sum(measured.get("loss/spikes", 0.0) for _, _, measured in module.history),
        "diverged": not is_finite(module.measured),
        "left": objective.lost_to_rounding(module.penalty, module.lambd, module.penalised, optimizer),
    }


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Medians over the seeds; spikes, divergences and runs that equal those of λ = 0 are counted."""
    grouped = runs.groupby(["precision", "λ"], sort=False)
    table = grouped[["train/loss", "val/loss", "norm", "left"]].median()
    for name in ("spikes", "diverged", "equal"):
        table[name] = grouped[name].sum().astype(int)
    return table.reset_index()


def on_divergence(runs: pd.DataFrame) -> str:
    low = runs[runs["precision"] != SINGLE]
    bare, decayed = low[low["λ"] == 0], low[low["λ"] > 0]
    reproduced = bare["diverged"].mean() > decayed["diverged"].mean()
    return (
        "That weight decay prevents late divergence in bfloat16 is "
        f"{'reproduced' if reproduced else 'not reproduced at this scale'}: without decay {bare['diverged'].sum()} of "
        f"{len(bare)} runs in bfloat16 ended with a loss that is not finite, with decay {decayed['diverged'].sum()} of "
        f"{len(decayed)}; loss spikes were {bare['spikes'].sum():.0f} and {decayed['spikes'].sum():.0f}."
    )


def picture(table: pd.DataFrame) -> Figure:
    """Norm of the weights (left) and final training loss against λ, a colour a precision."""
    figure, (norms, losses) = empty_panels()
    styles = ((SINGLE, GREY, "s-"), (MIXED, BLUE, "o--"), (HALF, ORANGE, "o-"))
    places = {lambd: place for place, lambd in enumerate(table["λ"].unique())}
    for precision, colour, style in styles:
        own = table[table["precision"] == precision]
        for axes, name in ((norms, "norm"), (losses, "train/loss")):
            axes.plot(own["λ"].map(places), own[name], style, ms=5, color=colour, label=precision)
    same = table[(table["equal"] > 0) & (table["λ"] > 0)]
    norms.plot(same["λ"].map(places), same["norm"], "o", ms=12, mfc="none", color=GREEN, label="bit for bit as λ = 0")
    norms.set(ylabel="‖w‖ at the end")
    losses.set(ylabel="final train/loss (nats)")
    for axes in (norms, losses):
        axes.set_xticks(list(places.values()), [f"{lambd:g}" for lambd in places])
        axes.set(xlabel="λ")
    norms.legend(frameon=False, fontsize="small")
    return figure
