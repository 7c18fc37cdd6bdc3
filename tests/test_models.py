"""Every choice of conf/model keeps the promises that the others build on."""

from pathlib import Path

import pytest
import torch
from conftest import choices, config

from shrinkage.errors import InputError
from shrinkage.objective import split_parameters
from shrinkage.training import build, make

each = pytest.mark.parametrize("name", choices("model"))


@each
@pytest.mark.parametrize("outputs", [1, 3])
def test_shapes(name: str, outputs: int) -> None:
    model = make(config(f"model={name}").model, inputs=7, outputs=outputs)
    assert model(torch.randn(5, 7)).shape == (5, outputs)
    assert split_parameters(model)[0]


@each
def test_same_seed_same_numbers_bit_for_bit(name: str, tmp_path: Path) -> None:
    def run(*overrides: str) -> list:
        training = build(config(f"model={name}", "lambd=0.1", "trainer.max_epochs=2", *overrides), tmp_path)
        training.run()
        return training.module.history

    assert run() == run() != run("seed=1")


@pytest.mark.parametrize(
    ("init", "spread", "bias"),
    [("normal", 0.5, 0.0), ("glorot", (2 / 1010) ** 0.5, 0.0), ("torch", (1 / 3000) ** 0.5, None)],
)
def test_initial_weights(init: str, spread: float, bias: float | None) -> None:
    torch.manual_seed(0)
    model = make(config(f"model.init={init}", "model.sigma=0.5").model, inputs=1000, outputs=10)
    assert model.weight.std().item() == pytest.approx(spread, rel=0.03)
    assert bias is None or (model.bias == bias).all()


def test_a_model_without_bias() -> None:
    assert make(config("model.bias=false").model, inputs=3, outputs=1).bias is None


@pytest.mark.parametrize(
    "override", ["model.init=zeros", "model.dropout=1", "model.widths=[0]", "model.activation=Nothing"]
)
def test_arguments_that_are_refused(override: str) -> None:
    with pytest.raises(InputError, match=override.split("=")[0]):
        make(config("model=mlp", override).model, inputs=3, outputs=1)
