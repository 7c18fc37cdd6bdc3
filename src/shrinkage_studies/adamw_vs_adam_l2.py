"""Is the best λ another one at another learning rate? L2 in Adam's gradient against decay apart from it."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from omegaconf import DictConfig

from shrinkage.report.figures import GREY, ORANGE, empty_panels
from shrinkage.report.findings import Findings
from shrinkage.studies.base import Study, require, train_together, vary
from shrinkage.studies.numbers import check_count, check_list

if TYPE_CHECKING:
    import plotly.graph_objects as go

NEEDED = {"choices.optimizer": "adam", "choices.penalty": "l2"}
METHODS = {"loss": "Adam with L2", "decay": "AdamW"}
RESAMPLES = 2000
MEASURED = ("val/loss", "test/loss", "test/accuracy")


@dataclass(frozen=True, kw_only=True)
class AdamWAgainstAdamL2(Study):
    """Both methods over a grid of learning rates and strengths, every cell with the same seeds.

    lrs: learning rates η. steps: of AdamW the share by which a step shrinks the weights, ηλ; lambds: of Adam with L2,
    λ. Both are a method's own measure of strength, and 0 is added to them. seeds: of split, start and order.
    """

    lrs: Sequence[float]
    steps: Sequence[float]
    lambds: Sequence[float]
    seeds: int

    def __post_init__(self) -> None:
        for name in ("lrs", "steps", "lambds"):
            check_list(name, getattr(self, name), "[0.001,0.01]", many=2)
        check_count("seeds", self.seeds, 5, least=2)  # for an interval

    def run(self, cfg: DictConfig) -> Findings:
        require(cfg, NEEDED, "the study compares two ways of L2 under Adam;")
        rows = []
        for mode, lr in itertools.product(METHODS, self.lrs):
            strengths = [0.0, *(self.lambds if mode == "loss" else self.steps)]
            cases = list(itertools.product(strengths, range(self.seeds)))
            scale = 1.0 if mode == "loss" else lr  # of AdamW the config's λ is the share of a step over η
            changed = vary(cfg, optimizer__lr=lr, penalty__mode=mode)
            lanes = train_together(
                [vary(changed, lambd=strength / scale, seed=seed, data__seed=seed) for strength, seed in cases]
            )
            for (strength, seed), lane in zip(cases, lanes, strict=True):
                measured = lane.measured | lane.test
                rows.append((METHODS[mode], lr, strength, seed, *(measured[name] for name in MEASURED)))
        runs = pd.DataFrame(rows, columns=["method", "η", "strength", "seed", *MEASURED])
        best = pd.DataFrame([self.best(method, own) for method, own in runs.groupby("method", sort=False)])
        cells = runs.groupby(["method", "η", "strength"], sort=False)["val/loss"].median().reset_index()
        chosen = cells.loc[cells.groupby(["method", "η"], sort=False)["val/loss"].idxmin()]
        return Findings(
            list(answer(best)),
            {"best_strength": chosen, "methods": best},
            data={"runs": runs},
            figures={"adamw_vs_adam_l2": picture(cells, chosen)},
            pages={"grid": page(cells)},
            metrics=dict(zip(("exponent/loss", "exponent/decay"), best["exponent"], strict=True)),
        )

    def best(self, method: str, runs: pd.DataFrame) -> dict[str, object]:
        """What the best cell has, and how the best strength follows η, with intervals over resampled seeds."""
        table = runs[runs["strength"] > 0].set_index(["η", "strength", "seed"])["val/loss"].unstack()
        random = np.random.default_rng(0)
        drawn = random.integers(self.seeds, size=(RESAMPLES, self.seeds))
        exponents = [exponent(table.to_numpy()[:, seeds], table.index) for seeds in drawn]
        low, high = np.quantile(exponents, [0.025, 0.975])
        cells = runs.groupby(["η", "strength"])[list(MEASURED)].median()
        lr, strength = cells["val/loss"].idxmin()
        own = runs[(runs["η"] == lr) & (runs["strength"] == strength)]
        return {
            "method": method,
            "exponent": exponent(table.to_numpy(), table.index),
            "from": low,
            "to": high,
            "best η": lr,
            "best strength": strength,
            "test/loss": own["test/loss"].median(),
            "smallest": own["test/loss"].min(),
            "largest": own["test/loss"].max(),
        }


def exponent(losses: np.ndarray, index: pd.MultiIndex) -> float:
    """a of (best strength) ∝ ηᵃ, by least squares on logarithms; losses [cells, seeds], of which medians are taken."""
    medians = pd.Series(np.median(losses, axis=1), index=index).unstack()
    strengths = medians.columns.to_numpy()[medians.to_numpy().argmin(axis=1)]
    return float(np.polyfit(np.log(medians.index.to_numpy()), np.log(strengths), 1)[0])


def answer(best: pd.DataFrame) -> list[str]:
    sentences = []
    for _, row in best.iterrows():
        what = "λ" if row["method"] == METHODS["loss"] else "share of a step, ηλ,"
        sentences.append(
            f"{row['method']}: the best {what} goes as η to the power {row['exponent']:.2f} (95 % of resampled seeds "
            f"{row['from']:.2f} to {row['to']:.2f}; 0: it does not depend on η). Its best cell, chosen by val/loss, is "
            f"η = {row['best η']:g} with {row['best strength']:g}: test/loss {row['test/loss']:.3g} "
            f"({row['smallest']:.3g} to {row['largest']:.3g} over the seeds)."
        )
    return sentences


def picture(cells: pd.DataFrame, chosen: pd.DataFrame) -> Figure:
    """The median val/loss over η and strength of both methods; the best strength at every η is marked."""
    figure, panels = empty_panels()
    least, images = cells["val/loss"].min(), []
    for axes, (method, own) in zip(panels, cells.groupby("method", sort=False), strict=True):
        grid = own.pivot(index="η", columns="strength", values="val/loss")
        shown = np.log10(np.maximum(grid.to_numpy(), least) / least)
        images.append(axes.imshow(shown, origin="lower", aspect="auto", cmap="viridis_r", vmin=0, vmax=1))
        axes.set_xticks(range(len(grid.columns)), [f"{value:g}" for value in grid.columns], rotation=45)
        axes.set_yticks(range(len(grid.index)), [f"{value:g}" for value in grid.index])
        of = chosen[chosen["method"] == method]
        places = [list(grid.columns).index(value) for value in of["strength"]]
        axes.plot(places, range(len(places)), "o-", color=ORANGE, mec="white", label="best at this η")
        axes.set(xlabel="λ" if method == METHODS["loss"] else "share of a step, ηλ", ylabel="η", title=method)
        axes.grid(False)
        axes.legend(frameon=True, fontsize="small", edgecolor=GREY)
    figure.colorbar(images[-1], ax=panels, label="log₁₀ of val/loss above the least")
    return figure


def page(cells: pd.DataFrame) -> "go.Figure":
    """val/loss against the strength, a line for each η, to hover over."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for (method, lr), own in cells.groupby(["method", "η"], sort=False):
        own = own[own["strength"] > 0]
        line = {"dash": "solid" if method == METHODS["decay"] else "dash"}
        figure.add_scatter(x=own["strength"], y=own["val/loss"], name=f"{method}, η = {lr:g}", line=line)
    figure.update_xaxes(title="λ of Adam with L2, ηλ of AdamW", type="log")
    figure.update_yaxes(title="val/loss (median of the seeds, nats)", type="log")
    figure.update_layout(template="simple_white", hoverlabel={"namelength": -1})
    return figure
