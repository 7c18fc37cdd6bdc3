"""What must not be written down: passwords in addresses, values under telling names, secrets of the environment.

A value is masked where it is known to be secret, before anything is composed of it: by its key, by its place in an
address, or since the environment has it under a telling name. What was found by its key or place is known from then on,
so that errors, which quote it anywhere, can be told without it.
"""

import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import unquote

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# Of a name's words in small letters, with _ between.
TELLING = re.compile(
    r"passw|passphrase|secret|credential|(api|access|private)_?key"
    r"|(token|signature|authorization|bearer|cookie|jwt)$|(^|_)(pass|pwd|sig)$|_key$"
)
# What sorts, joins or divides rows; a key that is for all to see; a word of OmegaConf's errors; MLflow's views.
NO_SECRET = re.compile(
    r"(^|_)(full|sort|order|group|join|index|row|column|cache|primary|foreign|partition|public|view_state_share)_key$"
)
IN_ADDRESSES = ("key", "code", "auth")  # telling names of an address's parameters besides

SCHEME = re.compile(r"[a-zA-Z][\w+.-]*://")
# A password may hold a slash, and an address without one an @. One that is all of a text may hold blanks, too.
CREDENTIALS = re.compile(r"(?<=//)(?:[^/\s]+|[^/\s:@]*:[^\s@]+)@")
CREDENTIALS_OF_ALL = re.compile(r"(?<=//)(?:[^/\s]+|[^/\s:@]*:.+)@", re.DOTALL)
PARAMETER = re.compile(r"(?<=[?&;#])([\w.~%-]+)=([^&;#\s'\"<>]+)")
PARAMETER_OF_ALL = re.compile(r"(?<=[?&#])([\w.~%-]+)=([^&#]+)")
# name=value and name: value in other texts, as in overrides and YAML, and a header's value.
NAMED = re.compile(r"([A-Za-z][\w.-]*)['\"]?[ \t]?[=:][ \t]?")
VALUE = re.compile(
    r"(?!(?:null|None|true|false|True|False)\b)('[^']*'|\"[^\"]*\"|\[[^]]*\]|(?:Bearer |Basic )?[^\s&,]+)"
)
HEADER = re.compile(r"\b(Bearer|Basic) [\w.~+/=-]{8,}")

NUMBER = (int, float, type(None))  # what hides nothing under another key, and most of a config
SHORTEST = 8  # characters: a shorter value hides nothing, and stands in other words
STARS = "***"

learned: dict[str, str] = {}  # what was found to be secret, and what is written in its place


@functools.lru_cache(maxsize=4096)
def is_telling(name: str) -> bool:
    """Tell whether a name says that its value is secret."""
    words = "_".join(WORD.findall(name)).lower()
    return bool(TELLING.search(words)) and not NO_SECRET.search(words)


@functools.lru_cache(maxsize=4096)
def is_under_telling(key: str) -> bool:
    """Tell whether a dotted key, or one that it stands under, says that its value is secret."""
    return any(map(is_telling, key.split(".")))


def masked(text: str) -> str:
    """Replace secrets in a text by ***: what is known to be secret, user:password before @ in addresses, and values
    whose name tells that they are.
    """
    return without(known(), text)


@functools.lru_cache(maxsize=4096)  # the runs of a sweep have most of their texts in common
def without(secrets: tuple[tuple[str, str], ...], text: str) -> str:
    """Replace these secrets in a text, and whatever shows by its place that it is one."""
    for secret, instead in secrets:
        text = text.replace(secret, instead)
    text = PARAMETER.sub(without_parameter, CREDENTIALS.sub(f"{STARS}@", text))
    return HEADER.sub(rf"\1 {STARS}", without_named(text))


def without_parameter(found: re.Match[str]) -> str:
    """Write an address's parameter, without its value where its name is telling."""
    return f"{found[1]}={STARS}" if is_parameter(found[1]) else found[0]


def is_parameter(name: str) -> bool:
    """Tell whether the name of an address's parameter says that its value is secret."""
    return is_telling(name) or name.lower() in IN_ADDRESSES


def without_named(text: str) -> str:
    """Write a text without the values that follow telling names."""
    parts, place = list[str](), 0
    for name in NAMED.finditer(text):
        if name.start() >= place and is_under_telling(name[1]) and (value := VALUE.match(text, name.end())):
            parts += text[place : name.end()], STARS
            place = value.end()
    return "".join(parts) + text[place:]


def masked_values(values: Mapping[str, object]) -> dict[str, str]:
    """Turn values into text without secrets; under a telling name there is nothing but ***."""
    return {
        name: STARS if can_be_secret(value) and is_under_telling(name) else masked_text(value)
        for name, value in values.items()
    }


def masked_text(value: object) -> str:
    """Turn a value into text without secrets, those of its parts before the whole is written."""
    if isinstance(value, str):
        return masked_value(value)
    return str(value) if isinstance(value, NUMBER) else masked(str(masked_tree(value)))


def masked_tree(tree: object) -> object:
    """Mask the texts of a config, or a list, in the same way; what is no text stays what it is."""
    if isinstance(tree, str):
        return masked_value(tree)
    if isinstance(tree, Mapping):
        return {
            key: STARS if can_be_secret(value) and is_under_telling(str(key)) else masked_tree(value)
            for key, value in tree.items()
        }
    return [masked_tree(value) for value in tree] if isinstance(tree, list) else tree


def masked_value(value: str) -> str:
    """Mask a value that is a text. If it is an address, its parts may hold blanks, which end an address elsewhere."""
    if "://" in value and SCHEME.match(value):
        value = CREDENTIALS_OF_ALL.sub(f"{STARS}@", value)
        value = PARAMETER_OF_ALL.sub(without_parameter, value)
    return masked(value)


def masked_override(override: str) -> str:
    """Write an override, `key=value`, without secrets."""
    key, equals, value = override.partition("=")
    if value and is_under_telling(key):
        return f"{key}={STARS}"
    return f"{key}{equals}{masked_value(value)}"


def can_be_secret(value: object) -> bool:
    """Tell whether a value under a telling name hides anything: neither nothing nor a yes or no."""
    return bool(value) and value is not True


def learn(tree: object, key: str = "") -> None:
    """Take note of the secrets in a config, or a part of it under a key, so that no text shows them from now on."""
    if isinstance(tree, NUMBER) and not is_under_telling(key):
        return
    if isinstance(tree, Mapping):
        above = f"{key}." if key and is_under_telling(key) else ""
        for name, value in tree.items():
            learn(value, f"{above}{name}")
    elif isinstance(tree, list):
        for value in tree:
            learn(value, key)
    elif is_under_telling(key):
        if can_be_secret(tree):
            keep(key.rpartition(".")[2], str(tree))
    elif isinstance(tree, str) and "://" in tree:
        for name, value in secrets_of_address(tree):
            keep(name, value)


def learn_overrides(overrides: Iterable[str]) -> None:
    """Take note of the secrets in overrides, `key=value`."""
    for override in overrides:
        key, _, value = override.partition("=")
        learn(value, key)
        learn(value.strip("'\""), key)


def secrets_of_address(address: str) -> Iterator[tuple[str, str]]:
    """List the password and the telling parameters of an address, by their names."""
    if found := SCHEME.match(address) and CREDENTIALS_OF_ALL.search(address):
        yield "password", found[0][:-1].partition(":")[2]
    yield from (pair for pair in PARAMETER_OF_ALL.findall(address) if is_parameter(pair[0]))


def keep(name: str, value: str) -> None:
    """Take note of one secret: anywhere, or only beside its name where it stands in other words, too."""
    for each in {value, unquote(value)} if "${" not in value else ():  # which is where the value comes from
        if is_unlike_words(each):
            learned[each] = STARS
        elif each:
            learned.update({f"{name}{between}{each}": f"{name}{between}{STARS}" for between in ("=", ": ")})


def is_unlike_words(value: str) -> bool:
    """Tell whether a value is long enough to be found anywhere, and neither a path nor a number."""
    return len(value) >= SHORTEST and not (
        value.startswith(("/", "~", "./", "file:")) or value.replace(".", "").isdigit()
    )


def known() -> tuple[tuple[str, str], ...]:
    """List what is known to be secret and what is written in its place, the longest first."""
    return by_length(of_environment(), len(learned))


@functools.lru_cache(maxsize=1)
def by_length(secrets: tuple[str, ...], number: int) -> tuple[tuple[str, str], ...]:
    """Order secrets, with the number of learned ones, by their length."""
    return tuple(sorted((dict.fromkeys(secrets, STARS) | learned).items(), key=lambda pair: -len(pair[0])))


@functools.cache
def of_environment() -> tuple[str, ...]:
    """List the values of variables with telling names, and the passwords in addresses; a path or number is none."""
    found = {value for name, value in os.environ.items() if is_telling(name)}
    addresses = [value for value in os.environ.values() if SCHEME.match(value)]
    found |= {value for address in addresses for _, value in secrets_of_address(address)}
    return tuple(sorted(filter(is_unlike_words, found)))
