"""Ways against overfitting beside weight decay, on one network and one data set."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure
from omegaconf import DictConfig

from shrinkage.data.base import Part
from shrinkage.errors import InputError
from shrinkage.report.figures import BLUE, COLOURS, ORANGE, empty_panels
from shrinkage.report.findings import Findings
from shrinkage.studies.base import Study, train_one, train_together, vary
from shrinkage.studies.numbers import check_count, check_counts, check_list
from shrinkage.training.history import Moment
from shrinkage.training.workshop import Workshop

if TYPE_CHECKING:
    import plotly.graph_objects as go

NOTHING, DECAY, EARLY, SMALLER, DROPOUT, DATA = (
    "nothing",
    "weight decay",
    "early stopping",
    "smaller model",
    "dropout",
    "more data",
)
Metrics = dict[str, float]
METRICS = {"train/loss": "train", "val/loss": "val", "test/loss": "test", "test/accuracy": "accuracy"}


@dataclass(frozen=True, kw_only=True)
class Overfitting(Study):
    """Every way in all its settings, by as many optimiser steps; λ, dropout and patience of the config are not used.

    Each way's setting is chosen by val/loss (median over seeds) and judged by test/loss, by which nothing is chosen.

    seeds: of split, start and order. lambds: of weight decay. patience: epochs, of early stopping. widths: of the
    hidden layer of smaller models, 0 for none. dropout: its shares. times: how many times as many training rows, the
    further ones taken from the test part.
    """

    seeds: int
    lambds: Sequence[float]
    patience: int
    widths: Sequence[int]
    dropout: Sequence[float]
    times: Sequence[int]

    def __post_init__(self) -> None:
        check_count("seeds", self.seeds, 5)
        check_count("patience", self.patience, 10)
        check_counts("widths", self.widths, "[16,0]", least=0)
        check_counts("times", self.times, "[2,4]", least=2)
        check_list("lambds", self.lambds, "[0.001,0.01]")
        check_list("dropout", self.dropout, "[0.5]", below=1)

    def run(self, cfg: DictConfig) -> Findings:
        names = cfg.choices
        if names.model != "mlp" or names.penalty not in ("l2", "adamw") or cfg.trainer.max_steps < 1:
            raise InputError(
                f"model={names.model} penalty={names.penalty} trainer.max_steps={cfg.trainer.max_steps}: the study "
                "trains a network with and without weight decay for so many steps; use model=mlp penalty=l2 "
                "trainer.max_steps=400"
            )
        cfg = vary(cfg, tracking__history="all", lambd=0, model__dropout=0.0, early_stopping__patience=None)
        datamodule = Workshop(cfg).datamodule
        if datamodule.classes is None or "test" not in datamodule.parts:
            raise InputError(
                f"data={names.data}: the study counts right classes in a test part; use data=digits data.test=0.74"
            )
        rows, curves = [], []
        # A list, so that a setting that cannot be is refused before any is trained.
        for way, setting, changes, lambds in list(self.ways(cfg, datamodule.parts)):
            for lambd, seed, metrics, history in self.runs(vary(cfg, **changes), lambds):
                labels = (DECAY, f"λ = {lambd:g}", seed) if lambd else (way, setting, seed)
                rows.append((*labels, *(metrics[name] for name in METRICS)))
                curves += [(*labels, step, m["train/loss"], m["val/loss"]) for step, _, m in history]
        runs = pd.DataFrame(rows, columns=["way", "setting", "seed", *METRICS])
        curve = pd.DataFrame(curves, columns=["way", "setting", "seed", "step", "train/loss", "val/loss"])
        grouped = runs.groupby(["way", "setting"], sort=False)
        table = grouped[list(METRICS)].median().rename(columns=METRICS)
        table["smallest"], table["largest"] = grouped["test/loss"].min(), grouped["test/loss"].max()
        bare = runs[runs["way"] == NOTHING].set_index("seed")["test/loss"]
        smaller = runs["test/loss"].to_numpy() < bare[runs["seed"]].to_numpy()
        table["seeds won"] = runs.assign(won=smaller).groupby(["way", "setting"], sort=False)["won"].sum()
        table = table.reset_index()
        chosen = table.loc[table.groupby("way")["val"].idxmin()].sort_values("test")
        nothing = chosen[chosen["way"] == NOTHING].iloc[0]
        answer = [
            f"With {len(datamodule.parts['train'])} training rows the network by itself ends at a training loss of "
            f"{nothing['train']:.2g} and a test loss of {nothing['test']:.3g} (accuracy "
            f"{nothing['accuracy']:.3f}), medians of {self.seeds} seeds. Each way, its setting chosen by "
            "val/loss, from the best on:"
        ]
        answer += [
            f"{row['way']} ({row['setting']}): test loss {row['test']:.3g}, smaller than with nothing in "
            f"{row['seeds won']} of {self.seeds} seeds; accuracy {row['accuracy']:.3f}."
            for _, row in chosen.iterrows()
            if row["way"] != NOTHING
        ]
        return Findings(
            answer,
            {"overfitting": table},
            data={"runs": runs, "curves": curve},
            figures={"overfitting": picture(runs, curve, chosen)},
            pages={"curves": page(curve)},
        )

    def ways(
        self, cfg: DictConfig, parts: Mapping[str, Part]
    ) -> Iterator[tuple[str, str, dict[str, object], Sequence[float]]]:
        """Way, setting, changes in the config and λ's; those λ's that are not 0 are weight decay's settings."""
        yield NOTHING, "", {}, [0, *self.lambds]
        yield EARLY, f"patience {self.patience}", {"early_stopping__patience": self.patience}, [0]
        for width in self.widths:
            yield (
                SMALLER,
                f"width {width}" if width else "no hidden layer",
                {"model__widths": [width] * (width > 0)},
                [0],
            )
        train, test, total = len(parts["train"]), len(parts["test"]), sum(map(len, parts.values()))
        for times in self.times:
            left = test - (times - 1) * train
            if left < 1:
                raise InputError(
                    f"study.times={times}: {times} times {train} training rows leave none of {test} test rows; use "
                    f"study.times=[{1 + (test - 1) // train}]"
                )
            yield DATA, f"{times} × the rows", {"data__test": left / total}, [0]
        for share in self.dropout:
            yield DROPOUT, f"share {share:g}", {"model__dropout": float(share)}, [0]

    def runs(
        self, cfg: DictConfig, lambds: Sequence[float]
    ) -> Iterator[tuple[float, int, Metrics, list[Moment[Metrics]]]]:
        """λ, seed, metrics and history of every run; with dropout one by one, since lanes would share its draws."""
        cases = list(itertools.product(lambds, range(self.seeds)))
        cfgs = [vary(cfg, lambd=lambd, seed=seed, data__seed=seed) for lambd, seed in cases]
        if cfg.model.dropout:
            for case, training in zip(cases, map(train_one, cfgs), strict=True):
                yield *case, training.module.measured | training.test, training.module.history
            return
        for case, lane in zip(cases, train_together(cfgs), strict=True):
            yield *case, lane.measured | lane.test, lane.history


def picture(runs: pd.DataFrame, curve: pd.DataFrame, chosen: pd.DataFrame) -> Figure:
    """Every seed's test loss in each way's chosen setting (left), and the median validation losses in training."""
    figure, (losses, course) = empty_panels()
    for place, (way, setting, median) in enumerate(chosen[["way", "setting", "test"]].to_numpy()):
        own = runs[(runs["way"] == way) & (runs["setting"] == setting)]["test/loss"]
        losses.plot(own, [place] * len(own), "o", ms=4, color=BLUE, alpha=0.6, label="" if place else "a seed")
        losses.plot(median, place, "|", ms=16, mew=2, color=ORANGE, label="" if place else "median")
    losses.set_yticks(range(len(chosen)), (chosen["way"] + "\n" + chosen["setting"]).str.strip())
    losses.set(xlabel="test/loss (cross-entropy, nats)")
    losses.invert_yaxis()
    losses.legend(frameon=False, fontsize="small")
    shown = chosen[chosen["way"] != EARLY]  # its curve is that of nothing, cut off
    for colour, way, setting in zip(itertools.cycle(COLOURS), shown["way"], shown["setting"], strict=False):
        own = curve[(curve["way"] == way) & (curve["setting"] == setting)].groupby("step").median(numeric_only=True)
        course.plot(own.index, own["val/loss"], color=colour, label=f"{way} {setting}")
        if way == NOTHING:
            course.plot(own.index, own["train/loss"], "--", color=colour, label=f"{way}, train/loss")
    course.set(
        xlabel="optimiser steps", ylabel="val/loss (median of the seeds, nats)", ylim=(0, 3 * chosen["val"].max())
    )
    course.legend(frameon=False, fontsize="small")
    return figure


def page(curve: pd.DataFrame) -> "go.Figure":
    """The median curves of every setting, a colour a way, to hover over; training losses are dashed."""
    import plotly.graph_objects as go

    figure = go.Figure()
    shown = curve[curve["way"] != EARLY]
    colours = dict(zip(shown["way"].unique(), itertools.cycle(COLOURS), strict=False))
    for (way, setting), rows in shown.groupby(["way", "setting"], sort=False):
        own = rows.groupby("step").median(numeric_only=True)
        for name, dash in (("val/loss", "solid"), ("train/loss", "dash")):
            line = {"dash": dash, "color": colours[way]}
            figure.add_scatter(x=own.index, y=own[name], name=f"{way} {setting} {name}", line=line)
    figure.update_xaxes(title="optimiser steps")
    figure.update_yaxes(title="loss (median of the seeds, nats)", type="log")
    figure.update_layout(template="simple_white", hoverlabel={"namelength": -1})
    return figure
