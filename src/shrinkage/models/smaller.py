"""The smaller network that a penalty has left: without units that feed nothing, and with matrices of low rank split."""

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn

from shrinkage.errors import InputError

WEIGHTED = (nn.Linear, nn.Conv2d)
NORMALISING = (nn.BatchNorm1d, nn.BatchNorm2d)
ACROSS_UNITS = (nn.Softmax, nn.Softmin, nn.LogSoftmax, nn.Softmax2d)


def pruned(model: nn.Module) -> nn.Sequential:
    """Copy a network without the hidden units that nothing depends on.

    The outputs are the same up to rounding.

    A hidden unit, of a convolution a channel, is removed exactly when its column in the next layer's weight is 0 in
    every entry: [:, unit], or [:, channel] of a convolution's [out, channel, height, width]. With it go its row in its
    own layer, that row's bias, and its place in a batch normalisation, whatever their values. Layers are gone through
    from the last to the first, so that a unit that fed removed units alone is removed too. Inputs and outputs stay; so
    does the first unit of a layer that would be empty. Raises InputError as `chain` does.
    """
    layers = chain(model)
    weighted = [(place, layer) for place, layer in enumerate(layers) if isinstance(layer, WEIGHTED)]
    for (place_before, before), (place_after, after) in reversed(list(pairwise(weighted))):
        units = (after.weight != 0).movedim(1, 0).flatten(1).any(dim=1).nonzero()[:, 0]
        if not len(units):
            units = torch.zeros(1, dtype=torch.int64, device=after.weight.device)
        assign_(after, after.weight[:, units], after.bias)
        assign_(before, before.weight[units], None if before.bias is None else before.bias[units])
        for layer in layers[place_before:place_after]:
            if isinstance(layer, NORMALISING):
                keep_(layer, units)
    return nn.Sequential(*layers)


def factored(model: nn.Module) -> nn.Sequential:
    """Copy a network with two small linear layers in place of each linear layer of low rank.

    A layer in → out of rank r becomes in → r → out if r·(in + out) < in·out. The first of the two has no bias, and both
    have the singular values' roots. The outputs are the same up to rounding. A matrix of zeros gets r = 1. Convolutions
    stay as they are. Raises InputError as `chain` does.
    """
    layers: list[nn.Module] = []
    for layer in chain(model):
        r = max(rank(layer.weight), 1) if isinstance(layer, nn.Linear) else 0
        if not isinstance(layer, nn.Linear) or r * sum(layer.weight.shape) >= layer.weight.numel():
            layers.append(layer)
            continue
        u, s, vh = torch.linalg.svd(layer.weight.detach().double(), full_matrices=False)
        roots = s[:r].sqrt()
        first = nn.Linear(layer.in_features, r, bias=False, device=u.device, dtype=layer.weight.dtype)
        assign_(first, roots[:, None] * vh[:r], None)
        assign_(layer, u[:, :r] * roots, layer.bias)
        layers += [first, layer]
    return nn.Sequential(*layers)


def rank(weight: Tensor) -> int:
    """Count the singular values of a weight [out, in] that are more than rounding.

    Those are above max(out, in)·ε·(the largest), with ε of the weight's precision.
    """
    weight = weight.detach()
    return int(torch.linalg.matrix_rank(weight.double(), rtol=max(weight.shape) * torch.finfo(weight.dtype).eps))


def chain(model: nn.Module) -> list[nn.Module]:
    """Copy the layers of a network in which each layer has the one before it as its only input.

    Raises InputError if the network is no such chain, or if a layer lets units act on each other outside of a
    linear layer or a convolution, so that taking one out would change the others.
    """
    layers = list(model) if isinstance(model, nn.Sequential) else [model]
    for layer in layers:
        parts = isinstance(layer, (*WEIGHTED, *NORMALISING)) or not any(True for _ in layer.parameters())
        if not parts or isinstance(layer, ACROSS_UNITS):
            raise InputError(
                f"{type(model).__name__} has a layer {type(layer).__name__}: units are taken out of chains of linear "
                "layers, convolutions, batch normalisations and activations by element; use model=mlp or model=cnn"
            )
    weights = [layer.weight for layer in layers if isinstance(layer, WEIGHTED)]
    for before, after in pairwise(weights):
        if len(before) != after.shape[1]:
            raise InputError(
                f"{type(model).__name__} has {len(before)} units before a layer that takes {after.shape[1]}: each must "
                "be one of its columns; use model=mlp or model=cnn"
            )
    return [copy.deepcopy(layer) for layer in layers]


@torch.no_grad()
def assign_(layer: nn.Linear | nn.Conv2d, weight: Tensor, bias: Tensor | None) -> None:
    """Give a layer a weight of another size."""
    layer.weight = nn.Parameter(weight.detach().to(layer.weight.dtype).contiguous())
    layer.register_parameter("bias", None if bias is None else nn.Parameter(bias.detach().clone()))
    out, into = ("out_features", "in_features") if isinstance(layer, nn.Linear) else ("out_channels", "in_channels")
    setattr(layer, out, weight.shape[0])
    setattr(layer, into, weight.shape[1])


@torch.no_grad()
def keep_(layer: nn.BatchNorm1d | nn.BatchNorm2d, units: Tensor) -> None:
    """Leave a batch normalisation these units alone."""
    layer.num_features = len(units)
    for name, parameter in list(layer.named_parameters()):
        setattr(layer, name, nn.Parameter(parameter.detach()[units]))
    for name in ("running_mean", "running_var"):
        setattr(layer, name, getattr(layer, name)[units])
