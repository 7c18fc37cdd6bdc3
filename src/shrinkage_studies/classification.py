"""Weight decay in classification: confidence, units, imbalance and few labels against λ, at the exact optima."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig
from rich.progress import track
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from shrinkage.data.base import Part
from shrinkage.data.breast_cancer import BreastCancer
from shrinkage.errors import InputError
from shrinkage.optimum.problem import Problem
from shrinkage.report.figures import BLUE, COLOURS, GREEN, GREY, ORANGE, empty_panels, strength_axis
from shrinkage.report.findings import Findings
from shrinkage.studies.base import Study, vary
from shrinkage.studies.numbers import check_count, check_rising
from shrinkage.tasks import classification
from shrinkage.training.workshop import Workshop

if TYPE_CHECKING:
    import plotly.graph_objects as go

Parts = Mapping[str, Part]
Row = dict[str, float]
MEASURES = ["loss", "accuracy", "confidence", "calibration error", "zeros"]


@dataclass(frozen=True, kw_only=True)
class Classification(Study):
    """Means over splits, whose seeds count up from data.seed; the tumours are those of data=breast_cancer.

    lambdas, l1_lambdas: the grids of L2 and L1. labels: labelled rows a class, `few` where confidence and units are
    asked about. decades: columns get units drawn between 10^−decades and 10^decades. imbalance: rows of the common
    class for one of the rare class. bins: those of the calibration error.
    """

    splits: int
    lambdas: Sequence[float]
    l1_lambdas: Sequence[float]
    labels: Sequence[int]
    few: int
    decades: float
    imbalance: int
    bins: int

    def __post_init__(self) -> None:
        for name, example in (("splits", 10), ("few", 10), ("imbalance", 20), ("bins", 10)):
            check_count(name, getattr(self, name), example)
        for name, example in (("lambdas", "[0.0001,0.01,1]"), ("l1_lambdas", "[0.001,0.01]"), ("labels", "[5,10,20]")):
            check_rising(name, getattr(self, name), example, whole=name == "labels")
        if type(self.decades) not in (int, float) or not 0 <= self.decades <= 3:
            raise InputError(f"study.decades={self.decades}: must be a number from 0 to 3; use study.decades=1")

    def run(self, cfg: DictConfig) -> Findings:
        curves, units, rare, ratios = [], [], [], []
        for split in track(range(self.splits), "splits", transient=True, disable=not cfg.progress):
            seed = cfg.data.seed + split
            parts = self.parts(cfg, seed)
            few = few_rows(parts, self.few)
            for labels in sorted({self.few, *self.labels}):
                names = {"split": split, "labels": labels, "penalty": "L2"}
                curves += [names | row for row in self.l2_path(few_rows(parts, labels))]
            curves += [{"split": split, "labels": self.few, "penalty": "L1"} | row for row in self.l1_path(few)]
            standard, raw = (tumours(cfg, seed, standardize) for standardize in (True, False))
            unit = 10 ** np.random.default_rng(seed).uniform(-self.decades, self.decades, few["train"].x.shape[1])
            own = {name: Part(part.x * unit, part.y) for name, part in few.items()}
            for data, standardised, unscaled in ((cfg.choices.data, few, own), ("tumours", standard, raw)):
                for scale, scaled in (("standardised", standardised), ("own units", unscaled)):
                    units += [{"split": split, "data": data, "units": scale} | row for row in self.l2_path(scaled)]
            spread = raw["train"].x.std(axis=0)
            ratios.append((spread.max() / spread.min()) ** 2)
            rare += [{"split": split} | row for row in self.imbalanced(standard)]
        curves, units, rare = (pd.DataFrame(rows) for rows in (curves, units, rare))
        confidence = curves[curves["labels"] == self.few].groupby(["penalty", "λ"])[MEASURES].mean().reset_index()
        confidence = confidence.sort_values(["penalty", "λ"], ascending=[False, True], ignore_index=True)
        recall = rare.groupby("λ").mean().drop(columns="split").reset_index()
        few_labels = chosen(curves[curves["penalty"] == "L2"], ["labels"])
        scales = chosen(units, ["data", "units"]).drop(columns="splits with a gain")
        rows = self.few * len(np.unique(self.parts(cfg, cfg.data.seed)["train"].y))
        return Findings(
            [
                *on_confidence(confidence, rows),
                on_units(units, np.median(ratios)),
                on_imbalance(recall, self.imbalance),
                on_labels(few_labels, self.lambdas[0]),
            ],
            {"confidence": confidence, "units": scales, "imbalance": recall, "labels": few_labels},
            data={"curves": curves, "units_curves": units, "imbalance_curves": rare},
            figures={"classification": figure(confidence, units, recall, few_labels, rows, self.imbalance)},
            pages={"lambda_curves": page(curves)},
            metrics={"largest_gap_of_l1": float(curves["duality gap"].max())},
        )

    def parts(self, cfg: DictConfig, seed: int) -> Parts:
        """Those of one split, standardised. Raises InputError where the data do not fit the question."""
        if "standardize" not in cfg.data:
            raise InputError(f"data={cfg.choices.data}: the study needs classes and columns to scale; use data=digits")
        datamodule = Workshop(vary(cfg, data__seed=seed, data__standardize=True)).datamodule
        if datamodule.classes is None:
            raise InputError(f"data={cfg.choices.data}: the study is about classes; use data=digits")
        if "test" not in datamodule.parts:
            raise InputError("data.test=0: a chosen λ is scored on rows that did not choose it; use data.test=0.3")
        most, members = max(self.few, *self.labels), np.bincount(datamodule.parts["train"].y).min()
        if members < most:
            raise InputError(
                f"study.labels={self.labels} study.few={self.few}: a class has {members} training rows, and no more "
                "can be labelled; use fewer, or smaller data.val and data.test"
            )
        return datamodule.parts

    def l2_path(self, parts: Parts) -> Iterator[Row]:
        """The scores at each λ under L2."""
        for lambd in self.lambdas:
            model = l2(parts["train"], lambd)
            yield {"λ": lambd} | self.scores(parts, model.coef_, model.intercept_)

    def l1_path(self, parts: Parts) -> Iterator[Row]:
        """The same under L1, from the largest λ down, each from the solution before."""
        train = parts["train"]
        classes = int(train.y.max()) + 1
        x, y = torch.from_numpy(train.x), torch.from_numpy(train.y)
        problem = Problem(x, y, classification.Classification(classes), bias="free")
        split_weights = None
        for lambd in reversed(self.l1_lambdas):
            split_weights, weight, bias = l1(train, classes, lambd, split_weights)
            gap = float(problem.duality_gap(lambd, 0.0, torch.from_numpy(weight), torch.from_numpy(bias)))
            yield {"λ": lambd} | self.scores(parts, weight, bias) | {"duality gap": gap}

    def scores(self, parts: Parts, weight: np.ndarray, bias: np.ndarray) -> Row:
        """Of the validation part, `test …` of the test part.

        confidence: the mean of the largest probability. calibration error: Σ_b (n_b/n)·|accuracy_b − confidence_b| over
        bins b of the largest probability, equally wide. Reference: Guo et al. (2017), "On calibration of modern neural
        networks".
        """
        found = {"zeros": (weight == 0).mean()}
        for prefix, part in (("", parts["val"]), ("test ", parts["test"])):
            logs = log_probabilities(part.x, weight, bias)
            right, largest = logs.argmax(axis=1) == part.y, np.exp(logs.max(axis=1))
            inside = np.minimum((self.bins * largest).astype(int), self.bins - 1)
            excess = np.bincount(inside, right - largest)
            found |= {
                f"{prefix}loss": -logs[np.arange(len(part)), part.y].mean(),
                f"{prefix}accuracy": right.mean(),
                f"{prefix}confidence": largest.mean(),
                f"{prefix}calibration error": np.abs(excess).sum() / len(part),
            }
        return found

    def imbalanced(self, parts: Parts) -> Iterator[Row]:
        """Recall of either class of the validation part where one of two is rare in the training part, at each λ.

        Where the threshold moves, a row is given to the rare class if its probability is above the class's share of the
        training rows instead of ½.
        """
        common = np.bincount(parts["train"].y).argmax()
        counts = np.bincount(parts["train"].y)
        counts[1 - common] = max(round(counts[common] / self.imbalance), 1)
        train, val = first(parts["train"], counts), parts["val"]
        shares = counts / counts.sum()
        for lambd in self.lambdas:
            plain, weighted = l2(train, lambd), l2(train, lambd, "balanced")
            found = {"λ": lambd}
            for name, predicted in (
                ("as they are", plain.predict(val.x)),
                ("class weights", weighted.predict(val.x)),
                ("moved threshold", (plain.predict_proba(val.x) / shares).argmax(axis=1)),
            ):
                right = predicted == val.y
                found[f"rare, {name}"] = right[val.y != common].mean()
                found[f"common, {name}"] = right[val.y == common].mean()
            yield found


def first(part: Part, counts: Iterable[int]) -> Part:
    """So many rows of each class; the rows of a part are in random order."""
    index = np.concatenate([np.flatnonzero(part.y == c)[:count] for c, count in enumerate(counts)])
    return Part(part.x[index], part.y[index])


def few_rows(parts: Parts, labels: int) -> Parts:
    """The parts with so many training rows a class."""
    return {**parts, "train": first(parts["train"], [labels] * (int(parts["train"].y.max()) + 1))}


def tumours(cfg: DictConfig, seed: int, standardize: bool) -> Parts:
    """Split as the config's data are."""
    shares = {"val": cfg.data.val, "test": cfg.data.test}
    data = BreastCancer(**shares, seed=seed, standardize=standardize, batch_size=None, order_seed=0)
    data.setup()
    return data.parts


def l2(train: Part, lambd: float, class_weight: str | None = None) -> LogisticRegression:
    """Mean cross-entropy + λ·½‖W‖², the bias free; `balanced` weighs a row of class c by n/(classes·n_c), on average 1.

    In scikit-learn's convention C = 1/(nλ).
    """
    solver = "lbfgs" if train.y.max() > 1 else "newton-cholesky"
    model = LogisticRegression(
        C=1 / (len(train) * lambd), solver=solver, tol=1e-6, max_iter=10_000, class_weight=class_weight
    )
    return model.fit(train.x, train.y)


def l1(train: Part, classes: int, lambd: float, start: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean cross-entropy + λ‖W‖₁ in non-negative parts, W = U − V and ‖W‖₁ = ΣU + ΣV: smooth, with bounds.

    What to start from next time, W [k, p] and the bias [k]; two classes share one logit. Zeros are exact. Reference:
    Schmidt, Fung & Rosales (2007), "Fast optimization methods for L1 regularization".
    """
    n, p = train.x.shape
    target = np.eye(classes)[train.y]
    outputs = 1 if classes == 2 else classes
    size = outputs * p

    def unpacked(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (packed[:size] - packed[size : 2 * size]).reshape(outputs, p), packed[2 * size :]

    def objective(packed: np.ndarray) -> tuple[float, np.ndarray]:
        logs = log_probabilities(train.x, *unpacked(packed))
        slope = (np.exp(logs) - target)[:, -outputs:] / n
        gradient = (slope.T @ train.x).ravel()
        value = -(logs * target).sum() / n + lambd * packed[: 2 * size].sum()
        return value, np.concatenate([lambd + gradient, lambd - gradient, slope.sum(axis=0)])

    solved = minimize(
        objective,
        np.zeros(2 * size + outputs) if start is None else start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * (2 * size) + [(None, None)] * outputs,
        options={"maxiter": 10_000, "maxfun": 20_000, "ftol": 0.0, "gtol": 1e-6},
    )
    return solved.x, *unpacked(solved.x)


def log_probabilities(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """[n, classes]; one output is the logit of the second class."""
    outputs = x @ weight.T + bias
    return log_softmax(outputs if len(weight) > 1 else np.pad(outputs, ((0, 0), (1, 0))), axis=1)


def chosen(runs: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Means over the splits' test parts at the least λ and at that of the least validation loss in each split.

    The chosen λ's median; in how many splits it has more accuracy than the least.
    """
    rows = []
    for names, group in runs.groupby(by, sort=False):
        small = group[group["λ"] == group["λ"].min()].set_index("split")
        best = group.loc[group.groupby("split")["loss"].idxmin()].set_index("split")
        rows.append(
            dict(zip(by, names, strict=True))
            | {f"{measure}, least λ": small[f"test {measure}"].mean() for measure in ("accuracy", "loss")}
            | {f"{measure}, chosen λ": best[f"test {measure}"].mean() for measure in ("accuracy", "loss")}
            | {"chosen λ": best["λ"].median()}
            | {"splits with a gain": int((best["test accuracy"] > small["test accuracy"]).sum())}
        )
    return pd.DataFrame(rows)


def on_confidence(confidence: pd.DataFrame, rows: int) -> list[str]:
    ridge, lasso = (confidence[confidence["penalty"] == penalty].reset_index() for penalty in ("L2", "L1"))

    def way(row: pd.Series) -> str:
        return f"{'over' if row['confidence'] > row['accuracy'] else 'under'}confident at λ = {row['λ']:g}"

    def means(row: pd.Series) -> str:
        return f"{row['confidence']:.3f} and {row['accuracy']:.3f} at λ = {row['λ']:g}"

    low, high, error = ridge.iloc[0], ridge.iloc[-1], ridge["calibration error"]
    loss, accuracy, best = ridge["loss"].idxmin(), ridge["accuracy"].idxmax(), lasso["loss"].idxmin()
    return [
        f"Of {rows} training rows, L2 is {way(low)} and {way(high)}; its calibration error is least, "
        f"{error.min():.3f}, at λ = {ridge['λ'][error.idxmin()]:g}.",
        f"The mean largest probability and the accuracy are {means(low)}, {means(high)}; the validation loss is least "
        f"at λ = {ridge['λ'][loss]:g}, the accuracy largest, {ridge['accuracy'][accuracy]:.3f}, at "
        f"{ridge['λ'][accuracy]:g}.",
        f"L1 at its least validation loss, {lasso['loss'][best]:.3f} (λ = {lasso['λ'][best]:g}), has an accuracy of "
        f"{lasso['accuracy'][best]:.3f} with {lasso['zeros'][best]:.0%} of the weights zero; L2 at its own, "
        f"{ridge['loss'][loss]:.3f}, has {ridge['accuracy'][loss]:.3f}.",
    ]


def on_units(units: pd.DataFrame, ratio: float) -> str:
    parts = []
    for data, group in units.groupby("data", sort=False):
        best = group.loc[group.groupby(["units", "split"])["loss"].idxmin()].set_index("split")
        standard, own = (best.loc[best["units"] == unit, "test accuracy"] for unit in ("standardised", "own units"))
        parts.append(
            f"{data} {standard.mean():.3f} standardised and {own.mean():.3f} in units of their own (standardised ahead "
            f"in {(standard > own).sum()} of {len(own)} splits)"
        )
    return (
        f"Units: test accuracy at the chosen λ is, for {', for '.join(parts)}; in the tumours' units one λ weighs "
        f"about 10^{np.log10(ratio):.0f} times as much on the column of the least spread as on that of the largest."
    )


def on_imbalance(recall: pd.DataFrame, imbalance: int) -> str:
    low, high = recall.iloc[0], recall.iloc[-1]

    def goes(who: str, name: str) -> str:
        return f"from {low[f'{who}, {name}']:.2f} to {high[f'{who}, {name}']:.2f}"

    others = [
        f"with {words} {goes('rare', name)} (the common's {goes('common', name)})"
        for words, name in (("class weights in the loss", "class weights"), ("a moved threshold", "moved threshold"))
    ]
    return (
        f"Imbalance {imbalance}:1: from λ = {low['λ']:g} to {high['λ']:g} the recall of the rare tumours goes "
        f"{goes('rare', 'as they are')}, {' and '.join(others)}."
    )


def on_labels(table: pd.DataFrame, least: float) -> str:
    words = [
        f"{row['labels']:.0f} labels {row['accuracy, least λ']:.3f} → {row['accuracy, chosen λ']:.3f} and "
        f"{row['loss, least λ']:.3f} → {row['loss, chosen λ']:.3f}"
        for _, row in table.iterrows()
    ]
    return f"Few labels a class, test accuracy and test loss at λ = {least:g} → the chosen λ: {', '.join(words)}."


def figure(
    confidence: pd.DataFrame, units: pd.DataFrame, recall: pd.DataFrame, labels: pd.DataFrame, rows: int, imbalance: int
) -> Figure:
    """A panel for each question."""
    drawn, (sure, scale, rare, few) = empty_panels(2, 2, (9, 7))
    for (penalty, group), colour in zip(confidence.groupby("penalty", sort=False), (BLUE, ORANGE), strict=True):
        sure.plot(group["λ"], group["accuracy"], "o-", ms=4, color=colour, label=f"{penalty}: accuracy")
        sure.plot(group["λ"], group["confidence"], "o--", ms=4, color=colour, label=f"{penalty}: largest probability")
    sure.set(title=f"confidence, {rows} training rows", ylabel="mean over the validation rows")
    for (data, group), colour in zip(units.groupby("data", sort=False), (BLUE, ORANGE), strict=False):
        for unit, style in (("standardised", "o-"), ("own units", "o--")):
            means = group[group["units"] == unit].groupby("λ")["accuracy"].mean()
            scale.plot(means.index, means, style, ms=4, color=colour, label=f"{data}, {unit}")
    scale.set(title="units of the columns (L2)", ylabel="validation accuracy")
    for name, colour in (("as they are", BLUE), ("class weights", ORANGE), ("moved threshold", GREEN)):
        rare.plot(recall["λ"], recall[f"rare, {name}"], "o-", ms=4, color=colour, label=f"rare, {name}")
        rare.plot(recall["λ"], recall[f"common, {name}"], ":", color=colour, label=f"common, {name}")
    rare.set(title=f"tumours, {imbalance}:1 (L2)", ylabel="recall", ylim=(-0.03, 1.03))
    few.plot(labels["labels"], labels["loss, least λ"], "o--", ms=4, color=GREY, label=f"λ = {recall['λ'][0]:g}")
    few.plot(labels["labels"], labels["loss, chosen λ"], "o-", ms=4, color=BLUE, label="chosen λ")
    few.set(title="few labels (L2)", xlabel="labelled rows a class", ylabel="test loss (cross-entropy, nats)")
    few.set(xscale="log", ylim=(0, None))
    few.set_xticks(labels["labels"], labels["labels"].astype(str))
    few.minorticks_off()
    for axes in (sure, scale, rare):
        strength_axis(axes, recall["λ"])
        axes.set_xlim(right=1.5 * recall["λ"].max())
    for axes in drawn.axes:
        axes.legend(frameon=False, fontsize="small")
    return drawn


def page(curves: pd.DataFrame) -> "go.Figure":
    """Every mean curve of the validation part, to hover over."""
    from plotly.subplots import make_subplots

    measures = ["loss", "accuracy", "confidence", "calibration error"]
    hover = make_subplots(rows=2, cols=2, subplot_titles=measures, shared_xaxes="all")
    for index, ((penalty, labels), group) in enumerate(curves.groupby(["penalty", "labels"], sort=False)):
        means, name = group.groupby("λ")[measures].mean(), f"{penalty}, {labels} labels a class"
        for place, measure in enumerate(measures):
            line = {"color": COLOURS[index % len(COLOURS)], "dash": "dash" if penalty == "L1" else "solid"}
            hover.add_scatter(
                x=means.index,
                y=means[measure],
                name=name,
                legendgroup=name,
                showlegend=place == 0,
                line=line,
                row=place // 2 + 1,
                col=place % 2 + 1,
            )
    hover.update_xaxes(type="log", exponentformat="power")
    hover.update_xaxes(title="λ", row=2)
    hover.update_layout(template="plotly_white", hovermode="x unified", title="Means over the splits, validation rows")
    return hover
