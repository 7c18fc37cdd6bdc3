"""The signs by which a text file writes its numbers, found out if there is no doubt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .quoting import quoted
from .recipe import as_plain

DECIMALS = {"point": ".", "comma": ","}
THOUSANDS = {"none": "", "comma": ",", "point": ".", "space": " ", "apostrophe": "'"}
EXAMPLES = 3  # the most columns that a note names


@dataclass(frozen=True)
class Notation:
    """The sign before a number's decimals, and the one between its thousands, "" for none."""

    decimal: str = "."
    thousands: str = ""

    def read(self, texts: Sequence[str]) -> tuple[float, ...] | None:
        """Read texts as numbers; None if one of them is no number."""
        numbers = []
        for text in texts:
            plain = as_plain(text, self.decimal, self.thousands)
            if plain is None:
                return None
            numbers.append(float(plain))
        return tuple(numbers)

    @property
    def override(self) -> str:
        """The override that asks for this notation, for a number that can be read in another way too."""
        if self.thousands:
            return f"data.thousands={name_of(self.thousands, THOUSANDS)}"
        return "data.decimal=comma" if self.decimal == "," else "data.thousands=none"


PLAIN = Notation()
NOTATIONS = tuple(
    Notation(decimal, thousands)
    for thousands in THOUSANDS.values()
    for decimal in DECIMALS.values()
    if decimal != thousands
)


@dataclass(frozen=True)
class Numerals:
    """How the numbers of a file's columns are written.

    notations: of each column, None if it has no numbers. doubts: for columns whose numbers can be read in two ways, a
    sentence that says which ones, and the way out.
    """

    notations: Mapping[str, Notation | None]
    doubts: Mapping[str, str]


def find_notations(columns: Mapping[str, Sequence[str]], decimal: str | None, thousands: str | None) -> Numerals:
    """Find how each column writes its numbers, from its different cells without gaps.

    decimal and thousands: the signs that the user has named; None if they are to be found out. A column is of numbers
    if there are signs by which every cell is one. There is no doubt if all such signs give the same numbers. If they do
    not, 1234.5 and 1.234 are read as they stand, unless another column can only have decimal commas; and 1,234 as the
    decimal sign of the other columns has it. What is left is a doubt.
    """
    allowed = [each for each in NOTATIONS if decimal in (None, each.decimal) and thousands in (None, each.thousands)]
    readings = {
        name: {each: found for each in allowed if (found := each.read(cells)) is not None} if cells else {}
        for name, cells in columns.items()
    }
    signs = set()
    for found in readings.values():
        if len({each.decimal for each in found}) == 1:
            signs |= {each.decimal for each in found}
    notations: dict[str, Notation | None] = {}
    doubts: dict[str, str] = {}
    for name, found in readings.items():
        kept = found
        if len(set(found.values())) > 1:
            if PLAIN in found and "," not in signs:
                kept = {PLAIN: found[PLAIN]}
            elif PLAIN not in found and len(signs) == 1:
                kept = {each: numbers for each, numbers in found.items() if each.decimal in signs}
        if len(set(kept.values())) > 1:
            doubts[name] = describe_doubt(name, columns[name], kept)
        notations[name] = next(iter(kept), None) if name not in doubts else None
    return Numerals(notations, doubts)


def describe_doubt(name: str, cells: Sequence[str], readings: dict[Notation, tuple[float, ...]]) -> str:
    """Say which number of a column can be read in two ways, and how each is asked for."""
    ways = list({numbers: each for each, numbers in reversed(readings.items())}.items())
    place = next(k for k in range(len(cells)) if len({numbers[k] for numbers, _ in ways}) > 1)
    said = " or ".join(f"{numbers[place]:.15g} ({each.override})" for numbers, each in ways)
    return f"column {quoted(name)} has {quoted(cells[place])}, which may be {said}: say which"


def name_of(sign: str, names: Mapping[str, str]) -> str:
    return next((name for name, each in names.items() if each == sign), sign)
