"""The λ with the smallest validation loss: how far it is from the best one, and what that costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from omegaconf import DictConfig
from rich.progress import track

from shrinkage.errors import InputError
from shrinkage.optimum.exact import least_squares
from shrinkage.report.figures import COLOURS, GREY, ORANGE, strength_axis
from shrinkage.report.findings import Findings
from shrinkage.studies.base import Study, known_linear_data, vary
from shrinkage.studies.numbers import check_count, check_counts

POINTS_PER_DECADE = 8
SHOWN = 8  # validation curves in the figure


@dataclass(frozen=True, kw_only=True)
class BestLambda(Study):
    """Ridge, solved exactly, on many draws of each problem; its expected loss on a new row x ~ N(0, I) is known,

    E ½r² = ½(σ² + ‖w − w*‖² + (b − b*)²), so that no test sample adds noise of its own.

    problems: by name, what each changes in the config's data. validation_rows: sizes of the validation set.
    smallest, largest: the ends of the grid of λ. seeds: how many draws of each problem.
    """

    seeds: int
    smallest: float
    largest: float
    validation_rows: Sequence[int]
    problems: Mapping[str, Mapping[str, float]]

    def __post_init__(self) -> None:
        check_count("seeds", self.seeds, 100, least=2)
        check_counts("validation_rows", self.validation_rows, "[20,100]")
        numbers = all(isinstance(end, int | float) for end in (self.smallest, self.largest))
        if not numbers or not 0 < self.smallest < self.largest < float("inf"):
            raise InputError(
                f"study.smallest={self.smallest} study.largest={self.largest}: must be numbers, 0 < smallest < "
                "largest; use study.smallest=0.0001 study.largest=100"
            )
        if not self.problems:
            raise InputError("study.problems={}: must have one or more; use study.problems={chapter:{}}")

    def run(self, cfg: DictConfig) -> Findings:
        if cfg.choices.data != "d2l":
            raise InputError(f"data={cfg.choices.data}: the study needs known weights; use data=d2l")
        for name, changes in self.problems.items():
            if unknown := set(changes) - set(cfg.data):
                raise InputError(
                    f"study.problems.{name}: {', '.join(sorted(unknown))} is no key of data; use {', '.join(cfg.data)}"
                )
        decades = np.log10(self.largest / self.smallest)
        lambds = np.geomspace(self.smallest, self.largest, round(POINTS_PER_DECADE * decades) + 1)
        figure = Figure(figsize=(9, 3.4 * len(self.problems)), layout="constrained", dpi=120)
        panels = figure.subplots(len(self.problems), 2, squeeze=False)
        tables, choices, sentences = [], [], []
        for (name, changes), (curves, shares) in zip(self.problems.items(), panels, strict=True):
            problem = vary(cfg, **{f"data__{key}": value for key, value in changes.items()})
            expected, losses = self.losses(problem, name, lambds)
            mean = expected.mean(axis=0)
            ways = {f"{rows} rows": loss.argmin(axis=1) for rows, loss in losses.items()}
            ways |= {"one for all draws": np.full(self.seeds, mean.argmin()), "oracle": expected.argmin(axis=1)}
            draws = np.arange(self.seeds)
            for way, index in ways.items():
                rows = {"problem": name, "λ from": way, "seed": draws, "λ": lambds[index]}
                choices.append(pd.DataFrame(rows | {"expected loss": expected[draws, index]}))
            table = pd.DataFrame({"problem": name, "λ from": list(ways)})
            for column, share in (("λ, 5 %", 0.05), ("λ, median", 0.5), ("λ, 95 %", 0.95)):
                table[column] = [np.quantile(lambds[index], share, method="nearest") for index in ways.values()]
            table["expected loss"] = [expected[draws, index].mean() for index in ways.values()]
            table["above oracle (%)"] = 100 * (table["expected loss"] / expected.min(axis=1).mean() - 1)
            tables.append(table)
            for (rows, loss), row in zip(losses.items(), table.itertuples(index=False), strict=False):
                _, _, low, _, high, cost, above = row
                off = 100 * (loss.min(axis=1).mean() / cost - 1)
                sentences.append(
                    f"{name}: with {rows} validation rows 90 % of the λ's lie in {low:.3g} to {high:.3g}, at an "
                    f"expected loss {above:.2g} % above the oracle's; the validation loss that chose them is "
                    f"{abs(off):.2g} % {'below' if off < 0 else 'above'} it."
                )
            near = lambds[mean <= 1.01 * mean.min()]
            one, oracle = table.iloc[-2], table.iloc[-1]
            sentences.append(
                f"{name}: 90 % of the best λ's lie in {oracle['λ, 5 %']:.3g} to {oracle['λ, 95 %']:.3g}; one for all "
                f"draws, {one['λ, median']:.2g}, costs {one['above oracle (%)']:.2g} %. The mean expected loss is "
                f"within 1 % of its smallest from λ = {near[0]:.2g} to {near[-1]:.2g}, of {lambds[0]:.3g} to "
                f"{lambds[-1]:.3g}."
            )
            draw(curves, shares, name, lambds, expected, losses, ways)
        answer = (
            "No: the λ with the smallest validation loss is an estimate, made from a sample as every estimate is, and "
            "in expectation its validation loss, the smallest of many, is too small. Means over "
            f"{self.seeds} draws of the data:"
        )
        return Findings(
            [answer, *sentences],
            {"best_lambda": pd.concat(tables, ignore_index=True)},
            data={"choices": pd.concat(choices, ignore_index=True)},
            figures={"best_lambda": figure},
        )

    def losses(self, cfg: DictConfig, name: str, lambds: np.ndarray) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """The expected loss [seeds, λ], and for each size of validation set the validation loss of the same fits."""
        expected = np.empty((self.seeds, len(lambds)))
        losses = {rows: np.empty_like(expected) for rows in self.validation_rows}
        for seed in track(range(self.seeds), f"{name}: draws", disable=not cfg.progress, transient=True):
            data = known_linear_data(vary(cfg, data__seed=seed, data__num_val=max(losses)))
            train, val = data.parts["train"], data.parts["val"]
            for column, lambd in enumerate(lambds):
                best = least_squares(train.x, train.y, 0.0, lambd)
                away = np.square(best.weight[0] - data.coefficients).sum() + (best.bias[0] - data.intercept) ** 2
                expected[seed, column] = (data.noise**2 + away) / 2
                squares = np.square(val.y - val.x @ best.weight[0] - best.bias[0])
                for rows, loss in losses.items():
                    loss[seed, column] = squares[:rows].mean() / 2
        return expected, losses


def draw(
    curves: Axes,
    shares: Axes,
    name: str,
    lambds: np.ndarray,
    expected: np.ndarray,
    losses: Mapping[int, np.ndarray],
    ways: Mapping[str, np.ndarray],
) -> None:
    """Losses against λ (left), and what share of the draws chooses a λ no larger (right)."""
    rows, loss = min(losses.items())
    curves.plot([], [], "o-", color=GREY, ms=4, lw=0.8, label=f"val/loss of {rows} rows in single draws")
    for curve in loss[:SHOWN]:
        curves.plot(lambds, curve, "o-", color=GREY, ms=4, lw=0.8, markevery=[curve.argmin()])
    curves.plot(lambds, expected.mean(axis=0), color=ORANGE, lw=2, label="expected loss, mean of all draws")
    curves.set(ylabel="loss (½ mean r²)", title=name)
    if expected.max() > 3 * expected.min():
        curves.set_yscale("log")
    for colour, (way, index) in zip(COLOURS, ways.items(), strict=False):
        style = ":" if way == "oracle" else "-"
        shares.step(np.sort(lambds[index]), np.linspace(0, 1, len(index)), style, color=colour, label=way)
    shares.set(ylabel="share of the draws with no larger λ", title=name)
    for axes in (curves, shares):
        strength_axis(axes, lambds)
        axes.set_xlim(right=1.3 * lambds[-1])
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize="small")
