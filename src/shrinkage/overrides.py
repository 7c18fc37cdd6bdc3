"""Overrides as a person types them, and how they must be typed where Hydra cannot read them.

A value goes through two readers: the shell, which takes its own quotes off, and Hydra's grammar, in which a value that
is no plain word needs quotes as well: letters beyond ASCII, commas, parentheses, brackets, = and others.
"""

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser, create_functions
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import OverrideParseException

from shrinkage.boundary import leave
from shrinkage.errors import InputError

PLAIN = re.compile(r"[\w/\\+.$%*@?|: -]", re.ASCII)  # what Hydra reads in a value without quotes
SPECIAL = re.compile(r'["$`!\\]')  # what a shell changes between double quotes


def check_typed(arguments: Sequence[str]) -> None:
    """Check that Hydra can read the command line. Exit with one line if it cannot, which says how it must be typed."""
    typed = list(get_args_parser().parse_args(list(arguments)).overrides)
    parser = OverridesParser.create()
    for place, override in enumerate(typed):
        try:
            (read,) = parser.parse_overrides([override])
            reason = None if read.key_or_group else "it has no key"
            if read.is_sweep_override() and Path(override.partition("=")[2]).is_file():
                reason = "it is the name of a file, and to Hydra a list"
        except OverrideParseException as error:
            reason = str(error)
        if reason is not None:
            leave(InputError(advice(typed, place, reason)))


def advice(typed: Sequence[str], place: int, reason: str) -> str:
    """Say how the override at this place must be typed. reason: what is wrong with it."""
    start, end = place, place + 1
    while start > 0 and "=" not in typed[start]:
        start -= 1  # the shell cuts a value at its blanks
    while end < len(typed) and "=" not in typed[end] and not typed[end].startswith("~"):
        end += 1
    key, equals, value = " ".join(typed[start:end]).partition("=")
    if not equals or not key:
        return f"{typed[place]}: an override is key=value, such as lambd=0.1"
    if end - start > 1:
        words = " ".join(typed[start + 1 : end])
        return (
            f"{words}: an override is key=value; if this belongs to the value of {key} before it, type "
            f"{as_typed(key, value)}"
        )
    name, parenthesis, _ = value.partition("(")
    if value.startswith(("[", "{")) or (parenthesis and name in create_functions().definitions):
        words = " ".join(reason.splitlines()[0].split()).removeprefix("LexerNoViableAltException: ")
        return (
            f"{key}={value}: Hydra cannot read this list, dict or function ({words}): close its brackets and quote its "
            f"texts; if it is one text, type {as_typed(key, value)}"
        )
    special = " ".join(dict.fromkeys(character for character in value if not PLAIN.match(character)))
    why = f" for {special}" if special else ""
    return f"{key}={value}: Hydra needs quotes{why}, inside those of the shell; type {as_typed(key, value)}"


def as_typed(key: str, value: str) -> str:
    """Write the override of a text as it is typed: a pair of quotes for this system's shells and a pair for Hydra."""
    in_single, in_double = (
        f"{key}={QuotedString(value, quote).with_quotes()}" for quote in (Quote.single, Quote.double)
    )
    if not SPECIAL.search(in_single):
        return f'"{in_single}"'
    if not SPECIAL.search(value) or os.name == "nt":
        return '"' + in_double.replace('"', '\\"') + '"'
    return f"'{in_double}'" if "'" not in in_double else shlex.quote(in_single)
