"""Every choice of conf/model keeps the promises that the others build on."""

from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import choices, config, gradients

from shrinkage.errors import InputError
from shrinkage.testing import check_model
from shrinkage.training.objective import split_parameters
from shrinkage.training.run import build
from shrinkage.training.workshop import make

each = pytest.mark.parametrize("name", choices("model"))
# What models may read: rows of numbers, images, text; and data that have such.
ROWS, IMAGES, TEXT = 7, (1, 8, 8), (16,)
DATA = {
    ROWS: ["data=d2l"],
    IMAGES: ["data=digits_images", "data.val=0.05", "data.test=0.85", "optimizer.lr=0.01"],
    TEXT: ["data=text", "data.context=16", "data.epoch_rows=64", "data.measured_rows=16", "optimizer.lr=0.01"],
}


def read_by(name: str) -> int | tuple[int, ...]:
    """The one kind of data that the model reads; the others are refused with a way out."""
    found = []
    for inputs in DATA:
        try:
            make(config(f"model={name}").model, inputs=inputs, outputs=3)
        except InputError as error:
            assert "use model=" in str(error)
        else:
            found.append(inputs)
    assert len(found) == 1
    return found[0]


@each
@pytest.mark.parametrize("outputs", [1, 3])
def test_a_model_keeps_the_laws(name: str, outputs: int) -> None:
    data = make(config(*DATA[read_by(name)]).data, order_seed=0)
    tokens = 256 if data.kind == "language" else 0
    check_model(partial(make, config(f"model={name}").model), data, tokens + outputs)


@each
def test_same_seed_same_numbers_bit_for_bit(name: str, tmp_path: Path) -> None:
    def run(*overrides: str) -> list:
        data = DATA[read_by(name)]
        training = build(config(f"model={name}", *data, "lambd=0.1", "trainer.max_epochs=2", *overrides), tmp_path)
        training.run()
        return [(moment.step, moment.metrics) for moment in training.module.history]

    assert run() == run() != run("seed=1")


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@each
def test_adamw_in_every_model_is_torchs(name: str, optimizer: str, tmp_path: Path) -> None:
    """Step by step for 10 steps, with λ as torch's weight_decay; under SGD against SGDW by its formula."""
    overrides = [f"model={name}", *DATA[read_by(name)], "penalty=adamw", f"optimizer={optimizer}", "lambd=0.3"]
    overrides += ["trainer.max_steps=10", "optimizer.lr=0.01", "schedule=cosine", "trainer.precision=64-true"]
    training, reference = build(config(*overrides), tmp_path), build(config(*overrides), tmp_path)
    training.run()
    model = reference.module.model
    weights, rest = split_parameters(model)
    kind = {"adam": torch.optim.AdamW, "sgd": torch.optim.SGD}[optimizer]
    decays = [0.3 if optimizer == "adam" else 0.0, 0.0]
    groups = [{"params": list(p.values()), "weight_decay": d} for p, d in zip((weights, rest), decays, strict=True)]
    torchs = kind(groups, lr=0.01)
    for _ in gradients(reference, torchs, 10):
        if optimizer == "sgd":
            for w in weights.values():
                w.data *= 1 - torchs.param_groups[0]["lr"] * 0.3
        torchs.step()
    for key, expected in model.state_dict().items():
        torch.testing.assert_close(training.module.model.state_dict()[key], expected, rtol=0, atol=1e-13, msg=key)


def test_the_embedding_of_a_gpt_makes_its_logits_and_counts_once() -> None:
    model = make(config("model=gpt", "model.layers=1").model, inputs=(8,), outputs=256)
    weights, rest = split_parameters(model)
    # 64 wide: embedding, position, q k v, out, up, down; normalisations and biases apart
    assert sum(w.numel() for w in weights.values()) == 256 * 64 + 8 * 64 + 12 * 64**2
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in [*weights.values(), *rest.values()])
    x = torch.randint(256, (2, 8))
    before = model(x)
    with torch.no_grad():
        model.embedding.weight *= 2
    assert not torch.allclose(model(x), before)


def test_a_gpt_does_not_see_the_future() -> None:
    torch.manual_seed(0)
    model = make(config("model=gpt").model, inputs=(8,), outputs=256)
    x = torch.randint(256, (1, 8))
    other = x.clone()
    other[0, 5] = (x[0, 5] + 1) % 256
    difference = (model(x) - model(other)).abs().amax(dim=2)[0]
    assert (difference[:5] == 0).all() and (difference[5:] > 0).all()


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
    ("model", "override", "inputs"),
    [
        *(
            (("mlp", f"model.{value}", ROWS))
            for value in ("init=zeros", "dropout=1", "widths=[0]", "activation=Nothing")
        ),
        *(("cnn", "model.widths=[]", IMAGES), ("resnet", "model.blocks=0", IMAGES), ("gpt", "model.heads=3", TEXT)),
        *(("gpt", "model.dropout=1", TEXT), ("gpt", "model.layers=two", TEXT)),
    ],
)
def test_arguments_that_are_refused(model: str, override: str, inputs: int | tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=override.split("=")[0]):
        make(config(f"model={model}", override).model, inputs=inputs, outputs=256)
