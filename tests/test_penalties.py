"""Every choice of conf/penalty keeps the promises of its base class, in every mode that it serves."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import choices, config
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from shrinkage.errors import InputError
from shrinkage.penalties.base import Penalty
from shrinkage.penalties.elastic_net import ElasticNet
from shrinkage.penalties.l1 import L1
from shrinkage.training import make

PENALTIES = {name: make(config(f"penalty={name}").penalty) for name in choices("penalty")}
each = pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES.keys())

numbers = st.floats(-10, 10, allow_subnormal=False).map(lambda x: round(x, 3))
vectors = st.lists(numbers, min_size=1, max_size=6).map(lambda x: {"w": torch.tensor(x, dtype=torch.float64)})
steps = st.floats(1e-3, 5).map(lambda x: round(x, 4))


@each
def test_zero_weights_cost_nothing(penalty: Penalty) -> None:
    value = penalty.value({"w": torch.zeros(3, 2), "v": torch.zeros(4)})
    assert value.shape == () and value == 0


@each
@given(weights=vectors)
@settings(max_examples=30, deadline=None)
def test_value_is_not_negative(penalty: Penalty, weights: dict) -> None:
    assert penalty.value(weights) >= 0


@each
@given(weights=vectors, step=steps)
@settings(max_examples=30, deadline=None)
def test_decay_follows_the_gradient_of_the_value(penalty: Penalty, weights: dict, step: float) -> None:
    w = torch.where(weights["w"].abs() < 0.01, 0.5, weights["w"])  # away from the kink, where ∇Ω is not one number
    h = 1e-6
    gradient = torch.stack(
        [
            (penalty.value({"w": w + h * e}) - penalty.value({"w": w - h * e})) / (2 * h)
            for e in torch.eye(len(w)).double()
        ]
    )
    torch.testing.assert_close(
        penalty.decay({"w": w}, step)["w"], w - step * gradient, atol=1e-7 * (1 + step), rtol=1e-7
    )


@each
@given(weights=vectors, step=steps)
@settings(max_examples=30, deadline=None)
def test_prox_is_the_argmin(penalty: Penalty, weights: dict, step: float) -> None:
    w = weights["w"]

    def proximal_objective(u: np.ndarray) -> float:
        u = torch.as_tensor(u, dtype=torch.float64)
        return float(penalty.value({"w": u}) + (u - w).square().sum() / (2 * step))

    found = penalty.prox(weights, step)["w"].numpy()
    numeric = minimize(proximal_objective, w.numpy(), method="Powell", options={"xtol": 1e-9, "ftol": 1e-12})
    value = proximal_objective(found)
    assert value <= numeric.fun + 1e-12 * (1 + abs(numeric.fun))
    # The minimum of a (1/step)-strongly convex function is as near as √(2·step·excess); the search has an excess too.
    if numeric.fun - value < 1e-9:
        np.testing.assert_allclose(found, numeric.x, rtol=0, atol=2 * np.sqrt(2 * step * 1e-9))


@each
@given(weights=vectors)
@settings(max_examples=30, deadline=None)
def test_prox_tends_to_the_identity(penalty: Penalty, weights: dict) -> None:
    w = weights["w"]
    torch.testing.assert_close(penalty.prox(weights, 0.0)["w"], w, rtol=0, atol=0)
    torch.testing.assert_close(penalty.prox(weights, 1e-9)["w"], w, rtol=0, atol=2e-8)


@each
def test_prox_keeps_shapes_and_names(penalty: Penalty) -> None:
    weights = {"a": torch.randn(3, 2), "b": torch.randn(4)}
    result = penalty.prox(weights, torch.tensor(0.1))
    assert {name: w.shape for name, w in result.items()} == {name: w.shape for name, w in weights.items()}


@each
def test_every_mode_is_served_or_refused_by_name(penalty: Penalty) -> None:
    for mode in ("loss", "decay", "prox"):
        if mode in penalty.modes:
            assert dataclasses.replace(penalty, mode=mode).mode == mode
        else:
            with pytest.raises(InputError, match=rf"penalty.mode={mode}: .*{type(penalty).__name__}"):
                dataclasses.replace(penalty, mode=mode)


def test_soft_threshold_makes_exact_zeros() -> None:
    shrunk = L1(mode="prox").prox({"w": torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0])}, 1.0)["w"]
    assert shrunk.tolist() == [-1.0, 0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize("l1_ratio", [-0.1, 1.1, "half"])
def test_elastic_net_refuses_a_ratio_outside_its_range(l1_ratio: object) -> None:
    with pytest.raises(InputError, match=r"penalty.l1_ratio="):
        ElasticNet(mode="prox", l1_ratio=l1_ratio)


def test_a_scope_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match=r"penalty.scope=bias"):
        L1(mode="prox", scope="bias")
