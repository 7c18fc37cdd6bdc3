"""Every conversion of λ, verified by solving there and comparing weights."""

import math
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.linear_model import BayesianRidge, ElasticNet, Lasso, LogisticRegression, Ridge

from shrinkage.optimum.conventions import (
    CONVENTIONS,
    ELASTIC_NET,
    L1,
    L2,
    Circumstances,
    Convention,
    conventions,
    convert_to_lambda,
)
from shrinkage.optimum.exact import optimum

N, P, LAMBD, RHO, MOMENTUM = 60, 5, 0.07, 0.3, 0.6
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(N, P)) + 0.5
REAL = X @ RANDOM.normal(size=P) + 2 + 0.5 * RANDOM.normal(size=N)
CLASSES = (X[:, 0] + RANDOM.normal(size=N) > 0.5).astype(np.int64)
NOISE = 0.25


def circumstances_of(convention: Convention) -> Circumstances:
    return Circumstances(N, None if convention.kind == "regression" else 2, MOMENTUM, NOISE, RHO, float(REAL.std()))


def smooth(loss, penalty) -> np.ndarray:
    """The weights that minimise loss(Xw + b) + penalty(w), by BFGS on exact gradients."""

    def objective(point: np.ndarray) -> tuple[float, np.ndarray]:
        theta = torch.tensor(point, requires_grad=True)
        value = loss(torch.from_numpy(X) @ theta[:P] + theta[P]) + penalty(theta[:P])
        value.backward()
        return value.item(), theta.grad.numpy()

    start, options = np.zeros(P + 1), {"gtol": 1e-11, "maxiter": 10_000}
    for _ in range(3):  # again from where rounding stopped the line search
        start = minimize(objective, start, jac=True, method="BFGS", options=options).x
    return start[:P]


def lasso_like(scale: float, strength: float) -> np.ndarray:
    """The weights of scale·Σr² + strength·‖w‖₁, by coordinate descent written for that objective."""
    x, y, w = X - X.mean(axis=0), REAL - REAL.mean(), np.zeros(P)
    for _ in range(5000):
        for j in range(P):
            rest = y - x @ w + x[:, j] * w[j]
            pull = 2 * scale * x[:, j] @ rest
            w[j] = np.sign(pull) * max(abs(pull) - strength, 0) / (2 * scale * x[:, j] @ x[:, j])
    return w


def squares(z: torch.Tensor) -> torch.Tensor:
    return (z - torch.from_numpy(REAL)).square().sum()


def entropy(z: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.binary_cross_entropy_with_logits(z, torch.from_numpy(CLASSES).double(), reduction="sum")


def l1_logistic(scale: float, strength: float) -> np.ndarray:
    """scale·ΣCE + strength·‖w‖₁ by FISTA on that objective."""
    x = np.hstack([X, np.ones((N, 1))])
    step = 4 / (scale * np.linalg.norm(x, 2) ** 2)
    w = ahead = np.zeros(P + 1)
    pace = 1.0
    for _ in range(20_000):
        moved = ahead - step * scale * x.T @ (1 / (1 + np.exp(-x @ ahead)) - CLASSES)
        moved[:P] = np.sign(moved[:P]) * np.maximum(np.abs(moved[:P]) - step * strength, 0)
        if (ahead - moved) @ (moved - w) > 0:
            pace = 1.0
        following = (1 + math.sqrt(1 + 4 * pace**2)) / 2
        ahead, w, pace = moved + (pace - 1) / following * (moved - w), moved, following
    return w[:P]


def stepped(optimizer, loss, steps: int = 6_000) -> np.ndarray:
    """The weights at which an optimiser of torch comes to rest over full batches, its decay kept off the bias."""
    w, b = (torch.zeros(size, dtype=torch.float64, requires_grad=True) for size in (P, 1))
    made = optimizer([{"params": [w]}, {"params": [b], "weight_decay": 0.0}])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(made, steps)  # Adam comes to rest as its rate does
    for _ in range(steps):
        made.zero_grad()
        loss(torch.from_numpy(X) @ w + b).backward()
        made.step()
        schedule.step()
    return w.detach().numpy()


def sgdw(strength: float, loss) -> np.ndarray:
    """Decoupled decay under momentum, as Loshchilov & Hutter write it."""
    theta, velocity, lr = np.zeros(P + 1), np.zeros(P + 1), 0.02
    for _ in range(6_000):
        point = torch.tensor(theta, requires_grad=True)
        loss(torch.from_numpy(X) @ point[:P] + point[P]).backward()
        velocity = MOMENTUM * velocity + point.grad.numpy()
        theta = theta - lr * velocity - lr * strength * np.append(theta[:P], 0)
    return theta[:P]


def optax_rest(strength: float, loss_name: str) -> np.ndarray:
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy

    def objective(params):
        z = X @ params["w"] + params["b"]
        if loss_name == "regression":
            return jnp.mean((z - REAL) ** 2) / 2
        return jnp.mean(optax.losses.sigmoid_binary_cross_entropy(z, CLASSES))

    decay = optax.add_decayed_weights(strength, mask={"w": True, "b": False})
    chain = optax.chain(decay, optax.sgd(0.2))

    @jax.jit
    def run(params):
        def step(_, carry):
            params, state = carry
            updates, state = chain.update(jax.grad(objective)(params), state, params)
            return optax.apply_updates(params, updates), state

        return jax.lax.fori_loop(0, 20_000, step, (params, chain.init(params)))[0]

    return np.asarray(run({"w": jnp.zeros(P), "b": jnp.zeros(())})["w"])


def theirs(c: Convention, value: float) -> np.ndarray:
    """The weights that the convention's own library, or its own formula, gives for its own value."""
    regression = c.kind == "regression"
    half_mean = (lambda z: squares(z) / (2 * N)) if regression else (lambda z: entropy(z) / N)
    ridge = {
        ("d2l", "regression"): lambda: smooth(lambda z: squares(z) / (2 * N), lambda w: value / 2 * w.square().sum()),
        ("sum_of_squares", "regression"): lambda: smooth(
            lambda z: squares(z) / 2, lambda w: value / 2 * w.square().sum()
        ),
        ("mse", "regression"): lambda: smooth(lambda z: squares(z) / N, lambda w: value / 2 * w.square().sum()),
        ("keras", "regression"): lambda: smooth(lambda z: squares(z) / N, lambda w: value * w.square().sum()),
        ("slides", "regression"): lambda: smooth(squares, lambda w: value * w.square().sum()),
        ("sklearn", "regression"): lambda: Ridge(alpha=value, tol=1e-12).fit(X, REAL).coef_,
        ("torch_sgd", "regression"): lambda: stepped(
            lambda groups: torch.optim.SGD(groups, lr=0.2, weight_decay=value), lambda z: squares(z) / (2 * N)
        ),
        ("torch_sgd_mse", "regression"): lambda: stepped(
            lambda groups: torch.optim.SGD(groups, lr=0.1, weight_decay=value),
            lambda z: torch.nn.functional.mse_loss(z, torch.from_numpy(REAL)),
        ),
        ("torch_adam", "regression"): lambda: stepped(
            lambda groups: torch.optim.Adam(groups, lr=0.02, weight_decay=value), half_mean
        ),
        ("cross_entropy", "classification"): lambda: smooth(
            lambda z: entropy(z) / N, lambda w: value / 2 * w.square().sum()
        ),
        ("sum_of_losses", "classification"): lambda: smooth(entropy, lambda w: value / 2 * w.square().sum()),
        ("keras", "classification"): lambda: smooth(lambda z: entropy(z) / N, lambda w: value * w.square().sum()),
        ("sklearn", "classification"): lambda: LogisticRegression(C=value, tol=1e-11).fit(X, CLASSES).coef_[0],
        ("two_softmax_rows", "classification"): lambda: softmax_rows(value),
        ("torch_sgd", "classification"): lambda: stepped(
            lambda groups: torch.optim.SGD(groups, lr=0.5, weight_decay=value), half_mean
        ),
        ("torch_adam", "classification"): lambda: stepped(
            lambda groups: torch.optim.Adam(groups, lr=0.02, weight_decay=value), half_mean
        ),
    }
    lasso = {
        ("sum_of_squares", "regression"): lambda: lasso_like(0.5, value),
        ("mse", "regression"): lambda: lasso_like(1 / N, value),
        ("keras", "regression"): lambda: lasso_like(1 / N, value),
        ("slides", "regression"): lambda: lasso_like(1.0, value),
        ("sklearn", "regression"): lambda: Lasso(alpha=value, tol=1e-14, max_iter=100_000).fit(X, REAL).coef_,
        ("sum_of_losses", "classification"): lambda: l1_logistic(1.0, value),
        ("keras", "classification"): lambda: l1_logistic(1 / N, value),
        ("sklearn", "classification"): lambda: saga(value, 1.0),
    }
    net = {
        ("sklearn", "regression"): lambda: (
            ElasticNet(alpha=value, l1_ratio=RHO, tol=1e-14, max_iter=100_000).fit(X, REAL).coef_
        ),
        ("sklearn", "classification"): lambda: saga(value, RHO),
    }
    return {L2: ridge, L1: lasso, ELASTIC_NET: net}[c.penalty][c.key, c.kind]()


def saga(c: float, ratio: float) -> np.ndarray:
    return LogisticRegression(C=c, l1_ratio=ratio, solver="saga", tol=1e-11, max_iter=100_000).fit(X, CLASSES).coef_[0]


def softmax_rows(strength: float) -> np.ndarray:
    """A row of weights for each of two classes; their difference is the weight of the one logit."""

    def objective(point: np.ndarray) -> tuple[float, np.ndarray]:
        theta = torch.tensor(point.reshape(2, P + 1), requires_grad=True)
        logits = torch.from_numpy(X) @ theta[:, :P].T + theta[:, P]
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(CLASSES))
        value = loss + strength / 2 * theta[:, :P].square().sum()
        value.backward()
        return value.item(), theta.grad.numpy().ravel()

    point = np.zeros(2 * (P + 1))
    for _ in range(3):
        point = minimize(objective, point, jac=True, method="BFGS", options={"gtol": 1e-11}).x
    rows = point.reshape(2, P + 1)[:, :P]
    return rows[1] - rows[0]


def ours(penalty: str, classification: bool, lambd: float = LAMBD) -> np.ndarray:
    l1 = {L2: 0.0, L1: 1.0, ELASTIC_NET: RHO}[penalty] * lambd
    return optimum(X, CLASSES if classification else REAL, 2 if classification else None, l1, lambd - l1).weight[0]


@pytest.mark.parametrize(
    "convention",
    [c for c in CONVENTIONS if c.kind != "both" and c.key != "glmnet"],
    ids=lambda c: f"{c.key}-{c.penalty}-{c.kind}",
)
def test_the_other_library_finds_our_weights(convention: Convention) -> None:
    value = convention.value(LAMBD, circumstances_of(convention))
    expected = ours(convention.penalty, convention.kind == "classification")
    np.testing.assert_allclose(theirs(convention, value), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_decoupled_decay_and_optax_find_our_weights(kind: str) -> None:
    found = {c.key: c for c in conventions(L2, Circumstances(N, None if kind == "regression" else 2, MOMENTUM))}
    loss = (lambda z: squares(z) / (2 * N)) if kind == "regression" else (lambda z: entropy(z) / N)
    expected = ours(L2, kind == "classification")
    strength = found["sgdw"].value(LAMBD, Circumstances(momentum=MOMENTUM))
    np.testing.assert_allclose(sgdw(strength, loss), expected, rtol=0, atol=1e-6)
    strength = found["optax"].value(LAMBD, Circumstances())
    np.testing.assert_allclose(optax_rest(strength, kind), expected, rtol=0, atol=1e-6)


# A row of settings.csv is a fit of the last columns of rows.csv; the intercept and the weights are a line each.
GLMNET = """
if (!requireNamespace("glmnet", quietly = TRUE)) quit(status = 3)
rows <- as.matrix(read.csv("rows.csv"))
settings <- read.csv("settings.csv")
x <- rows[, grepl("^x", colnames(rows))]
for (i in seq_len(nrow(settings))) {
  s <- settings[i, ]
  fit <- glmnet::glmnet(x, rows[, s$target], s$family, alpha = s$alpha, lambda = s$lambda,
                        standardize = s$standardize == 1, thresh = 1e-14, maxit = 1e6)
  cat(sprintf("%.17g", as.matrix(coef(fit))), "\\n")
}
"""


@pytest.fixture(scope="module")
def in_glmnet(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, bool], np.ndarray]:
    """The weights that R's glmnet finds for our λ by its row of the table, by penalty, kind and `standardize`."""
    if shutil.which("Rscript") is None:
        pytest.skip("R is not installed")
    folder, fits = tmp_path_factory.mktemp("glmnet"), {}
    for convention in (c for c in CONVENTIONS if c.key == "glmnet"):
        value = convention.value(LAMBD, circumstances_of(convention))
        fits[convention.penalty, convention.kind, True] = (alphas(convention.penalty), value)
        fits[convention.penalty, convention.kind, False] = (alphas(convention.penalty), value)
    # Where y has been divided by nothing here, L1's λ is not either; an elastic net has another ratio there.
    l1, l2 = RHO * LAMBD, (1 - RHO) * LAMBD * REAL.std()
    fits[L1, "regression", False] = (1.0, LAMBD)
    fits[ELASTIC_NET, "regression", False] = (l1 / (l1 + l2), l1 + l2)
    kinds = {"regression": ("gaussian", "y"), "classification": ("binomial", "c")}
    settings = [(*kinds[kind], *fit, int(standardize)) for (_, kind, standardize), fit in fits.items()]
    names = ["family", "target", "alpha", "lambda", "standardize"]
    columns = [f"x{number}" for number in range(P)]
    pd.DataFrame(X, columns=columns).assign(y=REAL, c=CLASSES).to_csv(folder / "rows.csv", index=False)
    pd.DataFrame(settings, columns=names).to_csv(folder / "settings.csv", index=False)
    done = subprocess.run(["Rscript", "-e", GLMNET], cwd=folder, capture_output=True, text=True, timeout=120)
    if done.returncode == 3:
        pytest.skip("R has no glmnet")
    assert done.returncode == 0, done.stderr
    lines = [np.array(line.split(), dtype=float) for line in done.stdout.splitlines()]
    return dict(zip(fits, lines, strict=True))


def alphas(penalty: str) -> float:
    return {L2: 0.0, L1: 1.0, ELASTIC_NET: RHO}[penalty]


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("kind", ["regression", "classification"])
@pytest.mark.parametrize("penalty", [L2, L1, ELASTIC_NET])
def test_glmnet_finds_our_weights(in_glmnet: dict, penalty: str, kind: str, standardize: bool) -> None:
    """Its thresh = 1e-14 ends at changes of 1e-7 in standardised weights; what is left after them is a few of these."""
    unit = X.std(axis=0) if standardize else np.ones(P)
    scale = REAL.std() if standardize and kind == "regression" else 1.0
    target = REAL / scale if kind == "regression" else CLASSES
    l1 = alphas(penalty) * LAMBD
    best = optimum(X / unit, target, None if kind == "regression" else 2, l1, LAMBD - l1)
    theirs = in_glmnet[penalty, kind, standardize]
    np.testing.assert_allclose(theirs[1:] * unit / scale, best.weight[0], rtol=0, atol=1e-6)
    assert theirs[0] / scale == pytest.approx(best.bias[0], abs=1e-6 * (1 + np.abs(X / unit).mean(axis=0).sum()))


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_keras_finds_our_weights(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dense layer with keras's own regulariser and loss, trained over full batches until it rests."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    (convention,) = [c for c in CONVENTIONS if (c.key, c.penalty, c.kind) == ("keras", L2, kind)]
    value = convention.value(LAMBD, circumstances_of(convention))
    keras.utils.set_random_seed(0)
    regulariser = keras.regularizers.L2(value)
    model = keras.Sequential(
        [keras.Input((P,)), keras.layers.Dense(1, kernel_regularizer=regulariser, dtype="float64")]
    )
    loss = "mse" if kind == "regression" else keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1 if kind == "regression" else 1.0, momentum=0.9), loss)
    target = (REAL if kind == "regression" else CLASSES)[:, None].astype(float)
    model.fit(X, target, batch_size=N, epochs=600, verbose=0, shuffle=False)
    expected = ours(L2, kind == "classification")
    np.testing.assert_allclose(model.layers[0].kernel.numpy()[:, 0], expected, rtol=0, atol=1e-6)


def test_keras_l1_is_the_sum_of_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    assert float(keras.regularizers.L1(0.5)(np.array([1.0, -2.0, 3.0]))) == pytest.approx(0.5 * 6)


def test_the_prior_of_l2_has_the_posterior_of_bayesian_ridge() -> None:
    """At the σ² and τ² that BayesianRidge estimates: its mean is our minimiser, its covariance (σ²/n)(XᵀX/n + λ)⁻¹."""
    fitted = BayesianRidge(tol=1e-14, max_iter=10_000).fit(X, REAL)
    noise, variance = 1 / fitted.alpha_, 1 / fitted.lambda_
    (prior,) = [c for c in CONVENTIONS if c.key == "prior" and c.penalty == L2]
    lambd = prior.lambd(variance, Circumstances(rows=N, noise_variance=noise))
    np.testing.assert_allclose(ours(L2, False, lambd), fitted.coef_, rtol=0, atol=1e-6)
    x = X - X.mean(axis=0)
    covariance = noise / N * np.linalg.inv(x.T @ x / N + lambd * np.eye(P))
    np.testing.assert_allclose(covariance, fitted.sigma_, rtol=1e-6)


def test_the_prior_of_l1_has_the_minimiser_as_its_mode() -> None:
    """−log of likelihood × Laplace prior, times σ²/n, is our objective."""
    (prior,) = [c for c in CONVENTIONS if c.key == "prior" and c.penalty == L1]
    scale = prior.value(LAMBD, Circumstances(rows=N, noise_variance=NOISE))
    best = ours(L1, False)
    x, y = X - X.mean(axis=0), REAL - REAL.mean()

    def negative_log_posterior(w: np.ndarray) -> float:
        return np.square(y - x @ w).sum() / (2 * NOISE) + np.abs(w).sum() / scale

    for direction in np.vstack([np.eye(P), -np.eye(P), np.random.default_rng(1).normal(size=(20, P))]):
        assert negative_log_posterior(best + 1e-4 * direction) > negative_log_posterior(best)


@given(st.sampled_from(CONVENTIONS), st.floats(1e-6, 1e3))
def test_there_and_back(convention: Convention, lambd: float) -> None:
    circumstances = circumstances_of(convention)
    assert convention.lambd(convention.value(lambd, circumstances), circumstances) == pytest.approx(lambd)
    if convention in conventions(convention.penalty, circumstances):
        assert convert_to_lambda(
            convention.key, convention.penalty, convention.value(lambd, circumstances), circumstances
        ) == pytest.approx(lambd)


def command(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "shrinkage.optimum.conventions", *arguments], capture_output=True, text=True, timeout=60
    )


def test_the_command_prints_and_asks() -> None:
    done = command("l2", "26.5", "--given-as", "sklearn", "--rows", "265")
    assert done.returncode == 0 and "λ = 0.1 in shrinkage" in done.stdout and "--noise-variance" in done.stdout
    assert "--rows" in command("l1", "0.03").stdout
    done = command("l2", "326", "--given-as", "glmnet", "--target-sd", "424.9")
    assert done.returncode == 0 and f"λ = {326 / 424.9:.6g} in shrinkage" in done.stdout
    for arguments, words in (
        (["l2", "2", "--given-as", "sklearn"], "give --rows"),
        (["l2", "-1"], "must be a finite number ≥ 0"),
        (["l1", "1", "--given-as", "ridge"], "must be one of"),
        (["l2", "326", "--given-as", "glmnet"], "give --target-sd"),
        (["l2", "0", "--given-as", "prior", "--rows", "9", "--noise-variance", "1"], "infinite λ"),
    ):
        done = command(*arguments)
        assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr
