"""Bring into the store what is not there yet.

    python -m shrinkage.tracking.sync                     the journals that wait beside the store
    python -m shrinkage.tracking.sync outputs multirun    runs from their own folders, as into a new store

Every run keeps its record on the local disk until the store has it, and in its own folder afterwards. Nothing is
written twice, however often this is done. The next run brings in what waits, too, in the background.
"""

import argparse
import os
import sys
from functools import partial
from itertools import chain
from pathlib import Path

from shrinkage.boundary import command_in_one_line, tell
from shrinkage.errors import InputError
from shrinkage.machine.secrets import masked

from .journal import KEPT, SUFFIX
from .left_behind import end_the_dead, is_orphan, stories, waiting
from .location import ENVIRONMENT, home, store_uri
from .story import Story

QUIET = {"MLFLOW_LOGGING_LEVEL": "WARNING"}  # else it tells of each step in which it makes a new store


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
    for name, value in (ENVIRONMENT | QUIET).items():
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
