"""Does weight decay help through the noise of SGD at large learning rates?"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig

from shrinkage.report.figures import COLOURS, empty_panels
from shrinkage.report.findings import Findings
from shrinkage.studies.base import Study, require, train_one, vary
from shrinkage.studies.numbers import check_count, check_list, check_share
from shrinkage.training.run import Training

if TYPE_CHECKING:
    import plotly.graph_objects as go

NEEDED = {"choices.penalty": "l2", "choices.model": "cnn", "schedule.drops": 1}
MEASURED = {"test/error": "test error, %", "train/error": "train error, %", "jacobian": "squared Jacobian"}


@dataclass(frozen=True, kw_only=True)
class MechanismNoise(Study):
    """Every learning rate with every λ, 0 among them, in two phases: first that rate, then a hundredth of it.

    lrs: of the first phase. lambds: > 0. seeds: of split, start and order. label_noise: share of the training images
    whose class is drawn anew. What is compared is the test error at the end, and the mean over test images of
    ‖∂outputs/∂image‖²_F, by which the paper measures how much the noise has regularised.
    """

    lrs: Sequence[float]
    lambds: Sequence[float]
    seeds: int
    label_noise: float

    def __post_init__(self) -> None:
        check_list("lrs", self.lrs, "[0.01,0.1]")
        check_list("lambds", self.lambds, "[0.01,0.1]")
        check_count("seeds", self.seeds, 4)
        check_share("label_noise", self.label_noise, 0.2)

    def run(self, cfg: DictConfig) -> Findings:
        require(cfg, NEEDED, "the study is about L2 in a network of images, in two phases, which needs")
        rows, curves = [], []
        for lr, lambd, seed in itertools.product(self.lrs, [0.0, *self.lambds], range(self.seeds)):
            own = vary(cfg, optimizer__lr=lr, lambd=lambd, seed=seed, data__seed=seed)
            training = train_one(own, self.label_noise)
            rows.append((lr, lambd, seed, *measured(training)))
            history = training.module.history
            curves += [(lr, lambd, seed, epoch, 100 - 100 * m["val/accuracy"]) for epoch, _, m in history]
        runs = pd.DataFrame(rows, columns=["η", "λ", "seed", *MEASURED])
        curve = pd.DataFrame(curves, columns=["η", "λ", "seed", "epoch", "val/error"])
        table = compared(runs)
        return Findings(
            answer(table, self.seeds),
            {"mechanism_noise": table},
            data={"runs": runs, "curves": curve},
            figures={"mechanism_noise": picture(runs)},
            pages={"curves": page(curve)},
        )


def measured(training: Training) -> tuple[float, float, float]:
    """Test error and training error in per cent, and the squared Jacobian over the test images."""
    module = training.module
    x = torch.cat([x for x, _ in training.datamodule.evaluation_dataloader("test", 256)])
    module.model.eval()
    squares = [jacobian(module.model, part) for part in x.split(64)]
    accuracy = float(module.evaluate("train")["accuracy"])
    return 100 - 100 * training.test["test/accuracy"], 100 - 100 * accuracy, torch.cat(squares).mean().item()


def jacobian(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """‖∂outputs/∂image‖²_F of each image, [n]."""
    images = x.clone().requires_grad_()
    outputs = model(images)
    squares = torch.zeros(len(x))
    for column in outputs.T:  # one image's outputs depend on that image alone
        (gradient,) = torch.autograd.grad(column.sum(), images, retain_graph=True)
        squares += gradient.square().flatten(1).sum(dim=1)
    return squares


def compared(runs: pd.DataFrame) -> pd.DataFrame:
    """Medians by η and λ, the range of the test error, and in how many seeds λ has a smaller one than 0 has."""
    grouped = runs.groupby(["η", "λ"], sort=False)
    table = grouped[list(MEASURED)].median().rename(columns=MEASURED)
    table["smallest"], table["largest"] = grouped["test/error"].min(), grouped["test/error"].max()
    bare = runs[runs["λ"] == 0].set_index(["η", "seed"])["test/error"]
    gain = bare.loc[pd.MultiIndex.from_frame(runs[["η", "seed"]])].to_numpy() - runs["test/error"]
    gains = runs.assign(gain=gain, won=gain > 0).groupby(["η", "λ"], sort=False)
    table["gain"], table["seeds won"] = gains["gain"].median(), gains["won"].sum()
    return table.reset_index()


def answer(table: pd.DataFrame, seeds: int) -> list[str]:
    sentences = []
    for lr, own in table.groupby("η", sort=False):
        bare, best = own[own["λ"] == 0].iloc[0], own[own["λ"] > 0].sort_values("gain").iloc[-1]
        sentences.append(
            f"η = {lr:g}: without decay {bare[MEASURED['test/error']]:.1f} % of the test images are wrong; with λ = "
            f"{best['λ']:g} the gain is {best['gain']:.1f} points (median), in {int(best['seeds won'])} of {seeds} "
            f"seeds; the squared Jacobian goes from {bare['squared Jacobian']:,.0f} to {best['squared Jacobian']:,.0f}."
        )
    gains = table[table["λ"] > 0].groupby("η", sort=False)["gain"].max()
    reproduces = gains.iloc[-1] > 0 and gains.iloc[-1] == gains.max()
    sentences.append(
        "That decay helps most together with a large learning rate "
        + ("is what these runs show." if reproduces else "does not reproduce in these runs.")
    )
    return sentences


def picture(runs: pd.DataFrame) -> Figure:
    """Test error (left) and squared Jacobian (right) of every run against λ, a colour each learning rate."""
    figure, panels = empty_panels()
    strengths = list(runs["λ"].unique())
    for axes, (name, words) in zip(panels, list(MEASURED.items())[::2], strict=True):
        for number, (lr, own) in enumerate(runs.groupby("η", sort=False)):
            places = own["λ"].map(strengths.index) + 0.15 * (number - (runs["η"].nunique() - 1) / 2)
            axes.plot(places, own[name], "o", ms=4, alpha=0.5, color=COLOURS[number])
            medians = own.groupby("λ", sort=False)[name].median()
            axes.plot(sorted(set(places)), medians, "-", color=COLOURS[number], label=f"η = {lr:g}")
        axes.set_xticks(range(len(strengths)), [f"{value:g}" for value in strengths])
        axes.set(xlabel="λ", ylabel=words)
    panels[1].set_yscale("log")
    panels[0].legend(frameon=False, fontsize="small")
    return figure


def page(curve: pd.DataFrame) -> "go.Figure":
    """The validation error over the epochs of every η and λ, median of the seeds, to hover over."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for (lr, lambd), rows in curve.groupby(["η", "λ"], sort=False):
        own = rows.groupby("epoch")["val/error"].median()
        figure.add_scatter(x=own.index, y=own, name=f"η = {lr:g}, λ = {lambd:g}")
    figure.update_xaxes(title="epochs")
    figure.update_yaxes(title="validation error, % (median of the seeds)")
    figure.update_layout(template="simple_white", hoverlabel={"namelength": -1})
    return figure
