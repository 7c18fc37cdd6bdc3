"""The nuclear norm makes matrices of low rank while the network trains; L2 and cutting them afterwards does not."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from shrinkage.models.smaller import factored, rank
from shrinkage.report.figures import BLUE, COLOURS, GREY, ORANGE, empty_panels
from shrinkage.report.findings import Findings
from shrinkage.runs.export import as_program
from shrinkage.studies.base import Study, require, train_together, vary
from shrinkage.studies.numbers import check_count, check_list, check_share
from shrinkage.training.lane import Lane

from .pruning import accuracy, compared, listed, means, network, parameters, workshop_of

NEEDED = {"choices.model": "mlp", "choices.penalty": "nuclear", "penalty.mode": "prox"}
VAL = "val/accuracy"


@dataclass(frozen=True, kw_only=True)
class LowRank(Study):
    """Every network is trained in full, split by `smaller.factored`, and measured before and after.

    Beside it stands the network of the same seed under L2, at its λ of the largest val/accuracy, cut to the same ranks.

    seeds: of split, start and order. lambds: of the nuclear norm. l2_lambds: 0 for no penalty. margin: how much less
    val/accuracy than L2 a smaller network may have, on average over the seeds. l2: the other penalty.
    """

    seeds: int
    lambds: Sequence[float]
    l2_lambds: Sequence[float]
    margin: float
    l2: Mapping[str, object]

    def __post_init__(self) -> None:
        check_count("seeds", self.seeds, 3)
        check_list("lambds", self.lambds, "[0.001,0.01]")
        check_list("l2_lambds", self.l2_lambds, "[0,0.01]", zero=True)
        check_share("margin", self.margin, 0.01)

    def run(self, cfg: DictConfig) -> Findings:
        require(cfg, NEEDED, "the study splits the matrices that the nuclear norm's prox leaves in a network,")
        other = vary(cfg)
        other.penalty = OmegaConf.create(dict(self.l2))
        rows, spectra, splits = [], [], {}
        for seed in range(self.seeds):
            own = {"seed": seed, "data__seed": seed}
            workshop = workshop_of(vary(cfg, **own))
            x, y = workshop.datamodule.tensors("test")[:]
            best = max(lanes(vary(other, **own), self.l2_lambds), key=lambda lane: lane.measured[VAL])
            standard = network(cfg, workshop, best.weights)
            with torch.no_grad():
                whole = accuracy(standard(x), y)
            spectra += spectrum("L2", seed, standard)
            for lambd, lane in zip(self.lambds, lanes(vary(cfg, **own), self.lambds), strict=True):
                model = network(cfg, workshop, lane.weights)
                small, ranks = factored(model), [rank(w) for w in matrices(model)]
                with torch.no_grad():
                    cut = accuracy(truncated(standard, ranks)(x), y)
                rows.append(
                    {"λ": lambd, "seed": seed, "val": lane.measured[VAL], "L2 val": best.measured[VAL]}
                    | {"ranks": ranks, "parameters": parameters(small), "of": parameters(model)}
                    | {"left over": max(left_over(w) for w in matrices(model))}
                    | compared(model, small, x, y)
                    | {"L2": whole, "L2 cut": cut}
                )
                spectra += spectrum(f"λ = {lambd:g}", seed, model)
                if seed == 0:
                    splits[lambd] = small, x
        runs = pd.DataFrame(rows)
        table = means(runs, ["λ"])
        near = table[table["val"] >= table["L2 val"] - self.margin]
        chosen = None if near.empty else near.loc[near["parameters"].idxmin()]
        values = pd.DataFrame(spectra)
        return Findings(
            [on_splits(runs), on_ranks(runs, chosen, self.margin), on_cutting(runs, table)],
            {"low_rank": table.drop(columns=["of", "L2 val"])},
            data={"runs": runs.assign(ranks=runs["ranks"].map(listed)), "singular_values": values},
            figures={"low_rank": picture(runs, values)},
            networks={} if chosen is None else {"mlp": as_program(*splits[chosen["λ"]])},
        )


def lanes(cfg: DictConfig, lambds: Sequence[float]) -> list[Lane]:
    return train_together([vary(cfg, lambd=lambd) for lambd in lambds])


def matrices(model: nn.Module) -> list[Tensor]:
    return [layer.weight.detach() for layer in model.children() if isinstance(layer, nn.Linear)]


def left_over(weight: Tensor) -> float:
    """The largest singular value that counts as 0, relative to the largest of all; 0 where none does."""
    values = torch.linalg.svdvals(weight.double())
    r = rank(weight)
    return (values[r] / values[0]).item() if 0 < r < len(values) else 0.0


@torch.no_grad()
def truncated(model: nn.Module, ranks: Sequence[int]) -> nn.Module:
    """A copy with the nearest matrices of these ranks. Reference: Eckart & Young (1936)."""
    cut = copy.deepcopy(model)
    for weight, r in zip(matrices(cut), ranks, strict=True):
        u, s, vh = torch.linalg.svd(weight, full_matrices=False)
        weight.copy_(u[:, :r] * s[:r] @ vh[:r])
    return cut


def spectrum(name: str, seed: int, model: nn.Module) -> list[dict[str, object]]:
    """The singular values of each layer, from the largest down."""
    return [
        {"network": name, "seed": seed, "layer": layer, "number": number, "singular value": value}
        for layer, weight in enumerate(matrices(model), 1)
        for number, value in enumerate(torch.linalg.svdvals(weight.double()).tolist(), 1)
    ]


def on_splits(runs: pd.DataFrame) -> str:
    same = (runs["test"] == runs["smaller"]).sum()
    return (
        f"Of {len(runs)} networks {(runs['parameters'] < runs['of']).sum()} became smaller by splitting; {same} have "
        f"the same test accuracy before and after, no output differs by more than {runs['difference'].max():.1e}, and "
        f"singular values that count as 0 are at most {runs['left over'].max():.1e} of the largest."
    )


def on_ranks(runs: pd.DataFrame, chosen: pd.Series | None, margin: float) -> str:
    if chosen is None:
        return f"No λ of the grid has a val/accuracy at most {margin:g} under that of L2; smaller ones may."
    return (
        f"With at most {margin:g} less val/accuracy than under L2, λ = {chosen['λ']:g} leaves ranks {chosen['ranks']} "
        f"and {chosen['parameters'] / chosen['of']:.0%} of {chosen['of']:.0f} parameters, with a test accuracy of "
        f"{chosen['smaller']:.3f} ({chosen['range']}) against {chosen['L2']:.3f} under L2."
    )


def on_cutting(runs: pd.DataFrame, table: pd.DataFrame) -> str:
    """The nuclear norm's networks against L2's of the same ranks, at each λ that has made them smaller."""
    gains = (runs["smaller"] - runs["L2 cut"]).groupby(runs["λ"], sort=False)
    parts = [
        f"{row['smaller']:.3f} against {row['L2 cut']:.3f} at λ = {row['λ']:g} (ranks {row['ranks']}; ahead in "
        f"{(gains.get_group(row['λ']) > 0).sum()} of {runs['seed'].nunique()} seeds)"
        for _, row in table[table["parameters"] < table["of"]].iterrows()
    ]
    return f"Test accuracy against that of L2's networks, cut to the same ranks after training: {'; '.join(parts)}."


def picture(runs: pd.DataFrame, values: pd.DataFrame) -> Figure:
    """The first seed's singular values in the first layer (left), and test accuracy against what is left (right)."""
    figure, (spectra, scores) = empty_panels()
    first = values[(values["seed"] == 0) & (values["layer"] == 1)]
    for colour, (name, rows) in zip((GREY, *COLOURS), first.groupby("network", sort=False), strict=False):
        spectra.plot(rows["number"], rows["singular value"], color=colour, label=name)
    spectra.set_yscale("log")
    spectra.set(xlabel="number", ylabel="singular value of the first layer", ylim=(1e-8, 1e3))
    spectra.legend(frameon=False, fontsize="small", ncols=2, loc="upper right")
    for column, colour, name in (
        ("smaller", BLUE, "nuclear norm, split"),
        ("L2 cut", ORANGE, "L2, cut to the same ranks"),
    ):
        scores.plot(runs["parameters"], runs[column], "o", ms=4, color=colour, alpha=0.4)
        mean = runs.groupby("λ")[["parameters", column]].mean()
        scores.plot(mean["parameters"], mean[column], color=colour, label=name)
    scores.axhline(runs["L2"].mean(), color=GREY, ls="--", lw=1, label="L2, not cut")
    scores.set(xlabel="parameters", ylabel="test accuracy")
    scores.legend(frameon=False, fontsize="small")
    return figure
