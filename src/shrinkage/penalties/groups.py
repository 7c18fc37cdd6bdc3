"""Which entries of the weights belong together: for penalties under which whole units or inputs vanish."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor

from shrinkage.errors import InputError

from .base import Params, Penalty, add_up, places_of

AXES = {"auto": 0, "output": 0, "input": 1}


@dataclass(frozen=True, kw_only=True)
class Groups(Penalty):
    """A penalty of groups knows which entries of each weight belong together.

    by: `output` takes a weight's rows [out, …] as groups, all that leads into a unit; `input` its columns, all that
        leads out of an input; `tensor` all of it. In a weight of one dimension every entry is a group by itself,
        except under `tensor`. `auto` is `input` of a linear model of named columns, and `output` of any other.
    members: names of groups with the numbers (from 0) of the rows or columns that are one group together, or patterns
        of columns' names; the others are groups by themselves. None: under `auto` each text column is one group with
        all its categories, and so is each part of a date that has any; else all are groups by themselves.

    Raises InputError if `by` or `members` is none of these.
    """

    by: Literal["auto", "output", "input", "tensor"]
    members: Mapping[str, Sequence[int | str]] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.by not in ("auto", "output", "input", "tensor"):
            raise InputError(
                f"penalty.by={self.by}: must be auto, output, input or tensor; use penalty.by=output for units"
            )
        if self.members is None:
            return
        lists = isinstance(self.members, Mapping) and all(
            isinstance(group, list | tuple) for group in self.members.values()
        )
        numbers = [number for group in self.members.values() for number in group] if lists else []
        if (
            not lists
            or any(type(member) is not str and (type(member) is not int or member < 0) for member in numbers)
            or len(set(numbers)) < len(numbers)
        ):
            raise InputError(
                f"penalty.members={self.members}: must be columns' names, or numbers of rows or columns from 0, each "
                "in one group only; use 'penalty.members={place: [city, zip], age: [age]}'"
            )
        if self.by == "tensor":
            raise InputError(
                "penalty.members: rows or columns are put together, and penalty.by=tensor has neither; use "
                "penalty.by=input for a model's features"
            )

    def on_columns(self, columns: Sequence[Sequence[str]] | None) -> Self:
        found = copy.copy(super().on_columns(columns))
        members = self.members
        by_name = any(isinstance(member, str) for group in (members or {}).values() for member in group)
        if columns is None:
            if by_name:
                raise InputError(
                    f"penalty.members={self.members}: only a linear model of named columns has weights of its own for "
                    "each; use model=linear, or the numbers of rows or columns"
                )
            return found
        by = "input" if self.by == "auto" else self.by
        if by_name and by != "input":
            raise InputError(f"penalty.by={self.by}: columns are put together by penalty.by=input, or auto")
        if self.by == "auto" and members is None:
            origins = [names[1] for names in columns]
            several = dict.fromkeys(origin for origin in origins if origins.count(origin) > 1)
            members = {name: [j for j, origin in enumerate(origins) if origin == name] for name in several} or None
        elif by_name and members is not None:
            members = {name: numbered(group, columns) for name, group in members.items()}
            every = [number for group in members.values() for number in group]
            if len(set(every)) < len(every):
                raise InputError(f"penalty.members={self.members}: a column is in two groups; name it in one only")
        object.__setattr__(found, "by", by)
        object.__setattr__(found, "members", members)
        return found

    @property
    def numbers(self) -> list[list[int]]:
        """The numbers of the rows or columns of each group that has several, when names have been found."""
        return [[number for number in group if isinstance(number, int)] for group in (self.members or {}).values()]

    def check(self, weights: Params) -> None:
        if self.members is None:
            return
        largest = max((number for group in self.numbers for number in group), default=-1)
        for name, w in weights.items():
            if largest >= (size := axis_first(w, self.by).shape[0]):
                raise InputError(
                    f"penalty.members names number {largest}, and {name} has {size} {self.by}s, numbered from 0; "
                    f"leave it out, or give penalty.groups={{{name}: 0}} to leave that weight alone"
                )

    def lengths(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Measure the group g of each row of `axis_first`: ‖w_g‖ and √p_g, where p_g counts its entries; [rows, 1]."""
        rows = axis_first(w, self.by)
        squares, sizes = rows.square().sum(dim=1), torch.full_like(rows[:, 0], rows.shape[1])
        for group in self.numbers:
            if group:
                together = torch.zeros_like(sizes).index_fill(0, torch.tensor(group, device=w.device), 1.0)
                squares = torch.where(together > 0, (together * squares).sum(), squares)
                sizes = torch.where(together > 0, (together * sizes).sum(), sizes)
        return root(squares)[:, None], sizes.sqrt()[:, None]

    def length(self, weights: Params) -> Tensor:
        """Σ_g √p_g·‖w_g‖ over all weights, 0-d."""

        def length_of(w: Tensor) -> Tensor:
            lengths, roots = self.lengths(w)
            # A group of several rows is met at each of them, with rows.shape[1] of its p_g entries.
            return (lengths * axis_first(w, self.by).shape[1] / roots).sum()

        return add_up(length_of(w) for w in weights.values())

    def shortened(self, w: Tensor, step: Tensor | float) -> Tensor:
        """Multiply every group by (1 − √p_g·step/‖w_g‖)₊."""
        lengths, roots = self.lengths(w)
        left = (1 - roots * step / torch.where(lengths > 0, lengths, 1.0)).clamp(min=0)
        return from_axis_first(axis_first(w, self.by) * left, w, self.by)


def numbered(group: Sequence[int | str], columns: Sequence[Sequence[str]]) -> list[int]:
    """Give the numbers of the columns that a group has, by numbers or patterns of names. Raises InputError."""
    found = [[member] if isinstance(member, int) else places_of("penalty.members", member, columns) for member in group]
    return list(dict.fromkeys(number for each in found for number in each))


def axis_first(w: Tensor, by: str) -> Tensor:
    """Write a weight as [groups, entries of each]."""
    if by == "tensor":
        return w.reshape(1, -1)
    return w.reshape(-1, 1) if w.ndim < 2 else w.movedim(AXES[by], 0).flatten(1)


def from_axis_first(rows: Tensor, like: Tensor, by: str) -> Tensor:
    """Give what `axis_first` made its old shape again, that of the weight `like`."""
    if by != "input" or like.ndim < 2:
        return rows.reshape(like.shape)
    return rows.reshape(like.movedim(1, 0).shape).movedim(0, 1)


def root(squares: Tensor) -> Tensor:
    """Take the square root, with the slope 0 at 0, the one that a norm's subgradient has."""
    positive = squares > 0
    return torch.where(positive, torch.where(positive, squares, 1.0).sqrt(), 0.0)
