"""What image data sets share: a seeded split, and standardisation by channel from the training part alone."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from shrinkage.errors import InputError

from .base import DataModule, Part
from .recipe import Recipe
from .splits import Rows, Split


@dataclass(frozen=True)
class Images:
    """All the images of a data set, with their labels.

    pixels: uint8 [n, channels, height, width]. labels: class codes [n]. test: the rows of the test part; None if they
    are to be drawn.
    """

    pixels: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    test: np.ndarray | None = None


class Pixels(Dataset[tuple[Tensor, Tensor]]):
    """Images as standardised numbers x [batch, channels, height, width], with their labels y [batch]."""

    def __init__(self, part: Part, mean: np.ndarray, scale: np.ndarray, dtype: torch.dtype) -> None:
        self.x, self.y = torch.from_numpy(part.x), torch.from_numpy(part.y)
        self.mean, self.scale = (torch.from_numpy(value).to(dtype)[:, None, None] for value in (mean, scale))

    def __getitem__(self, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
        return (self.x[rows].to(self.mean.dtype) - self.mean) / self.scale, self.y[rows]


class ImageData(DataModule):
    """A data set of images that have classes.

    The rows are split as `Split` says (val, test, seed), or `test` is the data set's own test part. standardize: (pixel
    − mean)/standard deviation of each channel over the training part. Parts keep pixels as bytes, [n, channels, height,
    width], which are made numbers a batch at a time. flat: rows of numbers instead, for models that know nothing of
    images.
    """

    stackable = False

    def __init__(
        self,
        *,
        val: float,
        test: float,
        seed: int,
        standardize: bool,
        flat: bool,
        batch_size: int | None,
        order_seed: int,
    ) -> None:
        super().__init__(seed=seed, batch_size=batch_size, order_seed=order_seed)
        self.split = Split(val, test, seed, folds=None, fold=0, repeat=0, refit=False)
        self.standardize, self.flat = standardize, flat

    @abstractmethod
    def load(self) -> Images:
        """All the images. Raises InputError on bad input."""

    def make_parts(self) -> dict[str, Part]:
        images = self.load()
        if len(images.class_names) < 2:
            raise InputError(
                f"{self.title or 'the images'}: all of them are of one class, {', '.join(images.class_names)}; there "
                "is nothing to tell apart, bring images of another"
            )
        self.class_names, self.classes = images.class_names, len(images.class_names)
        self.digest = Part(images.pixels, images.labels).digest
        left = np.arange(len(images.labels))
        if images.test is not None:
            left = np.setdiff1d(left, images.test)
        rows = self.split.parts(Rows(images.labels[left], images.class_names))
        rows = {name: left[index] for name, index in rows.items()}
        if images.test is not None:
            rows["test"] = images.test
        train = images.pixels[rows["train"]]
        self.mean = np.zeros(train.shape[1])
        self.deviation = np.full(train.shape[1], 255.0)
        if self.standardize:
            for channel in range(train.shape[1]):
                self.mean[channel] = train[:, channel].mean(dtype=np.float64)
                self.deviation[channel] = train[:, channel].std(dtype=np.float64) or 1.0
        if not self.flat:
            return {name: Part(images.pixels[index], images.labels[index]) for name, index in rows.items()}
        mean, deviation = self.mean[:, None, None], self.deviation[:, None, None]
        x = ((images.pixels - mean) / deviation).reshape(len(images.pixels), -1)
        self.feature_names = tuple(f"pixel{number}" for number in range(x.shape[1]))
        return {name: Part(x[index], images.labels[index]) for name, index in rows.items()}

    def tensors(self, part: str) -> Dataset[Any]:
        if self.flat:
            return super().tensors(part)
        return Pixels(self.parts[part], self.mean, self.deviation, self.dtype)

    def recipe(self) -> Recipe:
        raise InputError(
            "export: a model that predicts from rows of a table is written, and images are none; leave it out"
        )

    def example(self) -> pd.DataFrame:
        raise TypeError("images have no columns")
