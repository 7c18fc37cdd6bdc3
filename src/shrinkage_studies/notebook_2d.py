"""The notebook's two weights: the minimum that its picture marks, and the minimum of what it plots."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from shrinkage.errors import InputError
from shrinkage.report.figures import empty_panels
from shrinkage.report.findings import Findings
from shrinkage.report.landscape import around, contours
from shrinkage.studies.base import Study, train_one
from shrinkage.studies.numbers import check_count


@dataclass(frozen=True, kw_only=True)
class Notebook2D(Study):
    """The notebook solves Σ½r² + (λ/2)‖w‖² and marks that minimum over contours of (1/M)Σr² and of (λ/2)‖w‖².

    The minimum of what is plotted is another one; (1/M)Σr² + (λ₂/2)‖w‖² with λ₂ = 2λ/M has the minimum that is marked.
    points: along each side of the contours' grid.
    """

    points: int

    def __post_init__(self) -> None:
        check_count("points", self.points, 121, least=10)

    def run(self, cfg: DictConfig) -> Findings:
        if cfg.data.num_inputs != 2 or cfg.model.bias:
            raise InputError("notebook_2d is about two weights and no bias: keep data.num_inputs=2 model.bias=false")
        training = train_one(cfg)
        train, rows = training.datamodule.parts["train"], cfg.data.num_train
        x, y, lambd = train.x, train.y, cfg.lambd * rows

        def mean_minimum(strength: float) -> np.ndarray:
            """argmin (1/M)Σr² + (strength/2)‖w‖²."""
            return np.linalg.solve(2 / rows * x.T @ x + strength * np.eye(2), 2 / rows * x.T @ y)

        marked = np.linalg.solve(x.T @ x + lambd * np.eye(2), x.T @ y)
        plotted, mended = mean_minimum(lambd), mean_minimum(2 * lambd / rows)
        loss_only = np.linalg.solve(x.T @ x, x.T @ y)
        path = np.stack([named["weight"][0].numpy() for named in training.module.trajectory])
        points = {
            "sum of squares, λ (what the notebook marks)": marked,
            "mean of squares, λ (what it plots)": plotted,
            "mean of squares, λ₂ = 2λ/M": mended,
            "no penalty": loss_only,
            "the trained run": path[-1],
        }
        table = pd.DataFrame(
            {
                "minimum of": list(points),
                "w1": [w[0] for w in points.values()],
                "w2": [w[1] for w in points.values()],
                "MAPE to the first": [np.mean(np.abs((w - marked) / marked)) for w in points.values()],
            }
        )
        everything = np.vstack([path, [0.0, 0.0], *points.values()])
        first, second = (np.linspace(*around(everything[:, j].tolist()), self.points) for j in (0, 1))
        grid = np.stack(np.meshgrid(first, second), axis=-1)
        loss = np.square(grid @ x.T - y).mean(axis=-1)
        squared = np.square(grid).sum(axis=-1)
        figure, (left, right) = empty_panels()
        marks = {
            "minimum of what is plotted": plotted,
            "what the notebook marks": marked,
            "minimum of the loss": loss_only,
        }
        contours(left, first, second, loss + lambd / 2 * squared, marks)
        left.set(title=f"as plotted: MSE + (λ/2)‖w‖², λ = {lambd:g}")
        marks = {"minimum of what is plotted": mended, "minimum of the loss": loss_only}
        contours(right, first, second, loss + lambd / rows * squared, marks, path)
        right.set(title=f"mended: MSE + (λ₂/2)‖w‖², λ₂ = 2λ/M = {2 * lambd / rows:g}")
        for axes in (left, right):
            axes.set(xlabel="w₁", ylabel="w₂")
        import plotly.graph_objects as go

        page = go.Figure(go.Surface(x=first, y=second, z=loss + lambd / rows * squared, colorscale="Blues_r"))
        page.update_layout(
            title=f"MSE + (λ₂/2)‖w‖², λ₂ = {2 * lambd / rows:g}",
            scene={"xaxis_title": "w₁", "yaxis_title": "w₂", "zaxis_title": "objective"},
        )
        apart = table["MAPE to the first"]
        answer = [
            f"The notebook's picture adds λ = {lambd:g} to the mean of squares and marks the minimum of the sum of "
            f"squares, ({marked[0]:.3f}, {marked[1]:.3f}); the minimum of what is plotted is ({plotted[0]:.2g}, "
            f"{plotted[1]:.2g}).",
            f"With λ₂ = 2λ/M = {2 * lambd / rows:g} on the mean the two are one point, to {apart[2]:.1g} (MAPE); the "
            f"trained run ends {apart[4]:.1g} from it.",
        ]
        figures, pages = {"notebook_2d": figure}, {"notebook_2d": page}
        return Findings(answer, {"minima": table}, figures=figures, pages=pages, metrics={"mape/mended": apart[2]})
