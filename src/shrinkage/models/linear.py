"""A linear model: linear, logistic or softmax regression, by the task."""

from torch import nn

from .init import initialise_
from .inputs import Inputs, numbers


class Linear(nn.Linear):
    """One linear layer: x [n, inputs] → Wx + b [n, outputs].

    init: normal (with σ = sigma), glorot or torch, as in `initialise_`. Raises InputError if rows are no numbers.
    """

    def __init__(self, inputs: Inputs, outputs: int, bias: bool, init: str, sigma: float) -> None:
        super().__init__(numbers(inputs), outputs, bias=bias)
        initialise_(self, init, sigma)
