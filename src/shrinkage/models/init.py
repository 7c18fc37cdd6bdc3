"""Initial weights of a linear layer."""

import sys

from torch import nn

from shrinkage.errors import InputError


def initialise_(layer: nn.Linear, init: str, sigma: float) -> None:
    """Give a linear layer its initial weights, in place.

    init: `normal` draws N(0, σ²), `glorot` U(±√(6/(in + out))), both with bias 0; `torch` keeps PyTorch's own. Raises
    InputError if init or sigma is none of these.

    Reference: Glorot & Bengio (2010), "Understanding the difficulty of training deep feedforward neural
    networks". PyTorch's own is U(±1/√in) for weights and bias.
    """
    if init not in ("normal", "glorot", "torch"):
        raise InputError(f"model.init={init}: must be normal, glorot or torch; use model.init=torch for PyTorch's own")
    if init == "normal" and (type(sigma) not in (int, float) or not 0 <= sigma <= sys.float_info.max):
        raise InputError(f"model.sigma={sigma}: a standard deviation must be a number ≥ 0; use model.sigma=0.01")
    if init == "torch":
        return
    if init == "normal":
        nn.init.normal_(layer.weight, std=sigma)
    else:
        nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
