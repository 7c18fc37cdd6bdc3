"""The sizes of a model's weights, as every run logs them."""

import torch
from torch import Tensor

from shrinkage.penalties.base import Params


def norms(weights: Params, biases: Params) -> dict[str, Tensor]:
    """Measure the sizes of all the weights together, and of the biases, each 0-d, float64.

    They are ‖w‖₁, ‖w‖₂, ½‖w‖₂², ‖w‖_∞ and the share of exact zeros over all the weights, and ‖b‖₂ over the rest.
    The chapter of d2l calls ½‖w‖² "the L2 norm of w". `bias/l2` is left out where there are no biases.
    """
    w = torch.cat([tensor.flatten() for tensor in weights.values()]).double()
    squared = w.square().sum()
    sizes = {
        "weight/l1": w.abs().sum(),
        "weight/l2": squared.sqrt(),
        "weight/half_squared_l2": squared / 2,
        "weight/linf": w.abs().max(),
        "weight/zeros": (w == 0).double().mean(),
    }
    if biases:
        sizes["bias/l2"] = torch.cat([tensor.flatten() for tensor in biases.values()]).square().sum().sqrt()
    return sizes
