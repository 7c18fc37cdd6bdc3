"""What earlier processes have left behind: journals that nobody carries into the store, and runs that never ended."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from shrinkage.errors import InputError
from shrinkage.machine.process import Process, died
from shrinkage.machine.secrets import masked

from .journal import JOURNALS, SUFFIX
from .own_files import refuse_foreign
from .story import Story

if TYPE_CHECKING:
    from .store import Store

MOST_RUNS = 1000


def waiting(home: Path) -> list[Story | InputError]:
    """List the journals beside a store that are not in it yet, the oldest first; an error for an unreadable one."""
    return stories((home / JOURNALS).glob(f"*{SUFFIX}"))


def stories(paths: Iterable[Path]) -> list[Story | InputError]:
    """Read what journals tell, the oldest first; an error for each that cannot be read, or is another user's."""
    found: list[Story | InputError] = []
    for path in paths:
        try:
            story = Story.of(path)
            refuse_foreign(path, story.folder)
            found.append(story)
        except InputError as error:
            found.append(error)
        except FileNotFoundError:  # its writer has just moved it to its run
            continue
    return sorted(found, key=lambda each: each.began if isinstance(each, Story) else 0)


def orphans(home: Path, uri: str) -> list[Story | InputError]:
    """Find the journals for a store that nobody is carrying there any more; an error for each unreadable one."""
    shown = masked(uri)
    return [each for each in waiting(home) if isinstance(each, InputError) or (each.store == shown and is_orphan(each))]


def is_orphan(story: Story) -> bool:
    """Tell whether the process of a run, and with it its writer, has ended, however the run did."""
    return story.process.is_dead(story.heartbeat)


def end_the_dead(store: "Store", home: Path) -> list[str]:
    """End, as KILLED, the runs of this experiment whose process on this host has died; returns their ids.

    A run that has a journal is left to it. Raises what MLflow does where the store does not answer.
    """
    ended = []
    for run in store.client.search_runs([store.experiment_id], "attributes.status = 'RUNNING'", max_results=MOST_RUNS):
        process, heartbeat = process_of(run.data.tags)
        journal = home / JOURNALS / f"{run.data.tags.get('shrinkage.journal')}{SUFFIX}"
        if process is None or not process.is_dead(heartbeat) or journal.exists():
            continue
        # Looked at again: it may have ended well, and its process with it, since the list was made.
        if store.client.get_run(run.info.run_id).info.status == "RUNNING":
            store.client.set_terminated(run.info.run_id, status="KILLED", end_time=died(0, heartbeat))
            ended.append(run.info.run_id)
    return ended


def process_of(tags: dict[str, str]) -> tuple[Process | None, int]:
    """Read what a run's tags say of its process, and its last heartbeat; None where they say nothing."""
    names = ("host", "pid", "boot", "started", "heartbeat")
    known = {name: tags[f"process.{name}"] for name in names if f"process.{name}" in tags}
    if len(known) < len(names) or not (known["pid"].isdigit() and known["heartbeat"].isdigit()):
        return None, 0
    return Process(known["host"], int(known["pid"]), known["boot"], known["started"]), int(known["heartbeat"])
