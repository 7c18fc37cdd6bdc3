"""L1 with the wrong sign, as a reader posted it, and with the right one, by subgradient and by prox."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from omegaconf import DictConfig
from rich.progress import track
from torch import Tensor, nn

from shrinkage.data.base import Part
from shrinkage.optimum.exact import least_squares
from shrinkage.report.figures import BLUE, GREEN, GREY, ORANGE, empty_panels
from shrinkage.report.findings import Findings
from shrinkage.studies.base import Study, require, train_one, vary
from shrinkage.studies.numbers import check_count, check_list, check_positive
from shrinkage.training.run import Training, build

SIGNS = {"− ‖w‖₁": -1, "alone": 0, "+ ‖w‖₁": 1}
NEEDED = {"choices.data": "d2l", "choices.model": "linear", "choices.penalty": "l1", "model.bias": True}
SUBGRADIENT, PROX, POLISHED, EXACT = "subgradient", "prox", "prox, polished", "exact optimum"


def posted(
    part: Part, start: Mapping[str, Tensor], strength: float, lr: float, epochs: int, batch: int
) -> tuple[list[float], np.ndarray]:
    """‖w‖₁ before training and after every epoch of the loop as posted, and the last weights.

    The loss is nn.MSELoss + strength·‖w‖₁; the post has strength −1.
    """
    outputs, inputs = start["weight"].shape
    model = nn.Linear(inputs, outputs)
    model.load_state_dict(start)
    x, y = torch.from_numpy(part.x).float(), torch.from_numpy(part.y).float()[:, None]
    optimizer, shuffle = torch.optim.SGD(model.parameters(), lr=lr), torch.Generator().manual_seed(0)
    norms = [model.weight.abs().sum().item()]
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=shuffle).split(batch):
            loss = nn.functional.mse_loss(model(x[rows]), y[rows]) + strength * model.weight.abs().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        norms.append(model.weight.abs().sum().item())
    return norms, model.weight.detach().double().numpy()[0]


def drift(part: Part, weight: np.ndarray) -> float:
    """By how much ‖w‖₁ grows for a unit of learning rate × strength under the wrong sign.

    The penalty drives w along s = sign(w). In the span of the rows (xᵢ, 1) residuals arise that hold it; what goes on
    is Q(s, 0), the part outside, and ‖w‖₁ with it by (s, 0)ᵀQ(s, 0) = ‖Q(s, 0)‖² ≤ p.
    """
    rows, drive = np.c_[part.x, np.ones(len(part.x))], np.append(np.sign(weight), 0.0)
    return float(np.sum((drive - np.linalg.pinv(rows) @ (rows @ drive)) ** 2))


@dataclass(frozen=True, kw_only=True)
class L1RightAndWrong(Study):
    """rates, strength, epochs: of the posted loop, whose loss is mean r² − strength·‖w‖₁ on the validation part.

    λ and the training of the config are those of L1 with the right sign. polish: full-batch steps at the end of a third
    such run.
    """

    rates: Sequence[float]
    strength: float
    epochs: int
    polish: int

    def __post_init__(self) -> None:
        check_list("rates", self.rates, "[0.003,0.03]")
        check_positive("strength", self.strength, 1)
        check_count("epochs", self.epochs, 20, least=2)
        check_count("polish", self.polish, 100, least=2)

    def run(self, cfg: DictConfig) -> Findings:
        require(cfg, NEEDED, "the post is about")
        with TemporaryDirectory() as folder:
            made = build(cfg, Path(folder))
        loops, curves = self.loops(cfg, made)
        right, weights = self.right(cfg)
        return Findings(
            [*self.of_the_loop(loops, made), self.of_the_zeros(cfg, right)],
            {"posted_loop": loops, "right_sign": right},
            figures={"l1_right_and_wrong": figure(loops, curves, weights)},
        )

    def loops(self, cfg: DictConfig, made: Training) -> tuple[pd.DataFrame, list[list[float]]]:
        """A row for each learning rate and sign, with the growth of ‖w‖₁ an epoch over the second half; all norms."""
        part, batch, half = made.datamodule.parts["val"], made.datamodule.batch_rows, self.epochs // 2
        rows, curves = [], []
        cases = list(itertools.product(self.rates, SIGNS.items()))
        for lr, (name, sign) in track(cases, "posted loop", disable=not cfg.progress, transient=True):
            norms, weight = posted(part, made.module.parameters_by_name(), sign * self.strength, lr, self.epochs, batch)
            pace = -(-len(part) // batch) * lr * self.strength  # by which the penalty can move each weight in an epoch
            explodes = not norms[-1] <= norms[0] + self.epochs * pace * part.x.shape[1]
            derived = pace * drift(part, weight) if sign < 0 and not explodes else np.nan
            rows.append(
                {"lr": lr, "mean r² …": name, "start": norms[0], "end": norms[-1]}
                | {"an epoch": (norms[-1] - norms[half]) / (self.epochs - half)}
                | {"derived": derived, "explodes": explodes}
            )
            curves.append(norms)
        return pd.DataFrame(rows), curves

    def right(self, cfg: DictConfig) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
        """L1 with the right sign by each way, and the exact optimum beside them; all weights."""
        ways = {SUBGRADIENT: ("loss", 0), PROX: ("prox", 0), POLISHED: ("prox", self.polish)}
        runs = {way: train_one(vary(cfg, penalty__mode=mode, polish=polish)) for way, (mode, polish) in ways.items()}
        rows, weights = [], {}
        for way, run in runs.items():
            weights[way] = run.module.parameters_by_name()["weight"].numpy()[0]
            rows.append({"way": way, "gap": (run.module.measured | run.conclusion).get("optimum/gap", np.nan)})
        train = runs[SUBGRADIENT].datamodule.parts["train"]
        weights[EXACT] = least_squares(train.x, train.y, cfg.lambd, 0.0).weight[0]
        rows.append({"way": EXACT, "gap": 0.0})
        table = pd.DataFrame(rows)
        table["‖w‖₁"] = [float(np.abs(w).sum()) for w in weights.values()]
        table["exact zeros"] = [int((w == 0).sum()) for w in weights.values()]
        table["same support"] = [bool(((w != 0) == (weights[EXACT] != 0)).all()) for w in weights.values()]
        return table, weights

    def of_the_loop(self, loops: pd.DataFrame, made: Training) -> list[str]:
        part, batch, sentences = made.datamodule.parts["val"], made.datamodule.batch_rows, []
        batches = np.split(np.c_[part.x, np.ones(len(part))], range(batch, len(part), batch))
        curvature = np.mean([2 * np.linalg.norm(rows, 2) ** 2 / len(rows) for rows in batches])
        for lr, rows in loops.groupby("lr"):
            wrong, alone, right = rows.to_dict("records")
            if wrong["explodes"]:
                fault = f"and mean r² alone does too ({alone['end']:.2g}): the steps are too long for the data"
                fault = fault if alone["explodes"] else "and mean r² alone does not: that is the sign's doing"
                sentences.append(
                    f"At a learning rate of {lr:g} it explodes (‖w‖₁ = {wrong['end']:.2g}), {fault}. On one batch mean "
                    f"r² needs a learning rate under 2/curvature, here {2 / curvature:.2g} on average."
                )
                continue
            jitter = part.x.shape[1] * lr * self.strength / 2
            line = abs(wrong["derived"] / wrong["an epoch"] - 1) < 0.1
            sentences.append(
                f"mean r² − {self.strength:g}·‖w‖₁ rewards large weights: at a learning rate of {lr:g} ‖w‖₁ grows "
                + ("in a straight line, " if line else "")
                + f"by {wrong['an epoch']:.3g} an epoch ({wrong['derived']:.3g} derived from the data), to "
                f"{wrong['end']:.3g}. With the right sign it goes from {right['start']:.3g} to {right['end']:.2g}; "
                f"weights that only step to and fro over zero would make {jitter:.2g}."
            )
        return sentences

    def of_the_zeros(self, cfg: DictConfig, right: pd.DataFrame) -> str:
        at = right.set_index("way").to_dict("index")
        ways = "; ".join(
            f"{way}: {row['exact zeros']}, gap {row['gap']:.1g}" for way, row in at.items() if way != EXACT
        )
        return (
            f"With the right sign and λ = {cfg.lambd:g}, so many of {cfg.data.num_inputs} weights are exactly zero: "
            f"{ways}. The optimum has {at[EXACT]['exact zeros']}, "
            + ("the same ones as after polishing." if at[POLISHED]["same support"] else "others than after polishing.")
        )


def figure(loops: pd.DataFrame, curves: list[list[float]], weights: dict[str, np.ndarray]) -> Figure:
    """‖w‖₁ in the posted loop at the first learning rate (left), the weights under the right sign by size (right)."""
    drawn, (norms, sizes) = empty_panels()
    for (_, row), curve, colour in zip(loops.iterrows(), curves, (ORANGE, GREY, BLUE), strict=False):
        norms.plot(curve, ".-", color=colour, label=f"mean r² {row['mean r² …']}")
    wrong, last = loops.iloc[0], len(curves[0]) - 1
    if not wrong["explodes"]:
        norms.axline((last, wrong["end"]), slope=wrong["derived"], color="black", ls=":", lw=1, label="derived slope")
    norms.set(xlabel="epochs finished", ylabel="‖w‖₁", title=f"the posted loop, lr = {wrong['lr']:g}")
    norms.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    for (way, w), colour, look in zip(
        weights.items(), (ORANGE, BLUE, GREEN, "black"), (".", ".", "o", "x"), strict=True
    ):
        size = np.sort(np.abs(w[w != 0]))[::-1]
        fill = "none" if look == "o" else colour
        sizes.plot(
            np.arange(1, len(size) + 1), size, look, color=colour, mfc=fill, label=f"{way}: {len(size)} not zero"
        )
    sizes.set(xlabel="rank of the weight", ylabel="|w|, exact zeros left out", yscale="log", title="the right sign")
    for axes in (norms, sizes):
        axes.legend(frameon=False, fontsize="small")
    return drawn
