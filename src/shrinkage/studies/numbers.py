"""What a study's own numbers must be. Every check raises InputError with the value, the rule and an example."""

import math

from shrinkage.errors import InputError


def is_number(value: object) -> bool:
    """Of a config: finite, and neither true nor false."""
    return type(value) in (int, float) and math.isfinite(value)


def check_count(name: str, value: object, example: int, least: int = 1) -> None:
    """A whole number ≥ least."""
    if type(value) is not int or value < least:
        raise InputError(f"study.{name}={value}: must be a whole number ≥ {least}; use study.{name}={example}")


def check_counts(name: str, values: object, example: str, least: int = 1) -> None:
    """A list of whole numbers ≥ least."""
    if not isinstance(values, list | tuple) or not values or not all(type(v) is int and v >= least for v in values):
        raise InputError(f"study.{name}={values}: must be whole numbers ≥ {least}; use study.{name}={example}")


def check_positive(name: str, value: object, example: float) -> None:
    """A number > 0, finite."""
    if not is_number(value) or value <= 0:
        raise InputError(f"study.{name}={value}: must be a number > 0; use study.{name}={example}")


def check_share(name: str, value: object, example: float) -> None:
    """A number in [0, 1)."""
    if not is_number(value) or not 0 <= value < 1:
        raise InputError(f"study.{name}={value}: must be in [0, 1); use study.{name}={example}")


def check_list(
    name: str, values: object, example: str, *, many: int = 1, zero: bool = False, below: float = math.inf
) -> None:
    """Numbers > 0 (with zero ≥ 0) and < below, of which so many differ."""
    numbers = isinstance(values, list | tuple) and all(is_number(value) and 0 <= value < below for value in values)
    if not numbers or len(set(values)) < many or (0 in values and not zero):
        rule = f"{many} or more different numbers {'≥' if zero else '>'} 0"
        rule += f" and < {below}" * (below < math.inf)
        raise InputError(f"study.{name}={values}: must be {rule}; use study.{name}={example}")


def check_rising(name: str, values: object, example: str, *, whole: bool = False) -> None:
    """Two finite numbers > 0 or more, each larger than the one before."""
    numbers = isinstance(values, list | tuple) and all(is_number(v) and (not whole or type(v) is int) for v in values)
    if not numbers or len(values) < 2 or any(b <= a for a, b in zip([0, *values], values, strict=False)):
        rule = f"two or more {'whole ' * whole}numbers > 0, each larger than the one before"
        raise InputError(f"study.{name}={values}: must be {rule}; use study.{name}={example}")
