"""A linear model: linear, logistic or softmax regression, by the task."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from .init import initialise_
from .inputs import Inputs, numbers

if TYPE_CHECKING:
    from scipy.sparse import csc_array


class Linear(nn.Linear):
    """One linear layer: x [n, inputs] → Wx + b [n, outputs].

    init: normal (with σ = sigma), glorot or torch, as in `initialise_`. Raises InputError if rows are no numbers.
    """

    def __init__(self, inputs: Inputs, outputs: int, bias: bool, init: str, sigma: float) -> None:
        super().__init__(numbers(inputs), outputs, bias=bias)
        initialise_(self, init, sigma)

    def forward(self, input: "Tensor | csc_array") -> Tensor:
        """Compute the outputs of rows; of sparse ones without autograd, from the columns that have a weight."""
        if isinstance(input, Tensor):
            return super().forward(input)
        weight = self.weight.detach().cpu().numpy()
        used = np.flatnonzero(weight.any(axis=0))
        output = torch.from_numpy(input[:, used] @ weight[:, used].T).to(self.weight)
        return output if self.bias is None else output + self.bias.detach()
