"""What a check comes to, and what it is about."""

import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from shrinkage.machine.secrets import masked
from shrinkage.tracking.location import home

from .asking import describe


class Level(IntEnum):
    """How bad a finding is; the largest is the exit code."""

    WELL = 0
    WARNING = 1
    ERROR = 2


@dataclass(frozen=True)
class Finding:
    """What a check has found: what was looked at, what was seen, and the one command that mends it where it is not
    well.
    """

    level: Level
    subject: str
    seen: str
    command: str | None = None


def well(subject: str, seen: str) -> Finding:
    """Build a finding that all is well."""
    return Finding(Level.WELL, subject, seen)


def warning(subject: str, seen: str, command: str) -> Finding:
    """Build a finding that is a warning."""
    return Finding(Level.WARNING, subject, seen, command)


def error(subject: str, seen: str, command: str) -> Finding:
    """Build a finding that is an error."""
    return Finding(Level.ERROR, subject, seen, command)


def guarded(subject: str, check: Callable[..., Iterable[Finding]], *arguments: object) -> list[Finding]:
    """Make a check and return its findings, with an error where it raises, so that the other checks are made all the
    same.
    """
    findings = []
    try:
        for finding in check(*arguments):
            findings.append(finding)
    except Exception as raised:
        findings.append(Finding(Level.ERROR, subject, f"could not be looked at ({describe(raised)})"))
    return findings


@dataclass(frozen=True)
class StoreAddress:
    """The store that is examined, and the folder in which commands are given.

    given: whether it was named by --store.
    """

    uri: str
    root: Path
    given: bool

    @property
    def home(self) -> Path:
        """The folder that holds journals and a local store's artifacts."""
        return home(self.uri, self.root)

    @property
    def shown(self) -> str:
        """The store's URI without secrets."""
        return masked(self.uri)

    def command(self, module: str, *arguments: str) -> str:
        """Build a command that is about this store."""
        store = ("--store", self.shown) if self.given else ()
        return shlex.join(["python", "-m", module, *arguments, *store])

    def mend(self, name: str) -> str:
        """Build the command of a mend."""
        return self.command("shrinkage.doctor", "--mend", name)
