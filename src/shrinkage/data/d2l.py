"""The synthetic problem of the weight decay chapter of Dive into Deep Learning (https://d2l.ai, §3.7)."""

import sys
from collections.abc import Sequence

import numpy as np

from shrinkage.checks import Whole, check
from shrinkage.errors import InputError

from .base import DataModule, Part
from .memory import check_memory


class D2L(DataModule):
    """Rows of a linear model with noise, drawn anew from a seed.

    y = bias + Σ weightⱼxⱼ + ε with x ~ N(0, 1) and ε ~ N(0, noise²); no test part, nothing standardised.

    weight: one number for all coefficients, or a list of num_inputs. seed fixes the data. Raises InputError if a number
    cannot be used.
    """

    def __init__(
        self,
        *,
        num_train: int,
        num_val: int,
        num_inputs: int,
        weight: float | Sequence[float],
        bias: float,
        noise: float,
        seed: int,
        batch_size: int | None,
        order_seed: int,
    ) -> None:
        super().__init__(seed=seed, batch_size=batch_size, order_seed=order_seed)
        for name, value in (("num_train", num_train), ("num_val", num_val), ("num_inputs", num_inputs)):
            check(f"data.{name}", value, Whole(1), f"use data.{name}=20")
        weights = weight if isinstance(weight, list | tuple) else [weight]
        for name, values in (("weight", weights), ("bias", [bias]), ("noise", [noise])):
            for value in values:
                if (
                    not isinstance(value, int | float)
                    or isinstance(value, bool)
                    or not abs(value) <= sys.float_info.max
                ):
                    raise InputError(f"data.{name}={value}: must be a finite number; the chapter has data.{name}=0.01")
        if noise < 0:
            raise InputError(f"data.noise={noise}: a standard deviation must be ≥ 0; use data.noise=0 for none")
        if len(weights) not in (1, num_inputs):
            raise InputError(
                f"data.weight has {len(weights)} numbers: must be one number or data.num_inputs={num_inputs} of them"
            )
        check_memory(num_train + num_val, num_inputs, "make data.num_train, data.num_val or data.num_inputs smaller")
        self.sizes = {"train": num_train, "val": num_val}
        self.coefficients = np.broadcast_to(np.asarray(weight, dtype=np.float64), num_inputs)
        self.intercept, self.noise, self.noise_variance = bias, noise, noise**2 or None

    def make_parts(self) -> dict[str, Part]:
        draw = np.random.default_rng(self.seed)
        self.feature_names = tuple(f"x{j}" for j in range(len(self.coefficients)))
        parts = {}
        for name, rows in self.sizes.items():
            x = draw.standard_normal((rows, len(self.coefficients)))
            y = self.intercept + x @ self.coefficients + self.noise * draw.standard_normal(rows)
            parts[name] = Part(x, y)
        return parts
