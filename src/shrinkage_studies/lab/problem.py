"""The numbers of the laboratory's page: the chapter's problem as a run has it, its optima, and the forum's table."""

import base64
from typing import Any

import numpy as np
import torch

from shrinkage.data.base import Part, ShuffledBatches
from shrinkage.data.d2l import D2L
from shrinkage.models.linear import Linear
from shrinkage.optimum.conventions import CONVENTIONS, L2, Circumstances
from shrinkage.optimum.engines.path import solve_path
from shrinkage.optimum.problem import Problem
from shrinkage.tasks.regression import Regression

from ..forum_table import POSTED

TRAIN, VALIDATION, INPUTS, BATCH = 20, 100, 200, 5
WEIGHT, BIAS, NOISE = 0.01, 0.05, 0.01
EPOCHS = 200
ROUND = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
STRENGTHS = np.array([0.0, *(float(f"{digit}e{power}") for power in range(-3, 2) for digit in ROUND), 100.0])
FORUM_SEEDS, FORUM_EPOCHS, FORUM_RATE = 50, 100, 0.006
SHOWN = ("d2l", "torch_sgd_mse", "sklearn", "glmnet")


def chapter(seed: int) -> tuple[Part, Part]:
    """Draw the chapter's training and validation rows, as data=d2l does."""
    data = D2L(
        num_train=TRAIN, num_val=VALIDATION, num_inputs=INPUTS, weight=WEIGHT, bias=BIAS, noise=NOISE,
        seed=seed, batch_size=BATCH, order_seed=seed,
    )  # fmt: skip
    data.setup()
    return data.parts["train"], data.parts["val"]


def orders(seed: int, epochs: int) -> np.ndarray:
    """Draw the order of the training rows in each epoch, [epochs, rows], as a run of that seed does."""
    batches = ShuffledBatches(TRAIN, BATCH, seed)
    drawn: list[np.ndarray] = []
    for epoch in range(epochs):
        batches.set_epoch(epoch)
        drawn.append(torch.cat(list(batches)).numpy())
    return np.array(drawn)


def start(seed: int, init: str = "normal") -> np.ndarray:
    """Draw the initial weights of a run of that seed, [inputs]; normal ones with σ = 1."""
    torch.manual_seed(seed)
    return Linear(INPUTS, 1, bias=True, init=init, sigma=1.0).weight.detach().double().numpy()[0]


def optima(train: Part, validation: Part) -> dict[str, dict[str, list[float]]]:
    """Solve for the exact minimisers of L1 and L2 at each strength, and measure them as a run is measured."""
    x, y = torch.from_numpy(train.x), torch.from_numpy(train.y)
    problem = Problem(x, y, Regression(), "free")
    found: dict[str, dict[str, list[float]]] = {}
    for name, columns in (("l1", (1.0, 0.0)), ("l2", (0.0, 1.0))):
        solved = solve_path(problem, np.outer(STRENGTHS, columns))
        weight, bias = solved.weight[:, 0], solved.bias[:, 0]
        losses = {
            key: ((part.x @ weight.T + bias - part.y[:, None]) ** 2).mean(axis=0) / 2
            for key, part in (("train", train), ("test", validation))
        }
        norm = np.linalg.norm(weight, axis=1)
        zeros = (weight == 0).mean(axis=1)
        found[name] = {key: each.tolist() for key, each in (losses | {"norm": norm, "zeros": zeros}).items()}
    return found


def forum() -> dict[str, Any]:
    """Train fifty seeds of the forum's table at once, and give the range of their losses at each λ.

    Mean squared residuals without the ½, as the post has them. See `forum_table` for the semantics.
    """
    drawn = [chapter(seed) for seed in range(FORUM_SEEDS)]
    x, y = np.stack([train.x for train, _ in drawn]), np.stack([train.y for train, _ in drawn])
    order = np.stack([orders(seed, FORUM_EPOCHS) for seed in range(FORUM_SEEDS)])
    strengths = np.array([row[0] for row in POSTED], dtype=float)
    first = np.stack([start(seed, "glorot") for seed in range(FORUM_SEEDS)])
    weight = np.repeat(first[:, :, None], len(POSTED), axis=2)  # [seeds, inputs, λ's]
    bias = np.zeros((FORUM_SEEDS, 1, len(POSTED)))
    every = np.arange(FORUM_SEEDS)[:, None]
    for epoch in range(FORUM_EPOCHS):
        for rows in np.split(order[:, epoch], TRAIN // BATCH, axis=1):
            batch = x[every, rows]
            residual = batch @ weight + bias - y[every, rows, None]
            weight = weight - FORUM_RATE * (batch.transpose(0, 2, 1) @ residual / BATCH + strengths * weight)
            bias = bias - FORUM_RATE * residual.mean(axis=1, keepdims=True)
    found: dict[str, Any] = {"posted": [list(row) for row in POSTED], "seeds": FORUM_SEEDS}
    for name, place in (("train", 0), ("test", 1)):
        inputs, target = (np.stack([getattr(parts[place], key) for parts in drawn]) for key in "xy")
        losses = ((inputs @ weight + bias - target[:, :, None]) ** 2).mean(axis=1)
        found[name] = np.quantile(losses, [0.05, 0.5, 0.95], axis=0).T.tolist()
    return found


def conventions(train: Part) -> list[dict[str, Any]]:
    """Give what λ of ½‖w‖² is multiplied by in other libraries, for the chapter's training rows."""
    here = Circumstances(rows=TRAIN, target_sd=float(train.y.std()))
    factors = {each.key: each for each in CONVENTIONS if each.penalty == L2 and each.kind != "classification"}
    return [
        {"written": factors[key].text.format(value="…", rho=""), "factor": factors[key].value(1.0, here)}
        for key in SHOWN
    ]


def packed(array: np.ndarray, kind: str = "<f8") -> str:
    """Write an array as base64 of its numbers, row after row."""
    return base64.b64encode(np.ascontiguousarray(array, dtype=kind).tobytes()).decode()


def everything() -> dict[str, Any]:
    """Gather all that the page needs, as JSON can hold it."""
    train, validation = chapter(0)
    return {
        "inputs": INPUTS,
        "batch": BATCH,
        "train": {"x": packed(train.x), "y": packed(train.y)},
        "test": {"x": packed(validation.x), "y": packed(validation.y)},
        "start": packed(start(0)),
        "orders": packed(orders(0, EPOCHS), "u1"),
        "epochs": EPOCHS,
        "strengths": STRENGTHS.tolist(),
        "optima": optima(train, validation),
        "mean": float(((validation.y - train.y.mean()) ** 2).mean() / 2),
        "conventions": conventions(train),
        "forum": forum(),
    }
