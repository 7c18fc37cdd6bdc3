"""The laws of a penalty."""

from collections.abc import Iterator
from dataclasses import replace
from typing import get_args

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from shrinkage.errors import InputError
from shrinkage.penalties.base import Mode, Penalty

from .laws import require, require_close, require_lanes

SHAPES = ((1, 1), (1, 2), (2, 1), (2, 2), (3, 2))  # the smallest first, to be read in messages
H = 1e-6  # of finite differences, in double precision: errors of H² and of rounding/H


def check_penalty(penalty: Penalty, seed: int = 0) -> None:
    """Check the laws of a penalty on weights that are drawn from a seed.

    Ω(0) = 0 and Ω ≥ 0; `decay` is w − step·∇Ω, by finite differences, if the penalty can act as loss; `prox` is the
    argmin of Ω(u) + ‖u − w‖²/(2·step), which a search cannot undercut, tends to w with step → 0, and keeps names and
    shapes; `elastic_net` is λΩ; each mode is served or refused by an InputError; and `value`, `decay` and `prox` can be
    vectorised over lanes. Raises AssertionError for the first law that is broken.
    """
    random = np.random.default_rng(seed)
    check_zero(penalty)
    check_names_and_shapes(penalty, random)
    check_modes(penalty)
    for w, step in draw(random):
        check_value(penalty, w)
        check_short_steps(penalty, w)
        check_elastic_net(penalty, w)
        check_prox(penalty, w, step, random)
    if "loss" in penalty.modes:
        check_decay(penalty, random)
    check_lanes(penalty, random)


def draw(random: np.random.Generator) -> Iterator[tuple[Tensor, float]]:
    """Draw weights, zeros and equal ones among them, each with the step of a prox."""
    for shape in SHAPES:
        w = random.choice([0.0, 1.0, 10.0]) * random.normal(size=shape).round(2)
        w[random.random(shape) < 0.2] = 0
        w[random.random(shape) < 0.2] = 1.5
        yield torch.from_numpy(w), float(np.exp(random.uniform(np.log(1e-3), np.log(5))))


def check_zero(penalty: Penalty) -> None:
    """Check that zero weights cost nothing, as one number."""
    zeros = {"w": torch.zeros(3, 2), "v": torch.zeros(4)}
    value = penalty.value(zeros)
    law = "Ω(0) = 0, as a tensor of no dimension"
    require(isinstance(value, Tensor) and value.shape == () and value == 0, penalty, law, value=value)


def check_value(penalty: Penalty, w: Tensor) -> None:
    """Check that no weights have a negative or undefined penalty."""
    value = float(penalty.value({"w": w}))
    require(value >= 0, penalty, "Ω(w) ≥ 0", w=w, value=value)


def check_names_and_shapes(penalty: Penalty, random: np.random.Generator) -> None:
    """Check that what a penalty makes of weights has their names and shapes."""
    shapes = {"a": (3, 2), "b": (4,), "c": (2, 3, 2, 2)}
    weights = {name: torch.from_numpy(random.normal(size=shape)) for name, shape in shapes.items()}
    moved = penalty.prox(weights, torch.tensor(0.1))
    found = {name: tuple(w.shape) for name, w in moved.items()}
    require(found == shapes, penalty, "prox keeps names and shapes", found=found, expected=shapes)


def check_modes(penalty: Penalty) -> None:
    """Check that every mode is served or refused by an InputError."""
    for mode in get_args(Mode):
        try:
            replace(penalty, mode=mode)
            served = True
        except InputError:
            served = False
        law = (
            "a mode is served if it is one of `modes`, and refused by an InputError if not (call super().__post_init__)"
        )
        require(served == (mode in penalty.modes), penalty, law, mode=mode, modes=penalty.modes)


def check_prox(penalty: Penalty, w: Tensor, step: float, random: np.random.Generator) -> None:
    """Check that no point that a search finds has a smaller Ω(u) + ‖u − w‖²/(2·step) than the prox."""

    def objective(u: np.ndarray) -> float:
        moved = torch.as_tensor(u, dtype=torch.float64).reshape(w.shape)
        return float(penalty.value({"w": moved}) + (moved - w).square().sum() / (2 * step))

    found = penalty.prox({"w": w}, step)["w"].flatten().numpy()
    value = objective(found)
    start = w.flatten().numpy()
    for begin in (start, found, 0 * start, random.normal(size=len(start))):
        searched = minimize(objective, begin, method="Powell", options={"xtol": 1e-9, "ftol": 1e-12})
        for point, other in ((begin, objective(begin)), (searched.x, float(searched.fun))):
            law = "prox(w, step) is the u with the least Ω(u) + ‖u − w‖²/(2·step)"
            numbers = {
                "w": w,
                "step": step,
                "prox": found,
                "objective_at_prox": value,
                "u": point,
                "objective_at_u": other,
            }
            require(value <= other + 1e-10 * (1 + abs(other)), penalty, law, **numbers)


def check_short_steps(penalty: Penalty, w: Tensor) -> None:
    """Check that a prox without a step changes nothing, and one with a tiny step hardly anything."""
    require_close(
        penalty.prox({"w": w}, 0.0)["w"], w, 1e-13 * (1 + float(w.abs().max())), penalty, "prox(w, 0) = w", w=w
    )
    moved = penalty.prox({"w": w}, 1e-12)["w"]
    far, value = float((moved - w).square().sum()), float(penalty.value({"w": w}))
    law = "‖prox(w, step) − w‖² ≤ 2·step·Ω(w)"  # since w itself is no better than the prox
    require(far <= 2e-12 * value + 1e-20, penalty, law, w=w, step=1e-12, squared_distance=far, value=value)


def check_elastic_net(penalty: Penalty, w: Tensor) -> None:
    """Check that a penalty which says it is an elastic net is the one that it says."""
    lambd = 0.7
    strengths = penalty.elastic_net(lambd)
    if strengths is not None:
        l1, l2 = map(float, strengths)
        lengths = w.abs()
        if penalty.holds_columns and w.ndim > 1:
            columns = w.movedim(1, 0).flatten(1)
            lengths = columns.shape[1] ** 0.5 * columns.norm(dim=1)
        expected = l1 * float(lengths.sum()) + l2 * float(w.square().sum()) / 2
        value = lambd * float(penalty.value({"w": w}))
        law = "elastic_net(λ) = (λ₁, λ₂) with λΩ(w) = λ₁‖w‖₁ + λ₂·½‖w‖², or √out·‖wⱼ‖ of columns for ‖w‖₁"
        numbers = {"w": w, "lambd": lambd, "l1": l1, "l2": l2, "found": value, "expected": expected}
        require(abs(value - expected) <= 1e-12 * (1 + expected), penalty, law, **numbers)


def check_decay(penalty: Penalty, random: np.random.Generator) -> None:
    """Check that a decay goes against the gradient of Ω, wherever finite differences tell what it is."""
    compared = 0
    law = "decay(w, step) = w − step·∇Ω(w)"
    for shape in SHAPES:
        w = torch.from_numpy(3 * random.normal(size=shape))
        directions = torch.eye(w.numel(), dtype=torch.float64).reshape(-1, *shape)
        here = penalty.value({"w": w})
        ahead, behind = (
            torch.stack([(penalty.value({"w": w + sign * H * e}) - here) / (sign * H) for e in directions])
            for sign in (1, -1)
        )
        if (ahead - behind).abs().max() < 1e-4:  # no kink near, and no curvature for which H is too coarse
            compared += 1
            step = float(random.uniform(0.1, 2))
            expected = w - step * ((ahead + behind) / 2).reshape(shape)
            decayed = penalty.decay({"w": w}, step)["w"]
            require_close(decayed, expected, 1e-4 * (1 + step), penalty, law, w=w, step=step)
    require(compared, penalty, "Ω has a gradient at nearly all w, if the penalty can act as loss")


def check_lanes(penalty: Penalty, random: np.random.Generator) -> None:
    """Check that a penalty gives of many models' weights at once what it gives of each."""
    w, steps = torch.from_numpy(random.normal(size=(2, 3, 2))), torch.tensor([0.1, 0.5], dtype=torch.float64)
    law = "{} can be vectorised by torch.vmap: no .item(), no if on the values"
    require_lanes(lambda w: penalty.value({"w": w}), (w,), 1e-12, penalty, law.format("value"))
    require_lanes(lambda w, s: penalty.prox({"w": w}, s)["w"], (w, steps), 1e-12, penalty, law.format("prox"))
    if "loss" in penalty.modes:
        require_lanes(lambda w, s: penalty.decay({"w": w}, s)["w"], (w, steps), 1e-12, penalty, law.format("decay"))
