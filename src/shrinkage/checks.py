"""What a value that a person typed must be: rules that hold for one value, and the error of a value that breaks one.

Every room may use this file; it imports nothing but the errors.
"""

import math
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeGuard

from shrinkage.errors import InputError

LARGEST = 2**63 - 1  # of whole numbers, to most of those that they are handed to


def check(key: str, value: object, rule: "Rule", way_out: str) -> None:
    """Raise an InputError that gives the value, the rule and the way out if the value breaks the rule."""
    words = rule.broken_by(value)
    if words is not None:
        raise InputError(f"{key}={value}: {words}; {way_out}")


class Rule(ABC):
    """What one value must be."""

    @abstractmethod
    def broken_by(self, value: object) -> str | None:
        """Say what the value must be; None if it is that."""


@dataclass(frozen=True)
class Whole(Rule):
    """A whole number from `least` to `most`, or null if `or_null`."""

    least: int = 0
    most: int = LARGEST
    or_null: bool = False

    def broken_by(self, value: object) -> str | None:
        if value is None and self.or_null:
            return None
        if not is_whole(value) or value < self.least:
            return f"must be a whole number ≥ {self.least}"
        return None if value <= self.most else f"must be ≤ {self.most}"


@dataclass(frozen=True)
class Wholes(Rule):
    """A list of whole numbers ≥ `least`, which has at least one unless `or_none`."""

    least: int = 0
    or_none: bool = False

    def broken_by(self, value: object) -> str | None:
        fits = isinstance(value, list | tuple) and all(is_whole(each) and each >= self.least for each in value)
        if fits and (value or self.or_none):
            return None
        return f"must be whole numbers ≥ {self.least}" + ("" if self.or_none else ", at least one")


@dataclass(frozen=True)
class Number(Rule):
    """A finite number that is ≥ least, > above, < below and ≤ most, or null if `or_null`. words: the rule, as it is
    said."""

    words: str
    least: float = -math.inf
    above: float = -math.inf
    below: float = math.inf
    most: float = math.inf
    or_null: bool = False

    def broken_by(self, value: object) -> str | None:
        if value is None and self.or_null:
            return None
        if not is_number(value):
            return self.words if "number" in self.words else f"{self.words}, and a number"
        if not abs(value) <= sys.float_info.max:
            return f"{self.words} and finite"
        fits = self.least <= value <= self.most and self.above < value < self.below
        return None if fits else self.words


@dataclass(frozen=True)
class Boolean(Rule):
    """True or false; no and off are text to Hydra, and so would be true."""

    def broken_by(self, value: object) -> str | None:
        return None if isinstance(value, bool) else "must be true or false"


class OneOf(Rule):
    """One of a few values. words: the rule, where the values do not say it themselves."""

    def __init__(self, *choices: object, words: str = "") -> None:
        self.choices, self.words = choices, words

    def broken_by(self, value: object) -> str | None:
        if any(type(value) is type(choice) and value == choice for choice in self.choices):
            return None
        names = ["null" if each is None else str(each).lower() for each in self.choices]
        return self.words or f"must be {' or '.join([', '.join(names[:-1]), names[-1]])}"


@dataclass(frozen=True)
class Text(Rule):
    """Text that is not empty and that the pattern matches whole, or null if `or_null`. words: the rule, as it is said.

    or_number: a number is taken as the text that it is written as.
    """

    words: str
    pattern: re.Pattern[str] = re.compile(r".+", re.DOTALL)
    or_null: bool = False
    or_number: bool = False

    def broken_by(self, value: object) -> str | None:
        if value is None and self.or_null:
            return None
        is_text = isinstance(value, str) or (self.or_number and isinstance(value, int | float))
        return None if is_text and self.pattern.fullmatch(str(value)) else self.words


@dataclass(frozen=True)
class Holds(Rule):
    """What a function tells of a value. words: the rule, as it is said."""

    words: str
    function: Callable[[object], bool]

    def broken_by(self, value: object) -> str | None:
        return None if self.function(value) else self.words


SHARE = Number("must be a share, ≥ 0 and < 1", least=0, below=1)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is a whole number; true and false are none."""
    return type(value) is int


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)
