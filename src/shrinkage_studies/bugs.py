"""A reader's script whose training loss lies above its validation loss, corrected one mistake at a time."""

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig
from rich.progress import track
from torch import Tensor

from shrinkage.errors import InputError
from shrinkage.report.figures import BLUE, COLOURS, ORANGE, empty_panels
from shrinkage.report.findings import Findings
from shrinkage.studies.base import Study, require, train_together, vary
from shrinkage.studies.numbers import check_count, check_positive

NEEDED = {"choices.data": "d2l", "choices.model": "linear", "choices.penalty": "l2", "penalty.mode": "loss"}
POSTED, RESET, ALONE, VAL = "as posted", "reset each epoch", "data loss alone", "validation"

# What is corrected, which script that leaves, and what it plots as its training loss.
STEPS = (
    (POSTED, "posted", POSTED),
    ("+ validation values kept", "posted", POSTED),
    ("+ accumulator reset", "posted", RESET),
    ("+ data loss alone", "posted", ALONE),
    ("+ ½‖w‖² for ½‖w‖", "squared", ALONE),
    ("+ inputs from N(0, 1)", "scaled", ALONE),
)


def script(cfg: DictConfig, weight_decay: float, scale: float, noise: float, squared: bool, seed: int) -> pd.DataFrame:
    """The posted loop: a row an epoch with what it plots as its training loss, and what three corrections would plot.

    scale: standard deviation of the inputs. squared: whether the penalty is ½‖w‖² or, as posted, ½‖w‖. The post has
    lost its `backward` and the clearing of gradients, which stand here where the loop needs them. Validation is ½r²
    without the penalty, as posted. The last two columns are ‖w‖ and b.
    """
    data, draw = cfg.data, torch.Generator().manual_seed(seed)
    coefficients = torch.tensor(np.broadcast_to(data.weight, data.num_inputs), dtype=torch.float32)[:, None]

    def synthetic(rows: int) -> tuple[Tensor, Tensor]:
        x = scale * torch.randn(rows, data.num_inputs, generator=draw)
        y = x @ coefficients + data.bias
        return x, y + noise * torch.randn(y.shape, generator=draw)

    (x, y), (x_val, y_val) = synthetic(data.num_train), synthetic(data.num_val)
    w = (cfg.model.sigma * torch.randn(data.num_inputs, 1, generator=draw)).requires_grad_()
    b = torch.zeros(1, requires_grad=True)
    running, rows, epochs = np.zeros(2), len(x), []  # the accumulator is made once, and never reset
    for _ in range(cfg.trainer.max_epochs):
        penalised, alone = 0.0, 0.0
        for batch in torch.randperm(rows, generator=draw).split(data.batch_size or rows):
            squares = (x[batch] @ w + b - y[batch]) ** 2 / 2
            loss = squares + weight_decay * (w.square().sum() if squared else w.norm()) / 2
            loss.sum().backward()
            with torch.no_grad():
                for parameter in (w, b):
                    parameter -= cfg.optimizer.lr * parameter.grad / len(batch)
                    parameter.grad.zero_()
            penalised, alone = penalised + loss.sum().item(), alone + squares.sum().item()
        running += penalised, rows
        with torch.no_grad():
            val = ((x_val @ w + b - y_val) ** 2 / 2).mean().item()
        epochs.append((running[0] / running[1], penalised / rows, alone / rows, val, w.norm().item(), b.item()))
    return pd.DataFrame(epochs, columns=[POSTED, RESET, ALONE, VAL, "‖w‖", "b"])


@dataclass(frozen=True, kw_only=True)
class Bugs(Study):
    """seeds: how many draws of data, start and order. input_scale, noise: standard deviations in the post.

    The rest of the post (sizes, start, learning rate, epochs) is the config's; its λ is compared with 0. Losses are of
    ½r².
    """

    seeds: int
    input_scale: float
    noise: float

    def __post_init__(self) -> None:
        check_count("seeds", self.seeds, 5)
        check_positive("input_scale", self.input_scale, 0.01)
        check_positive("noise", self.noise, 0.001)

    def run(self, cfg: DictConfig) -> Findings:
        require(cfg, NEEDED, "the script has")
        if cfg.lambd == 0:
            raise InputError("lambd=0: this is what λ = 0 is compared with; use lambd=3")
        versions = {
            "posted": (self.input_scale, self.noise, False),
            "squared": (self.input_scale, self.noise, True),
            "scaled": (1.0, cfg.data.noise, True),
        }
        cases = list(itertools.product(versions, (0, cfg.lambd), range(self.seeds)))
        curves = []
        for name, lambd, seed in track(cases, "posted script", disable=not cfg.progress, transient=True):
            curve = script(cfg, lambd, *versions[name], seed)
            curves.append(curve.assign(version=name, λ=lambd, seed=seed, epoch=np.arange(1, len(curve) + 1)))
        curves = pd.concat(curves).groupby(["version", "λ", "epoch"])[[POSTED, RESET, ALONE, VAL, "‖w‖"]].median()
        table = self.table(cfg, curves.groupby(["version", "λ"]).last())
        return Findings(
            self.answer(cfg, curves.xs(cfg.lambd, level="λ").groupby("version").last(), table.set_index("plotted")),
            {"bugs": table},
            data={"curves": curves.reset_index()},
            figures={"bugs": figure(cfg.lambd, curves, table)},
        )

    def table(self, cfg: DictConfig, ends: pd.DataFrame) -> pd.DataFrame:
        """A row a correction, all before it made too, with the medians of the last epoch. ends: by version and λ."""
        strengths, rows = (0, cfg.lambd), []
        for step, version, train in STEPS:
            at = [ends.loc[(version, lambd)] for lambd in strengths]
            val = [np.nan if step == POSTED else end[VAL] for end in at]
            rows.append([step, *(end[train] for end in at), *val, *(end["‖w‖"] for end in at)])
        cases = list(itertools.product(strengths, range(self.seeds)))
        lanes = train_together([vary(cfg, lambd=lambd, seed=seed, data__seed=seed) for lambd, seed in cases])
        runs = pd.DataFrame([lane.measured | {"λ": lambd} for (lambd, _), lane in zip(cases, lanes, strict=True)])
        medians = runs.groupby("λ")[["train/loss", "val/loss", "weight/l2"]].median()
        rows.append(["the same by shrinkage", *medians.to_numpy().T.flatten()])
        names = [f"{part}, λ = {lambd:g}" for part in ("train", "val", "‖w‖") for lambd in strengths]
        return pd.DataFrame(rows, columns=["plotted", *names])

    def answer(self, cfg: DictConfig, ends: pd.DataFrame, table: pd.DataFrame) -> list[str]:
        """ends: at the config's λ, by version. table: by step."""
        posted, squared = ends.loc["posted"], ends.loc["squared"]
        steps = cfg.trainer.max_epochs * -(-cfg.data.num_train // (cfg.data.batch_size or cfg.data.num_train))
        pull = cfg.optimizer.lr * cfg.lambd / 2
        none, some = (table.loc[:, f"val, λ = {lambd:g}"] for lambd in (0, cfg.lambd))
        gains = [none.iloc[row] / some.iloc[row] for row in (1, -2)]
        gains = [f"{gain:,.0f}" if gain >= 10 else f"{gain:.2g}" for gain in gains]
        return [
            f"As posted, λ = {cfg.lambd:g} plots a training loss of {posted[POSTED]:.3g}: "
            f"{posted[RESET] - posted[ALONE]:.3g} of it is the penalty, {posted[POSTED] - posted[RESET]:.2g} comes "
            f"from averaging over all epochs, and {posted[ALONE]:.2g} is the loss on the data. The validation loss, "
            f"{posted[VAL]:.2g}, has no penalty in it, and the post keeps none of its values to plot.",
            f"½‖w‖ pulls with the same force however long w is: {steps} steps can take {steps * pull:.2g} off ‖w‖, "
            f"which ends at {posted['‖w‖']:.3g}. Under ½‖w‖² it ends at {squared['‖w‖']:.2g}, and the validation loss "
            f"at {squared[VAL]:.2g} instead of {posted[VAL]:.2g}.",
            f"With the post's inputs from N(0, {self.input_scale:g}²) the validation loss at λ = 0 is {gains[0]} times "
            f"that at λ = {cfg.lambd:g}. With all corrections, inputs from N(0, 1) among them, it is {gains[1]} times "
            f"({none.iloc[-2]:.3g} and {some.iloc[-2]:.2g}; trained by shrinkage, on draws of its own, "
            f"{none.iloc[-1]:.3g} and {some.iloc[-1]:.2g}).",
        ]


def figure(lambd: float, curves: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """What is plotted at this λ (left), and where both losses end after each correction (right)."""
    drawn, (losses, ends) = empty_panels()
    posted, squared = curves.loc[("posted", lambd)], curves.loc[("squared", lambd)]
    for label, values, colour, style in (
        ("training, as posted", posted[POSTED], COLOURS[0], "-"),
        ("training, accumulator reset", posted[RESET], COLOURS[4], "--"),
        ("training, data loss alone", posted[ALONE], COLOURS[2], "-"),
        ("validation (not kept in the post)", posted[VAL], COLOURS[1], "-"),
        ("both, under ½‖w‖²", squared[ALONE], COLOURS[3], "-"),
        (None, squared[VAL], COLOURS[3], ":"),
    ):
        losses.plot(values, style, color=colour, label=label)
    losses.set(xlabel="epochs finished", ylabel=f"loss at λ = {lambd:g}", yscale="log")
    losses.legend(frameon=False, fontsize="small", loc="center right", bbox_to_anchor=(1, 0.68))
    for part, colour, marker in (("train", BLUE, "o"), ("val", ORANGE, "s")):
        for strength, fill in ((0, "none"), (lambd, colour)):
            name = f"{part}, λ = {strength:g}"
            ends.plot(table[name], table.index, marker, color=colour, mfc=fill, label=name)
    ends.set_yticks(table.index, table["plotted"], fontsize="small")
    ends.invert_yaxis()
    ends.set(xlabel="loss after the last epoch", xscale="log")
    ends.legend(frameon=False, fontsize="x-small", loc="upper left")
    return drawn
