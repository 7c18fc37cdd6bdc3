"""A penalty as a prior: the minimiser is the maximum of a posterior, and λ says how large the weights may be."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from omegaconf import DictConfig
from rich.progress import track

from shrinkage.errors import InputError
from shrinkage.optimum.exact import least_squares
from shrinkage.report.figures import BLUE, GREEN, GREY, ORANGE, empty_panels, strength_axis
from shrinkage.report.findings import Findings
from shrinkage.studies.base import Study, known_linear_data, vary
from shrinkage.studies.numbers import check_count
from shrinkage.training.workshop import Workshop

GRID = 20_001  # points of w on which the posterior of one weight is computed
CERTAIN = 1e12  # the shape of a gamma prior that leaves its mean no freedom


@dataclass(frozen=True, kw_only=True)
class Bayes(Study):
    """−log posterior = Σr²/(2σ²) − log prior; times σ²/n it is ½ mean r² + λΩ(w), with

    Gaussian w ~ N(0, τ²): Ω = ½‖w‖², λ = σ²/(nτ²);  Laplace of scale s: Ω = ‖w‖₁, λ = σ²/(ns).

    seeds: of the data over which expected losses are averaged. rows: of the example with one weight.
    Reference: Murphy (2022), "Probabilistic machine learning: an introduction", §11.3–11.4.
    """

    seeds: int
    rows: int

    def __post_init__(self) -> None:
        check_count("seeds", self.seeds, 50)
        check_count("rows", self.rows, 3)

    def run(self, cfg: DictConfig) -> Findings:
        if cfg.choices.data != "d2l" or cfg.data.noise == 0 or not np.any(cfg.data.weight) or cfg.lambd == 0:
            raise InputError(
                f"data={cfg.choices.data} data.noise={cfg.data.get('noise')} data.weight={cfg.data.get('weight')} "
                f"lambd={cfg.lambd:g}: the study needs a known noise and known weights, and priors that end; use "
                "data=d2l data.noise=0.01 data.weight=0.01 lambd=3"
            )
        posteriors, one_weight, step = self.one_weight(cfg)
        d2l = known_linear_data(cfg)
        train, n = d2l.parts["train"], len(d2l.parts["train"])
        noise, prior = d2l.noise**2, float(np.square(d2l.coefficients).mean())
        bayes = noise / (n * prior)
        difference, weights = against_bayesian_ridge(train.x, train.y, noise, prior)

        lambds = np.sort([*np.geomspace(bayes / 1000, bayes * 1000, 61), cfg.lambd])
        losses = np.zeros((self.seeds, len(lambds)))
        for seed in track(range(self.seeds), "data seeds", disable=not cfg.progress, transient=True):
            x = Workshop(vary(cfg, data__seed=seed)).datamodule.parts["train"].x
            losses[seed] = expected_loss(x, noise, prior, lambds)
        loss = losses.mean(axis=0)
        best = loss.argmin()
        marked = {"the grid's smallest": lambds[0], "σ²/(nτ²)": bayes, "the config's": cfg.lambd}
        at = [int(np.abs(lambds - lambd).argmin()) for lambd in marked.values()]
        above = 100 * (loss / loss[best] - 1)
        table = pd.DataFrame(
            {
                "which": list(marked),
                "λ": lambds[at],
                "weights assumed (sd)": np.sqrt(noise / (n * lambds[at])),
                "expected test loss": loss[at],
                "above the smallest (%)": above[at],
            }
        )
        figure, (assumed, excess) = empty_panels()
        assumed.plot(lambds, np.sqrt(noise / (n * lambds)), color=BLUE)
        assumed.axhline(np.sqrt(prior), color=GREY, ls=":", lw=1)
        assumed.text(lambds[0], 1.1 * np.sqrt(prior), "the true weights (rms)", color=GREY, fontsize="small")
        assumed.set(ylabel="sd of a weight that λ assumes, σ/√(nλ)", yscale="log")
        excess.plot(lambds, above, color=BLUE)
        excess.set(ylabel="expected test loss, % above the smallest", yscale="log")
        for axes in (assumed, excess):
            for lambd, colour, words in ((bayes, GREEN, "σ²/(nτ²)"), (cfg.lambd, ORANGE, "the config's")):
                axes.axvline(lambd, color=colour, ls="--", lw=1, label=f"λ = {lambd:.3g}, {words}")
            strength_axis(axes, lambds)
        assumed.legend(frameon=False, fontsize="small")
        sd, true = np.sqrt(noise / (n * cfg.lambd)), np.sqrt(prior)
        answer = [
            "A penalty is minus the log of a prior: ½λ‖w‖² of w ~ N(0, σ²/(nλ)), λ‖w‖₁ of a Laplace prior of scale "
            "σ²/(nλ). With one weight, the highest point of the posterior on a grid is the penalised minimiser, to "
            f"{one_weight['difference'].max() / step:.2g} steps of the grid.",
            f"λ = {cfg.lambd:g} assumes weights of standard deviation {sd:.2g}; those of this problem have a root "
            f"mean square of {true:.2g}, {true / sd:.2g} times that, and so λ = σ²/(nτ²) = {bayes:.2g}.",
            f"Over {self.seeds} draws of the data the expected test loss is smallest at λ = {lambds[best]:.3g}; at "
            f"λ = {cfg.lambd:g} it is {above[at[2]]:.3g} % higher, at λ = {lambds[0]:.2g} {above[0]:.3g} %.",
            "The posterior's covariance (σ²/n)(XᵀX/n + λI)⁻¹ and its mean are those of scikit-learn's BayesianRidge, "
            f"to {difference:.1g} and {weights:.1g} of the largest entry.",
        ]
        metrics = {"lambda/bayes": bayes, "lambda/best": float(lambds[best])}
        return Findings(
            answer,
            {"one_weight": one_weight, "bayes": table},
            data={"expected_loss": pd.DataFrame({"lambd": lambds, "loss": loss})},
            figures={"bayes": posteriors, "bayes_lambda": figure},
            metrics=metrics,
        )

    def one_weight(self, cfg: DictConfig) -> tuple[Figure, pd.DataFrame, float]:
        """Likelihood × prior = posterior of y = wx + ε, under both priors of the true weight's size."""
        true = float(np.sqrt(np.square(cfg.data.weight).mean()))
        numbers = {"num_train": self.rows, "num_inputs": 1, "weight": true, "bias": 0.0}
        part = Workshop(vary(cfg, **{f"data__{key}": value for key, value in numbers.items()}))
        x, y = part.datamodule.parts["train"].x, part.datamodule.parts["train"].y
        noise = cfg.data.noise**2
        w = np.linspace(-4 * true, 6 * true, GRID)
        likelihood = -np.square(y[:, None] - x * w).sum(axis=0) / (2 * noise)
        figure, panels = empty_panels()
        rows = []
        # Both priors have the standard deviation τ; that of Laplace is √2 times its scale.
        for axes, name, scale in zip(panels, ("Gaussian", "Laplace"), (true, true / np.sqrt(2)), strict=True):
            prior = -np.square(w / scale) / 2 if name == "Gaussian" else -np.abs(w) / scale
            lambd = noise / (len(x) * (scale**2 if name == "Gaussian" else scale))
            l1, l2 = (0.0, lambd) if name == "Gaussian" else (lambd, 0.0)
            minimiser = float(least_squares(x, y, l1, l2, free_bias=False).weight[0, 0])
            highest = w[(likelihood + prior).argmax()]
            rows.append((name, scale, lambd, highest, minimiser, abs(highest - minimiser)))
            for logarithm, colour, style, words in (
                (prior, GREY, "--", "prior"),
                (likelihood, BLUE, "--", f"likelihood of {len(x)} rows"),
                (likelihood + prior, ORANGE, "-", "posterior ∝ likelihood × prior"),
            ):
                density = np.exp(logarithm - logarithm.max())
                axes.plot(w, density / (density.sum() * (w[1] - w[0])), style, color=colour, label=words)
            axes.axvline(minimiser, color=GREEN, lw=1, label="minimiser of ½ mean r² + λΩ(w)")
            title = f"{name} prior, Ω = {'½w²' if name == 'Gaussian' else '|w|'}, λ = {lambd:.2g}"
            axes.set(xlabel="weight w", ylabel="density", title=title)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
        columns = ["prior", "scale", "λ", "posterior's maximum", "penalised minimiser", "difference"]
        return figure, pd.DataFrame(rows, columns=columns), w[1] - w[0]


def against_bayesian_ridge(x: np.ndarray, y: np.ndarray, noise: float, prior: float) -> tuple[float, float]:
    """How far the posterior's covariance and mean are from scikit-learn's, relative to their largest entries."""
    from sklearn.linear_model import BayesianRidge

    model = BayesianRidge(alpha_1=CERTAIN, alpha_2=CERTAIN * noise, lambda_1=CERTAIN, lambda_2=CERTAIN * prior).fit(
        x, y
    )
    n, lambd, centred = len(x), noise / (len(x) * prior), x - x.mean(axis=0)
    covariance = noise / n * np.linalg.inv(centred.T @ centred / n + lambd * np.eye(x.shape[1]))
    mean = least_squares(x, y, 0.0, lambd).weight[0]
    return relative(model.sigma_ - covariance, covariance), relative(model.coef_ - mean, mean)


def relative(difference: np.ndarray, whole: np.ndarray) -> float:
    """The largest difference, relative to the largest entry."""
    return float(np.abs(difference).max() / np.abs(whole).max())


def expected_loss(x: np.ndarray, noise: float, prior: float, lambds: np.ndarray) -> np.ndarray:
    """E ½(y − f(x))² of ridge on a new row x ~ N(0, I), over the training noise and weights w ~ N(0, τ²I); a λ each.

    With S = X_cᵀX_c/n and M = (S + λI)⁻¹ the error ŵ − w has the covariance C = τ²λ²M² + (σ²/n)MSM, and the loss is
    ½(σ² + tr C + x̄ᵀCx̄ + σ²/n), the last two of them the bias's. Averaged over X it is the same for any fixed weights
    of that root mean square, because rows drawn from N(0, I) have no preferred direction.
    """
    n = len(x)
    s, v = np.linalg.eigh(np.cov(x.T, bias=True).reshape(2 * x.shape[1:]))
    s, along = s.clip(min=0)[:, None], np.square(v.T @ x.mean(axis=0))[:, None]
    variances = (prior * lambds**2 + noise / n * s) / (s + lambds) ** 2
    return (noise + ((1 + along) * variances).sum(axis=0) + noise / n) / 2
