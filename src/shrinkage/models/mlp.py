"""A multilayer perceptron."""

from collections.abc import Sequence

from torch import nn

from shrinkage.errors import InputError

from .init import initialise_


class MLP(nn.Sequential):
    """x [n, inputs] → [n, outputs] through hidden layers of the given widths.

    activation: a class of torch.nn by name (ReLU, Tanh, GELU, …). dropout: the share of each hidden layer's
    activations that is set to 0 in training, in [0, 1).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        widths: Sequence[int],
        activation: str,
        dropout: float,
        bias: bool,
        init: str,
        sigma: float,
    ) -> None:
        if not 0 <= dropout < 1:
            raise InputError(f"model.dropout={dropout}: must be 0 ≤ dropout < 1; use model.dropout=0 for none")
        if not all(isinstance(width, int) and width > 0 for width in widths):
            raise InputError(f"model.widths={list(widths)}: must be whole numbers > 0; use model.widths=[64,64]")
        make_activation = getattr(nn.modules.activation, activation, None)
        if make_activation is None:
            raise InputError(f"model.activation={activation}: must name a class of torch.nn; use model.activation=ReLU")
        layers: list[nn.Module] = []
        for width in widths:
            layers += [nn.Linear(inputs, width, bias=bias), make_activation()]
            if dropout:
                layers.append(nn.Dropout(dropout))
            inputs = width
        super().__init__(*layers, nn.Linear(inputs, outputs, bias=bias))
        for layer in self:
            if isinstance(layer, nn.Linear):
                initialise_(layer, init, sigma)
