"""The laws of a model."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

from shrinkage.data.base import DataModule, pick
from shrinkage.training.objective import split_parameters

from .laws import is_finite, require, require_close, required

ROWS = 5


def check_model(make: Callable[..., nn.Module], data: DataModule, outputs: int = 1) -> None:
    """Check the laws of a model on rows of a data set.

    make: builds the model from `inputs` and `outputs`, as a config does: the class, or a `functools.partial` of it with
    the settings of its YAML file. outputs: how many numbers a row is to have.

    The seed fixes the initial weights; there are weights to penalise, and the loss has a finite gradient in each; in
    evaluation mode the same rows have the same outputs, [rows, outputs] ([rows, context, outputs] of text), and those
    of a row do not depend on the others; double precision is kept; and a state that is loaded is the model that was
    saved. Raises AssertionError for the first law that is broken.
    """
    data.setup()

    def made(seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        np.random.seed(seed)
        return make(inputs=data.inputs, outputs=outputs)

    with required(
        getattr(make, "__name__", str(make)), "a model is built from `inputs` and `outputs` as the data have them"
    ):
        model = made()
    name = type(model).__name__
    x, _ = data.tensors("train")[torch.arange(min(ROWS, len(data.parts["train"])))]
    check_weights(name, made, model)
    check_gradient(name, made().train(), x)
    with torch.no_grad():
        with required(name, "the model takes a batch of the data"):
            output = model.eval()(x)
        check_outputs(name, model, x, output, data, outputs)
        check_rows_apart(name, model, x, output)
        check_double(name, made().eval(), x)
        other = made(1).eval()
        other.load_state_dict(model.state_dict())
        law = "a model that has loaded another one's state_dict gives its outputs"
        require_close(other(x), output, 0, name, law)


def check_outputs(name: str, model: nn.Module, x: Any, output: Any, data: DataModule, outputs: int) -> None:
    """Check the shape of a batch's outputs, and that the same batch has them again."""
    rows = (len(x), x.shape[1], outputs) if data.kind == "language" else (batch_size(x), outputs)
    require(tuple(output.shape) == rows, name, "outputs are [rows, outputs]", found=tuple(output.shape), expected=rows)
    require(is_finite(output), name, "outputs are finite", output=output)
    require_close(model(x), output, 0, name, "in evaluation mode the same rows have the same outputs")


def check_weights(name: str, made: Callable[[], nn.Module], model: nn.Module) -> None:
    """Check that a seed fixes the initial weights, and that there are some to be penalised."""
    law = "the same seed gives the same initial weights (draw them by PyTorch or NumPy, from their own generators)"
    require_close(dict(made().named_parameters()), dict(model.named_parameters()), 0, name, law)
    names = [each for each, _ in model.named_parameters()]
    law = "the model has weights that are neither biases nor of a normalisation, so that there is something to penalise"
    require(split_parameters(model)[0], name, law, parameters=names)


def check_gradient(name: str, model: nn.Module, x: Any) -> None:
    """Check that every parameter that can be trained has a finite gradient."""
    with required(name, "outputs have a gradient in training mode"):
        model(x).double().square().mean().backward()
    for parameter, w in model.named_parameters():
        if w.requires_grad:
            law = "every parameter has a part in the outputs"
            require(w.grad is not None, name, law, parameter=parameter)
            require(is_finite(w.grad), name, "gradients are finite", parameter=parameter, gradient=w.grad)


def check_rows_apart(name: str, model: nn.Module, x: Any, output: torch.Tensor) -> None:
    """Check that the outputs of a row are the same whatever other rows are evaluated with it."""
    alone = torch.cat([model(pick(x, slice(row, row + 1))) for row in range(len(output))])
    tolerance = 1e-4 * (1 + float(output.abs().max()))  # single precision, summed in another order
    require_close(alone, output, tolerance, name, "in evaluation mode the outputs of a row depend on that row alone")


def check_double(name: str, model: nn.Module, x: Any) -> None:
    """Check that a model in double precision computes in it, as trainer.precision=64-true asks."""
    law = "in double precision, rows of it have outputs of it (no dtype is fixed in the model)"
    with required(name, law):
        found = model.double()(tree_map(lambda leaf: leaf.double() if leaf.is_floating_point() else leaf, x))
    require(found.dtype == torch.float64, name, law, found=found.dtype)


def batch_size(x: Any) -> int:
    """Count the rows of a batch that is a tensor or a tree of tensors."""
    return len(tree_leaves(x)[0])
