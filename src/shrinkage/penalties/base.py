"""What every penalty offers: Ω(w), its proximal operator and the decay along its gradient. λ never enters here."""

import copy
import difflib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from shrinkage.checks import is_number
from shrinkage.colours import colour_of
from shrinkage.errors import InputError

LISTED = 20  # the most columns that a message names

Params = Mapping[str, Tensor]
Mode = Literal["loss", "decay", "cautious", "prox"]


@dataclass(frozen=True, kw_only=True)
class Penalty(ABC):
    """A penalty measures a model's weights by one number Ω, and says in which way it acts on them.

    mode: `loss` adds λΩ to the objective; `decay` shrinks the weights by ηλ∇Ω(w) before the optimiser's step;
        `cautious` does so only where that step shrinks them too; `prox` applies prox_{ηλΩ} after it.
    scope: `weights` penalises everything but biases and normalisation parameters; `all` penalises every parameter.
    groups: factors on λ by patterns of parameters' names, `{"*embedding*": 0}`; the last that matches a name counts,
        and Ω is taken over the parameters of each factor by themselves. None: 1 for all.
    factor: factors on λ by patterns of columns' names, `{"age": 0, "dose_*": 2}`, of a model that has a weight for each
        column; the last that matches counts, and Ω is taken over the columns of each factor by themselves. 0 leaves a
        column without a penalty. None: 1 for all. `on_columns` finds them: of_columns has the factor of each.
    rate: how a step of mode `decay` or `cautious` follows the learning rate η: `lr` shrinks by ηλ, as PyTorch's AdamW;
        `corrected` by η²λ/η_max, which keeps the balance of weights and gradients as η falls (Defazio 2025, "Why
        gradients rapidly increase near the end of training"); `constant` by η_maxλ, whatever the schedule.

    Every method is a pure function of tensors of any shape, so that it can be vectorised over many models.
    Raises InputError if one of these settings cannot be used, such as a mode that the penalty does not serve.
    """

    mode: Mode
    scope: Literal["weights", "all"] = "weights"
    groups: Mapping[str, float] | None = None
    factor: Mapping[str, float] | None = None
    of_columns: tuple[float, ...] | None = field(default=None, init=False)
    rate: Literal["lr", "corrected", "constant"] = "lr"

    modes: ClassVar[tuple[Mode, ...]] = ("loss", "decay", "cautious", "prox")

    def __post_init__(self) -> None:
        if self.mode not in self.modes:
            raise InputError(
                f"penalty.mode={self.mode}: {type(self).__name__} can act as {', '.join(self.modes)}; "
                f"use penalty.mode={self.modes[0]}"
            )
        if self.scope not in ("weights", "all"):
            raise InputError(
                f"penalty.scope={self.scope}: must be weights or all; use penalty.scope=weights "
                "to leave biases and normalisation parameters alone"
            )
        if self.rate not in ("lr", "corrected", "constant"):
            raise InputError(f"penalty.rate={self.rate}: must be lr, corrected or constant; use penalty.rate=lr")
        if self.rate != "lr" and self.mode not in ("decay", "cautious"):
            raise InputError(
                f"penalty.rate={self.rate}: only a decay apart from the gradient has a rate of its own; "
                "use penalty.mode=decay, or penalty.rate=lr"
            )
        check_factors("groups", self.groups, "parameters", "{*embedding*: 0}")
        check_factors("factor", self.factor, "columns", "{age: 0}")

    @abstractmethod
    def value(self, weights: Params) -> Tensor:
        """Measure all the weights together by one number, Ω(w), 0-d."""

    @abstractmethod
    def prox(self, weights: Params, step: Tensor | float) -> dict[str, Tensor]:
        """Move the weights to the point that a small penalty and a short way balance.

        That is argmin_u Ω(u) + ‖u − w‖²/(2·step), with the shapes of the weights. step ≥ 0, and 0 changes nothing.
        """

    def decay(self, weights: Params, step: Tensor | float) -> dict[str, Tensor]:
        """Move the weights against the gradient of Ω.

        That is w − step·∇Ω(w); where Ω has a kink, with the subgradient that PyTorch takes (0 for |w| at 0).
        """
        gradient = torch.func.grad(self.value)(dict(weights))
        return {name: w - step * gradient[name] for name, w in weights.items()}

    def elastic_net(self, lambd: Tensor | float) -> tuple[Tensor | float, Tensor | float] | None:
        """Write λΩ as a sum of L1 and L2: (λ₁, λ₂) with λΩ(w) = λ₁‖w‖₁ + λ₂·½‖w‖²; None if it is no such sum.

        For such penalties the optimum of a linear model is known exactly, and a run can be certified against it.
        """
        return None

    @property
    def holds_columns(self) -> bool:
        """Whether λ₁ of `elastic_net` holds all the weights of a column of a weight [out, in] together.

        There √out·‖wⱼ‖₂ of each column wⱼ stands for ‖wⱼ‖₁, so that an input vanishes from all outputs or from none.
        """
        return False

    def check(self, weights: Params) -> None:
        """Look whether Ω has a meaning for a model with these weights. Raises InputError if it has none."""
        return

    def on_columns(self, columns: Sequence[Sequence[str]] | None) -> Self:
        """Find the columns that the settings name.

        columns: of each feature the names that it goes by: its own, and those of the part and the column that it is
        made of. None for a model that has no weight of its own for each. Raises InputError for a name that no column
        has, and if no column would be penalised.
        """
        if self.factor is None:
            return self
        if self.elastic_net(1.0) == (0.0, 0.0):
            raise InputError("penalty.factor: there is no penalty for it to multiply; leave it out, or use penalty=l1")
        if columns is None:
            raise InputError(
                f"penalty.factor={dict(self.factor)}: only a linear model of named columns has weights of its own for "
                "each; use model=linear, or penalty.groups for the parameters of another model"
            )
        factors = [1.0] * len(columns)
        for pattern, factor in self.factor.items():
            for place in places_of("penalty.factor", str(pattern), columns):
                factors[place] = float(factor)
        if not any(factors):
            raise InputError(
                "penalty.factor: every factor is 0, so nothing is penalised; use penalty=none for no penalty"
            )
        found = copy.copy(self)
        object.__setattr__(found, "of_columns", tuple(factors))
        return found

    @property
    def colour(self) -> str:
        """The colour of this penalty in every picture and on every page, as #rrggbb; by its name unless it says so."""
        return colour_of(type(self).__name__)

    @property
    def is_plain(self) -> bool:
        """Whether a decay shrinks every weight by the same λ, at the learning rate."""
        return self.mode != "cautious" and self.rate == "lr" and not self.groups and not self.factor

    @property
    def curvature(self) -> float:
        """The largest curvature of Ω's smooth part. Plain gradient steps need ηλ·curvature < 2."""
        return 0.0


def check_factors(key: str, factors: object, of: str, example: str) -> None:
    """Look whether a setting has factors on λ by patterns of names. Raises InputError."""
    if not isinstance(factors, Mapping | None):
        raise InputError(
            f"penalty.{key}={factors}: must be factors on λ by patterns of {of}' names; use 'penalty.{key}={example}'"
        )
    for pattern, factor in (factors or {}).items():
        if not is_number(factor) or not 0 <= factor < math.inf:
            raise InputError(
                f"penalty.{key}: {pattern!r} has the factor {factor}; a factor on λ must be a number ≥ 0, and 0 leaves "
                f"the {of} alone"
            )


def places_of(key: str, pattern: str, columns: Sequence[Sequence[str]]) -> list[int]:
    """Find the features, by their places, one of whose names matches a pattern. Raises InputError if none does."""
    found = [place for place, names in enumerate(columns) if any(fnmatchcase(name, pattern) for name in names)]
    if not found:
        known = list(dict.fromkeys(name for names in columns for name in (names[-1], names[0])))
        near = difflib.get_close_matches(pattern, known, n=3) or [
            name for name in known if name.casefold() == pattern.casefold()
        ]
        meant = f"did you mean {' or '.join(near)}?" if near else "choose one of them"
        more = ", …" if len(known) > LISTED else ""
        raise InputError(
            f"{key}: {pattern!r} is no column that is learned from; they are {', '.join(known[:LISTED])}{more}; {meant}"
        )
    return found


def soft_threshold(w: Tensor, threshold: Tensor | float) -> Tensor:
    """Move every entry towards 0 by the threshold, and those inside it to exactly 0.

    That is sign(w)·max(|w| − threshold, 0), the prox of threshold·|w|.
    """
    return w.sign() * (w.abs() - threshold).clamp(min=0)


def find_cut(sizes: Tensor, step: Tensor | float) -> Tensor:
    """Find the size at which all sizes are cut so that step is cut off in all.

    That is s ≥ 0 with Σ(sizes − s)₊ = step, and 0 if the sizes, each ≥ 0, are no more than step together; [n] → 0-d.
    """
    sums = sizes.sort(descending=True).values.cumsum(dim=0)
    many = torch.arange(1, len(sums) + 1, dtype=sums.dtype, device=sums.device)
    return ((sums - step) / many).amax().clamp(min=0)


def as_matrix(w: Tensor) -> Tensor:
    """Write a weight [out, …] as a matrix [out, all the others]; a weight of one dimension becomes a column."""
    return w.reshape(len(w), -1)


def add_up(terms: Iterable[Tensor]) -> Tensor:
    """Add numbers, each 0-d, in their order; 0 if there is none."""
    numbers = list(terms)
    return sum(numbers[1:], numbers[0]) if numbers else torch.zeros(())
