"""Overrides as a person types them, and how they must be typed where Hydra cannot read them.

A value goes through two readers: the shell, which takes its own quotes off, and Hydra's grammar, in which a value that
is no plain word needs quotes as well: letters beyond ASCII, commas, parentheses, brackets, = and others.
"""

import os
import re
import shlex
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser, create_functions
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import OverrideParseException

from shrinkage.boundary import leave
from shrinkage.errors import InputError
from shrinkage.machine.secrets import STARS, learn_overrides, masked_override

PLAIN = re.compile(r"[\w/\\+.$%*@?|: -]", re.ASCII)  # what Hydra reads in a value without quotes
LONGEST_KEY = 240  # bytes: Hydra looks for a file by this name
SPECIAL = re.compile(r'["$`!\\]')  # what a shell changes between double quotes


def check_typed(arguments: Sequence[str]) -> None:
    """Check that Hydra can read the command line, in a folder that is there.

    Exit with one line if it cannot, which says how it must be typed.
    """
    learn_overrides(arguments)
    try:
        Path.cwd()
    except FileNotFoundError:
        leave(InputError("the current folder has been deleted; change to one that is there, and run again"))
    read, rest = get_args_parser().parse_known_args(list(arguments))
    try:
        if rest and rest[0].startswith("-"):
            raise InputError(f"{masked_override(rest[0])}: there is no such flag; --hydra-help lists them")
        if rest:
            raise InputError(
                f"{masked_override(rest[0])}: a flag stands between it and other overrides; type flags first"
            )
        if read.config_dir is not None and not Path(read.config_dir).is_dir():
            raise InputError(
                f"--config-dir={read.config_dir}: there is no such folder in {Path.cwd()}; give one with configs"
            )
        check_overrides(list(read.overrides))
    except InputError as error:
        leave(error)


def check_overrides(typed: Sequence[str]) -> None:
    """Check that Hydra can read overrides. Raises InputError if it cannot, which says how they must be typed."""
    parser = OverridesParser.create()
    for place, override in enumerate(typed):
        try:
            (parsed,) = parser.parse_overrides([override])
            reason = None if parsed.key_or_group else "it has no key"
            if any(len(part.encode("utf-8", "replace")) > LONGEST_KEY for part in parsed.key_or_group.split("/")):
                raise InputError(f"{override[:50]}…: a key has at most {LONGEST_KEY} bytes; choose a shorter one")
            if is_joblib(parsed) and find_spec("hydra_plugins.hydra_joblib_launcher") is None:
                raise InputError(
                    f"{override}: it is not installed; use pip install 'shrinkage[joblib]', or hydra/launcher=lanes"
                )
            value = override.partition("=")[2]
            if parsed.is_sweep_override() and os.path.isfile(value):  # noqa: PTH113 it may be longer than a file's name
                reason = "it is the name of a file, and to Hydra a list"
        except OverrideParseException as error:
            reason = str(error)
        if reason is not None:
            raise InputError(advice(typed, place, reason))


def is_joblib(override: Override) -> bool:
    """Whether an override chooses the one launcher that another package brings as a choice."""
    return override.key_or_group == "hydra/launcher" and override.value() == "joblib"


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
    shown = masked_override(f"{key}={value}").partition("=")[2]
    if end - start > 1:
        words = " ".join(typed[start + 1 : end]) if shown == value else STARS
        return (
            f"{words}: an override is key=value; if this belongs to the value of {key} before it, type "
            f"{as_typed(key, shown)}"
        )
    name, parenthesis, _ = value.partition("(")
    if value.startswith(("[", "{")) or (parenthesis and name in create_functions().definitions):
        words = " ".join(reason.splitlines()[0].split()).removeprefix("LexerNoViableAltException: ")
        if shown != value:
            shown, words = STARS, "it holds a secret"
        return (
            f"{key}={shown}: Hydra cannot read this list, dict or function ({words}): close its brackets and quote its "
            f"texts; if it is one text, type {as_typed(key, shown)}"
        )
    special = " ".join(dict.fromkeys(character for character in value if not PLAIN.match(character)))
    why = f" for {special}" if special else ""
    return f"{key}={shown}: Hydra needs quotes{why}, inside those of the shell; type {as_typed(key, shown)}"


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
