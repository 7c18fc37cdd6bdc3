"""The λ's of a path, and what is chosen among them, against scikit-learn on the same rows."""

from pathlib import Path

import numpy as np
import pytest
from conftest import config, train_here, train_py
from sklearn.linear_model import Lasso, LogisticRegression, Ridge
from sklearn.metrics import log_loss

from shrinkage.data.base import DataModule
from shrinkage.errors import InputError
from shrinkage.optimum.exact import optimum
from shrinkage.report.choice import choose
from shrinkage.runs.membership import Membership
from shrinkage.sweeps.path import geometric, lambda_path
from shrinkage.training.workshop import make


def along(*overrides: str, num: int = 5, ratio: float | None = None, largest: float | None = None, zero: bool = False):
    return lambda_path(config(*overrides), num, ratio, largest, zero)


def loaded(*overrides: str) -> DataModule:
    module = make(config(*overrides).data, order_seed=0)
    module.setup()
    return module


@pytest.mark.parametrize("data", ["diabetes", "breast_cancer"])
@pytest.mark.parametrize("penalty", ["l1", "elastic_net"])
def test_the_path_begins_where_every_weight_is_zero(data: str, penalty: str) -> None:
    cfg = config(f"data={data}", f"penalty={penalty}")
    found = along(f"data={data}", f"penalty={penalty}").lambd
    everything = loaded(f"data={data}", "data.refit=true")
    train = everything.parts["train"]
    l1, l2 = make(cfg.penalty).elastic_net(1.0)
    for factor, zero in ((1 + 1e-4, True), (1 - 1e-2, False)):
        lambd = factor * found[0]
        best = optimum(train.x, train.y, everything.classes, l1 * lambd, l2 * lambd)
        assert (not best.weight.any()) is zero
    np.testing.assert_allclose(np.diff(np.log(found)), np.log(0.001) / 4, atol=1e-5)


def test_ridge_starts_a_thousand_times_higher_and_ends_where_lasso_does() -> None:
    lasso, ridge = (along("data=diabetes", f"penalty={penalty}").lambd for penalty in ("l1", "l2"))
    assert ridge[0] == pytest.approx(1000 * lasso[0], rel=1e-5) and ridge[-1] == pytest.approx(lasso[-1], rel=1e-5)


def test_one_path_for_all_folds_and_none_from_the_test_rows() -> None:
    paths = [along("data=diabetes", "penalty=l1", "data.folds=5", f"data.fold={fold}") for fold in (0, 3)]
    assert paths[0] == paths[1]
    # Every row of the data but the test rows, by hand.
    data = loaded("data=diabetes", "data.folds=5", "data.refit=true")
    assert {name: len(part) for name, part in data.parts.items()} == {"train": 353, "test": 89}
    x, y = data.parts["train"].x, data.parts["train"].y
    assert paths[0].lambd[0] == pytest.approx(np.abs(x.T @ y).max() / len(x), rel=1e-5)


@pytest.mark.parametrize("penalty", ["l1,l2,elastic_net", "none"])
def test_a_path_of_sparse_features_without_l1_is_refused_before_its_first_job(penalty: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,town,y\n" + "".join(f"{k % 7},{'AB'[k % 2]},{k / 3}\n" for k in range(40)))
    words = ("experiment=choose", "data.path=rows.csv", "data.target=y", "data.sparse=true", f"penalty={penalty}")
    done = train_here(*words, "hydra.sweep.dir=here", cwd=tmp_path)
    assert done.returncode == 1 and "sparse features are solved for under L1 and elastic nets" in done.stderr
    assert "use penalty=l1,elastic_net" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("here/*/config.yaml"))


def test_paths_by_hand() -> None:
    assert geometric(1.0, 0.01, 3, zero=True) == [1.0, 0.1, 0.01, 0.0]
    assert along("penalty=none").lambd == [0.0]
    assert along("penalty=adamw", largest=2.0, num=2).lambd == [2.0, 0.002]
    assert along("penalty=l1").is_convex and not along("penalty=adamw", largest=2.0).is_convex
    assert along("penalty=l1", largest=2.0, ratio=0.5, num=2).lambd == [2.0, 1.0]
    for overrides in (["penalty=adamw"], ["penalty=l1", "model=mlp"]):
        with pytest.raises(InputError, match=r"hydra.sweeper.max is not set: .* use hydra.sweeper.max=1"):
            along(*overrides)


def half_mean_squares(model: Lasso | Ridge, x: np.ndarray, y: np.ndarray) -> float:
    return float(np.square(model.predict(x) - y).mean() / 2)


def in_scikit_learn(data: DataModule, penalty: str, lambd: float) -> float:
    """The validation loss of one fold at one λ."""
    train, val = data.parts["train"], data.parts["val"]
    n = len(train)
    if data.classes is None:
        model = Lasso(alpha=lambd, tol=1e-8, max_iter=100_000) if penalty == "l1" else Ridge(alpha=n * lambd)
        return half_mean_squares(model.fit(train.x, train.y), val.x, val.y)
    # liblinear penalises the intercept, as the weight of a column that is so large that it costs nothing.
    lasso = {"solver": "liblinear", "l1_ratio": 1, "intercept_scaling": 1000, "max_iter": 1000}
    settings = lasso if penalty == "l1" else {"solver": "newton-cholesky"}
    model = LogisticRegression(C=1 / (n * lambd), tol=1e-8, **settings).fit(train.x, train.y)
    return float(log_loss(val.y, model.predict_proba(val.x)))


@pytest.fixture(scope="module")
def converged(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """Two penalties along the same six λ's, over five folds of each of two data sets."""
    folder = tmp_path_factory.mktemp("sweep")
    grid = ["hydra/sweeper=path", "hydra.sweeper.num=6", "hydra.sweeper.max=0.5", "hydra.sweeper.ratio=0.01"]
    done = train_py(
        "-m", "data=diabetes,breast_cancer", "penalty=l1,l2", "data.folds=choice(5)", "data.fold=range(5)", *grid,
        "hydra/launcher=lanes", "hydra.sweep.dir=here", "tracking=none", cwd=folder, store=folder / "none",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "the runs are not comparable, for their data differ" in done.stderr
    return Membership(folder / "here", None).results()


@pytest.mark.xdist_group("path")
@pytest.mark.parametrize("data", ["diabetes", "breast_cancer"])
def test_the_choice_agrees_with_scikit_learn(data: str, converged: list[dict]) -> None:
    """Five folds, the same grid: each λ within one step, each mean error within 1 %."""
    answer = choose([run for run in converged if run["params"]["data"] == data])
    assert len(answer.settings) == 2 and not any("optimum" in warning for warning in answer.warnings)
    folds = [loaded(f"data={data}", "data.folds=5", f"data.fold={fold}") for fold in range(5)]
    for setting in answer.settings:
        penalty = setting.params["penalty"]
        rows = answer.table[answer.table["setting"] == setting.label].sort_values("lambd", ascending=False)
        lambd = rows["lambd"].to_numpy()
        assert len(lambd) == 6
        losses = np.array([[in_scikit_learn(fold, penalty, value) for fold in folds] for value in lambd])
        mean, error = losses.mean(axis=1), losses.std(axis=1, ddof=1) / np.sqrt(5)
        np.testing.assert_allclose(rows["mean"], mean, rtol=0.01)
        np.testing.assert_allclose(rows["error"], error, rtol=0.05, atol=1e-9)
        smallest = mean.argmin()
        within = np.flatnonzero(mean <= mean[smallest] + error[smallest])[0]
        for ours, theirs in ((setting.min, smallest), (setting.one_se, within)):
            assert abs(int(np.flatnonzero(lambd == ours)[0]) - theirs) <= 1
