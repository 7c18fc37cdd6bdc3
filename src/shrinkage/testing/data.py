"""The laws of a data set."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from scipy.sparse import csc_array
from torch.utils._pytree import tree_leaves, tree_map

from shrinkage.data.base import DataModule, Part

from .laws import require, require_close


def check_data(make: Callable[..., DataModule]) -> None:
    """Check the laws of a data set.

    make: builds it from `seed` and `order_seed`, as a config does: the class, or a `functools.partial` of it with the
    other settings of its YAML file.

    Parts are called train, val and test, the first two are there, and each has rows of finite numbers, all of one
    shape, with a target each: numbers, or class codes from 0; the same seed makes the same parts, and another one
    others; an epoch has each training row once, in an order of its own that the order seed fixes; and rows are
    evaluated in their order. Raises AssertionError for the first law that is broken.
    """

    def made(seed: int = 0, order_seed: int = 0) -> DataModule:
        data = make(seed=seed, order_seed=order_seed)
        data.setup()
        return data

    data = made()
    check_parts(data)
    check_seed(data, made(), made(seed=1))
    if not data.is_sparse:  # of which each part is one batch
        check_epochs(data, made(), made(order_seed=1))
        check_evaluation(data)


def check_parts(data: DataModule) -> None:
    """Check what each part holds."""
    names = list(data.parts)
    law = "the parts are train and val, and perhaps test"
    require({"train", "val"} <= set(names) <= {"train", "val", "test"}, data, law, found=names)
    if isinstance(data.inputs, int):
        law = "feature_names has a name for each number of a row"
        require(len(data.feature_names) == data.inputs, data, law, names=data.feature_names, inputs=data.inputs)
    if data.classes is not None and data.kind == "rows":
        law = "class_names has a name for each class"
        require(len(data.class_names) == data.classes, data, law, names=data.class_names, classes=data.classes)
    is_scale = np.isfinite(data.center).all() and (np.asarray(data.scale) > 0).all()
    require(bool(is_scale), data, "scale > 0", center=data.center, scale=data.scale)
    for name, part in data.parts.items():
        require(len(part), data, "every part has rows", part=name)
        if data.in_memory:
            check_arrays(data, name, part)


def check_arrays(data: DataModule, name: str, part: Part) -> None:
    """Check the rows and targets of a part that is in memory."""
    arrays = tree_leaves(part.x)
    if data.is_sparse:
        law = "a sparse x is a csc_array with a row for each target"
        require(isinstance(part.x, csc_array) and part.x.shape[0] == len(part.y), data, law, part=name)
        require(np.isfinite(part.x.data).all(), data, "numbers are finite", part=name)
        arrays = []
    for x in arrays:
        require(len(x) == len(part.y), data, "each row has a target", part=name, rows=len(x), targets=len(part.y))
        is_finite = np.isfinite(x).all() and np.isfinite(part.y).all()
        require(is_finite, data, "rows and targets are finite", part=name)
        law = "numbers are float64, images and text are bytes"
        require(x.dtype in (np.float64, np.uint8) or x.dtype.kind == "i", data, law, part=name, dtype=x.dtype)
    if data.kind == "rows":
        law = "targets are one number a row: float64, or int64 class codes"
        dtype = np.float64 if data.classes is None else np.int64
        require(part.y.dtype == dtype and part.y.ndim == 1, data, law, part=name, found=(part.y.dtype, part.y.shape))
    if data.classes is not None:
        known = set(range(data.classes))
        law = "classes are coded from 0, and the training rows have all of them"
        found = set(part.y.ravel().tolist())
        complete = found == known if name == "train" and data.kind == "rows" else found <= known
        require(complete, data, law, part=name, found=sorted(found), classes=data.classes)


def check_seed(data: DataModule, again: DataModule, other: DataModule) -> None:
    """Check that the seed fixes the parts; a text is split where it stands, whatever the seed."""
    first, same, others = ({name: part.digest for name, part in each.parts.items()} for each in (data, again, other))
    require(first == same, data, "the same seed makes the same parts", found=first, again=same)
    if data.kind == "rows":
        require(first != others, data, "another seed makes other parts", found=first)


def check_epochs(data: DataModule, again: DataModule, other: DataModule) -> None:
    """Check that batches follow the order seed and the epoch, and have every training row once."""
    first, same = epoch(data, 0), epoch(again, 0)
    require_close(first, same, 0, data, "the same order seed gives the same batches")
    if data.batch_rows == len(data.parts["train"]):
        return  # all rows, in their order
    for batches, words in ((epoch(other, 0), "another order seed"), (epoch(data, 1), "the next epoch")):
        differs = any(
            one.shape != two.shape or not torch.equal(one, two)
            for one, two in zip(tree_leaves(first), tree_leaves(batches), strict=True)
        )
        require(differs, data, f"{words} has the rows in another order")
    if data.epoch_rows is None and data.in_memory:
        whole = data.tensors("train")[torch.arange(len(data.parts["train"]))]
        for one, two in zip(tree_leaves(first), tree_leaves(whole), strict=True):
            law = "an epoch has every training row once"
            require(len(one) == len(two), data, law, found=len(one), expected=len(two))
            require(torch.equal(one.flatten().sort().values, two.flatten().sort().values), data, law)


def check_evaluation(data: DataModule) -> None:
    """Check that each part is evaluated in its order, whatever the number of rows at once."""
    for name in data.parts:
        law = "a part is evaluated row after row, whatever the number of rows at once"
        few, many = (joined(data.evaluation_dataloader(name, rows)) for rows in (3, data.rows_at_once))
        require_close(few, many, 0, data, law, part=name)


def epoch(data: DataModule, number: int) -> Any:
    """Draw all the batches of an epoch and join them."""
    loader: Any = data.train_dataloader()
    loader.sampler.set_epoch(number)
    return joined(loader)


def joined(batches: Iterable[Any]) -> Any:
    """Join batches into one: a tree of tensors."""
    return tree_map(lambda *tensors: torch.cat(tensors), *batches)
