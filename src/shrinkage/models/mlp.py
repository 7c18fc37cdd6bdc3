"""A multilayer perceptron."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import psutil
import torch
from torch import nn

from shrinkage.checks import SHARE, Wholes, check
from shrinkage.errors import InputError

from .init import initialise_
from .inputs import Inputs, numbers

COPIES = 4  # of the weights: themselves, their gradient, the optimiser's state, the best ones so far


class MLP(nn.Sequential):
    """A multilayer perceptron: linear layers of the given widths with an activation after each but the last.

    x [n, inputs] → [n, outputs]. activation: a class of torch.nn by name (ReLU, Tanh, GELU, …). dropout: the share of
    each hidden layer's activations that is set to 0 in training, in [0, 1). Raises InputError if rows are no numbers, a
    setting cannot be used, or the weights do not fit into memory.
    """

    def __init__(
        self,
        inputs: Inputs,
        outputs: int,
        widths: Sequence[int],
        activation: str,
        dropout: float,
        bias: bool,
        init: str,
        sigma: float,
    ) -> None:
        check("model.dropout", dropout, SHARE, "use model.dropout=0 for none")
        check("model.widths", widths, Wholes(1, or_none=True), "use model.widths=[64,64]")
        width_before = numbers(inputs)
        weights = sum(n * m for n, m in pairwise([width_before, *widths, outputs]))
        needed, free = COPIES * 4 * weights, psutil.virtual_memory().available
        if needed > free:
            raise InputError(
                f"model.widths={widths}: {weights:,} weights need {needed // 10**9:,} GB of memory and "
                f"{free // 10**9:,} GB are free; use model.widths=[64,64]"
            )
        make_activation = find_activation(activation)
        layers: list[nn.Module] = []
        for width in widths:
            layers += [nn.Linear(width_before, width, bias=bias), make_activation()]
            if dropout:
                layers.append(nn.Dropout(dropout))
            width_before = width
        super().__init__(*layers, nn.Linear(width_before, outputs, bias=bias))
        for layer in self:
            if isinstance(layer, nn.Linear):
                initialise_(layer, init, sigma)


def find_activation(name: str) -> Callable[[], nn.Module]:
    """Find a class of torch.nn that maps each number to one. Raises InputError if the name has none."""
    make = getattr(nn.modules.activation, str(name), None)
    try:
        if make is not None and make()(torch.zeros(1, 2)).shape == (1, 2):
            return make
    except Exception:  # of whatever else torch.nn has under such a name
        pass
    raise InputError(
        f"model.activation={name}: must name a class of torch.nn that maps each number to one; "
        "use model.activation=ReLU"
    )
