"""What must not be written down: passwords in addresses, and the values of secret variables of the environment."""

import functools
import os
import re
from collections.abc import Mapping

NAME = re.compile(r"(token|secret|passw|credential|api_?key|access_?key|private_?key)", re.IGNORECASE)
# A password may hold a slash, and an address without one an @.
CREDENTIALS = re.compile(r"(?<=//)(?:[^/\s]+|[^/\s:@]*:[^\s@]+)@")
QUERY = re.compile(r"([?&][^=&\s]*(?:token|secret|passw|key)[^=&\s]*=)[^&\s]+", re.IGNORECASE)
SHORTEST = 8  # characters: a shorter value hides nothing, and stands in other words
STARS = "***"


def masked(text: str) -> str:
    """The text with user:password@ in addresses, secrets in their queries, and the environment's secrets as ***."""
    text = QUERY.sub(rf"\1{STARS}", CREDENTIALS.sub(f"{STARS}@", text))
    for secret in of_environment():
        text = text.replace(secret, STARS)
    return text


def masked_values(values: Mapping[str, object]) -> dict[str, str]:
    """Values as text: masked, and nothing but *** under a name that is a secret's."""
    return {
        name: STARS if NAME.search(name.rpartition(".")[2]) and value else masked(str(value))
        for name, value in values.items()
    }


@functools.cache
def of_environment() -> tuple[str, ...]:
    """The secrets among the variables, the longest first; a path or a number is none."""
    found = {
        value
        for name, value in os.environ.items()
        if NAME.search(name)
        and len(value) >= SHORTEST
        and not (value.startswith(("/", "~", "./", "file:")) or value.replace(".", "").isdigit())
    }
    return tuple(sorted(found, key=len, reverse=True))
