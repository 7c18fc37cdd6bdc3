"""How a broken law is told, and what several laws compare."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves

from shrinkage.data.base import pick

MOST_CHARACTERS = 300  # of a value in a message


def require(holds: object, subject: object, law: str, **numbers: object) -> None:
    """Raise an AssertionError that names the subject's class, the law and the numbers, unless the law holds."""
    if not holds:
        name = subject if isinstance(subject, str) else type(subject).__name__
        shown = "; ".join(f"{key} = {written(value)}" for key, value in numbers.items())
        raise AssertionError(f"{name} breaks a law: {law}." + (f" Here {shown}." if shown else ""))


@contextmanager
def required(subject: object, law: str, **numbers: object) -> Generator[None]:
    """Raise the AssertionError of a broken law where the block raises an error."""
    try:
        yield
    except Exception as error:
        words = f"{type(error).__name__}: {' '.join(str(error).split())}"
        require(False, subject, law, **numbers, error=words)


def require_close(
    found: object, expected: object, tolerance: float, subject: object, law: str, **numbers: object
) -> None:
    """Require that two trees of tensors have equal shapes, and entries that differ by no more than the tolerance."""
    (ours, ours_spec), (theirs, theirs_spec) = tree_flatten(found), tree_flatten(expected)
    numbers |= {"found": found, "expected": expected}
    require(ours_spec == theirs_spec, subject, law, **numbers)
    for one, other in zip(ours, theirs, strict=True):
        require(one.shape == other.shape, subject, law, **numbers)
        is_close = torch.isclose(one.double(), other.double(), rtol=0, atol=tolerance, equal_nan=True)
        require(is_close.all(), subject, law, **numbers)


def require_lanes(
    function: Callable[..., Any], trees: Sequence[Any], tolerance: float, subject: object, law: str
) -> None:
    """Require that a function of trees of tensors can be vectorised: of a stack it gives what it gives of each.

    trees: with two entries in the first dimension of every tensor.
    """
    each = [function(*(pick(tree, lane) for tree in trees)) for lane in range(2)]
    with required(subject, law):
        together = torch.vmap(function)(*trees)
    for lane, expected in enumerate(each):
        require_close(pick(together, lane), expected, tolerance, subject, law)


def is_finite(tree: object) -> bool:
    """Whether all numbers of a tree of tensors are finite."""
    return all(bool(torch.isfinite(leaf).all()) for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def written(value: object) -> str:
    """Write a value for a message: a tensor as the list of its numbers, cut where it is long."""
    if isinstance(value, Mapping):
        text = "{" + ", ".join(f"{key}: {written(each)}" for key, each in value.items()) + "}"
    elif isinstance(value, tuple | list):
        text = "(" + ", ".join(map(written, value)) + ")"
    elif isinstance(value, Tensor):
        text = str(value.detach().cpu().tolist())
    else:
        text = f"{value:.12g}" if isinstance(value, float) else str(value)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"
