"""Names and values from a person's file, as a message can show them on one line."""

import re
import shlex

LENGTH = 60


def quoted(value: object, length: int = LENGTH) -> str:
    """In quotes, its end left out where it is long."""
    text = str(value)
    return repr(text if len(text) <= length else text[:length] + "…")


def shown(value: object, length: int = 5 * LENGTH) -> str:
    """The same, without quotes where it can be told from the words around it."""
    text = str(value)
    plain = text.isprintable() and text == text.strip() != "" and len(text) <= length
    return text if plain else quoted(text, length)


def dropping(column: str) -> str:
    """The override that leaves a column out, as it is typed in a shell."""
    if re.fullmatch(r"[^\W\d][\w.-]*", column) and column.lower() not in ("true", "false", "null", "nan", "inf"):
        return f"data.drop=[{column}]"
    if not column.isprintable() or len(column) > LENGTH:
        return "data.drop"
    escaped = column.replace("\\", "\\\\").replace('"', '\\"')
    return shlex.quote(f'data.drop=["{escaped}"]')
