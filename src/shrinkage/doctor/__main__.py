"""Is the store well, and all that runs need?

    python -m shrinkage.doctor                  what there is to say, and the command that mends it
    python -m shrinkage.doctor --mend runs      one of the things that it can mend itself

Exit code 0: all is well; 1: warnings; 2: errors, or a mend that was refused. Nothing is changed without --mend.
"""

import argparse
import contextlib
import io
import os
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from shrinkage.boundary import command_in_one_line
from shrinkage.errors import InputError
from shrinkage.machine.waiting import doing
from shrinkage.tracking.journal import JOURNALS
from shrinkage.tracking.location import ENVIRONMENT, sqlite_path, store_uri

from . import checks, mending
from .asking import describe
from .findings import Finding, Level, StoreAddress, error, guarded, well
from .journals import journal_findings, stories

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

MENDS = {
    "schema": "bring a SQLite store of an older MLflow to the schema of the installed one",
    "store": "move a SQLite store that is broken aside, under a dated name, so that the next run makes a new one",
    "wal": "set a SQLite store to WAL mode",
    "runs": "end the runs that are RUNNING though their process has died on this host, as KILLED",
}
QUIET = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # what it warns of is said here in one line
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
MARKS = {Level.WELL: "[green]✓[/]", Level.WARNING: "[yellow]![/]", Level.ERROR: "[red]✗[/]"}
SHORT_BYTES, TOO_SHORT_BYTES = 10**9, 10**8  # of disk space: a warning, an error
LARGE_BYTES = 5 * 10**9  # of a store, where as much is not free for a copy of it
COUNT_SECONDS = 3.0  # for adding up the sizes of files


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m shrinkage.doctor",
        description="Is the store well: can it be reached, read and written, does its schema fit the installed MLflow, "
        "are runs left RUNNING, are journals not in it yet, is there disk space, are Python and the packages as "
        "required? Each finding that is not well comes with the command that mends it.",
        epilog="what --mend can do:\n"
        + "\n".join(f"  {name:<8}{what}" for name, what in MENDS.items())
        + "\n\nBefore it changes a SQLite store it makes a backup beside it. Exit code 0: all is well; 1: warnings; 2: "
        "errors,\nor a mend that was refused. More in docs/doctor.md.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--store",
        metavar="URI",
        help="the store, as in tracking.uri (default: MLFLOW_TRACKING_URI, else mlflow.db in the current folder)",
    )
    parser.add_argument("--mend", metavar="NAME", choices=MENDS, help=f"do one of {', '.join(MENDS)}, and nothing else")
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    given = arguments()
    for name, value in (ENVIRONMENT | QUIET).items():
        os.environ.setdefault(name, value)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    with command_in_one_line(code=Level.ERROR):
        address = StoreAddress(store_uri(given.store, Path.cwd()), Path.cwd(), given.store is not None)
        if given.mend:
            mend(given.mend, address)
        else:
            sys.exit(examine(address))


def mend(name: str, address: StoreAddress) -> None:
    """Do one of the mends and say what was done. Raises InputError where it does not come to its end."""
    try:
        for done in mending.mend(name, address):
            print(done)
    except InputError:
        raise
    except Exception as raised:  # what SQLAlchemy, MLflow, the file system or the network have to say
        raise InputError(
            f"--mend {name} did not come to its end ({describe(raised)}); see what the doctor says"
        ) from raised


def examine(address: StoreAddress) -> Level:
    """Print all findings as they come; returns the worst level of them."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"The store {escape(address.shown)}", style="bold")
    counts = dict.fromkeys(Level, 0)
    for finding in waited_for(findings(address)):
        counts[finding.level] += 1
        console.print(f"{MARKS[finding.level]} [bold]{finding.subject}[/]: {escape(finding.seen)}")
        if finding.command is not None:
            console.print(f"    {escape(finding.command)}", style="cyan")
    bad = [level for level in (Level.ERROR, Level.WARNING) if counts[level]]
    said = [f"{counts[level]} {level.name.lower()}{'s' * (counts[level] > 1)}" for level in bad]
    console.print(", ".join(said) or "All is well.", style="bold")
    return max(bad, default=Level.WELL)


def waited_for(found: Iterator[Finding]) -> Iterator[Finding]:
    """Yield the findings as they are, and show on a terminal that the next one is being looked for."""
    while True:
        with doing("looking"):
            finding = next(found, None)
        if finding is None:
            return
        yield finding


def findings(address: StoreAddress) -> Iterator[Finding]:
    """Make all checks, one after the other."""
    yield from guarded("Python", python)
    yield from guarded("packages", packages)
    yield from guarded("MLflow", mlflow)
    yield from guarded("folder", folder, address)
    yield from guarded("disk", disk, address)
    found = {}
    unread = guarded("journals", lambda: found.update(stories(address)) or ())
    yield from guarded("store", checks.examine, address, found)
    yield from unread or guarded("journals", journal_findings, address, found)
    yield from guarded("old files", checks.old_files, address)


# ---- Python and packages


def python() -> Iterator[Finding]:
    """Check Python's version against the one that the project requires."""
    from packaging.specifiers import SpecifierSet

    here, required = platform.python_version(), SpecifierSet(project().metadata["Requires-Python"] or "")
    if required.contains(here, prereleases=True):
        yield well("Python", here)
    else:
        minor = next((minor for minor in range(99, 6, -1) if required.contains(f"3.{minor}")), "")
        yield error("Python", f"{here}, and {required} is required", f"python3.{minor} -m venv .venv")


def packages() -> Iterator[Finding]:
    """Check the installed packages against what the project requires."""
    required, wrong = requirements(), {}
    for name, specifier in required.items():
        try:
            there = metadata.version(name)
        except metadata.PackageNotFoundError:
            wrong[name] = f"{name} is missing"
        else:
            if not specifier.contains(there, prereleases=True):
                wrong[name] = f"{name} is {there}, and {specifier} is required"
    if wrong:
        yield error(
            "packages", "; ".join(wrong.values()), pip("install", *(f"{name}{required[name]}" for name in wrong))
        )
    else:
        yield well("packages", f"{len(required)} as required")


def mlflow() -> Iterator[Finding]:
    """Check whether MLflow can be imported."""
    if (reason := checks.import_error()) is None:
        yield well("MLflow", metadata.version("mlflow"))
    else:
        again = pip("install", "--force-reinstall", f"mlflow{requirements()['mlflow']}")
        yield error("MLflow", f"it cannot be imported ({reason})", again)


def project() -> metadata.Distribution:
    """Find the installed project. Raises InputError where it is not installed."""
    try:
        return metadata.distribution("shrinkage")
    except metadata.PackageNotFoundError:
        raise InputError("shrinkage itself is not installed; python -m pip install -e .") from None


def requirements() -> dict[str, "SpecifierSet"]:
    """List what the project requires here, without its extras."""
    from packaging.requirements import Requirement

    lines = map(Requirement, project().requires or ())
    return {line.name: line.specifier for line in lines if line.marker is None or line.marker.evaluate({"extra": ""})}


def pip(*arguments: str) -> str:
    """Build a command of pip's."""
    return shlex.join(["python", "-m", "pip", *arguments])


# ---- The store's folder, and its disk


def folder(address: StoreAddress) -> Iterator[Finding]:
    """Check whether what a run writes beside the store can be written."""
    home = address.home
    there = existing(home)
    if there != home:
        if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
            yield well("folder", f"{home}: none there yet; the first run makes it")
        else:
            yield error("folder", f"{home} cannot be made in {there}", shlex.join(["sudo", "mkdir", "-p", str(home)]))
        return
    written = [each for each in (home, home / JOURNALS, home / "mlartifacts") if each.exists()]
    closed = [each for each in written if not os.access(each, os.R_OK | os.W_OK | os.X_OK)]
    if closed:
        yield error("folder", f"cannot be written: {', '.join(map(str, closed))}", checks.mine(*closed))
    else:
        yield well("folder", f"{home} can be written")


def existing(path: Path) -> Path:
    """Find the path itself, or the nearest above it that is there."""
    return path if path.exists() else existing(path.parent)


def disk(address: StoreAddress) -> Iterator[Finding]:
    """Check how much room is left on the store's disk."""
    from rich.filesize import decimal

    there, path = existing(address.home), sqlite_path(address.uri)
    free = shutil.disk_usage(there).free
    database = path.stat().st_size if path is not None and path.is_file() else 0
    artifacts, are_all = size_of(address.home / "mlartifacts")
    taken = {"the database": database, "artifacts" if are_all else "artifacts at least": artifacts}
    parts = [f"{decimal(free)} free", *(f"{what} {decimal(size)}" for what, size in taken.items() if size)]
    level = Level.ERROR if free < TOO_SHORT_BYTES else Level.WARNING if free < SHORT_BYTES else Level.WELL
    if database + artifacts > max(free, LARGE_BYTES):
        parts.append("and no room for a copy of them")
        level = max(level, Level.WARNING)
    look = f"du -h -d 2 {shlex.quote(str(there))} | sort -h | tail -n 20"  # what there is to delete
    yield Finding(level, "disk", ", ".join(parts), look if level else None)


def size_of(folder: Path) -> tuple[int, bool]:
    """Add up the bytes of a folder's files; tells, too, whether there was time to look at all of them."""
    deadline, total = time.monotonic() + COUNT_SECONDS, 0
    for parent, _, names in os.walk(folder):
        if time.monotonic() > deadline:
            return total, False
        for name in names:
            with contextlib.suppress(OSError):  # it has just gone
                total += (Path(parent) / name).lstat().st_size
    return total, True


if __name__ == "__main__":
    main()
