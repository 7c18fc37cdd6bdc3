"""What a model's own numbers must be. Every check raises InputError with the value, the rule and an example."""

from shrinkage.errors import InputError


def check_size(key: str, size: object, example: int) -> None:
    """Check a whole number > 0."""
    if type(size) is not int or size < 1:
        raise InputError(f"model.{key}={size}: must be a whole number > 0; use model.{key}={example}")


def check_sizes(key: str, sizes: object, example: str, *, none: bool = False) -> None:
    """Check whole numbers > 0, at least one of them unless there may be none."""
    numbers = isinstance(sizes, list | tuple) and all(type(size) is int and size > 0 for size in sizes)
    if not numbers or not (sizes or none):
        rule = "whole numbers > 0" + ", at least one" * (not none)
        raise InputError(f"model.{key}={sizes}: must be {rule}; use model.{key}={example}")


def check_dropout(dropout: object) -> None:
    """Check a share in [0, 1)."""
    if not isinstance(dropout, int | float) or isinstance(dropout, bool) or not 0 <= dropout < 1:
        raise InputError(f"model.dropout={dropout}: must be 0 ≤ dropout < 1; use model.dropout=0 for none")
