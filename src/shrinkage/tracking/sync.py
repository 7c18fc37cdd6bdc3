"""Bring into the store what is not there yet.

    python -m shrinkage.tracking.sync                     the journals that wait beside the store
    python -m shrinkage.tracking.sync outputs multirun    runs from their own folders, as into a new store

Every run keeps its record on the local disk until the store has it, and in its own folder afterwards. Nothing is
written twice, however often this is done. The next run brings in what waits, too, in the background.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from shrinkage.boundary import command_in_one_line, tell
from shrinkage.errors import InputError, StoreAway, StoreRefuses
from shrinkage.machine.process import Process
from shrinkage.machine.secrets import masked

from .journal import JOURNALS, KEPT, SUFFIX, Story
from .location import ENVIRONMENT, home, store_uri

if TYPE_CHECKING:
    from .store import Store

MOST_RUNS = 1000


def waiting(home: Path) -> list[Story | InputError]:
    """List the journals beside a store that are not in it yet, the oldest first; an error for an unreadable one."""
    return stories((home / JOURNALS).glob(f"*{SUFFIX}"))


def stories(paths: Iterable[Path]) -> list[Story | InputError]:
    """Read journals, the oldest first; an error for one that cannot be read."""
    found = []
    for path in paths:
        try:
            found.append(Story.of(path))
        except InputError as error:
            found.append(error)
        except FileNotFoundError:  # its writer has just moved it to its run
            continue
    return sorted(found, key=began)


def began(story: Story | InputError) -> int:
    """Tell when a run began, in milliseconds since 1970; 0 where its journal cannot be read."""
    return story.header["time"] if isinstance(story, Story) else 0


def orphans(home: Path, uri: str) -> Iterator[Story]:
    """Find the journals for a store that nobody is carrying there any more."""
    for found in waiting(home):
        if isinstance(found, Story) and found.store == masked(uri) and is_orphan(found):
            yield found


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
            store.client.set_terminated(run.info.run_id, status="KILLED", end_time=heartbeat)
            ended.append(run.info.run_id)
    return ended


def process_of(tags: dict[str, str]) -> tuple[Process | None, int]:
    """Read what a run's tags say of its process, and its last heartbeat; None where they say nothing."""
    known = {name: tags.get(f"process.{name}") for name in ("host", "pid", "boot", "started", "heartbeat")}
    if None in known.values() or not (known["pid"].isdigit() and known["heartbeat"].isdigit()):
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
        if not path.exists():
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
    from .delivery import Delivery, Waiting
    from .store import Store, open_store

    stores: dict[str, Store] = {}
    brought, left = 0, []
    for each in track(stories, "bringing in runs", console=Console(stderr=True), transient=True):
        name = experiment or each.header["experiment"]
        try:
            stores[name] = stores.get(name) or open_store(uri, name, beside / "mlartifacts")
            delivery = Delivery(stores[name], each.path, fresh=False, said=partial(say_note, each.name))
            delivery.end("KILLED", each.heartbeat)
        except Waiting:
            left.append(f"{each.path}: the sweep that it belongs to has to come first, and could not")
        except FileNotFoundError:
            brought += 1  # another process was quicker
        except StoreAway as error:
            left.append(f"{each.path}: {masked(uri)} does not take it now: {error}")
        except StoreRefuses as error:
            left.append(str(error) if name not in stores else f"{each.path}: {masked(uri)} does not take it: {error}")
        except InputError as error:
            left.append(str(error))
        else:
            brought += 1
            if delivery.lost:
                print(f"{each.name}: gone before they were stored: {', '.join(delivery.lost)}", file=sys.stderr)
            if delivery.reader.damaged:
                print(f"{each.name}: {delivery.reader.damaged} damaged lines were left out", file=sys.stderr)
    for name, store in stores.items():
        with asking():
            dead = end_the_dead(store, beside)
        if dead:
            print(f"{len(dead)} runs of {name} whose process had died are ended as KILLED")
    return brought, left


if __name__ == "__main__":
    main()
