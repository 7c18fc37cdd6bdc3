"""Every choice of conf/penalty keeps the promises of its base class, in every mode that it serves."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import choices, config
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from shrinkage.errors import InputError
from shrinkage.penalties.base import Penalty
from shrinkage.penalties.elastic_net import ElasticNet
from shrinkage.penalties.group_lasso import GroupLasso
from shrinkage.penalties.l1 import L1
from shrinkage.penalties.l_half import LHalf
from shrinkage.penalties.mcp import MCP
from shrinkage.penalties.nuclear import Nuclear
from shrinkage.penalties.scad import SCAD
from shrinkage.testing import check_penalty
from shrinkage.training import objective
from shrinkage.training.workshop import make

PENALTIES = {name: make(config(f"penalty={name}").penalty) for name in choices("penalty")}
each = pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES.keys())
NOT_CONVEX = {"l0", "l_half", "mcp", "scad"}


@each
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=2, deadline=None)
def test_a_penalty_keeps_the_laws(penalty: Penalty, seed: int) -> None:
    check_penalty(penalty, seed)


@pytest.mark.parametrize("mode", ["loss", "decay", "cautious", "prox"])
@each
def test_a_mode_that_is_not_served_is_refused_by_name(penalty: Penalty, mode: str) -> None:
    if mode not in penalty.modes:
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


@pytest.mark.parametrize(
    "override",
    [
        *("penalty=huber penalty.delta=0", "penalty=mcp penalty.saturation=-1", "penalty=mcp penalty.saturation=true"),
        *("penalty=scad penalty.bend=1", "penalty=group_lasso penalty.by=row", "penalty=l2 penalty.rate=half"),
        *("penalty=l2 penalty.groups=loss", "penalty=group_lasso penalty.members=loss"),
        *("penalty=group_lasso penalty.members={a:1}", "penalty=l2 penalty.groups={weight:half}"),
        *("penalty=l2 penalty.rate=constant", "penalty=sparse_group_lasso penalty.l1_ratio=2"),
        *("penalty=group_lasso penalty.members={a:[0,1],b:[1]}", "penalty=l2 penalty.groups={weight:-1}"),
    ],
)
def test_numbers_that_are_refused(override: str) -> None:
    choice, key = override.split()
    with pytest.raises(InputError, match=key.split("=")[0]):
        make(config(choice, key).penalty)


def test_mcp_and_scad_are_those_of_the_literature() -> None:
    """λΩ against the integrals of their slopes, λ(1 − u/(γλ))₊ and min(λ, (γλ − u)₊/(γ − 1))."""
    lambd, gamma = 0.7, 3.7
    slopes = {
        MCP(mode="prox", saturation=gamma * lambd): lambda u: max(lambd - u / gamma, 0),
        SCAD(mode="prox", bend=lambd, saturation=gamma * lambd): lambda u: min(
            lambd, max(gamma * lambd - u, 0) / (gamma - 1)
        ),
    }
    for penalty, slope in slopes.items():
        for w in (0.3, 0.7, 1.5, 2.59, 4.0):
            exact, _ = quad(slope, 0, w, points=sorted({min(lambd, w), min(gamma * lambd, w)}))
            assert lambd * penalty.value({"w": torch.tensor([-w], dtype=torch.float64)}) == pytest.approx(
                exact, abs=1e-9
            )


def test_groups_vanish_as_a_whole() -> None:
    w = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]], dtype=torch.float64)
    prox = GroupLasso(mode="prox", by="output").prox({"w": w}, 1.0)["w"]
    torch.testing.assert_close(prox, torch.cat([w[:1] * (1 - 2**0.5 / 5), torch.zeros(2, 2).double()]))
    prox = GroupLasso(mode="prox", by="input").prox({"w": w.T.contiguous()}, 1.0)["w"]
    torch.testing.assert_close(prox.T, torch.cat([w[:1] * (1 - 2**0.5 / 5), torch.zeros(2, 2).double()]))


def test_named_groups_are_one_group_each() -> None:
    w = torch.tensor([[3.0, 1.0, 4.0, 0.1]], dtype=torch.float64)
    penalty = GroupLasso(mode="prox", by="input", members={"a": [0, 2], "b": [3]})
    assert penalty.value({"w": w}).item() == pytest.approx(2**0.5 * 5 + 1 + 0.1)
    a = 1 - 0.5 * 2**0.5 / 5
    torch.testing.assert_close(penalty.prox({"w": w}, 0.5)["w"], torch.tensor([[3 * a, 0.5, 4 * a, 0.0]]).double())
    with pytest.raises(InputError, match="members names number 3, and w has 2 inputs"):
        penalty.check({"w": w[:, :2]})


def test_a_nuclear_norm_lowers_the_rank() -> None:
    torch.manual_seed(0)
    w = torch.randn(6, 4, dtype=torch.float64)
    s = torch.linalg.svdvals(w)
    low = Nuclear(mode="prox").prox({"w": w}, float(s[1] + s[2]) / 2)["w"]
    assert torch.linalg.matrix_rank(low) == 2
    for name in ("nuclear", "spectral"):
        with pytest.raises(InputError, match=f"penalty={name}: .*penalty=l2_norm"):
            make(config(f"penalty={name}").penalty).check({"w": torch.randn(1, 5), "v": torch.randn(3, 1)})


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", [name for name, penalty in PENALTIES.items() if "prox" in penalty.modes])
def test_prox_under_momentum_tends_to_the_minimiser(name: str, momentum: float) -> None:
    """Least squares with three outputs: at the end w = prox_{tλΩ}(w − t∇ℓ), of a convex Ω for any t."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    y = (
        x @ torch.randn(4, 3, generator=generator, dtype=torch.float64)
        + torch.randn(30, 3, generator=generator).double()
    )
    penalty, lambd = dataclasses.replace(PENALTIES[name], mode="prox"), 0.1
    w = {"w": torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)}
    lr = 0.3 * (1 - momentum)
    optimizer = torch.optim.SGD(w.values(), lr=lr, momentum=momentum)
    for _ in range(1000):
        optimizer.zero_grad()
        ((x @ w["w"].T - y).square().sum() / (2 * len(x))).backward()
        optimizer.step()
        objective.assign_(w, objective.proxed(penalty, objective.detached(w), lr, lambd, momentum))
    found = w["w"].detach()
    gradient = (x @ found.T - y).T @ x / len(x)
    t = 0.3 if name in NOT_CONVEX else 0.05
    again = penalty.prox({"w": found - t * gradient}, t * lambd)["w"]
    torch.testing.assert_close(again, found, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["l1", "elastic_net", "mcp", "scad", "l_half", "group_lasso"])
def test_values_and_proxes_are_skglms(name: str) -> None:
    """λΩ and its prox at λ = 0.7, γ = 3; skglm is in the extra `others`."""
    skglm = pytest.importorskip("skglm.penalties")
    lambd, gamma = 0.7, 3.0
    ours, theirs = {
        "l1": (L1(mode="prox"), skglm.L1(lambd)),
        "elastic_net": (ElasticNet(mode="prox", l1_ratio=0.4), skglm.L1_plus_L2(lambd, 0.4)),
        "mcp": (MCP(mode="prox", saturation=gamma * lambd), skglm.MCPenalty(lambd, gamma)),
        "scad": (SCAD(mode="prox", bend=lambd, saturation=gamma * lambd), skglm.SCAD(lambd, gamma)),
        "l_half": (LHalf(mode="prox"), skglm.L0_5(lambd)),
        "group_lasso": (
            GroupLasso(mode="prox", by="input", members={"a": [0, 1, 2], "b": [3, 4]}),
            skglm.WeightedGroupL2(
                lambd, np.sqrt([3.0, 2.0]), np.array([0, 3, 5], np.int32), np.arange(5, dtype=np.int32)
            ),
        ),
    }[name]
    random, step = np.random.default_rng(0), 0.8
    for scale in (0.3, 1.0, 3.0):
        w = scale * random.normal(size=5)
        tensor = {"w": torch.from_numpy(w)[None]}
        assert lambd * ours.value(tensor).item() == pytest.approx(theirs.value(w))
        prox = ours.prox(tensor, step * lambd)["w"][0].numpy()
        if name == "group_lasso":
            expected = np.concatenate([theirs.prox_1group(w[:3], step, 0), theirs.prox_1group(w[3:], step, 1)])
        else:
            expected = np.array([theirs.prox_1d(each, step, j) for j, each in enumerate(w)])
        np.testing.assert_allclose(prox, expected, atol=1e-12)
