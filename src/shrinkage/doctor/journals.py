"""The journals that wait beside a store."""

import contextlib
import shlex
from collections.abc import Iterator, Mapping

from rich.filesize import decimal

from shrinkage.errors import InputError
from shrinkage.machine.process import Process
from shrinkage.tracking.journal import JOURNALS, SUFFIX
from shrinkage.tracking.left_behind import is_orphan, waiting
from shrinkage.tracking.story import NewerFormat, Reader, Story

from .findings import Finding, Level, StoreAddress, error, warning, well


def stories(address: StoreAddress) -> dict[str, Story]:
    """Read the journals that wait beside the store and can be read, by their ids."""
    return {story.id: story for story in waiting(address.home) if isinstance(story, Story)}


def journal_findings(address: StoreAddress, found: Mapping[str, Story]) -> Iterator[Finding]:
    """Check the journals that wait beside the store."""
    folder = address.home / JOURNALS
    paths = sorted(folder.glob(f"*{SUFFIX}"))
    for path in paths:
        try:
            with contextlib.suppress(FileNotFoundError):  # it has just been delivered
                Story.of(path)
        except NewerFormat as reason:
            yield Finding(Level.WARNING, "journals", str(reason))
        except InputError as reason:
            yield error("journals", str(reason), shlex.join(["mv", str(path), f"{path}.damaged"]))
    dead = [story for story in found.values() if is_orphan(story)]
    for store in dict.fromkeys(story.store for story in dead):
        sync = address.command("shrinkage.tracking.sync")
        if store != address.shown:
            sync = shlex.join(["python", "-m", "shrinkage.tracking.sync", "--store", store])
        meant = [story for story in dead if story.store == store]
        yield warning("journals", f"not in {store} yet, and their processes have ended: {summary(meant)}", sync)
    others = [story for story in found.values() if story not in dead]
    silent = [story for story in others if story.process.host != Process.this().host and story.is_silent]
    for host in dict.fromkeys(story.process.host for story in silent):
        meant = [story for story in silent if story.process.host == host]
        sync = shlex.join(["ssh", host, f"cd {shlex.quote(str(address.home))} && python -m shrinkage.tracking.sync"])
        yield warning("journals", f"of another host, {host}, and not written to any more: {summary(meant)}", sync)
    if going := [story for story in others if story not in silent]:
        yield well("journals", f"on their way into the store: {summary(going)}")
    elif not paths:
        yield well("journals", f"none waits in {folder}")


def summary(stories: list[Story]) -> str:
    """Say how many journals there are, how large they are, and how many of their lines are damaged."""
    size, damaged = 0, 0
    for story in stories:
        with contextlib.suppress(FileNotFoundError):
            reader = Reader(story.path)
            for _ in reader.events():
                pass
            size, damaged = size + reader.offset, damaged + reader.damaged
    lines = f", {damaged} damaged line{'s' * (damaged > 1)} to be left out" if damaged else ""
    return f"{len(stories)} ({decimal(size)}{lines})"
