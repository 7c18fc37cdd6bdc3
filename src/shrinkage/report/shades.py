"""The colour of each setting: its penalty's own, and shades of it where several settings have the same penalty."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from shrinkage.colours import colour_of, mixed
from shrinkage.tracking.source import COLOUR

if TYPE_CHECKING:
    from .answer import Setting

PALE = "#b0b0b0"  # what the first of several settings of a penalty is mixed with
PALEST = 0.75  # share of it


def colours_of(settings: "Sequence[Setting]") -> dict[str, str]:
    """Find the colour of each setting by its label.

    A run has recorded its penalty's colour; one that has not has the colour of the penalty's name. Of several settings
    of one penalty the last by its numbers has the colour itself, and those before it paler ones. No colour hangs on
    which setting is the best.
    """
    of_penalty: dict[str, list[Setting]] = {}
    for setting in settings:
        of_penalty.setdefault(penalty_colour(setting), []).append(setting)
    found: dict[str, str] = {}
    for colour, members in of_penalty.items():
        ordered = sorted(members, key=lambda setting: numbers_apart(setting.label))
        for place, setting in enumerate(reversed(ordered)):
            found[setting.label] = mixed(colour, PALE, PALEST * place / max(len(ordered) - 1, 1))
    return found


def penalty_colour(setting: "Setting") -> str:
    """Find the colour of a setting's penalty."""
    runs = setting.runs_at(setting.min)
    recorded = [run["tags"][COLOUR] for run in runs if re.fullmatch("#[0-9a-fA-F]{6}", run["tags"].get(COLOUR, ""))]
    if recorded:
        return recorded[0]
    return colour_of(runs[0]["params"].get("penalty", setting.label) if runs else setting.label)


def numbers_apart(label: str) -> list[tuple[int, float, str]]:
    """Cut a label into its numbers and the text between them, so that 0.003 sorts before 0.01, and 9 before 10."""
    parts = re.split(r"(\d+\.?\d*(?:e[+-]?\d+)?)", label)
    return [(0, float(part), "") if place % 2 else (1, 0.0, part) for place, part in enumerate(parts)]
