"""The notebook's one weight: least squares and mean squares with weight decay, and the λ that makes them the same."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from omegaconf import DictConfig
from rich.progress import track

from shrinkage.data.base import Part
from shrinkage.errors import InputError
from shrinkage.report.figures import empty_panels
from shrinkage.report.findings import Findings
from shrinkage.report.landscape import objective_curve
from shrinkage.studies.base import Study, train_one, vary
from shrinkage.studies.numbers import check_count
from shrinkage.training.workshop import Workshop


@dataclass(frozen=True, kw_only=True)
class Notebook1D(Study):
    """Sum: LS(w) = Σ½r² with (λ/2)w², solved by (XᵀX + λI)⁻¹Xᵀy. Mean: MSE(w) = (1/M)Σr² with (λ₂/2)w², λ₂ = 2λ/M.

    The config's λ is that of the mean of ½r², which is the sum's λ over M. There is no intercept, as in the notebook.
    seeds: of how many draws the spread is told.
    """

    seeds: int

    def __post_init__(self) -> None:
        check_count("seeds", self.seeds, 200, least=2)

    def run(self, cfg: DictConfig) -> Findings:
        if cfg.data.num_inputs != 1 or cfg.model.bias:
            raise InputError("notebook_1d is about one weight and no bias: keep data.num_inputs=1 model.bias=false")
        training = train_one(cfg)
        train, rows = training.datamodule.parts["train"], cfg.data.num_train
        lambd = cfg.lambd * rows  # of the sum of squares
        least, ridge = solve(train, 0.0), solve(train, lambd)
        mean = solve_mean(train, 2 * lambd / rows)
        run = training.module.parameters_by_name()["weight"].item()
        one = pd.DataFrame(
            {
                "w": [least, ridge, mean, run],
                "Σ½r²": [sum_of_squares(train, w) for w in (least, ridge, mean, run)],
                "Σ½r² + λw²/2": [sum_of_squares(train, w) + lambd / 2 * w**2 for w in (least, ridge, mean, run)],
                "MSE + λ₂w²/2": [mean_of_squares(train, w) + lambd / rows * w**2 for w in (least, ridge, mean, run)],
                "MAPE of w": [abs(w - ridge) / abs(ridge) for w in (least, ridge, mean, run)],
            }
        )
        one.insert(0, "solution", ["no penalty", "sum of squares, λ", "mean of squares, λ₂ = 2λ/M", "the trained run"])
        draws = []
        for seed in track(range(self.seeds), "draws", disable=not cfg.progress, transient=True):
            part = Workshop(vary(cfg, data__seed=seed)).datamodule.parts["train"]
            w, w_ridge = solve(part, 0.0), solve(part, lambd)
            loss, ridge_loss = sum_of_squares(part, w), sum_of_squares(part, w_ridge)
            draws.append((w, loss, w_ridge, ridge_loss + lambd / 2 * w_ridge**2, ridge_loss))
        names = ["w, no penalty", "Σ½r² there", "w, λ", "objective there", "Σ½r² at w, λ"]
        every = pd.DataFrame(draws, columns=names)
        spread = pd.DataFrame({"quantity": names, "mean": every.mean().to_numpy(), "sd": every.std().to_numpy()})
        worst = max(one["MAPE of w"][1:3])
        grid = np.linspace(-1.6 * abs(least), 1.6 * abs(least), 400)
        figure, panels = empty_panels()
        for axes, loss, factor, title in (
            (panels[0], sum_of_squares, lambd, f"sum of squares, λ = {lambd:g}"),
            (panels[1], mean_of_squares, 2 * lambd / rows, f"mean of squares, λ₂ = 2λ/M = {2 * lambd / rows:g}"),
        ):
            minima = {
                "minimum of the loss": (least, loss(train, least)),
                "minimum of the sum": (ridge, loss(train, ridge) + factor / 2 * ridge**2),
            }
            objective_curve(axes, grid, np.array([loss(train, w) for w in grid]), factor / 2 * grid**2, minima)
            axes.set(title=title, ylim=(0, None))
        left_out, noise = rows * cfg.data.bias**2 / 2, rows * cfg.data.noise**2 / 2
        answer = [
            f"With λ₂ = 2λ/M the minima of both objectives are the same weight, to {worst:.1g} (MAPE), and one "
            f"objective is 2/M times the other. The trained run ends {one['MAPE of w'][3]:.1g} from it.",
            f"Without a penalty Σ½r² is {spread['mean'][1]:.4g} ± {spread['sd'][1]:.2g} over {self.seeds} draws. The "
            f"intercept that the model leaves out makes M/2 · {cfg.data.bias:g}² = {left_out:g} of it, the noise "
            f"M/2 · σ² = {noise:g}.",
        ]
        return Findings(
            answer, {"solutions": one, "spread_over_draws": spread}, {"draws": every}, {"notebook_1d": figure}
        )


def solve(part: Part, lambd: float) -> float:
    """argmin Σ½r² + (λ/2)w²."""
    x = part.x[:, 0]
    return float(x @ part.y / (x @ x + lambd))


def solve_mean(part: Part, lambd: float) -> float:
    """argmin (1/M)Σr² + (λ/2)w², by its own normal equation (2xᵀx/M + λ)w = 2xᵀy/M."""
    x, rows = part.x[:, 0], len(part)
    return float((2 / rows * x @ part.y) / (2 / rows * x @ x + lambd))


def sum_of_squares(part: Part, w: float) -> float:
    return float(np.square(w * part.x[:, 0] - part.y).sum() / 2)


def mean_of_squares(part: Part, w: float) -> float:
    return float(np.square(w * part.x[:, 0] - part.y).mean())
