"""The norm of a matrix of weights: what ‖w‖² = wᵀw becomes for W, and what λ does to W's singular values."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from matplotlib import colormaps
from omegaconf import DictConfig
from rich.progress import track

from shrinkage.errors import InputError
from shrinkage.optimum.exact import cross_entropy, is_cheap, least_squares
from shrinkage.penalties.l2 import L2
from shrinkage.report.figures import BLUE, ORANGE, empty_panels, strength_axis
from shrinkage.report.findings import Findings
from shrinkage.studies.base import Study, train_one
from shrinkage.studies.numbers import check_list


@dataclass(frozen=True, kw_only=True)
class Frobenius(Study):
    """‖W‖²_F = ΣᵢΣⱼWᵢⱼ² = tr(WᵀW) = Σσᵢ², σᵢ the singular values of W. The penalty is half of it.

    lambds: of the exact optima whose singular values are shown. Reference: Golub & Van Loan, "Matrix computations",
    §2.3 and §2.4.
    """

    lambds: Sequence[float]

    def __post_init__(self) -> None:
        check_list("lambds", self.lambds, "[0.001,0.1,10]", many=2)

    def run(self, cfg: DictConfig) -> Findings:
        model, penalty, scope = cfg.choices.model, cfg.choices.penalty, cfg.penalty.scope
        if (model, penalty, scope) != ("linear", "l2", "weights") or cfg.lambd == 0:
            raise InputError(
                f"model={model} penalty={penalty} penalty.scope={scope} lambd={cfg.lambd:g}: the study is about a "
                "linear model under L2; use model=linear penalty=l2 penalty.scope=weights lambd=0.01"
            )
        training = train_one(cfg)
        classes, train = training.datamodule.classes, training.datamodule.parts["train"]
        if not is_cheap(train.x, classes, 0.0):
            raise InputError(
                f"data={cfg.choices.data}: an exact optimum of {len(train)} rows and {train.x.shape[1]} columns takes "
                "too long; use data=digits"
            )
        parameters = training.module.parameters_by_name()
        w, has_bias = parameters["weight"].double(), "bias" in parameters
        measured = training.module.measured
        squares = {
            "Σ Wᵢⱼ²": float(w.square().sum()),
            "tr(WᵀW)": float((w.T @ w).trace()),
            "tr(WWᵀ)": float((w @ w.T).trace()),
            "Σ σᵢ²": float(torch.linalg.svdvals(w).square().sum()),
            "2 · weight/half_squared_l2 of the run": 2 * measured["weight/half_squared_l2"],
            "2/λ · train/penalty of the run": 2 * measured["train/penalty"] / cfg.lambd,
        }
        total = squares["Σ Wᵢⱼ²"]
        equal = pd.DataFrame({"‖W‖²_F as": list(squares), "value": list(squares.values())})
        equal["relative difference"] = (equal["value"] / total - 1).abs()
        leaf = w.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(L2(mode="loss").value({"weight": leaf}), leaf)
        slope = float((gradient - w).abs().max())
        rows, columns = w.shape
        square = np.random.default_rng(cfg.seed).standard_normal((columns, columns))
        rotation = torch.from_numpy(np.linalg.qr(square).Q)
        turned = w @ rotation
        norm, turned_norm = torch.linalg.matrix_norm(w), torch.linalg.matrix_norm(turned)
        lambds = sorted(map(float, self.lambds))
        best = [
            least_squares(train.x, train.y, 0.0, lambd, has_bias)
            if classes is None
            else cross_entropy(train.x, train.y, classes, 0.0, lambd, has_bias)
            for lambd in track(lambds, "exact optima", disable=not cfg.progress, transient=True)
        ]
        spectra = np.array([np.linalg.svd(each.weight, compute_uv=False) for each in best])
        rank = int((spectra[0] > 1e-9 * spectra[0, 0]).sum())
        table = pd.DataFrame({"λ": lambds, "‖W‖_F": np.sqrt(np.square(spectra).sum(axis=1))})
        for number in sorted({1, (rank + 1) // 2, rank, spectra.shape[1]}):
            table[f"σ{number}"] = spectra[:, number - 1]
        falls = (np.diff(spectra[:, :rank], axis=0) < 0).all()
        figure, (by_number, by_lambd) = empty_panels()
        shades = colormaps["viridis"](np.linspace(0, 0.8, len(lambds)))
        for colour, lambd, row in zip(shades, lambds, spectra, strict=True):
            by_number.plot(range(1, rank + 1), row[:rank], "o-", ms=4, color=colour)
            by_number.text(rank + 0.3, row[rank - 1], f"λ = {lambd:g}", va="center", color=colour, fontsize="small")
        by_number.set(xlabel="number i of the singular value", ylabel="singular value σᵢ of W", yscale="log")
        by_number.set(xlim=(0.5, 1.3 * rank + 0.5), xticks=range(1, rank + 1))
        for column in range(rank):
            by_lambd.plot(lambds, spectra[:, column], color=BLUE, alpha=1 - 0.7 * column / rank)
        by_lambd.plot(lambds, table["‖W‖_F"], "o--", ms=4, color=ORANGE, label="‖W‖_F = √Σσᵢ²")
        by_lambd.plot([], [], color=BLUE, label=f"σ1 … σ{rank}, dark to light")
        by_lambd.set(ylabel="singular values and norm of W", yscale="log")
        by_lambd.legend(frameon=False, fontsize="small")
        strength_axis(by_lambd, lambds)
        by_lambd.set_xlim(right=1.5 * lambds[-1])
        answer = [
            f"‖W‖²_F = ΣWᵢⱼ² = tr(WᵀW) = Σσᵢ²: for the trained W [{rows}, {columns}] all of them are {total:.6g}, to "
            f"{equal['relative difference'][:4].max():.1g} of it, and what the run recorded as half of it, to "
            f"{equal['relative difference'][4:].max():.1g}. The trace is the square; the norm is its root, {norm:.6g}.",
            f"The gradient of ½‖W‖²_F is W itself (largest difference {slope:.1g}), so that gradient descent shrinks "
            "every entry by the same factor 1 − ηλ, as for a vector.",
            f"Turning W's rows by a random rotation changes ‖W‖_F by {abs(turned_norm / norm - 1):.1g} of it, and "
            f"Σ|Wᵢⱼ| by {abs(turned.abs().sum() / w.abs().sum() - 1):.2g}: L2 knows no axes, L1 does.",
            f"From λ = {lambds[0]:g} to {lambds[-1]:g} ‖W‖_F falls from {table['‖W‖_F'].iloc[0]:.3g} to "
            f"{table['‖W‖_F'].iloc[-1]:.3g} and {'each' if falls else 'not each'} of the {rank} singular values that "
            f"are not 0 falls at every λ: the largest to 1/{spectra[0, 0] / spectra[-1, 0]:.3g}, the smallest to "
            f"1/{spectra[0, rank - 1] / spectra[-1, rank - 1]:.3g}.",
        ]
        if classes is not None and classes > 2:
            answer.append(
                f"The rows of a softmax's optimum sum to zero (here to "
                f"{np.abs(best[-1].weight.sum(axis=0)).max():.1g}), "
                "because adding one vector to all of them changes no prediction and only the penalty: with "
                f"{classes} classes the rank is at most {classes - 1}, and here it is {rank}."
            )
        return Findings(answer, {"frobenius": equal, "singular_values": table}, figures={"frobenius": figure})
