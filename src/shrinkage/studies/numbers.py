"""What a study's own numbers must be. Every check raises InputError with the value, the rule and an example."""

import itertools
import math

from shrinkage.checks import SHARE, Number, Whole, Wholes, check, is_number, is_whole
from shrinkage.errors import InputError


def check_count(name: str, value: object, example: int, least: int = 1) -> None:
    """Check a whole number ≥ least. Raises InputError."""
    check(f"study.{name}", value, Whole(least), f"use study.{name}={example}")


def check_counts(name: str, values: object, example: str, least: int = 1) -> None:
    """Check a list of whole numbers ≥ least. Raises InputError."""
    check(f"study.{name}", values, Wholes(least), f"use study.{name}={example}")


def check_positive(name: str, value: object, example: float) -> None:
    """Check a finite number > 0. Raises InputError."""
    check(f"study.{name}", value, Number("must be a number > 0", above=0), f"use study.{name}={example}")


def check_share(name: str, value: object, example: float) -> None:
    """Check a number in [0, 1). Raises InputError."""
    check(f"study.{name}", value, SHARE, f"use study.{name}={example}")


def as_numbers(values: object) -> list[float]:
    """Take the numbers of a list of numbers; none of anything else."""
    if not isinstance(values, list | tuple):
        return []
    numbers = [value for value in values if is_number(value)]
    return numbers if len(numbers) == len(values) else []


def check_list(
    name: str, values: object, example: str, *, many: int = 1, zero: bool = False, below: float = math.inf
) -> None:
    """Check numbers > 0 (with zero ≥ 0) and < below, of which so many differ. Raises InputError."""
    numbers = as_numbers(values)
    fits = all(0 <= number < below for number in numbers) and (zero or 0 not in numbers)
    if not fits or len(set(numbers)) < many:
        rule = f"{many} or more different numbers {'≥' if zero else '>'} 0"
        rule += f" and < {below}" * (below < math.inf)
        raise InputError(f"study.{name}={values}: must be {rule}; use study.{name}={example}")


def check_rising(name: str, values: object, example: str, *, whole: bool = False) -> None:
    """Check two finite numbers > 0 or more, each larger than the one before. Raises InputError."""
    numbers = as_numbers(values)
    rising = all(a < b < math.inf for a, b in itertools.pairwise([0, *numbers]))
    if not rising or len(numbers) < 2 or (whole and not all(is_whole(number) for number in numbers)):
        rule = f"two or more {'whole ' * whole}numbers > 0, each larger than the one before"
        raise InputError(f"study.{name}={values}: must be {rule}; use study.{name}={example}")
