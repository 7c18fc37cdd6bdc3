"""The λ to take is that of cv.glmnet, with weights of rows and factors of columns, on the same folds."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, config
from test_choice import run

from shrinkage.optimum.certifier import Certifier
from shrinkage.optimum.engines.path import solve_path
from shrinkage.report.choice import choose
from shrinkage.training.workshop import Workshop

GLMNET = ROOT / "tests/optimum/glmnet"
FAMILIES = {"gaussian": "regression", "binomial": "classification", "poisson": "poisson"}
FOLDS = 5


def numbers(name: str, folder: Path = GLMNET) -> np.ndarray:
    return np.loadtxt(folder / f"{name}.csv.gz", delimiter=",", ndmin=2)


def fold_losses(path: Path, fold: int, strengths: np.ndarray, *overrides: str) -> tuple[np.ndarray, dict[str, str]]:
    """The val/loss of a fold at every strength (λ₁, λ₂), and the tags of its runs."""
    own = ("data=table", f"data.path={path}", "data.target=y", "data.weight=w", "data.fold_column=fold")
    workshop = Workshop(config(*own, f"data.folds={FOLDS}", f"data.fold={fold}", *overrides))
    cfg, val = workshop.cfg, workshop.datamodule.parts["val"]
    model = workshop.model(0)
    certifier = workshop.certifier(model, workshop.penalty(cfg, model), 1.0)
    assert isinstance(certifier, Certifier) and val.weight is not None
    solved = solve_path(certifier.problem, strengths)
    assert (solved.gap <= 1e-11 * certifier.null_objective).all()
    outputs = solved.weight @ val.x.T + solved.bias[:, :, None]  # [strengths, 1, n]
    losses = [workshop.task.losses(torch.from_numpy(output.T), torch.from_numpy(val.y)) for output in outputs]
    return np.average(np.stack(losses), axis=1, weights=val.weight), workshop.datamodule.tags


@pytest.mark.parametrize(
    ("family", "alpha"), [("gaussian", 1), ("binomial", 1), ("binomial", 0.5), ("poisson", 1), ("poisson", 0.5)]
)
def test_both_lambdas_and_the_curve_are_those_of_cv_glmnet(family: str, alpha: float, tmp_path: Path) -> None:
    """Its measure is twice our loss: the mean square, or the deviance, as far as its fits go: 2e-6 of it."""
    theirs, rows = numbers(f"{family}_folds"), numbers(f"{family}_rows")
    theirs = theirs[theirs[:, 0] == alpha]
    lambd, factor = theirs[:, 1], numbers("factor")[0]
    names = [f"x{place}" for place in range(len(factor))]
    frame = pd.DataFrame(rows[:, : len(factor)], columns=names)
    frame = frame.assign(y=rows[:, -3], w=rows[:, -2], fold=numbers("folds")[:, 0].astype(int))
    frame.to_csv(tmp_path / "rows.csv", index=False)
    factors = ",".join(
        f"{name}: {float(each * len(factor) / factor.sum())!r}" for name, each in zip(names, factor, strict=True)
    )
    overrides = (
        f"task={FAMILIES[family]}", f"data.task={'classification' if family == 'binomial' else 'regression'}",
        f"data.standardize={str(family != 'gaussian').lower()}", "penalty=l1", f"penalty.factor={{{factors}}}",
    )  # fmt: skip
    strengths = np.stack([alpha * lambd, (1 - alpha) * lambd], axis=1)
    runs = []
    for fold in range(FOLDS):
        losses, tags = fold_losses(tmp_path / "rows.csv", fold, strengths, *overrides)
        found = [run("l1", value, fold, loss, folds=FOLDS) for value, loss in zip(lambd, losses, strict=True)]
        runs += [each | {"tags": each["tags"] | tags} for each in found]
    answer = choose(runs)
    table, (setting,) = answer.table.sort_values("lambd", ascending=False), answer.settings
    np.testing.assert_allclose(2 * table["mean"], theirs[:, 2], rtol=5e-6)
    np.testing.assert_allclose(2 * table["error"], theirs[:, 3], rtol=5e-6)
    assert setting.at_one_se is not None
    assert setting.min == lambd[theirs[:, 4] == 1] and setting.at_one_se.value == lambd[theirs[:, 5] == 1]


def test_the_reference_numbers_are_those_that_glmnet_gives_today(tmp_path: Path) -> None:
    if shutil.which("Rscript") is None:
        pytest.skip("R is not installed")
    command = ["Rscript", str(GLMNET / "folds.R"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode == 3:
        pytest.skip("R has no glmnet")
    assert done.returncode == 0, done.stderr
    for name in ("folds", *(f"{family}_folds" for family in FAMILIES)):
        np.testing.assert_allclose(numbers(name, tmp_path), numbers(name), rtol=1e-9, atol=1e-9)
