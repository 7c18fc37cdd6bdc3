"""What penalising the bias does: fits of λ from small to huge, with the bias inside the penalty and outside it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from shrinkage.errors import InputError
from shrinkage.optimum.exact import least_squares
from shrinkage.report.figures import BLUE, GREY, ORANGE, empty_panels, strength_axis
from shrinkage.report.findings import Findings
from shrinkage.studies.base import Study, train_together, vary
from shrinkage.training.workshop import Workshop

SCOPES = {"weights": (BLUE, "free"), "all": (ORANGE, "penalised")}


@dataclass(frozen=True, kw_only=True)
class Bias(Study):
    """lambds: each is trained and solved for. shift: what is added to every target, to see whether the weights move.

    Hastie, Tibshirani & Friedman, "The elements of statistical learning", §3.4.1: a penalised intercept makes the fit
    depend on the origin that was chosen for y.
    """

    lambds: Sequence[float]
    shift: float

    def __post_init__(self) -> None:
        numbers = [isinstance(v, int | float) and math.isfinite(v) and v >= 0 for v in self.lambds]
        if not numbers or not all(numbers) or not any(self.lambds):
            raise InputError(
                f"study.lambds={list(self.lambds)}: must be numbers ≥ 0, one of them > 0; use study.lambds=[0.1,1,10]"
            )
        if not isinstance(self.shift, int | float) or not math.isfinite(self.shift):
            raise InputError(f"study.shift={self.shift}: must be a number; use study.shift=10")

    def run(self, cfg: DictConfig) -> Findings:
        data, model, penalty, bias = *(cfg.choices[g] for g in ("data", "model", "penalty")), cfg.model.get("bias")
        if (data, model, penalty, bias) != ("d2l", "linear", "l2", True):
            raise InputError(
                f"data={data} model={model} penalty={penalty} model.bias={bias}: the study is about ridge regression "
                "with a bias; use data=d2l model=linear penalty=l2 model.bias=true"
            )
        parts = Workshop(cfg).datamodule.parts
        train, val = parts["train"], parts["val"]
        mean = train.y.mean()
        lambds = sorted(self.lambds)
        fine = np.geomspace(min(filter(None, lambds)), lambds[-1], 100)
        table, furthest = pd.DataFrame({"λ": [float(lambd) for lambd in lambds]}), 0.0
        figure, (sizes, losses) = empty_panels()
        solutions = {scope: [solved(train.x, train.y, lambd, scope) for lambd in lambds] for scope in SCOPES}
        for scope, (colour, word) in SCOPES.items():
            exact = solutions[scope]
            lanes = train_together([vary(cfg, lambd=lambd, penalty__scope=scope) for lambd in lambds])
            biases = [float(lane.weights["bias"][0]) for lane in lanes]
            for (w, b), lane, found in zip(exact, lanes, biases, strict=True):
                away = np.abs(lane.weights["weight"][0].double().numpy() - w)
                furthest = max(furthest, away.max(), abs(found - b))
            table[f"b {word}"] = [b for _, b in exact]
            table[f"val/loss, b {word}"] = [half_mean_square(val.y - val.x @ w - b) for w, b in exact]
            curve = [solved(train.x, train.y, lambd, scope) for lambd in fine]
            sizes.plot(fine, [abs(b) for _, b in curve], color=colour, label=f"{word} bias")
            sizes.plot(lambds, np.abs(biases), "o", color=colour, ms=4, label="trained")
            losses.plot(fine, [half_mean_square(val.y - val.x @ w - b) for w, b in curve], color=colour)
            losses.plot(lambds, [lane.measured["val/loss"] for lane in lanes], "o", color=colour, ms=4)
        rests = [mean - train.x.mean(axis=0) @ w for w, _ in solutions["all"]]
        shares = [rest / (1 + lambd) for rest, lambd in zip(rests, lambds, strict=True)]
        rounding = np.abs(table["b penalised"] - shares).max()
        zero, centre = half_mean_square(val.y), half_mean_square(val.y - mean)
        for level, words in ((zero, "predicting 0"), (centre, "predicting the training mean")):
            losses.axhline(level, color=GREY, ls=":", lw=1)
            losses.text(lambds[-1], 1.07 * level, words, ha="right", va="bottom", color=GREY, fontsize="small")
        sizes.set(ylabel="size of the bias |b|", yscale="log")
        losses.set(ylabel="val/loss (½ mean r²)", yscale="log", ylim=(None, 1.6 * max(zero, centre)))
        for axes in (sizes, losses):
            strength_axis(axes, lambds)
            axes.set_xlim(right=2 * lambds[-1])
        sizes.legend(frameon=False, fontsize="small")
        moved = {
            scope: np.linalg.norm(
                solved(train.x, train.y + self.shift, cfg.lambd, scope)[0]
                - solved(train.x, train.y, cfg.lambd, scope)[0]
            )
            for scope in SCOPES
        }
        weight, bias = solved(train.x, train.y, lambds[-1], "all")
        last = table.iloc[-1]
        best = {word: table.loc[table[f"val/loss, b {word}"].idxmin()] for _, word in SCOPES.values()}
        answer = [
            f"At λ = {lambds[-1]:g} a penalised bias is {bias:.2g} and no prediction is further from 0 than "
            f"{np.abs(val.x @ weight + bias).max():.2g}; a free bias is {last['b free']:.4g}, beside a mean target of "
            f"{mean:.4g}. As λ grows, wᵀx + b tends to f = 0 with a penalised bias and to f = ȳ with a free one.",
            f"The val/loss there is {last['val/loss, b penalised']:.4g} with a penalised bias (predicting 0: "
            f"{zero:.4g}) and {last['val/loss, b free']:.4g} with a free one (predicting the mean: {centre:.4g}).",
            "A penalised bias is 1/(1 + λ) of the mean that the weights leave, b = (ȳ − wᵀx̄)/(1 + λ); a free one is "
            f"all of it. Here the formula holds to {rounding:.1g}.",
            f"The smallest val/loss over these λ is {best['penalised']['val/loss, b penalised']:.4g} with a penalised "
            f"bias (at λ = {best['penalised']['λ']:g}) and {best['free']['val/loss, b free']:.4g} with a free one (at "
            f"λ = {best['free']['λ']:g}).",
            f"Adding {self.shift:g} to every target moves the weights by ‖Δw‖ = {moved['all']:.2g} where the bias is "
            f"penalised and by {moved['weights']:.1g} where it is free (λ = {cfg.lambd:g}): a free bias leaves "
            "the slopes independent of where y has its zero.",
            f"No weight or bias of the {2 * len(lambds)} trained runs is further than {furthest:.1g} from the exact "
            "optimum.",
        ]
        metrics = {"bias/penalised": float(bias), "bias/free": float(last["b free"]), "furthest": float(furthest)}
        return Findings(answer, {"bias": table}, figures={"bias": figure}, metrics=metrics)


def solved(x: np.ndarray, y: np.ndarray, lambd: float, scope: str) -> tuple[np.ndarray, float]:
    """w [p] and b that minimise (1/n)Σ½r² + ½λ‖w‖², or + ½λ(‖w‖² + b²) with scope `all`: b weighs a column of ones."""
    if scope == "weights":
        best = least_squares(x, y, 0.0, lambd)
        return best.weight[0], float(best.bias[0])
    best = least_squares(np.column_stack([x, np.ones(len(x))]), y, 0.0, lambd, free_bias=False)
    return best.weight[0, :-1], float(best.weight[0, -1])


def half_mean_square(residual: np.ndarray) -> float:
    return float(np.square(residual).mean() / 2)
