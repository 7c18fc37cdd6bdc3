"""What must not be written down: passwords in addresses, values under telling names, secrets of the environment."""

import functools
import os
import re
from collections.abc import Mapping

TELLING = r"(?:token|secret|passw|credential|api_?key|access_?key|private_?key)"
NAME = re.compile(TELLING, re.IGNORECASE)
# name=value and name: value, as in addresses, overrides and YAML.
NAMED = re.compile(rf"([\w.-]*{TELLING}[\w-]*\s?[=:]\s?)(?!null\b|None\b)[^\s&,]+", re.IGNORECASE)
# A password may hold a slash, and an address without one an @.
CREDENTIALS = re.compile(r"(?<=//)(?:[^/\s]+|[^/\s:@]*:[^\s@]+)@")
SHORTEST = 8  # characters: a shorter value hides nothing, and stands in other words
STARS = "***"


def masked(text: str) -> str:
    """Replace secrets in a text by ***: user:password before @ in addresses, values whose name tells that they are
    secret, and the environment's secrets.
    """
    text = NAMED.sub(rf"\1{STARS}", CREDENTIALS.sub(f"{STARS}@", text))
    for secret in of_environment():
        text = text.replace(secret, STARS)
    return text


def masked_values(values: Mapping[str, object]) -> dict[str, str]:
    """Turn values into text without secrets; under a telling name there is nothing but ***."""
    return {
        name: STARS if value and NAME.search(name.rpartition(".")[2]) else masked(str(value))
        for name, value in values.items()
    }


def masked_tree(tree: object) -> object:
    """Mask the texts of a config, or a list, in the same way; what is no text stays what it is."""
    if isinstance(tree, Mapping):
        return {key: STARS if value and NAME.search(str(key)) else masked_tree(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [masked_tree(value) for value in tree]
    return masked(tree) if isinstance(tree, str) else tree


@functools.cache
def of_environment() -> tuple[str, ...]:
    """List the values of variables with telling names, the longest first; a path or a number is no secret."""
    found = {
        value
        for name, value in os.environ.items()
        if NAME.search(name)
        and len(value) >= SHORTEST
        and not (value.startswith(("/", "~", "./", "file:")) or value.replace(".", "").isdigit())
    }
    return tuple(sorted(found, key=len, reverse=True))
