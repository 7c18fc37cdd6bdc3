"""Full-batch runs in double precision end where scikit-learn's exact solvers do, on the same arrays."""

from pathlib import Path

import numpy as np
import pytest
from conftest import config
from sklearn.linear_model import ElasticNet, Lasso, LogisticRegression, Ridge

from shrinkage.training.run import Training, build

EXACT = ("data.batch_size=null", "trainer.precision=64-true", "optimizer.momentum=0.9")


def trained(folder: Path, *overrides: str) -> Training:
    training = build(config(*EXACT, *overrides), folder)
    training.run()
    return training


def weights_and_bias(training: Training) -> tuple[np.ndarray, float]:
    model = training.module.model
    return model.weight.detach().numpy()[0], model.bias.item()


@pytest.mark.parametrize(
    ("mode", "momentum", "nesterov"),
    [("decay", 0.0, False), *((mode, 0.9, nesterov) for mode in ("loss", "prox") for nesterov in (False, True))],
)
def test_l2_is_ridge(tmp_path: Path, mode: str, momentum: float, nesterov: bool) -> None:
    """Decay with momentum μ has another fixed point, ridge at λ(1−μ): it is tested without."""
    lambd = 0.1
    training = trained(
        tmp_path,
        "data=diabetes",
        f"lambd={lambd}",
        f"penalty.mode={mode}",
        "optimizer.lr=0.2",
        f"trainer.max_epochs={350 if momentum else 700}",
        f"optimizer.momentum={momentum}",
        f"optimizer.nesterov={nesterov}",
    )
    train = training.datamodule.parts["train"]
    exact = Ridge(alpha=len(train) * lambd, tol=1e-12).fit(train.x, train.y)
    weights, bias = weights_and_bias(training)
    np.testing.assert_allclose(weights, exact.coef_, rtol=0, atol=1e-6)
    assert bias == pytest.approx(exact.intercept_, abs=1e-6)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_l1_is_the_lasso_with_its_support(tmp_path: Path, momentum: float, nesterov: bool) -> None:
    lambd = 0.05
    training = trained(
        tmp_path,
        "data=diabetes",
        "penalty=l1",
        f"lambd={lambd}",
        f"optimizer.lr={0.05 if momentum else 0.4}",
        f"optimizer.momentum={momentum}",
        f"optimizer.nesterov={nesterov}",
        f"trainer.max_epochs={500 if momentum else 1200}",
    )
    train = training.datamodule.parts["train"]
    exact = Lasso(alpha=lambd, tol=1e-12, max_iter=100_000).fit(train.x, train.y)
    weights, _ = weights_and_bias(training)
    np.testing.assert_allclose(weights, exact.coef_, rtol=0, atol=1e-6)
    assert ((weights == 0) == (exact.coef_ == 0)).all()
    assert 0 < (weights == 0).sum() < len(weights)


def test_elastic_net_is_scikit_learns(tmp_path: Path) -> None:
    training = trained(
        tmp_path,
        "data=diabetes",
        "penalty=elastic_net",
        "lambd=0.1",
        "penalty.l1_ratio=0.7",
        "optimizer.lr=0.05",
        "trainer.max_epochs=400",
    )
    train = training.datamodule.parts["train"]
    exact = ElasticNet(alpha=0.1, l1_ratio=0.7, tol=1e-12, max_iter=100_000).fit(train.x, train.y)
    weights, _ = weights_and_bias(training)
    np.testing.assert_allclose(weights, exact.coef_, rtol=0, atol=1e-6)
    assert ((weights == 0) == (exact.coef_ == 0)).all()


def test_binary_l2_is_logistic_regression(tmp_path: Path) -> None:
    lambd = 0.1
    training = trained(tmp_path, "data=breast_cancer", f"lambd={lambd}", "optimizer.lr=0.2", "trainer.max_epochs=400")
    train = training.datamodule.parts["train"]
    exact = LogisticRegression(C=1 / (len(train) * lambd), tol=1e-10, max_iter=10_000).fit(train.x, train.y)
    weights, bias = weights_and_bias(training)
    np.testing.assert_allclose(weights, exact.coef_[0], rtol=0, atol=1e-6)
    assert bias == pytest.approx(exact.intercept_[0], abs=1e-6)


@pytest.mark.parametrize("data", ["diabetes", "breast_cancer"])
def test_lambda_max_is_where_the_first_weight_appears(tmp_path: Path, data: str) -> None:
    training = build(config(f"data={data}", "penalty=l1"), tmp_path)
    parts = training.datamodule
    train = parts.parts["train"]
    largest = training.module.certifier.lambda_max(training.module.penalty)
    assert 0 < largest <= 1  # features, and a target of regression, have unit variance
    for factor, zero in ((1.001, True), (0.98, False)):
        if parts.classes:
            c = 1 / (len(train) * largest * factor)
            model = LogisticRegression(l1_ratio=1, C=c, solver="saga", tol=1e-8, max_iter=20_000)
        else:
            model = Lasso(alpha=largest * factor, tol=1e-10)
        assert np.all(np.abs(model.fit(train.x, train.y).coef_) < 1e-6) == zero
