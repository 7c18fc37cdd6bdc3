"""Whether runs can be lanes of one training, and how much memory each of them takes."""

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from shrinkage.data.base import Batch

from . import objective
from .stacked import StackedModule

# Optimisers that treat every entry of a parameter by itself, so that stacked lanes do not feel one another.
ELEMENTWISE = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.Adamax,
    torch.optim.Adagrad,
    torch.optim.Adadelta,
    torch.optim.RMSprop,
    torch.optim.Rprop,
    torch.optim.ASGD,
)


class CannotShare(Exception):
    """Says why runs cannot be lanes of one training; each has to be trained by itself."""


def bytes_of_a_lane(module: StackedModule, batch: Batch) -> int:
    """Return the memory that one lane takes in training, measured in a step on a batch of each lane's kind.

    Raises CannotShare if the step cannot be taken for many lanes at once.
    """
    optimizer = module.make_optimizer(module.model.parameters())
    if type(optimizer) not in ELEMENTWISE:
        raise CannotShare(f"{type(optimizer).__name__} does not treat every weight by itself")
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = module.total(batch, has_orders=False)
        loss.backward()
        if module.penalty.mode == "prox":
            module.update(objective.proxed, lr=0.0)
        elif module.penalty.mode != "loss":
            module.update(objective.decayed, rate=0.0)
    except (RuntimeError, NotImplementedError) as error:
        raise CannotShare(explain_refusal(error)) from error
    optimizer.step()
    state = [leaf for leaf in tree_leaves(optimizer.state_dict()["state"]) if isinstance(leaf, Tensor)]
    weights = sum(parameter.nbytes for parameter in module.model.parameters())
    # The weights, their gradient, the best ones, and a copy in the making; and what a step and its optimiser keep.
    total = 4 * weights + sum(saved.values()) + sum(tensor.nbytes for tensor in state)
    return total // module.lanes


def explain_refusal(error: Exception) -> str:
    """Put PyTorch's refusal to vectorise a step in the words of someone who chose a model."""
    words = str(error)
    if "randomness" in words:
        return "the model draws random numbers while it trains (dropout), which lanes would have to share"
    if "running_mean" in words:
        return "batch normalisation keeps running statistics, which lanes cannot keep apart"
    if "data-dependent control flow" in words or ".item()" in words:
        return "the model or penalty branches on its data (data-dependent control flow)"
    return f"PyTorch cannot vectorise the step: {words.splitlines()[0][:200]}"
