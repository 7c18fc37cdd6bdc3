"""What is said of weights that turn: against closed forms, and theory against simulation."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import config
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkage.errors import InputError
from shrinkage.penalties.l1 import L1
from shrinkage.penalties.l2 import L2
from shrinkage.training.dynamics import Dynamics, angle, equilibrium
from shrinkage.training.lanes_training import lanes_that_fit
from shrinkage.training.run import Training, build
from shrinkage.training.sharing import CannotShare
from shrinkage.training.workshop import Workshop


def trained(folder: Path, *overrides: str) -> Training:
    training = build(config(*overrides), folder)
    training.run()
    return training


@given(small=st.floats(1e-9, math.pi - 1e-6), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_an_angle_is_exact_however_small(small: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.linalg.qr(torch.randn(5, 2, generator=generator, dtype=torch.float64))[0].T
    turned = 7 * (math.cos(small) * a + math.sin(small) * b)
    assert angle(3 * a, turned).item() == pytest.approx(small, rel=1e-6, abs=1e-15)


@pytest.mark.parametrize(("lr", "lambd"), [(0.1, 0.1), (0.05, 0.5)])
def test_sgds_equilibrium_is_where_a_random_walk_settles(lr: float, lambd: float) -> None:
    """w ← (1 − ηλ)w − η∇ with ∇ of a scale-invariant loss: at a right angle to w, and as long as c/‖w‖."""
    random = np.random.default_rng(0)
    w, norms, angles = random.normal(size=300), [], []
    for step in range(4000):
        tangent = random.normal(size=300)
        tangent -= w * (tangent @ w) / (w @ w)
        gradient = 2.0 * tangent / np.linalg.norm(tangent) / np.linalg.norm(w)
        after = (1 - lr * lambd) * w - lr * gradient
        if step >= 1000:
            norms.append(np.linalg.norm(after))
            angles.append(math.acos(after @ w / np.linalg.norm(after) / np.linalg.norm(w)))
        w = after
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr)
    theory = equilibrium(L2(mode="decay"), lambd, lr, optimizer, unit_gradient=4.0)
    assert np.mean(norms) == pytest.approx(theory["equilibrium_norm"], rel=2 * lr * lambd)
    assert np.mean(angles) == pytest.approx(theory["equilibrium_angle"], rel=2 * lr * lambd)


def test_adamws_equilibrium_is_where_a_random_walk_settles() -> None:
    generator = torch.Generator().manual_seed(0)
    w = torch.nn.Parameter(torch.randn(1000, generator=generator, dtype=torch.float64))
    lr, lambd, angles = 0.01, 0.5, []
    optimizer = torch.optim.AdamW([w], lr=lr, weight_decay=lambd)
    for step in range(3000):
        before = w.detach().clone()
        w.grad = torch.randn(1000, generator=generator, dtype=torch.float64)
        optimizer.step()
        if step >= 1500:
            angles.append(angle(before, w.detach()).item())
    theory = equilibrium(L2(mode="decay"), lambd, lr, torch.optim.Adam([w], lr=lr), 1.0)
    assert np.mean(angles) == pytest.approx(theory["equilibrium_angle"], rel=0.05)


@pytest.mark.parametrize("mode", ["decay", "loss", "prox"])
def test_a_run_logs_what_its_weights_do(mode: str, tmp_path: Path) -> None:
    overrides = ["data=digits", "model=mlp", "model.widths=[20]", "schedule=cosine", "optimizer.lr=0.05", "lambd=0.1"]
    training = trained(tmp_path, *overrides, f"penalty.mode={mode}", "trainer.max_epochs=3", "dynamics=true")
    history = training.module.history
    assert not [name for name in history[0].metrics if name.startswith(("layer/", "decay/"))]
    steps = training.trainer.num_training_batches
    rates = [0.05 * training.module.schedule(step, 3 * steps) for step in range(3 * steps)]
    for epoch, _, measured in history[1:]:
        shrinking = 1 - 0.1 * np.array(rates[: epoch * steps])
        if mode == "prox":
            shrinking = 1 / (1 + 0.1 * np.array(rates[: epoch * steps]))
        if epoch < 3:  # at the end η is 0
            assert measured["decay/memory"] == pytest.approx(shrinking.prod(), rel=1e-9)
            assert measured["decay/timescale_epochs"] * steps == pytest.approx(measured["decay/timescale_steps"])
            assert measured["layer/0.weight/equilibrium_angle" if mode != "prox" else "layer/0.weight/angle"] > 0
        assert measured["loss/spikes"] == 0
    weight = training.module.model.state_dict()["0.weight"].double()
    assert history[-1].metrics["layer/0.weight/norm"] == pytest.approx(weight.norm().item())
    assert "layer/0.bias/norm" not in history[-1].metrics


def test_gradients_and_angles_of_every_step_where_they_are_few(tmp_path: Path) -> None:
    """Full batches: one step an epoch, so that what is logged is that step's."""
    overrides = ["data=digits", "model=mlp", "model.widths=[20]", "data.batch_size=null", "optimizer.lr=0.1"]
    overrides += ["penalty=none", "trainer.max_epochs=1", "trainer.precision=64-true", "dynamics=true"]
    before = build(config(*overrides), tmp_path)
    x, y = (
        torch.from_numpy(array) for array in (before.datamodule.parts["train"].x, before.datamodule.parts["train"].y)
    )
    model = before.module.model
    before.module.task.loss(model(x), y).backward()
    w, gradient = model[0].weight.detach(), model[0].weight.grad
    measured = trained(tmp_path, *overrides).module.measured
    assert measured["layer/0.weight/gradient"] == pytest.approx(gradient.norm().item())
    assert measured["layer/0.weight/angle"] == pytest.approx(angle(w, w - 0.1 * gradient).item())
    norm = measured["layer/0.weight/norm"]
    assert measured["layer/0.weight/effective_lr"] == pytest.approx(0.1 / norm**2)


def test_a_spike_is_six_deviations_above_the_running_mean(tmp_path: Path) -> None:
    dynamics, random = Dynamics(build(config(), tmp_path).module), np.random.default_rng(0)
    dynamics.losses = [torch.tensor(value) for value in 2 + 0.1 * random.normal(size=300)]
    assert dynamics.spikes() == 0
    dynamics.losses = [torch.tensor(value) for value in (2.1, 2.9, math.nan, 1.0, 2.0)]
    assert dynamics.spikes() == 2


def test_theory_is_silent_where_there_is_none() -> None:
    sgd = torch.optim.SGD([torch.zeros(1)], lr=0.1, momentum=0.9)
    assert equilibrium(L1(mode="loss"), 0.1, 0.1, sgd, 1.0) == {}
    assert equilibrium(L2(mode="prox"), 0.1, 0.1, sgd, 1.0) == {}
    assert equilibrium(L2(mode="loss"), 0.0, 0.1, sgd, 1.0) == {}
    assert set(equilibrium(L2(mode="loss"), 0.1, 0.1, sgd, 1.0)) == {"equilibrium_angle"}
    assert equilibrium(L2(mode="loss"), 0.1, 0.1, torch.optim.Adam([torch.zeros(1)]), 1.0) == {}


def test_tiny_models_and_lanes_are_not_looked_at(tmp_path: Path) -> None:
    assert build(config(), tmp_path).module.dynamics is None
    assert build(config("data=digits", "model=mlp", "model.widths=[200]"), tmp_path).module.dynamics is not None
    assert build(config("model=mlp", "model.widths=[500]", "dynamics=false"), tmp_path).module.dynamics is None
    cfg = config("dynamics=true")
    with pytest.raises(CannotShare, match="dynamics=true looks at one model's steps"):
        lanes_that_fit([cfg, cfg], Workshop(cfg), tmp_path)


@pytest.mark.parametrize("mode", ["decay", "cautious", "prox"])
def test_a_decay_that_bf16_rounds_away_is_said(mode: str, tmp_path: Path) -> None:
    """ηλ = 1e-3 is below 2⁻⁹: weights are bit for bit those of λ = 0."""
    overrides = ["data=digits", "model=mlp", "model.widths=[20]", f"penalty.mode={mode}", "optimizer.lr=0.001"]
    overrides += ["trainer.precision=bf16-true", "trainer.max_steps=20"]
    lost, without = (trained(tmp_path, *overrides, f"lambd={lambd}") for lambd in (1, 0))
    assert "100 % are left by a step of the penalty bit for bit as they were" in " ".join(lost.advice())
    assert not [sentence for sentence in without.advice() if "bit for bit" in sentence]
    for name, w in lost.module.model.state_dict().items():
        assert w.dtype == torch.bfloat16
        if mode != "cautious":
            assert w.equal(without.module.model.state_dict()[name])
    mixed = build(config(*overrides, "lambd=1", "trainer.precision=bf16-mixed"), tmp_path)
    assert not [sentence for sentence in mixed.advice() if "bit for bit" in sentence]
    strong = build(config(*overrides, "lambd=10"), tmp_path)
    assert not [sentence for sentence in strong.advice() if "bit for bit" in sentence]


def test_another_word_is_refused(tmp_path: Path) -> None:
    from shrinkage.rules import check

    with pytest.raises(InputError, match="dynamics=sometimes: must be true, false or auto"):
        check(config("dynamics=sometimes"))
