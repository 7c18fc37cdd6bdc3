"""What the chapter's demonstration shows: a random start that is forgotten, beside the minimiser of the objective."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from omegaconf import DictConfig
from rich.progress import track

from shrinkage.data.base import Part
from shrinkage.errors import InputError
from shrinkage.optimum.exact import least_squares
from shrinkage.report.figures import BLUE, GREEN, GREY, ORANGE, empty_panels, strength_axis
from shrinkage.report.findings import Findings
from shrinkage.studies.base import Study, require, train_together, vary
from shrinkage.studies.numbers import check_count
from shrinkage.training.run import build

if TYPE_CHECKING:
    import plotly.graph_objects as go

EXPLAINED = "… and the run's bias"
# Under which the minimiser and the rest of the start are known.
NEEDED = {
    "choices.data": "d2l",
    "choices.model": "linear",
    "choices.penalty": "l2",
    "choices.optimizer": "sgd",
    "optimizer.momentum": 0,
    "polish": 0,
    "model.bias": True,
    "penalty.scope": "weights",
    "trainer.gradient_clip_val": None,
}


def half_mean_square(part: Part, weight: np.ndarray, bias: float) -> float:
    return float(np.mean((part.x @ weight + bias - part.y) ** 2) / 2)


@dataclass(frozen=True, kw_only=True)
class WhatTheDemoShows(Study):
    """strengths: the λ's. seeds: how many draws of the data, each with a start and an order of its own.

    todays_sigma, todays_lr, todays_epochs: start, learning rate and length of the book's present edition.

    SGD's gradients lie in the span of the training rows, so that the part w₀⊥ of the start outside it is only shrunk,
    by 1 − ηλ a step. The weights predicted for a run are ŵ(λ) + ∏(1 − ηλ)·w₀⊥, ŵ(λ) those of the minimiser.
    """

    strengths: Sequence[float]
    seeds: int
    todays_sigma: float
    todays_lr: float
    todays_epochs: int

    def __post_init__(self) -> None:
        check_count("seeds", self.seeds, 20)
        if len(self.strengths) < 2 or 0 not in self.strengths or min(self.strengths) < 0:
            raise InputError(
                f"study.strengths={self.strengths}: must be 0 and λ's above it; use study.strengths=[0,1,3]"
            )

    def run(self, cfg: DictConfig) -> Findings:
        require(cfg, NEEDED, "the demonstration has")
        if cfg.lambd == 0:
            raise InputError("lambd=0: this is what λ = 0 is compared with; use lambd=3")
        sigma, lr, epochs = self.todays_sigma, self.todays_lr, self.todays_epochs
        today = vary(cfg, model__init="normal", model__sigma=sigma, optimizer__lr=lr, trainer__max_epochs=epochs)
        runs, todays = self.measured(cfg), self.measured(today)
        table, todays_table = (r.groupby("λ", as_index=False).median().drop(columns="seed") for r in (runs, todays))

        best, worst = table["minimiser"].min(), table["minimiser"].max()
        coefficients = np.broadcast_to(cfg.data.weight, cfg.data.num_inputs)
        mean_alone = (1 + 1 / cfg.data.num_train) * (np.sum(coefficients**2) + cfg.data.noise**2) / 2
        miss = [(table[name] / table["run"] - 1).abs().max() for name in (EXPLAINED, "minimiser + start")]
        unreached = max(cfg.data.num_inputs - cfg.data.num_train, 0)
        left = [f"{r['memory']:.2%} at λ = {r['λ']:g}" for _, r in table.iterrows() if r["λ"] in (0, 1, cfg.lambd)]
        answer = [
            self.fall("The demonstration", cfg.lambd, table),
            f"No training row reaches {unreached} of the {cfg.data.num_inputs} directions, and there a step only "
            f"multiplies the weights by 1 − ηλ. Of the start are left {', '.join(left)}."
            if unreached
            else f"The training rows reach all {cfg.data.num_inputs} directions, so that more steps forget any start.",
            "The minimiser's weights plus that rest, with the run's bias, have the runs' median test loss within "
            f"{miss[0]:.1%} at every λ; with the minimiser's bias in its place, within {miss[1]:.0%}.",
            f"The minimisers' median test losses lie between {best:.4g} and {worst:.4g}; predicting the mean would "
            f"give {mean_alone:.4g}. "
            + ("λ hardly matters to the minimiser here." if worst < 1.1 * best else "λ matters to the minimiser here."),
            self.fall(f"Today's edition (start N(0, {sigma:g}²), lr {lr:g}, {epochs} epochs)", cfg.lambd, todays_table),
        ]
        return Findings(
            answer,
            {"what_the_demo_shows": table, "todays_edition": todays_table},
            data={"runs": runs, "todays_runs": todays},
            figures={
                "what_the_demo_shows": figure(runs, [(name_of_start(cfg), table), (name_of_start(today), todays_table)])
            },
            pages={"every_run": page(runs)},
        )

    def fall(self, name: str, lambd: float, table: pd.DataFrame) -> str:
        """How the test loss changes from λ = 0 to this λ, and what changes it."""
        at = table.set_index("λ").loc[[0, lambd]]
        run, best = at["run"].to_list(), at["minimiser"].to_list()
        words = (
            f"{name}: from λ = 0 to {lambd:g} the runs' median test loss goes from {run[0]:.4g} to {run[1]:.4g}, that "
            f"of the exact minimisers from {best[0]:.4g} to {best[1]:.4g}. "
        )
        share = (best[0] - best[1]) / (run[0] - run[1])
        explained = (at[EXPLAINED] / at["run"] - 1).abs().max() < 0.1
        if run[1] < run[0] and share < 0.1 and explained:
            return (
                words + "What falls is the random start that λ makes SGD forget, not an overfitting of the minimiser."
            )
        return words + (f"{share:.0%} of the fall is the minimiser's own." if run[1] < run[0] else "It does not fall.")

    def measured(self, cfg: DictConfig) -> pd.DataFrame:
        """A row a run: its test loss, the minimiser's, what is left of the start, and what both together predict."""
        strengths = sorted({*self.strengths, cfg.lambd})
        cases = list(itertools.product(range(self.seeds), strengths))
        lanes = iter(train_together([vary(cfg, lambd=lambd, seed=seed, data__seed=seed) for seed, lambd in cases]))
        rows = []
        for seed in track(range(self.seeds), "minimisers", disable=not cfg.progress, transient=True):
            with TemporaryDirectory() as folder:
                start = build(vary(cfg, seed=seed, data__seed=seed), Path(folder))
            train, test = (start.datamodule.parts[part] for part in ("train", "val"))
            w = start.module.parameters_by_name()["weight"].double().numpy()[0]
            unreached = w - np.linalg.pinv(train.x) @ (train.x @ w)
            for lambd, lane in zip(strengths, lanes, strict=False):  # the next so many
                best = least_squares(train.x, train.y, 0.0, lambd)
                memory, own_bias = lane.conclusion["init/memory"], lane.weights["bias"].item()
                remembered = best.weight[0] + memory * unreached
                rows.append(
                    {"λ": lambd, "seed": seed, "run": lane.measured["val/loss"]}
                    | {"minimiser": half_mean_square(test, best.weight[0], best.bias[0]), "memory": memory}
                    | {"minimiser + start": half_mean_square(test, remembered, best.bias[0])}
                    | {EXPLAINED: half_mean_square(test, remembered, own_bias)}
                )
        return pd.DataFrame(rows)


def name_of_start(cfg: DictConfig) -> str:
    sigma = cfg.model.sigma
    return cfg.model.init if cfg.model.init != "normal" else "N(0, 1)" if sigma == 1 else f"N(0, {sigma:g}²)"


def figure(runs: pd.DataFrame, tables: list[tuple[str, pd.DataFrame]]) -> Figure:
    """Test losses (left) and what is left of the start (right) against λ; runs: those of the first table."""
    drawn, (losses, memory) = empty_panels()
    quantiles = runs.groupby("λ")["run"].quantile([0.05, 0.95]).unstack()
    losses.fill_between(quantiles.index, quantiles[0.05], quantiles[0.95], color=BLUE, alpha=0.2, lw=0)
    for (start, table), colour in zip(tables, (BLUE, ORANGE), strict=True):
        losses.plot(table["λ"], table["run"], "o-", color=colour, ms=5, label=f"runs that start at {start}")
        losses.plot(table["λ"], table[EXPLAINED], "x", color="black", ms=8)
        memory.plot(table["λ"], 100 * table["memory"], "o-", color=colour, ms=5, label=f"start {start}")
    losses.plot([], [], "x", color="black", ms=8, label="minimiser + rest of the start")
    _, last = tables[-1]
    losses.plot(last["λ"], last["minimiser"], "s-", color=GREEN, ms=4, label="exact minimiser")
    losses.set(ylabel="test loss (mean ½r²), median", yscale="log")
    memory.set(ylabel="share of the start left, %", ylim=(-3, 103))
    for axes in (losses, memory):
        strength_axis(axes, last["λ"])
        axes.legend(frameon=False, fontsize="small")
    return drawn


def page(runs: pd.DataFrame) -> "go.Figure":
    """Every run and its minimiser, to hover over."""
    import plotly.graph_objects as go

    drawn = go.Figure()
    for name, colour in (("run", BLUE), (EXPLAINED, GREY), ("minimiser", GREEN)):
        label = "minimiser + rest of the start" if name == EXPLAINED else name
        text = [
            f"λ = {r['λ']:g}, seed {r['seed']:g}<br>{r['memory']:.2%} of the start left" for _, r in runs.iterrows()
        ]
        marker = {"color": colour, "symbol": "x" if colour == GREY else "circle"}
        drawn.add_scatter(
            x=[f"{lambd:g}" for lambd in runs["λ"]], y=runs[name], mode="markers", name=label, text=text, marker=marker
        )
    drawn.update_xaxes(title="λ", type="category")
    drawn.update_yaxes(title="test loss (mean ½r²)", type="log")
    drawn.update_layout(title="Every run beside its minimiser", template="simple_white")
    return drawn
