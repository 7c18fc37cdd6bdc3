"""Where the length of a network's weights settles under decay, and by how much a step turns them: theory, measured."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from omegaconf import DictConfig

from shrinkage.report.figures import BLUE, COLOURS, GREY, empty_panels
from shrinkage.report.findings import Findings
from shrinkage.studies.base import Study, require, train_one, vary
from shrinkage.studies.numbers import check_count, check_list, check_share
from shrinkage.training.history import Moment

if TYPE_CHECKING:
    import plotly.graph_objects as go

NEEDED = {"choices.model": "cnn", "model.batch_norm": True, "penalty.mode": "decay", "schedule.warmup": 0.0}
QUANTITIES = ("angle", "norm")
LAST = 0.25  # share of the epochs over which what has settled is averaged


@dataclass(frozen=True, kw_only=True)
class Equilibrium(Study):
    """Decay under SGD and under Adam (AdamW), each at several strengths, of a network with batch normalisation.

    sgd and adam: optimisers as in conf/optimizer, with the learning rates that are used. lambds: of both, one list
    each. seeds: how many. label_noise: share of the training images whose class is drawn anew, so that gradients do not
    vanish.

    The convolutions stand before a normalisation, which makes the loss the same at every length of theirs; the last,
    linear layer does not, and the theory is not about it.
    """

    sgd: dict[str, Any]
    adam: dict[str, Any]
    lambds: dict[str, list[float]]
    seeds: int
    label_noise: float

    def __post_init__(self) -> None:
        check_count("seeds", self.seeds, 3)
        check_share("label_noise", self.label_noise, 0.2)
        for name in ("sgd", "adam"):
            check_list(f"lambds.{name}", self.lambds.get(name), "[0.01]")

    def run(self, cfg: DictConfig) -> Findings:
        require(cfg, NEEDED, "the theory is of decayed weights before a normalisation, at a constant learning rate;")
        cfg = vary(cfg, dynamics=True)
        rows, curves = [], []
        for optimizer in ("sgd", "adam"):
            for lambd in self.lambds[optimizer]:
                for seed in range(self.seeds):
                    own = vary(cfg, lambd=lambd, seed=seed, data__seed=seed)
                    own.optimizer = cfg.study[optimizer]
                    history = train_one(own, self.label_noise).module.history[1:]
                    labels = {"optimizer": optimizer, "λ": lambd, "seed": seed}
                    rows += [labels | found for found in settled(history)]
                    curves += [labels | point for epoch, _, measured in history for point in points(epoch, measured)]
        runs, curve = pd.DataFrame(rows), pd.DataFrame(curves)
        grouped = runs.groupby(["optimizer", "λ", "layer"], sort=False)
        table = grouped[["angle", "angle/theory", "norm", "norm/theory"]].median()
        table = table.reset_index()
        return Findings(
            list(answer(runs)),
            {"equilibrium": table},
            data={"runs": runs, "curves": curve},
            figures={"equilibrium": picture(runs, curve)},
            pages={"curves": page(curve)},
        )


def layers(measured: dict[str, float]) -> list[str]:
    """The layers that theory says anything of, in their order; the last is the linear one."""
    return [name.split("/")[1] for name in measured if name.endswith("/equilibrium_angle")]


def settled(history: list[Moment[dict[str, float]]]) -> list[dict[str, object]]:
    """Of each layer the means over the last epochs, beside the theory's."""
    last = [moment.metrics for moment in history[-max(round(LAST * len(history)), 1) :]]
    names = layers(last[-1])
    found = []
    for layer in names:
        row: dict[str, object] = {"layer": layer, "normalised": layer != names[-1]}
        for quantity in QUANTITIES:
            theory = [measured.get(f"layer/{layer}/equilibrium_{quantity}", np.nan) for measured in last]
            found_here = np.mean([measured[f"layer/{layer}/{quantity}"] for measured in last])
            row[quantity], row[f"{quantity}/theory"] = found_here, found_here / np.mean(theory)
        found.append(row)
    return found


def points(epoch: int, measured: dict[str, float]) -> list[dict[str, int | str | float | None]]:
    return [
        {"epoch": epoch, "layer": layer}
        | {
            name: measured.get(f"layer/{layer}/{name}")
            for name in ("angle", "equilibrium_angle", "norm", "equilibrium_norm")
        }
        for layer in layers(measured)
    ]


def answer(runs: pd.DataFrame) -> list[str]:
    sentences = []
    for (optimizer, normalised), own in runs.groupby(["optimizer", "normalised"], sort=False):
        which = (
            "convolutions before a normalisation" if normalised else "the last layer, which no normalisation follows"
        )
        angle, norm = own["angle/theory"], own["norm/theory"].dropna()
        words = f"{'SGD' if optimizer == 'sgd' else 'AdamW'}, {which}: a step turns the weights by "
        words += f"{angle.median():.3f} of the angle that theory gives ({angle.min():.3f} to {angle.max():.3f})"
        if len(norm):
            words += f", their length is {norm.median():.3f} of it ({norm.min():.3f} to {norm.max():.3f})"
        sentences.append(f"{words}; median and range of {len(own)} layers and runs.")
    return sentences


def picture(runs: pd.DataFrame, curve: pd.DataFrame) -> Figure:
    """Measured against predicted angles of all layers (left); one layer's length on its way to where it settles."""
    figure, (angles, course) = empty_panels()
    for colour, (optimizer, own) in zip(COLOURS, runs.groupby("optimizer", sort=False), strict=False):
        for normalised, layer in own.groupby("normalised"):
            name = f"{'SGD' if optimizer == 'sgd' else 'AdamW'}, " + ("normalised" if normalised else "last layer")
            theory = layer["angle"] / layer["angle/theory"]
            angles.plot(theory, layer["angle"], "o" if normalised else "x", color=colour, alpha=0.7, label=name)
    limits = angles.get_xlim()
    angles.plot(limits, limits, color=GREY, lw=1, label="equal")
    angles.set(xlabel="angle of a step by theory (radians)", ylabel="measured")
    angles.legend(frameon=False, fontsize="small")
    own = curve[(curve["optimizer"] == "sgd") & (curve["seed"] == 0)]
    for colour, (lambd, rows) in zip(COLOURS, own.groupby("λ", sort=False), strict=False):
        first = rows[rows["layer"] == rows["layer"].iloc[0]]
        course.plot(first["epoch"], first["norm"], color=colour, label=f"SGD, λ = {lambd:g}")
        course.plot(first["epoch"], first["equilibrium_norm"], "--", color=colour, lw=1)
    course.set(xlabel="epochs", ylabel="‖W‖ of the first convolution\n(dashed: where theory has it settle)")
    course.legend(frameon=False, fontsize="small")
    return figure


def page(curve: pd.DataFrame) -> "go.Figure":
    """Angles of every layer over the training, medians of the seeds; theory is dashed."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for (optimizer, lambd, layer), rows in curve.groupby(["optimizer", "λ", "layer"], sort=False):
        own = rows.groupby("epoch").median(numeric_only=True)
        name = f"{optimizer} λ = {lambd:g} {layer}"
        figure.add_scatter(x=own.index, y=own["angle"], name=name, legendgroup=name)
        line = {"dash": "dash", "color": BLUE}
        figure.add_scatter(
            x=own.index, y=own["equilibrium_angle"], name="theory", legendgroup=name, line=line, showlegend=False
        )
    figure.update_xaxes(title="epochs")
    figure.update_yaxes(title="angle of a step (radians)", type="log")
    figure.update_layout(template="simple_white", hoverlabel={"namelength": -1})
    return figure
