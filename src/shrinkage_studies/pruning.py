"""A lasso of groups that removes whole units: how small a network becomes, and what it still computes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from shrinkage.errors import InputError
from shrinkage.models.smaller import pruned
from shrinkage.report.figures import COLOURS, empty_panels
from shrinkage.report.findings import Findings
from shrinkage.runs.export import as_program
from shrinkage.studies.base import Study, require, train_together, vary
from shrinkage.studies.numbers import check_count, check_list, check_share
from shrinkage.training.workshop import Workshop, make

GROUP_LASSO, L2 = "group_lasso", "l2"
NEEDED = {
    "choices.model": "cnn",
    "choices.penalty": GROUP_LASSO,
    "penalty.by": "input",
    "penalty.mode": "prox",
    "model.batch_norm": False,
}
SETTING = ["network", "penalty", "λ"]
LARGEST = ("difference", "left over")  # columns whose largest value is told, not the mean
Weights = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Pruning(Study):
    """Every network is trained in full, cut by `smaller.pruned`, and measured before and after.

    seeds: of split, start and order. lambds: of the group lasso and of L1 for each network, cnn and mlp. l2_lambds: 0
    for no penalty. margin: how much less val/accuracy than the best under L2 a smaller network may have, on average
    over the seeds. mlp: the second network, of the same images as rows of numbers. against: the penalties beside the
    config's own, l1 and l2.
    """

    seeds: int
    lambds: Mapping[str, Sequence[float]]
    l2_lambds: Sequence[float]
    margin: float
    mlp: Mapping[str, object]
    against: Mapping[str, Mapping[str, object]]

    def __post_init__(self) -> None:
        check_count("seeds", self.seeds, 3)
        for name, values in self.lambds.items():
            check_list(f"lambds.{name}", values, "[0.001,0.01]")
        check_list("l2_lambds", self.l2_lambds, "[0,0.01]", zero=True)
        check_share("margin", self.margin, 0.01)

    def run(self, cfg: DictConfig) -> Findings:
        require(
            cfg, NEEDED, "the study cuts a network without normalisation after the lasso of all that leaves a unit,"
        )
        if "flat" not in cfg.data:
            raise InputError(f"data={cfg.choices.data}: the study's networks read images; use data=digits_images")
        rows: list[Mapping[str, object]] = []
        kept: dict[tuple[str, float], tuple[nn.Module, Tensor]] = {}
        for name, own in (("cnn", cfg), ("mlp", self.of_mlp(cfg))):
            for seed in range(self.seeds):
                workshop = workshop_of(vary(own, data__seed=seed))
                x, y = workshop.datamodule.tensors("test")[:]
                lambds = self.lambds[name]
                for penalty, lambd, val, weights in self.trained(vary(own, seed=seed, data__seed=seed), lambds):
                    model = network(own, workshop, weights)
                    small = pruned(model)
                    rows.append(
                        {"network": name, "penalty": penalty, "λ": lambd, "seed": seed, "val": val}
                        | {"units": units(small), "parameters": parameters(small), "of": parameters(model)}
                        | {"zeros": zeros(weights)}
                        | compared(model, small, x, y)
                    )
                    if seed == 0 and penalty == GROUP_LASSO:
                        kept[name, lambd] = small, x
        runs = pd.DataFrame(rows)
        table = means(runs, SETTING)
        chosen = table.loc[list(smallest(table, L2, self.margin))]
        return Findings(
            [*on_outputs(runs), *on_sizes(chosen, self.margin)],
            {"pruning": table.drop(columns="of")},
            data={"chosen": chosen, "runs": runs.assign(units=runs["units"].map(listed))},
            figures={"pruning": picture(runs)},
            networks={
                name: as_program(*kept[name, lambd])
                for name, penalty, lambd in chosen[SETTING].to_numpy()
                if penalty == GROUP_LASSO
            },
        )

    def of_mlp(self, cfg: DictConfig) -> DictConfig:
        """The config with the other network, and the images as rows of numbers."""
        changed = vary(cfg, data__flat=True)
        changed.model = OmegaConf.create(dict(self.mlp))
        return changed

    def trained(self, cfg: DictConfig, lambds: Sequence[float]) -> Iterator[tuple[str, float, float, Weights]]:
        """Penalty, λ, val/accuracy and weights of every run of one seed."""
        for penalty in (GROUP_LASSO, *self.against):
            own = vary(cfg)
            if penalty in self.against:
                own.penalty = OmegaConf.create(dict(self.against[penalty]))
            grid = self.l2_lambds if penalty == L2 else lambds
            lanes = train_together([vary(own, lambd=lambd) for lambd in grid])
            for lambd, lane in zip(grid, lanes, strict=True):
                yield penalty, lambd, lane.measured["val/accuracy"], lane.weights


def workshop_of(cfg: DictConfig) -> Workshop:
    """Raises InputError where the data have no classes, or no test part."""
    workshop = Workshop(cfg)
    if workshop.datamodule.classes is None or "test" not in workshop.datamodule.parts:
        raise InputError(
            f"data={cfg.choices.data} data.test={cfg.data.get('test')}: the study counts right classes in a test part; "
            "use data with classes and data.test=0.2"
        )
    return workshop


def network(cfg: DictConfig, workshop: Workshop, weights: Weights) -> nn.Module:
    """The config's network with these weights, in evaluation mode."""
    model = make(cfg.model, inputs=workshop.datamodule.inputs, outputs=workshop.task.outputs)
    model.load_state_dict(weights)
    return model.eval()


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def units(model: nn.Sequential) -> list[int]:
    """Of each hidden layer."""
    return [len(layer.weight) for layer in model if isinstance(layer, nn.Linear | nn.Conv2d)][:-1]


def zeros(weights: Weights) -> float:
    """The share of the weights, biases apart, that are exactly 0."""
    entries = torch.cat([w.flatten() for w in weights.values() if w.ndim > 1])
    return (entries == 0).double().mean().item()


@torch.no_grad()
def compared(model: nn.Module, small: nn.Module, x: Tensor, y: Tensor) -> dict[str, float]:
    """Test accuracy before and after, and by how much any output of any test row differs."""
    before, after = model(x), small(x)
    return {
        "test": accuracy(before, y),
        "smaller": accuracy(after, y),
        "difference": (before - after).abs().max().item(),
    }


def accuracy(outputs: Tensor, y: Tensor) -> float:
    """Two classes have one output, the logit of the second."""
    classes = outputs.argmax(dim=1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0).long()
    return (classes == y).double().mean().item()


def means(runs: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Over the seeds; lists entry by entry; of `LARGEST` the largest, and the range of the test accuracy."""
    rows = []
    for names, group in runs.groupby(by, sort=False):
        row = dict(zip(by, names, strict=True))
        for column in group.columns.drop([*by, "seed"]):
            if column in LARGEST:
                row[column] = group[column].max()
            elif group[column].dtype == object:
                row[column] = listed(pd.DataFrame(group[column].tolist()).mean().round(1))
            else:
                row[column] = group[column].mean()
        row["range"] = f"{group['test'].min():.3f} to {group['test'].max():.3f}"
        rows.append(row)
    return pd.DataFrame(rows)


def listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)


def smallest(table: pd.DataFrame, standard: str, margin: float) -> Iterator[int]:
    """Of each network the standard's best row by val/accuracy, and of each other penalty the row of fewest parameters.

    Those alone whose val/accuracy is less than the best by no more than the margin; a penalty without one has none.
    """
    for _, rows in table.groupby("network", sort=False):
        best = rows[rows["penalty"] == standard]["val"].idxmax()
        yield best
        near = rows[rows["val"] >= rows.loc[best, "val"] - margin]
        yield from near[near["penalty"] != standard].groupby("penalty", sort=False)["parameters"].idxmin()


def on_outputs(runs: pd.DataFrame) -> list[str]:
    cut = runs[runs["parameters"] < runs["of"]]
    same = (cut["test"] == cut["smaller"]).sum()
    return [
        f"Of {len(runs)} networks {len(cut)} became smaller, {(cut['penalty'] == GROUP_LASSO).sum()} of them under the "
        f"group lasso; {same} of the {len(cut)} have the same test accuracy before and after, and no output differs by "
        f"more than {cut['difference'].max():.1e}."
    ]


def on_sizes(chosen: pd.DataFrame, margin: float) -> list[str]:
    sentences = []
    for name, rows in chosen.groupby("network", sort=False):
        best = rows[rows["penalty"] == L2].iloc[0]
        others = [
            f"{row['penalty']} at λ = {row['λ']:g} leaves {row['units']} units and {row['parameters'] / row['of']:.0%} "
            f"of the parameters (test accuracy {row['smaller']:.3f}, {row['range']})"
            for _, row in rows[rows["penalty"] != L2].iterrows()
        ]
        sentences.append(
            f"{name}, under L2 at λ = {best['λ']:g}: {best['units']} units, {best['parameters'] / best['of']:.0%} of "
            f"{best['of']:.0f} parameters, test accuracy {best['test']:.3f} ({best['range']}). "
            f"With at most {margin:g} less val/accuracy, "
            + ("; ".join(others) if others else "no λ of the grid leaves a smaller one")
            + "."
        )
    return sentences


def picture(runs: pd.DataFrame) -> Figure:
    """Test accuracy against the parameters that are left, a panel a network, a point a run."""
    names = runs["network"].unique()
    figure, panels = empty_panels(1, len(names))
    for axes, name in zip(panels, names, strict=True):
        penalties = runs[runs["network"] == name].groupby("penalty", sort=False)
        for colour, (penalty, rows) in zip(COLOURS, penalties, strict=False):
            axes.plot(rows["parameters"], rows["smaller"], "o", ms=4, color=colour, alpha=0.4)
            mean = rows.groupby("λ")[["parameters", "smaller"]].mean()
            axes.plot(mean["parameters"], mean["smaller"], "-", color=colour, label=penalty)
        axes.set_ylim(
            top=1.0, bottom=max(0.9 * runs["smaller"].max(), axes.get_ylim()[0])
        )  # what only guesses is not shown
        axes.set_title(name, loc="left", fontsize="medium")
        axes.set(xlabel="parameters after removal", ylabel="test accuracy")
        axes.legend(frameon=False, fontsize="small")
    return figure
