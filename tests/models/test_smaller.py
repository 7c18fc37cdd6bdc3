"""Smaller networks with the same outputs: what is removed, what is split, and what is refused."""

import copy
import io
import pickletools
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from shrinkage.errors import InputError
from shrinkage.models.cnn import CNN
from shrinkage.models.mlp import MLP
from shrinkage.models.resnet import ResNet
from shrinkage.models.smaller import factored, pruned, rank
from shrinkage.report.findings import Findings, files
from shrinkage.runs.export import as_program

SAME = {"rtol": 0, "atol": 1e-12}
seeds = st.integers(0, 2**31)
widths = st.lists(st.integers(1, 9), min_size=1, max_size=3)


def mlp(widths: list[int], activation: str = "ReLU", bias: bool = True) -> MLP:
    return MLP(7, 3, widths, activation, 0.5, bias, "torch", 0.1).double().eval()


def weighted(model: nn.Sequential) -> list[nn.Module]:
    return [layer for layer in model if isinstance(layer, nn.Linear | nn.Conv2d)]


@torch.no_grad()
def cut_columns_(model: nn.Sequential, draw: torch.Generator) -> list[int]:
    """Set columns behind hidden units to 0, about half of them; how many units of each hidden layer have another."""
    left = []
    for layer in weighted(model)[1:]:
        zero = torch.rand(layer.weight.shape[1], generator=draw) < 0.5
        layer.weight[:, zero] = 0
        left.append(max(int((~zero).sum()), 1))
    return left


def sizes(model: nn.Sequential) -> list[int]:
    """Units of each hidden layer; what comes out of a layer goes into the next."""
    layers = weighted(model)
    assert all(len(a.weight) == b.weight.shape[1] for a, b in pairwise(layers))
    return [len(layer.weight) for layer in layers[:-1]]


@given(widths, st.sampled_from(["ReLU", "Tanh", "GELU", "Sigmoid"]), st.booleans(), seeds)
@settings(deadline=None)
def test_an_mlp_without_its_idle_units(widths: list[int], activation: str, bias: bool, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    model = mlp(widths, activation, bias)
    left = cut_columns_(model, draw)
    before, x = copy.deepcopy(model.state_dict()), torch.randn(5, 7, generator=draw, dtype=torch.float64)
    small = pruned(model)
    torch.testing.assert_close(small(x), model(x), **SAME)
    # Of random weights no column but those is 0, unless all the rows that it has entries in are gone.
    assert all(a <= b for a, b in zip(sizes(small), left, strict=True)) and sizes(small)[-1] == left[-1]
    if all(len(layer.weight) > 1 for layer in weighted(small)[:-1]):
        assert sizes(small) == left
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert [layer.out_features for layer in weighted(small)] == [*sizes(small), 3]


@given(widths, st.booleans(), st.integers(1, 8), seeds)
@settings(deadline=None, max_examples=50)
def test_a_cnn_without_its_idle_channels(widths: list[int], batch_norm: bool, side: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    model = CNN((2, side, side), 3, widths, batch_norm).double()
    model(torch.randn(4, 2, side + 1, side + 1, dtype=torch.float64))  # running means and variances of their own
    model.eval()
    left = cut_columns_(model, draw)
    x = torch.randn(5, 2, side, side, generator=draw, dtype=torch.float64)
    small = pruned(model)
    torch.testing.assert_close(small(x), model(x), **SAME)
    assert sizes(small)[-1] == left[-1] and all(a <= b for a, b in zip(sizes(small), left, strict=True))
    for layer in small:
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.num_features == len(layer.running_mean) == len(layer.weight)


def test_a_unit_goes_whatever_its_bias_and_what_fed_it_alone_goes_too() -> None:
    model = mlp([4, 3])
    first, second, last = weighted(model)
    with torch.no_grad():
        last.weight[:, 1] = 0
        second.bias[1] = 100
        second.weight[[0, 2], 3] = 0  # the fourth unit feeds the one that goes
    small = pruned(model)
    assert sizes(small) == [3, 2]
    torch.testing.assert_close(weighted(small)[0].weight, first.weight[:3], rtol=0, atol=0)
    assert sizes(pruned(mlp([4, 3]))) == [4, 3]
    with torch.no_grad():
        last.weight.zero_()
    assert sizes(pruned(model)) == [3, 1]


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), seeds)
@settings(deadline=None)
def test_a_matrix_of_low_rank_in_two_factors(inputs: int, outputs: int, least: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    r = min(inputs, outputs, least)
    parts = (torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in ((outputs, r), (r, inputs)))
    left, right = (torch.linalg.qr(part)[0] if len(part) >= part.shape[1] else part for part in parts)
    layer = nn.Linear(inputs, outputs).double()
    with torch.no_grad():
        layer.weight.copy_(left @ right)
    assert rank(layer.weight) == r == rank(layer.weight.float())
    model = nn.Sequential(layer, nn.ReLU())
    x = torch.randn(5, inputs, generator=draw, dtype=torch.float64)
    small = factored(model)
    torch.testing.assert_close(small(x), model(x), **SAME)
    shapes = [tuple(linear.weight.shape) for linear in weighted(small)]
    smaller = r * (inputs + outputs) < inputs * outputs
    assert shapes == ([(r, inputs), (outputs, r)] if smaller else [(outputs, inputs)])
    assert small[0].bias is None or not smaller


def test_a_matrix_of_zeros_keeps_its_bias() -> None:
    model = mlp([8])
    with torch.no_grad():
        weighted(model)[0].weight.zero_()
    small = factored(model)
    assert rank(weighted(model)[0].weight) == 0 and weighted(small)[0].weight.shape == (1, 7)
    x = torch.randn(5, 7, dtype=torch.float64)
    torch.testing.assert_close(small(x), model(x), **SAME)


@pytest.mark.parametrize(
    "model",
    [
        ResNet((1, 8, 8), 3, [4], 1),
        nn.Bilinear(2, 2, 2),
        mlp([3], activation="Softmax"),
        nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(2 * 64, 3)),
    ],
)
def test_what_is_no_chain_is_refused(model: nn.Module) -> None:
    for function in (pruned, factored):
        with pytest.raises(InputError, match="; use model=mlp or model=cnn"):
            function(model)


def is_pickle(content: bytes) -> bool:
    try:
        return bool(list(pickletools.genops(content)))
    except Exception:
        return False


def test_it_is_kept_as_a_file_without_a_pickle(tmp_path: Path) -> None:
    model = CNN((1, 8, 8), 3, [4], batch_norm=False)
    x = torch.randn(5, 1, 8, 8)
    findings = Findings([""], networks={"small": as_program(pruned(model), x)})
    (path,) = (path for path in files(findings, tmp_path) if path.suffix == ".pt2")
    loaded = torch.export.load(path).module()
    torch.testing.assert_close(loaded(x), model(x))
    assert loaded(x[:1]).shape == (1, 3)
    buffer = io.BytesIO()
    torch.save({"a": 1}, buffer)
    with zipfile.ZipFile(buffer) as archive:  # what the test would find
        assert any(is_pickle(archive.read(member)) for member in archive.namelist())
    with zipfile.ZipFile(path) as archive:
        assert not [member for member in archive.namelist() if is_pickle(archive.read(member))]
