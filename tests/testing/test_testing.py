"""Each law is seen to be broken: a class that breaks it, and only it, is told so with its numbers."""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch import Tensor, nn

from shrinkage.data.base import DataModule, Part
from shrinkage.penalties.elastic_net import ElasticNet
from shrinkage.penalties.l1 import L1
from shrinkage.penalties.l2 import L2
from shrinkage.tasks.base import Target
from shrinkage.tasks.classification import Classification
from shrinkage.tasks.metrics.mae import MAE
from shrinkage.tasks.regression import Regression
from shrinkage.testing import check_data, check_metric, check_model, check_penalty, check_task


class NotZero(L1):
    def value(self, weights: Mapping[str, Tensor]) -> Tensor:
        return super().value(weights) + 1


class Negative(L2):
    def value(self, weights: Mapping[str, Tensor]) -> Tensor:
        return -super().value(weights)


class OfOneEntry(L1):
    def prox(self, weights: Mapping[str, Tensor], step: Tensor | float) -> dict[str, Tensor]:
        return {name: w.flatten()[:1] for name, w in weights.items()}


class TooFar(L1):
    def prox(self, weights: Mapping[str, Tensor], step: Tensor | float) -> dict[str, Tensor]:
        return super().prox(weights, 2 * step)


class NeverStill(L2):
    def prox(self, weights: Mapping[str, Tensor], step: Tensor | float) -> dict[str, Tensor]:
        return super().prox(weights, step + 1e-3)


class WrongDecay(L2):
    def decay(self, weights: Mapping[str, Tensor], step: Tensor | float) -> dict[str, Tensor]:
        return super().decay(weights, 1.01 * step)


class WrongNet(ElasticNet):
    def elastic_net(self, lambd: Tensor | float) -> tuple[Tensor | float, Tensor | float]:
        l1, l2 = super().elastic_net(lambd)
        return l2, l1


class AnyMode(L1):
    modes = ("loss",)

    def __post_init__(self) -> None:
        pass


class Branching(L1):
    def value(self, weights: Mapping[str, Tensor]) -> Tensor:
        value = super().value(weights)
        return value if value > 0 else 0 * value


@pytest.mark.parametrize(
    ("penalty", "words"),
    [
        (NotZero(mode="loss"), r"NotZero breaks a law: Ω\(0\) = 0.* Here value = 1.0"),
        (Negative(mode="loss"), r"Ω\(w\) ≥ 0\. Here w = \[\[.*value = -"),
        (
            OfOneEntry(mode="loss"),
            r"prox keeps names and shapes.*expected = {a: \(3, 2\), b: \(4\)",
        ),
        (TooFar(mode="loss"), r"prox\(w, step\) is the u with the least .*w = .*step = .*prox = .*u = "),
        (NeverStill(mode="loss"), r"prox\(w, 0\) = w\. Here w = "),
        (WrongDecay(mode="loss"), r"decay\(w, step\) = w − step·∇Ω\(w\)\. Here w = .*found = .*expected = "),
        (WrongNet(mode="loss", l1_ratio=0.3), r"elastic_net\(λ\) = \(λ₁, λ₂\).*l1 = 0.49; l2 = 0.21"),
        (AnyMode(mode="loss"), r"a mode is served .*mode = decay; modes = \(loss\)"),
        (Branching(mode="loss"), r"value can be vectorised .*error = RuntimeError: .*data-dependent control flow"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_law_of_penalties(penalty: L1, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check_penalty(penalty)


def test_the_documentation_shows_such_a_message() -> None:
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    (message,) = re.findall(r"^```\n(TooFar .*?)\n```$", page, re.MULTILINE | re.DOTALL)
    with pytest.raises(AssertionError, match=re.escape(message).replace("…", ".+")):
        check_penalty(TooFar(mode="loss"))


class Rows(DataModule):
    """Rows of two inputs, of 7 and of 2 × 2 numbers, drawn from a seed."""

    def __init__(self, seed: int = 0, order_seed: int = 0) -> None:
        super().__init__(seed=seed, batch_size=4, order_seed=order_seed)

    def make_parts(self) -> dict[str, Part]:
        draw = np.random.default_rng(self.seed)
        return {
            name: Part({"numbers": draw.normal(size=(rows, 7)), "squares": draw.normal(size=(rows, 2, 2))}, x)
            for name, rows in (("train", 12), ("val", 5))
            for x in [draw.normal(size=rows)]
        }


def test_data_of_several_inputs_and_their_model_keep_the_laws() -> None:
    check_data(Rows)
    check_model(Both, Rows())


class Both(nn.Module):
    """A linear model of both inputs."""

    def __init__(self, inputs: Mapping[str, int], outputs: int) -> None:
        super().__init__()
        assert inputs == {"numbers": 7, "squares": (2, 2)}
        self.linear = nn.Linear(7 + 4, outputs)

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        return self.linear(torch.cat([x["numbers"], x["squares"].flatten(1)], dim=1))


class Unnamed(Rows):
    def make_parts(self) -> dict[str, Part]:
        parts = super().make_parts()
        return {"training": parts["train"], **parts}


class WithGap(Rows):
    def make_parts(self) -> dict[str, Part]:
        parts = super().make_parts()
        parts["val"].x["numbers"][1, 1] = np.nan
        return parts


class Uneven(Rows):
    def make_parts(self) -> dict[str, Part]:
        parts = super().make_parts()
        return parts | {"val": replace(parts["val"], y=parts["val"].y[:-1])}


class Unseeded(Rows):
    def make_parts(self) -> dict[str, Part]:
        self.seed = int(np.random.default_rng().integers(2**30))
        return super().make_parts()


class AlwaysTheSame(Rows):
    def __init__(self, seed: int = 0, order_seed: int = 0) -> None:
        super().__init__(0, order_seed)


class InOneOrder(Rows):
    def __init__(self, seed: int = 0, order_seed: int = 0) -> None:
        super().__init__(seed, 0)


class Coded(Rows):
    def make_parts(self) -> dict[str, Part]:
        self.classes, self.class_names = 2, ("no", "yes")
        return {name: replace(part, y=np.full(len(part), 1)) for name, part in super().make_parts().items()}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Unnamed, "the parts are train and val, and perhaps test. Here found = .training, train, val"),
        (WithGap, "rows and targets are finite. Here part = val"),
        (Uneven, "each row has a target. Here part = val; rows = 5; targets = 4"),
        (Unseeded, "the same seed makes the same parts"),
        (AlwaysTheSame, "another seed makes other parts"),
        (InOneOrder, "another order seed has the rows in another order"),
        (Coded, r"the training rows have all of them. Here part = train; found = \(1\); classes = 2"),
    ],
)
def test_a_law_of_data(make: type[Rows], words: str) -> None:
    with pytest.raises(AssertionError, match=f"{make.__name__} breaks a law: .*{words}"):
        check_data(make)


class Narrow(Both):
    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        return super().forward(x)[:, 0]


class Mixing(Both):
    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        found = super().forward(x)
        return found - found.mean(dim=0)


class Idle(Both):
    def __init__(self, inputs: Mapping[str, int], outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.idle = nn.Linear(2, 2)


class Single(Both):
    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        return super().forward({name: each.float() for name, each in x.items()})


class Forgetful(Both):
    def __init__(self, inputs: Mapping[str, int], outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.shift = torch.randn(())

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        return super().forward(x) + self.shift


class Unrepeatable(Both):
    def __init__(self, inputs: Mapping[str, int], outputs: int) -> None:
        super().__init__(inputs, outputs)
        nn.init.normal_(self.linear.weight, generator=torch.Generator().manual_seed(torch.seed() % 2**31))


class Noisy(Both):
    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        found = super().forward(x)
        return found + torch.randn_like(found)


class OnlyBiases(Both):
    def __init__(self, inputs: Mapping[str, int], outputs: int) -> None:
        super().__init__(inputs, outputs)
        del self.linear
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        return self.bias.expand(len(x["numbers"]), -1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Narrow, r"outputs are \[rows, outputs\]. Here found = \(5\); expected = \(5, 1\)"),
        (Mixing, "the outputs of a row depend on that row alone. Here found = "),
        (Idle, "every parameter has a part in the outputs. Here parameter = idle.weight"),
        (Single, "in double precision, .*error = RuntimeError"),
        (Forgetful, "a model that has loaded another one's state_dict gives its outputs"),
        (Unrepeatable, "the same seed gives the same initial weights"),
        (Noisy, "the same rows have the same outputs"),
        (OnlyBiases, r"there is something to penalise. Here parameters = \(bias\)"),
        (partial(nn.Linear, 7), "a model is built from .*error = TypeError: .* unexpected keyword argument 'inputs'"),
    ],
)
def test_a_law_of_models(make: type[nn.Module], words: str) -> None:
    with pytest.raises(AssertionError, match=f"breaks a law: .*{words}"):
        check_model(make, Rows())


class Summed(Regression):
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return self.losses(output, target).sum()


class Relative(Regression):
    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        return super().losses(output, target) / target.square().mean()


class Hollow(Regression):
    def losses(self, output: Tensor, target: Tensor) -> Tensor:
        return (output[:, 0] - target).square().log1p()


class Steeper(Regression):
    curvature = 0.5


class WrongSlope(Regression):
    def slope(self, output: Tensor, target: Tensor) -> Tensor:
        return 2 * super().slope(output, target)


class WrongDual(Regression):
    def fenchel_young(self, output: Tensor, target: Tensor, dual: Tensor) -> Tensor:
        return 2 * super().fenchel_young(output, target, dual)


class WrongBias(Regression):
    def best_bias(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        return super().best_bias(output, target, weight) + 0.1


class Endless(Classification):
    def recession(self, target: Tensor) -> Tensor:
        return -super().recession(target)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (Summed, "loss is the mean of losses"),
        (Relative, "the loss of a row depends on that row alone"),
        (Hollow, r"ℓ\(\(a \+ b\)/2\) ≤"),
        (Steeper, r"no second derivative .* is more than `curvature`. Here curvature = 0.5; found = 1\."),
        (WrongSlope, "slope is the gradient"),
        (WrongDual, "fenchel_young"),
        (WrongBias, "best_bias is argmin"),
    ],
)
def test_a_law_of_tasks(task: type[Regression], words: str) -> None:
    with pytest.raises(AssertionError, match=f"{task.__name__} breaks a law: {words}"):
        check_task(task.for_target, Target())


def test_the_law_of_losses_that_fall_for_ever() -> None:
    with pytest.raises(AssertionError, match="the loss never rises along d"):
        check_task(Endless.for_target, Target(classes=2))


class Unsaid(MAE):
    about = ""


class Mean(MAE):
    def sums(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"absolute": (prediction - target).abs().mean()}


class First(MAE):
    def sums(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"absolute": (prediction - target)[0].abs()}


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (Unsaid(), "`about` is a str"),
        (Mean(), "the sums of two batches add up to those of both together. Here found = {rows: 30"),
        (First(), "its value does not depend on the order of the rows"),
    ],
)
def test_a_law_of_metrics(metric: MAE, words: str) -> None:
    with pytest.raises(AssertionError, match=f"{type(metric).__name__} breaks a law: {words}"):
        check_metric(metric)
