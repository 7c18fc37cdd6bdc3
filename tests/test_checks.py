"""The rules of single values, against what they say."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shrinkage.checks import LARGEST, Boolean, Number, OneOf, Text, Whole, Wholes, check
from shrinkage.errors import InputError

VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())


@given(VALUES, st.integers(-3, 3), st.booleans())
def test_a_whole_number(value: object, least: int, or_null: bool) -> None:
    fits = (type(value) is int and least <= value <= LARGEST) or (value is None and or_null)
    assert (Whole(least, or_null=or_null).broken_by(value) is None) == fits


@given(VALUES)
def test_whole_numbers(value: object) -> None:
    fits = isinstance(value, list) and value != [] and min(value) >= 1
    assert (Wholes(1).broken_by(value) is None) == fits
    assert (Wholes(1, or_none=True).broken_by(value) is None) == (fits or value == [])


@given(VALUES)
def test_a_number_is_finite_and_in_its_interval(value: object) -> None:
    is_number = type(value) in (int, float)
    fits = is_number and 0 < value < 1  # NaN and ∞ are in no interval
    assert (Number("must be > 0 and < 1", above=0, below=1).broken_by(value) is None) == fits
    assert (Number("must be a number").broken_by(value) is None) == (is_number and abs(value) <= 1.7976931348623157e308)


@given(VALUES)
def test_true_or_false(value: object) -> None:
    assert (Boolean().broken_by(value) is None) == (value is True or value is False)


def test_one_of_a_few_takes_no_value_for_another_of_its_size() -> None:
    rule = OneOf(True, False, "auto")
    assert [rule.broken_by(value) for value in (True, False, "auto")] == [None] * 3
    assert rule.broken_by(1) == rule.broken_by("true") == "must be true, false or auto"
    assert OneOf(None, "rare").broken_by("all") == "must be null or rare"


def test_the_error_gives_the_value_the_rule_and_the_way_out() -> None:
    with pytest.raises(InputError, match=r"^a\.b=0: must be a whole number ≥ 1; use a\.b=2$"):
        check("a.b", 0, Whole(1), "use a.b=2")
    with pytest.raises(InputError, match=r"^a=nan: λ must be > 0 and finite; use a=1$"):
        check("a", math.nan, Number("λ must be > 0", above=0), "use a=1")
    with pytest.raises(InputError, match=r"^a=1: a name; use a=x$"):
        check("a", 1, Text("a name"), "use a=x")
    check("a", 1, Text("a name", or_number=True), "use a=x")
