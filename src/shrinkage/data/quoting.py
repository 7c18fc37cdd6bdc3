"""Names and values from a person's file, as a message can show them on one line."""

import re
import shlex
from collections.abc import Sequence

LENGTH = 60
WORDS = ("true", "false", "null", "nan", "inf")  # which Hydra takes for values of their own


def quoted(value: object, length: int = LENGTH) -> str:
    """Write a value in quotes; of a long one the end is left out."""
    text = str(value)
    return repr(text if len(text) <= length else text[:length] + "…")


def quoted_list(names: Sequence[str], most: int = 4) -> str:
    """List the first so many names, with "and" before the last."""
    shown = [quoted(name) for name in names[:most]]
    if len(names) > most:
        shown.append(f"{len(names) - most} more")
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def shown(value: object, length: int = 5 * LENGTH) -> str:
    """Write a value as `quoted` does, but without quotes if it can be told from the words around it."""
    text = str(value)
    plain = text.isprintable() and text == text.strip() != "" and len(text) <= length
    return text if plain else quoted(text, length)


def override(key: str, value: str) -> str:
    """Write the override that gives a key a text, as it is typed in a shell."""
    return shlex.quote(f"{key}={hydras(value)}")


def dropping(*columns: str) -> str:
    """The override that leaves columns out, as it is typed in a shell; its key alone where it would be too long."""
    if not all(column.isprintable() for column in columns) or any(len(column) > LENGTH for column in columns):
        return "data.drop"
    words = [hydras(column) for column in columns]
    listed = f"data.drop=[{','.join(words)}]"
    return listed if words == list(columns) else shlex.quote(listed)


def hydras(text: str) -> str:
    """Write a text as Hydra's grammar reads it back: in quotes, unless it is a plain word."""
    if re.fullmatch(r"[A-Za-z_][\w.-]*", text, re.ASCII) and text.lower() not in WORDS:
        return text
    # A backslash is itself, but before a quote.
    return '"' + re.sub(r'(\\*)("|$)', lambda found: 2 * found[1] + ('\\"' if found[2] else ""), text) + '"'
