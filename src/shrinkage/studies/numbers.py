"""What a study's own numbers must be. Every check raises InputError with the value, the rule and an example."""

import math

from shrinkage.checks import SHARE, Number, Whole, Wholes, check
from shrinkage.checks import is_number as is_one
from shrinkage.errors import InputError


def is_number(value: object) -> bool:
    """Whether a value of a config is a finite number; true and false are none."""
    return is_one(value) and math.isfinite(value)


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


def check_list(
    name: str, values: object, example: str, *, many: int = 1, zero: bool = False, below: float = math.inf
) -> None:
    """Check numbers > 0 (with zero ≥ 0) and < below, of which so many differ. Raises InputError."""
    numbers = isinstance(values, list | tuple) and all(is_number(value) and 0 <= value < below for value in values)
    if not numbers or len(set(values)) < many or (0 in values and not zero):
        rule = f"{many} or more different numbers {'≥' if zero else '>'} 0"
        rule += f" and < {below}" * (below < math.inf)
        raise InputError(f"study.{name}={values}: must be {rule}; use study.{name}={example}")


def check_rising(name: str, values: object, example: str, *, whole: bool = False) -> None:
    """Check two finite numbers > 0 or more, each larger than the one before. Raises InputError."""
    numbers = isinstance(values, list | tuple) and all(is_number(v) and (not whole or type(v) is int) for v in values)
    if not numbers or len(values) < 2 or any(b <= a for a, b in zip([0, *values], values, strict=False)):
        rule = f"two or more {'whole ' * whole}numbers > 0, each larger than the one before"
        raise InputError(f"study.{name}={values}: must be {rule}; use study.{name}={example}")
