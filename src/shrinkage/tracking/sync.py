"""Bring into the store what is not there yet.

    python -m shrinkage.tracking.sync                     the journals that wait beside the store
    python -m shrinkage.tracking.sync outputs multirun    runs from their own folders, as into a new store

Every run keeps its record on the local disk until the store has it, and in its own folder afterwards. Nothing is
written twice, however often this is done. The next run brings in what waits, too, in the background.
"""

import argparse
import os
import sys
from collections.abc import Iterable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from shrinkage.boundary import command_in_one_line, tell
from shrinkage.errors import InputError
from shrinkage.machine.process import Process, died
from shrinkage.machine.secrets import masked

from .journal import JOURNALS, KEPT, SUFFIX
from .location import ENVIRONMENT, home, store_uri
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


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m shrinkage.tracking.sync",
        description="Bring into the store what runs have recorded while it could not be reached.",
        epilog="Without a path: the journals that wait beside the store. With paths: journals, or folders of runs, "
        "which keep their journals; so a store that was lost is made again.",
    )
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="a journal, or a folder with runs in it")
    parser.add_argument(
        "--store",
        metavar="URI",
        help="where to (default: MLFLOW_TRACKING_URI, else mlflow.db in the current folder)",
    )
    parser.add_argument(
        "--experiment", metavar="NAME", help="which experiment of it (default: the one that each run was meant for)"
    )
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    given = arguments()
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with command_in_one_line():
        sys.exit(sync(given.paths, store_uri(given.store, Path.cwd()), given.experiment))


def find_journals(paths: list[Path]) -> list[Story | InputError]:
    """Read the journals at paths and in folders. Raises InputError where a path is not there."""
    found = []
    for path in paths:
        if not os.path.exists(path):  # noqa: PTH110 it may be longer than a file's name
            raise InputError(f"{path}: there is no such file or folder; give journals, or folders of runs")
        found += [path] if path.is_file() else path.rglob(f"*{SUFFIX}")
    return stories(found)


def sync(paths: list[Path], uri: str, experiment: str | None) -> int:
    """Deliver journals and say what became of them; returns the exit code, 0 where all is in the store now, else 1."""
    beside = home(uri, Path.cwd())
    found = find_journals(paths) if paths else waiting(beside)
    unread = [each for each in found if isinstance(each, InputError)]
    others, going_on, ours = [], [], []
    for each in found:
        if isinstance(each, Story):
            is_ours = is_orphan(each) or each.path.name == KEPT or (paths and each.is_silent)
            here = ours if is_ours else going_on
            (others if not paths and each.store != masked(uri) else here).append(each)
    for error in unread:
        tell(error)
    brought, left = deliver(ours, uri, experiment, beside)
    print(f"{brought} runs brought into {masked(uri)}" + (f"; {len(left)} are not, and wait" if left else ""))
    for reason in dict.fromkeys(left):
        tell(reason)
    if going_on:
        print(f"{len(going_on)} runs are still going on, and see to it themselves")
    for store in dict.fromkeys(each.store for each in others):
        print(f"{sum(each.store == store for each in others)} more are meant for {store}; bring them in with --store")
    return 1 if left or unread else 0


def say_note(run: str, **told: object) -> None:
    """Print what a delivery notes of a run."""
    if "note" in told:
        print(f"note: {run}: {told['note']}", file=sys.stderr)


def deliver(stories: list[Story], uri: str, experiment: str | None, beside: Path) -> tuple[int, list[str]]:
    """Deliver each journal into its experiment; returns how many are in the store now, and why the others are not."""
    if not stories:
        return 0, []

    from rich.console import Console
    from rich.progress import track

    from .answers import asking
    from .bringing import Stores, bring

    stores = Stores(uri, beside / "mlartifacts", experiment)
    brought = chain.from_iterable(bring(stories, stores, lambda story: partial(say_note, story.name)))
    left: list[str] = []
    for each in track(brought, "bringing in runs", len(stories), console=Console(stderr=True), transient=True):
        if each.error is not None:
            left.append(str(each.error))
            continue
        if each.lost:
            words = ", ".join(each.lost)
            print(f"{each.story.name}: gone before they were stored, or none of its own: {words}", file=sys.stderr)
        if each.damaged:
            print(f"{each.story.name}: {each.damaged} damaged lines were left out", file=sys.stderr)
    for name, store in stores.opened.items():
        with asking():
            dead = end_the_dead(store, beside)
        if dead:
            print(f"{len(dead)} runs of {name} whose process had died are ended as KILLED")
    return len(stories) - len(left), left


if __name__ == "__main__":
    main()
