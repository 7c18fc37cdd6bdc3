"""Only a run's own files go into the store, and only by the hand of whoever they belong to.

A journal is a text, which may name any file of the machine. So a file is opened step by step from the run's own folder,
without following a link, and what is stored is what that descriptor shows.
"""

import os
import stat
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from shrinkage.errors import InputError

from .journal import KEPT

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe would wait for a writer


class NotOwn(PermissionError):
    """A file that is none of the run's own."""


def refuse_foreign(journal: Path, folder: Path | None) -> None:
    """Refuse a journal that another user could have written, or whose run's folder another user could change.

    Raises InputError, and FileNotFoundError where the journal is gone.
    """
    about, me = journal.lstat(), os.geteuid()
    if not stat.S_ISREG(about.st_mode):
        raise InputError(f"{journal}: it is a link or no file, and is left; give the journal itself")
    own = own_folder(journal, folder)
    owners = {journal: about.st_uid} | ({} if own is None or not own.exists() else {own: own.stat().st_uid})
    for path, owner in owners.items():
        if owner != me:
            raise InputError(
                f"{journal}: it is left, since {path} belongs to user {owner} and this is user {me}; whoever "
                "it belongs to brings it in"
            )


def own_folder(journal: Path, folder: Path | None) -> Path | None:
    """Find the folder that a run's files are in now: where its journal is kept, else where the run was.

    folder: the run's own, when the journal was begun.
    """
    return journal.parent if journal.name == KEPT else folder


def located(path: Path, folder: Path | None, journal: Path) -> tuple[Path, tuple[str, ...]]:
    """Find the run's own folder and the way from there to a file. Raises NotOwn where it lies elsewhere."""
    own = own_folder(journal, folder)
    if own is None or folder is None:
        raise NotOwn("the run has no folder of its own")
    base = folder if path.is_relative_to(folder) else folder.resolve()
    parts = path.relative_to(base).parts if path.is_relative_to(base) else ()
    if not parts or ".." in parts:
        raise NotOwn("it is not in the run's own folder")
    return own, parts


@contextmanager
def opened(path: Path, folder: Path | None, journal: Path) -> Generator[int]:
    """Open a file of a run, and yield its descriptor.

    Raises FileNotFoundError where it is gone, and NotOwn where it is a link, no file, or not the journal's owner's.
    """
    own, parts = located(path, folder, journal)
    owner = journal.stat().st_uid
    with ExitStack() as held:
        place: int | None = None
        descriptor = -1
        for part, flags in [(own, FOLDER), *((name, FOLDER) for name in parts[:-1]), (parts[-1], FILE)]:
            try:
                place = descriptor = os.open(part, flags, dir_fd=place)
            except FileNotFoundError:
                raise
            except OSError as error:
                raise NotOwn(f"a link is on the way to it, or it cannot be read: {error.strerror}") from None
            held.callback(os.close, descriptor)
            about = os.fstat(descriptor)
            if about.st_uid != owner:
                raise NotOwn(f"user {about.st_uid} owns {part}, and user {owner} the journal")
            if flags == FILE and not stat.S_ISREG(about.st_mode):
                raise NotOwn("it is no file")
        yield descriptor


@contextmanager
def named(path: Path, folder: Path | None, journal: Path) -> Generator[Path]:
    """Open a file of a run in the same way, and yield a path of its name by which others read what was opened."""
    with opened(path, folder, journal) as file, TemporaryDirectory() as place:
        link = Path(place, path.name)
        link.symlink_to(f"/dev/fd/{file}")
        yield link
