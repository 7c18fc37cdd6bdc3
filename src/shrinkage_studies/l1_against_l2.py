"""L1 against L2: weight on copies of a variable, an error in one variable at prediction time, and selection."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig
from rich.progress import track
from scipy.optimize import brentq

from shrinkage.data.base import Part
from shrinkage.data.diabetes import Diabetes
from shrinkage.errors import InputError
from shrinkage.optimum.exact import least_squares
from shrinkage.optimum.problem import Problem
from shrinkage.report.figures import BLUE, GREEN, GREY, ORANGE, empty_panels, strength_axis
from shrinkage.report.findings import Findings
from shrinkage.studies.base import Study, known_linear_data, train_together, vary
from shrinkage.studies.numbers import check_count, check_positive, check_rising
from shrinkage.tasks.regression import Regression
from shrinkage.training.workshop import Workshop

if TYPE_CHECKING:
    import plotly.graph_objects as go

Parts = Mapping[str, Part]
EQUAL = "L2 at equal fit"
COLOUR = {"L1": ORANGE, "L2": BLUE, EQUAL: GREEN}
STEPS = 500  # of proximal gradient on exact copies


@dataclass(frozen=True, kw_only=True)
class L1AgainstL2(Study):
    """Three problems. `sparse` is the config's, with many coefficients of 0. `copies` has the same targets, of each
    relevant variable z so many copies z + jitter·ε, scaled to variance 1, and nothing else. `diabetes` is that of
    data=diabetes.

    draws: of the data, with seeds that count up from data.seed. lambdas: the grid of both penalties; λ is chosen on the
    validation part. error: the standard deviation s of an error in one variable at prediction time, where every
    variable's own is about 1. Such an error in variable j raises the expected loss by ½s²wⱼ².
    """

    draws: int
    lambdas: Sequence[float]
    copies: int
    jitter: float
    error: float

    def __post_init__(self) -> None:
        check_count("draws", self.draws, 20)
        check_count("copies", self.copies, 3, least=2)
        check_positive("jitter", self.jitter, 0.3)
        check_positive("error", self.error, 1)
        check_rising("lambdas", self.lambdas, "[0.01,0.1,1]")

    def run(self, cfg: DictConfig) -> Findings:
        truth = coefficients(cfg)
        trained = self.trained(cfg)
        rows, exact = [], []
        for draw in track(range(self.draws), "draws", transient=True, disable=not cfg.progress):
            for problem, parts in self.problems(cfg, cfg.data.seed + draw, truth).items():
                path = [self.scores(parts, model, lambd) for model in ("L1", "L2") for lambd in self.lambdas]
                lasso = min(path[: len(self.lambdas)], key=lambda row: row["validation loss"])
                path.append(self.scores(parts, EQUAL, equal_fit(parts["train"], lasso["training loss"])))
                rows += [{"draw": draw, "problem": problem} | row for row in path]
                if problem == "sparse":
                    exact.append(self.exact_copies(parts["train"], truth, lasso["λ"]))
        fits, exact = pd.DataFrame(rows), pd.DataFrame(exact)
        fits["test loss, worst error"] = fits["test loss"] + fits["worst rise"]
        chosen = fits.loc[fits.groupby(["draw", "problem", "model"], sort=False)["validation loss"].idxmin()]
        errors = chosen.drop(columns=["draw", "validation loss", "weight"]).groupby(["problem", "model"], sort=False)
        errors = errors.mean().assign(λ=errors["λ"].median()).reset_index()
        shared, selection = self.shared(chosen, truth), selected(fits, truth).merge(trained)
        return Findings(
            [
                *self.on_errors(chosen),
                *self.on_copies(shared, exact),
                *on_selection(chosen, selection, truth),
            ],
            {"copies": shared, "errors": errors, "selection": selection},
            data={"fits": fits.drop(columns="weight"), "exact_copies": exact},
            figures={"l1_against_l2": self.figure(shared, errors, selection, truth)},
            pages={"paths": page(fits, truth)},
            metrics={"largest_gap_of_trained": float(trained["gap"].max())},
        )

    def trained(self, cfg: DictConfig) -> pd.DataFrame:
        """The config's run at each λ: whether it keeps the exact lasso's variables, and how far above it it ends."""
        lanes = train_together([vary(cfg, lambd=lambd) for lambd in self.lambdas])
        if "optimum/same_support" not in lanes[0].conclusion:
            raise InputError("the trained runs have no exact lasso to stand beside; use model=linear penalty=l1")
        same, gap = ([lane.conclusion[f"optimum/{name}"] for lane in lanes] for name in ("same_support", "gap"))
        return pd.DataFrame({"λ": self.lambdas, "trained: same": np.where(same, "yes", "no"), "gap": gap})

    def problems(self, cfg: DictConfig, seed: int, truth: np.ndarray) -> dict[str, Parts]:
        """Each with a training, a validation and a test part."""
        drawn = Workshop(vary(cfg, data__seed=seed)).datamodule.parts
        x, y = drawn["val"].x, drawn["val"].y
        sparse = {"train": drawn["train"], "val": Part(x[::2], y[::2]), "test": Part(x[1::2], y[1::2])}
        noise = np.random.default_rng([seed, 1])

        def copied(part: Part) -> Part:
            z = np.repeat(part.x[:, truth != 0], self.copies, axis=1)
            return Part((z + self.jitter * noise.standard_normal(z.shape)) / np.hypot(1, self.jitter), part.y)

        diabetes = Diabetes(val=0.3, test=0.3, seed=seed, standardize=True, batch_size=None, order_seed=0)
        diabetes.setup()
        copies = {name: copied(part) for name, part in sparse.items()}
        return {"sparse": sparse, "copies": copies, "diabetes": diabetes.parts}

    def scores(self, parts: Parts, model: str, lambd: float) -> dict[str, Any]:
        """The exact optimum's weights, its losses, and what an error in one variable adds to them."""
        train = parts["train"]
        best = least_squares(train.x, train.y, *((lambd, 0.0) if model == "L1" else (0.0, lambd)))
        (weight,), (bias,) = best.weight, best.bias
        rises = self.error**2 * weight**2 / 2
        return {
            "model": model,
            "λ": lambd,
            "training loss": loss(train, weight, bias),
            "validation loss": loss(parts["val"], weight, bias),
            "test loss": loss(parts["test"], weight, bias),
            "mean rise": rises.mean(),
            "worst rise": rises.max(),
            "weight": weight,
        }

    def exact_copies(self, train: Part, truth: np.ndarray, lambd: float) -> dict[str, float]:
        """The lasso where a variable's copies are one and the same column, so that any split of its weight is optimal.

        By each of two solvers the largest share that a copy has of its variable's weight, a mean over the variables
        that are kept, and how far the two objectives are apart.
        """
        x = np.repeat(train.x[:, truth != 0], self.copies, axis=1)
        problem = Problem(torch.from_numpy(x), torch.from_numpy(train.y), Regression(), bias="free")
        zero = {"weight": torch.zeros(1, x.shape[1]).double(), "bias": torch.zeros(1).double()}
        best = least_squares(x, train.y, lambd, 0.0)
        ends = {
            "coordinate descent": {"weight": torch.from_numpy(best.weight), "bias": torch.from_numpy(best.bias)},
            "proximal gradient": problem.polished(lambd, 0.0, zero, STEPS),
        }
        found, values = {}, []
        for solver, end in ends.items():
            sizes = end["weight"].abs().numpy().reshape(-1, self.copies)
            kept = sizes[sizes.sum(axis=1) > 0]
            found[solver] = (kept.max(axis=1) / kept.sum(axis=1)).mean() if len(kept) else np.nan
            values.append(float(problem.objective(lambd, 0.0, end["weight"], end["bias"])))
        return found | {"difference": abs(values[0] - values[1])}

    def shared(self, chosen: pd.DataFrame, truth: np.ndarray) -> pd.DataFrame:
        """Weights of the copies of the variable with the largest coefficient, sorted in each draw.

        shared by: (Σ|w|)²/Σw², the number of copies that would share a weight evenly.
        """
        strongest = np.abs(truth[truth != 0]).argmax()
        rows = []
        for _, row in chosen[chosen["problem"] == "copies"].iterrows():
            weights = np.sort(row["weight"].reshape(-1, self.copies)[strongest])
            named = {f"copy {rank}": weight for rank, weight in enumerate(weights, start=1)}
            squares = (weights**2).sum()
            shared = np.abs(weights).sum() ** 2 / squares if squares else np.nan
            rows.append({"model": row["model"]} | named | {"shared by": shared})
        return pd.DataFrame(rows).groupby("model", sort=False).mean().reset_index()

    def on_copies(self, shared: pd.DataFrame, exact: pd.DataFrame) -> list[str]:
        def weights(row: pd.Series) -> str:
            return " ".join(f"{row[f'copy {rank}']:.2f}" for rank in range(1, self.copies + 1))

        lasso, ridge = (shared[shared["model"] == model].iloc[0] for model in ("L1", "L2"))
        sentences = [
            f"Of {self.copies} noisy copies of a variable, L2 shares the weight over {ridge['shared by']:.1f} "
            f"({weights(ridge)}) and L1 over {lasso['shared by']:.1f} ({weights(lasso)}).",
        ]
        exact = exact.dropna()
        if len(exact):
            sentences.append(
                "Of exact copies ridge gives each the same; any split is optimal to the lasso: coordinate descent "
                f"gives one copy {exact['coordinate descent'].mean():.0%} of a variable's weight, proximal gradient "
                f"from zero {exact['proximal gradient'].mean():.0%}, at objectives that differ by at most "
                f"{exact['difference'].max():.0e}."
            )
        return sentences

    def on_errors(self, chosen: pd.DataFrame) -> list[str]:
        measures = ("test loss", "test loss, worst error")
        words, ahead = [], {(model, measure): [] for measure in measures for model in ("L1", "L2")}
        for problem, rows in chosen.groupby("problem", sort=False):
            l1, l2 = (rows[rows["model"] == model].set_index("draw") for model in ("L1", "L2"))
            wins = [int((l2[measure] < l1[measure]).sum()) for measure in measures]
            means = [" → ".join(f"{model[measure].mean():.3f}" for measure in measures) for model in (l1, l2)]
            words.append(
                f"{problem} L1 {means[0]}, L2 {means[1]} (L2's smaller in {wins[0]} → {wins[1]} of {self.draws} draws)"
            )
            for measure, won in zip(measures, wins, strict=True):
                ahead["L2", measure] += [problem] if 2 * won > self.draws else []
                ahead["L1", measure] += [problem] if 2 * won < self.draws else []
        named = {key: " and ".join(problems) or "none" for key, problems in ahead.items()}
        wide = chosen.pivot(index=["problem", "draw"], columns="model", values="mean rise")
        less = (wide[EQUAL] <= wide["L1"] * (1 + 1e-6)).sum()
        return [
            f"In most draws L1 predicts better on {named['L1', measures[0]]}, L2 on {named['L2', measures[0]]}; with "
            f"an error of standard deviation {self.error:g} in the worst variable, L1 on {named['L1', measures[1]]}, "
            f"L2 on {named['L2', measures[1]]}.",
            f"Test loss without → with that error: {'; '.join(words)}.",
            f"An error in variable j adds ½·{self.error:g}²·wⱼ²; at equal training loss it adds no more to L2 than to "
            f"L1, on the average over the variables, in {less} of {len(wide)} cases.",
        ]

    def figure(self, shared: pd.DataFrame, errors: pd.DataFrame, selection: pd.DataFrame, truth: np.ndarray) -> Figure:
        """Copies and errors (above), selection and test loss against λ (below)."""
        drawn, (copies, rises, kept, losses) = empty_panels(2, 2, (9, 7))
        ranks = np.arange(1, self.copies + 1)
        for place, model in enumerate(("L1", "L2")):
            row = shared[shared["model"] == model].iloc[0]
            heights = [row[f"copy {rank}"] for rank in ranks]
            copies.bar(ranks + 0.4 * place - 0.2, heights, 0.38, color=COLOUR[model], label=model)
        copies.set(title="a variable's noisy copies", xlabel="copy, by its weight", ylabel="weight, mean over draws")
        copies.set_xticks(ranks)
        problems = list(errors["problem"].unique())
        for place, (model, rows) in enumerate(errors.groupby("model", sort=False)):
            x = np.arange(len(problems)) + 0.28 * (place - 1)
            rises.bar(x, rows["test loss"], 0.26, color=COLOUR[model], label=model)
            rises.bar(x, rows["worst rise"], 0.26, bottom=rows["test loss"], color=COLOUR[model], alpha=0.35)
        rises.set_xticks(range(len(problems)), problems)
        rises.set(title=f"light: an error of {self.error:g} in the worst variable", ylabel="test loss (½ mean r²)")
        relevant = int((truth != 0).sum())
        kept.plot(selection["λ"], selection["found"], "o-", ms=4, color=BLUE, label=f"relevant ones, of {relevant}")
        kept.plot(
            selection["λ"], selection["false"], "o--", ms=4, color=GREY, label=f"others, of {len(truth) - relevant}"
        )
        kept.set(title="what the lasso keeps (sparse)", ylabel="variables kept, mean over draws")
        for model in ("L1", "L2"):
            losses.plot(selection["λ"], selection[f"test loss {model}"], "o-", ms=4, color=COLOUR[model], label=model)
        losses.set(title="prediction (sparse)", ylabel="test loss (½ mean r²)")
        for axes in (kept, losses):
            strength_axis(axes, selection["λ"])
        for axes in drawn.axes:
            axes.legend(frameon=False, fontsize="small")
        return drawn


def coefficients(cfg: DictConfig) -> np.ndarray:
    """The true ones. Raises InputError where they are not known, or none or all of them are 0."""
    datamodule = known_linear_data(cfg)
    truth = datamodule.coefficients
    if not 0 < (truth != 0).sum() < len(truth):
        raise InputError(
            f"data.weight={cfg.data.weight}: some coefficients must be 0 and some not; use data.num_inputs=4 "
            "'data.weight=[1,1,0,0]'"
        )
    if len(datamodule.parts["val"]) < 2:
        raise InputError("data.num_val=1: half of the rows choose λ, the other half test it; use data.num_val=1000")
    return truth


def loss(part: Part, weight: np.ndarray, bias: float) -> float:
    """½ mean squared residual."""
    return float(((part.y - part.x @ weight - bias) ** 2).mean() / 2)


def equal_fit(train: Part, training_loss: float) -> float:
    """The λ at which ridge has this training loss, which rises with λ; no more than 10⁹."""

    def excess(exponent: float) -> float:
        best = least_squares(train.x, train.y, 0.0, 10**exponent)
        return loss(train, best.weight[0], best.bias[0]) - training_loss

    low, high = -9.0, 9.0
    if excess(high) <= 0 or excess(low) >= 0:
        return 10**high if excess(high) <= 0 else 10**low
    return 10 ** brentq(excess, low, high)


def selected(fits: pd.DataFrame, truth: np.ndarray) -> pd.DataFrame:
    """How many relevant and other variables the lasso keeps at each λ, and both test losses; means over the draws."""
    sparse = fits[fits["problem"] == "sparse"]
    lasso, ridge = (sparse[sparse["model"] == model] for model in ("L1", "L2"))
    kept = np.stack(lasso["weight"]) != 0
    counts = pd.DataFrame(
        {"λ": lasso["λ"], "found": kept[:, truth != 0].sum(axis=1), "false": kept[:, truth == 0].sum(axis=1)}
    )
    table = counts.groupby("λ").mean()
    table["test loss L1"] = lasso.groupby("λ")["test loss"].mean()
    table["test loss L2"] = ridge.groupby("λ")["test loss"].mean()
    return table.reset_index()


def on_selection(chosen: pd.DataFrame, selection: pd.DataFrame, truth: np.ndarray) -> list[str]:
    lasso = chosen[(chosen["problem"] == "sparse") & (chosen["model"] == "L1")]
    kept = np.stack(lasso["weight"]) != 0
    found, false = (kept[:, columns].sum(axis=1).mean() for columns in (truth != 0, truth == 0))
    sentence = (
        f"At the λ that predicts best the lasso keeps {found:.1f} of {(truth != 0).sum()} relevant variables and "
        f"{false:.1f} of {(truth == 0).sum()} others"
    )
    pure = selection[selection["false"] < 0.5]
    if len(pure):
        first = pure.iloc[0]
        sentence += (
            f"; from λ = {first['λ']:g} on, where it keeps {first['false']:.1f} others on average, it keeps "
            f"{first['found']:.1f} relevant ones and has a test loss of {first['test loss L1']:.3f} (its least is "
            f"{selection['test loss L1'].min():.3f})"
        )
    same = (selection["trained: same"] == "yes").sum()
    return [
        sentence + ".",
        f"Trained with the config's optimiser instead of solved, it keeps the same variables at {same} of "
        f"{len(selection)} λ's, and its objective is at most {selection['gap'].max():.0e} above the optimum.",
    ]


def page(fits: pd.DataFrame, truth: np.ndarray) -> "go.Figure":
    """Every weight of the first draw against λ, to hover over."""
    from plotly.subplots import make_subplots

    hover = make_subplots(cols=2, shared_yaxes=True, subplot_titles=["L1", "L2"])
    first = fits[(fits["draw"] == 0) & (fits["problem"] == "sparse")]
    for place, model in enumerate(("L1", "L2"), start=1):
        rows = first[first["model"] == model]
        for name, values in enumerate(np.stack(rows["weight"]).T):
            colour = COLOUR[model] if truth[name] else GREY
            hover.add_scatter(
                x=rows["λ"],
                y=values,
                name=f"x{name}, true {truth[name]:g}",
                line={"color": colour, "width": 2 if truth[name] else 1},
                row=1,
                col=place,
            )
    hover.update_xaxes(type="log", exponentformat="power", title="λ")
    hover.update_yaxes(title="weight", col=1)
    hover.update_layout(template="plotly_white", showlegend=False, title="Weights of the first draw, sparse problem")
    return hover
