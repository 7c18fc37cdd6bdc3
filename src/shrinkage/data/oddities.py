"""Finds what is odd in a person's file: what may be meant otherwise than it was read."""

import re
from collections import Counter
from collections.abc import Sequence

import pandas as pd

from .column_rules import NUMBER
from .quoting import dropping, quoted
from .reading import Contents
from .recipe import tidied
from .target import FEW

LISTED = 20  # the most texts that a note names
# What a person takes for a number: 1,234.50 and 12 % and $5 and 27 kg and (27) and <27.
ALMOST = re.compile(r"[(<>~≈≤≥]?\s*[+-]?[$€£¥]?\s*[+-]?\d[\d.,'’\s]*(e[+-]?\d+)?\s*([%‰$€£¥°]|[^\W\d_]{1,5}[²³]?)?\)?")
# What a person takes for a date, and which is none of the ways to write one that are read.
ALMOST_DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}(\s.*)?", re.ASCII)


def find_oddities(frame: pd.DataFrame, contents: Contents, targets: Sequence[str], max_categories: int) -> list[str]:
    """Say of which columns a person may have meant something else than what was read."""
    found: list[str] = []
    for name, column in frame.items():
        if name in contents.codes and contents.columns[name].kind == "integer":
            found.append(
                f"column {quoted(name)} has {quoted(contents.codes[name])} and is read as numbers, without the "
                f"first 0; if these are codes, {dropping(name)} leaves them out."
            )
        if contents.columns[name].kind == "text":
            found += find_odd_texts(column, targets, max_categories)
    return found


def find_odd_texts(column: pd.Series, targets: Sequence[str], max_categories: int) -> list[str]:
    """Say what is odd in a column of text."""
    name, counts = str(column.name), column.dropna().astype(str).value_counts()
    kind = "classes" if name in targets else "categories"
    texts = [text.strip() for text in counts.index]
    if not texts:
        return []
    found = []
    others = [place for place, text in enumerate(texts) if not NUMBER.fullmatch(text)]
    units = Counter(unit_of(text) for text in texts)
    almost = units.pop("", 0) + max((count for unit, count in units.items() if unit is not None), default=0)
    dates = sum(1 for text in texts if ALMOST_DATE.fullmatch(text))
    if 2 * dates > len(texts):
        found.append(
            f"column {quoted(name)} has what may be dates, such as {quoted(texts[0])}, but cannot be read as such "
            f"in one way alone, and is read as text, its values as {kind}; dates are written as 2026-01-31."
        )
    elif others and 2 * almost > len(texts):
        rows, verb = int(counts.iloc[others].sum()), "are" if len(others) > 1 else "is"
        found.append(
            f"column {quoted(name)} is read as text, its values as {kind}, since {quoted(texts[others[0]])} "
            f"{'and others, ' * (len(others) > 1)}in {rows} of {len(column)} rows {verb} no "
            "number; numbers are written as 1234.5, and a gap is an empty cell."
        )
    elif name not in targets and len(column) > FEW and len(column) < 2 * len(texts) <= 2 * max_categories:
        found.append(
            f"column {quoted(name)} has {len(texts)} different texts in {len(column)} rows, each a category, as "
            f"names and numbers of rows do; {dropping(name)} leaves it out."
        )
    alike: dict[str, list[str]] = {}
    for text in counts.index:
        alike.setdefault(tidied(text), []).append(text)
    joined = next((spellings for spellings in alike.values() if len(spellings) > 1), None)
    if joined:
        count = sum(len(spellings) > 1 for spellings in alike.values())
        found.append(
            f"column {quoted(name)} has {', '.join(map(quoted, joined[:LISTED]))} as {kind} of their own"
            f"{f', and {count - 1} more such' * (count > 1)}; data.tidy=true joins those that differ only in case "
            "and blanks."
        )
    return found


def unit_of(text: str) -> str | None:
    """Find what stands beside the digits of a text that a person may take for a number; None if it is no such text."""
    if NUMBER.fullmatch(text):
        return ""
    return re.sub(r"[\d.,'’\s+-]", "", text) if ALMOST.fullmatch(text) else None
