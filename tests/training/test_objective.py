"""Where a penalty meets an update: a step against its formula, AdamW against torch's, stability against simulation."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import config, gradients
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from torch import nn

from shrinkage.errors import InputError
from shrinkage.penalties.elastic_net import ElasticNet
from shrinkage.penalties.l1 import L1
from shrinkage.penalties.l2 import L2
from shrinkage.training import objective
from shrinkage.training.run import Training, build

FULL_BATCH = ("data.batch_size=null", "trainer.precision=64-true")


def trained(folder: Path, *overrides: str) -> Training:
    training = build(config(*overrides), folder)
    training.run()
    return training


DIGITS = ("data=digits", "model=mlp", "penalty=adamw", "optimizer.lr=0.01", "trainer.max_steps=30")


def assert_same_weights(training: Training, other: Training) -> None:
    """Bit for bit."""
    for name, expected in other.module.model.state_dict().items():
        torch.testing.assert_close(training.module.model.state_dict()[name], expected, rtol=0, atol=0, msg=name)


@given(lr=st.floats(1e-4, 0.5), lambd=st.floats(0, 5), mode=st.sampled_from(["loss", "decay"]), seed=st.integers(0, 99))
@settings(max_examples=8, deadline=None)
def test_one_step_of_sgd_with_l2(tmp_path_factory, lr: float, lambd: float, mode: str, seed: int) -> None:
    """w ← (1 − ηλ)w − η∇, the bias without the shrinking."""
    training = build(
        config(
            *FULL_BATCH,
            f"optimizer.lr={lr}",
            f"lambd={lambd}",
            f"penalty.mode={mode}",
            f"seed={seed}",
            "trainer.max_steps=1",
            "model.sigma=1",
        ),
        tmp_path_factory.mktemp("run"),
    )
    w, b = training.module.model.weight.detach().clone(), training.module.model.bias.detach().clone()
    x, y = (
        torch.from_numpy(array)
        for array in (training.datamodule.parts["train"].x, training.datamodule.parts["train"].y)
    )
    residual = (x @ w.T + b)[:, 0] - y
    training.run()
    expected = (1 - lr * lambd) * w - lr * (residual @ x) / len(x)
    torch.testing.assert_close(training.module.model.weight.detach(), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(training.module.model.bias.detach(), b - lr * residual.mean(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("clip", ["null", "0.05"])
def test_adamw_is_torchs(tmp_path: Path, schedule: str, clip: str) -> None:
    """100 steps of the MLP on digits, λ scaled as torch's weight_decay, weights compared with torch.optim.AdamW."""
    overrides = (
        "data=digits",
        "model=mlp",
        "penalty=adamw",
        "lambd=0.3",
        f"schedule={schedule}",
        "schedule.warmup=0.1",
        f"trainer.gradient_clip_val={clip}",
        "optimizer.lr=0.01",
        "trainer.max_steps=100",
    )
    training = trained(tmp_path, *overrides)
    reference = build(config(*overrides), tmp_path)
    weights, rest = objective.split_parameters(reference.module.model)
    optimizer = torch.optim.AdamW(
        [{"params": weights.values(), "weight_decay": 0.3}, {"params": rest.values(), "weight_decay": 0}], lr=0.01
    )
    for _ in gradients(reference, optimizer, 100):
        if clip != "null":
            nn.utils.clip_grad_norm_(reference.module.model.parameters(), float(clip))
        optimizer.step()
    assert_same_weights(training, reference)


def test_groups_are_torchs_parameter_groups(tmp_path: Path) -> None:
    overrides = (*DIGITS, "lambd=0.3", "penalty.groups={0.*:0,2.*:0.5}")
    training = trained(tmp_path, *overrides)
    reference = build(config(*overrides), tmp_path)
    named = dict(reference.module.model.named_parameters())
    factors = {"2.weight": 0.5, "4.weight": 1.0}
    optimizer = torch.optim.AdamW(
        [{"params": [p], "weight_decay": 0.3 * factors.get(name, 0.0)} for name, p in named.items()], lr=0.01
    )
    for _ in gradients(reference, optimizer, 30):
        optimizer.step()
    assert_same_weights(training, reference)
    assert training.module.measured["train/penalty"] == pytest.approx(
        sum(
            0.15 * factor * training.module.model.state_dict()[n].square().sum().item() for n, factor in factors.items()
        )
    )


@pytest.mark.parametrize("rate", ["lr", "corrected", "constant"])
@pytest.mark.parametrize("mode", ["decay", "cautious"])
def test_a_decay_of_its_own_rate_beside_a_loop(tmp_path: Path, mode: str, rate: str) -> None:
    """w ← w − rλ·1[u·w ≥ 0]·w − ηu with u Adam's update at w, the condition in mode cautious alone."""
    overrides = (*DIGITS, "lambd=3", f"penalty.mode={mode}", f"penalty.rate={rate}", "schedule=cosine")
    training = trained(tmp_path, *overrides, "trainer.precision=64-true")
    reference = build(config(*overrides, "trainer.precision=64-true"), tmp_path)
    weights, _ = objective.split_parameters(reference.module.model)
    optimizer = torch.optim.Adam(reference.module.model.parameters(), lr=0.01)
    for _ in gradients(reference, optimizer, 30):
        before = {name: w.detach().clone() for name, w in weights.items()}
        lr = optimizer.param_groups[0]["lr"]
        optimizer.step()
        r = {"lr": lr, "corrected": lr**2 / 0.01, "constant": 0.01}[rate]
        for name, w in weights.items():
            u = before[name] - w.detach()
            agree = (u * before[name] >= 0).double() if mode == "cautious" else 1.0
            w.data = before[name] - u - r * 3 * agree * before[name]
    for name, w in reference.module.model.state_dict().items():
        torch.testing.assert_close(training.module.model.state_dict()[name], w, rtol=1e-9, atol=1e-12)


def test_a_pattern_that_matches_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"penalty.groups: 'wieght' matches no parameter .* they are weight"):
        build(config("penalty.groups={wieght:0}"), tmp_path)
    with pytest.raises(InputError, match=r"every factor is 0"):
        build(config("penalty.groups={*:0}"), tmp_path)


def test_scope_leaves_out_biases_and_normalisation() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.LayerNorm(3), nn.Conv1d(1, 1, 1))
    weights, rest = objective.split_parameters(model)
    assert set(weights) == {"0.weight", "3.weight"}
    assert set(rest) == {"0.bias", "1.weight", "1.bias", "2.weight", "2.bias", "3.bias"}
    assert set(objective.penalised(L2(mode="loss", scope="all"), model)) == set(weights) | set(rest)


def test_scope_all_is_ridge_on_a_column_of_ones(tmp_path: Path) -> None:
    training = trained(
        tmp_path,
        *FULL_BATCH,
        "data.bias=5",
        "lambd=10",
        "penalty.scope=all",
        "optimizer.lr=0.02",
        "trainer.max_epochs=400",
    )
    train = training.datamodule.parts["train"]
    with_ones = np.column_stack([train.x, np.ones(len(train))])
    exact = Ridge(alpha=len(train) * 10, fit_intercept=False, tol=1e-12).fit(with_ones, train.y)
    model = training.module.model
    found = np.append(model.weight.detach().numpy()[0], model.bias.item())
    np.testing.assert_allclose(found, exact.coef_, rtol=0, atol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("mode", ["loss", "decay"])
def test_largest_stable_lr_divides_growth_from_shrinking(mode: str, momentum: float, nesterov: bool) -> None:
    if nesterov and momentum == 0:
        pytest.skip("torch has no Nesterov momentum of 0")
    penalty = ElasticNet(mode=mode, l1_ratio=0.0)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0, momentum=momentum, nesterov=nesterov)
    bound = objective.largest_stable_lr(penalty, 3.0, optimizer)
    for factor, shrinks in ((0.95, True), (1.05, False)):
        w = {"w": nn.Parameter(torch.ones(1, dtype=torch.float64))}
        sgd = torch.optim.SGD(w.values(), lr=factor * bound, momentum=momentum, nesterov=nesterov)
        for _ in range(500):
            sgd.zero_grad()
            zero = 0 * w["w"].sum()
            (objective.penalised_loss(penalty, zero, w, 3.0) if mode == "loss" else zero).backward()
            if mode == "decay":
                objective.assign_(w, objective.decayed(penalty, objective.detached(w), factor * bound, 3.0))
            sgd.step()
        assert (abs(w["w"].item()) < 1) is shrinks


@pytest.mark.parametrize("penalty", [L1(mode="loss"), L2(mode="prox")])
def test_no_bound_without_curvature_or_with_prox(penalty) -> None:
    assert objective.largest_stable_lr(penalty, 3.0, torch.optim.SGD([torch.zeros(1)], lr=1)) == np.inf


def test_prox_is_refused_under_adam(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"penalty.mode=prox with Adam"):
        build(config("penalty=l1", "optimizer=adam"), tmp_path)


def test_an_optimiser_that_decays_by_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"optimizer.weight_decay=0.1: λ has one home"):
        build(config("+optimizer.weight_decay=0.1"), tmp_path)
    with pytest.raises(InputError, match=r"optimizer.weight_decay=0.01"):
        build(config("optimizer=adam", "optimizer._target_=torch.optim.AdamW"), tmp_path)
