"""Where a penalty meets an update: a step against its formula, AdamW against torch's, stability against simulation."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import config
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from torch import nn

from shrinkage import objective
from shrinkage.errors import InputError
from shrinkage.penalties.elastic_net import ElasticNet
from shrinkage.penalties.l1 import L1
from shrinkage.penalties.l2 import L2
from shrinkage.training import Training, build

FULL_BATCH = ("data.batch_size=null", "trainer.precision=64-true")


def trained(folder: Path, *overrides: str) -> Training:
    training = build(config(*overrides), folder)
    training.run()
    return training


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
    training = build(config(*overrides), tmp_path)
    reference = build(config(*overrides), tmp_path)
    training.run()

    model, task = reference.module.model, reference.module.task
    weights, rest = objective.split_parameters(model)
    optimizer = torch.optim.AdamW(
        [{"params": weights.values(), "weight_decay": 0.3}, {"params": rest.values(), "weight_decay": 0}], lr=0.01
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: reference.module.schedule(step, 100))
    step, epoch = 0, 0
    while step < 100:
        loader = reference.datamodule.train_dataloader()
        loader.sampler.set_epoch(epoch)
        for x, y in loader:
            optimizer.zero_grad()
            task.loss(model(x), y).backward()
            if clip != "null":
                nn.utils.clip_grad_norm_(model.parameters(), float(clip))
            optimizer.step()
            scheduler.step()
            step += 1
            if step == 100:
                break
        epoch += 1
    for name, expected in model.state_dict().items():
        torch.testing.assert_close(training.module.model.state_dict()[name], expected, rtol=0, atol=0, msg=name)


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
