"""Where values stand along one side of a picture, and which of them are named there."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

FEW_DECADES, MOST_DECADES = 2, 8  # beyond which only 1, 10, 100, … are named, and not each of them
ENDS = 0.04  # of the whole, left free at either end
TICKS = 5  # at most, of a straight scale
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Scale:
    """A side of a picture: what is named along it, and where each value stands.

    low, high: the values (or their logarithms) at its ends. zero: where 0 stands on a logarithmic one, None where it
    has no place for it. ticks: the values that are named, with their names.
    """

    low: float
    high: float
    is_log: bool
    zero: float | None
    ticks: tuple[tuple[float, str], ...]

    def share(self, value: float) -> float:
        """Return where a value stands: 0 at the low end, 1 at the high one."""
        if self.is_log:
            value = math.log10(value) if value > 0 else self.low if self.zero is None else self.zero
        return (value - self.low) / (self.high - self.low)


def straight(values: Iterable[float], from_zero: bool = False) -> Scale:
    """Make a scale of equal steps around all values. from_zero: whether it begins at 0."""
    found = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(found), max(found)
    if from_zero:
        low = min(low, 0.0)
    room = ENDS * (high - low) or ENDS * abs(high) or ENDS
    low, high = low if from_zero and low == 0 else low - room, high + room
    return Scale(low, high, False, None, tuple(round_values(low, high)))


def logarithmic(values: Iterable[float], zero: bool = False) -> Scale:
    """Make a scale of equal ratios around all positive values. zero: whether 0 has a place left of them."""
    found = [value for value in values if value > 0] or [1.0]
    low, high = math.log10(min(found)), math.log10(max(found))
    at_zero = low - max(0.08 * (high - low), 0.15) if zero else None
    ticks = [(value, name_of(value)) for value in decades(10**low, 10**high)]
    left = low if at_zero is None else at_zero
    room = ENDS * (high - left) or 0.1
    return Scale(left - room, high + room, True, at_zero, (*([(0.0, "0")] * zero), *ticks))


def decades(low: float, high: float) -> list[float]:
    """List the values that are named on a logarithmic scale: powers of ten, and where they are few 2 and 5 of each."""
    first, last = math.log10(low) - 0.02, math.log10(high) + 0.02
    steps = (1.0,) if last - first > FEW_DECADES else (1.0, 2.0, 5.0)
    found = [
        step * 10.0**power
        for power in range(math.floor(first), math.ceil(last) + 1)
        for step in steps
        if first <= math.log10(step) + power <= last
    ]
    if len(found) < 2:
        found = [value for value, _ in round_values(10**first, 10**last) if value > 0]
    return found[:: math.ceil(len(found) / MOST_DECADES)] if steps == (1.0,) else found


def round_values(low: float, high: float) -> list[tuple[float, str]]:
    """List round values of equal steps in a range, with their names."""
    rough = (high - low) / TICKS
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(size * unit for size in (1, 2, 5, 10) if size * unit >= rough * 0.999)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    found = [step * place for place in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return [(value, f"{value:,.{digits}f}" if digits <= 4 and high < 1e6 else f"{value:.4g}") for value in found]


def name_of(value: float) -> str:
    """Write a round value: 0.001, 20, and 10⁻⁷ where it is very small or large."""
    power = math.floor(math.log10(value) + 1e-9)
    if -5 < power < 5:
        return f"{value:.{max(0, -power)}f}"
    step = round(value / 10.0**power)
    return f"{'' if step == 1 else f'{step}·'}10{str(power).translate(SUPERSCRIPT)}"


def is_wide(values: Sequence[float], factor: float) -> bool:
    """Tell whether values need a logarithmic scale, and can have one."""
    return bool(values) and min(values) > 0 and max(values) > factor * min(values)
