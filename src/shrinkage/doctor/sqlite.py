"""SQLite files: read without a trace, their locks and who holds them, their damage, and copies of them."""

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
from rich.filesize import decimal

from shrinkage.errors import InputError

from .asking import within

CHECK_SECONDS = 10.0  # to look through the pages of a file
LOCK_SECONDS = 2.0  # a write takes milliseconds
SPARE_BYTES = 50 * 10**6  # left free beside a backup
COMPANIONS = ("", "-wal", "-shm", "-journal")  # what SQLite may have beside a file
WRITES_BY_WAL = 2  # byte 18 of a file; 1 where it writes by a rollback journal


def parts(path: Path) -> list[Path]:
    """List a file and those of its companions that are there."""
    return [part for part in (Path(f"{path}{suffix}") for suffix in COMPANIONS) if part.exists()]


def has_content(path: Path) -> bool:
    """Tell whether a file is there and not empty."""
    return path.is_file() and path.stat().st_size > 0


def is_wal(path: Path) -> bool:
    # Closing the file takes away the locks that this process has on it: not to be asked within a connection.
    """Tell whether a file is in WAL mode."""
    with path.open("rb") as file:
        return file.read(19)[18:] == bytes([WRITES_BY_WAL])


def is_open_nowhere(path: Path) -> bool:
    """Tell whether it is certain that all is in the file itself, and no process has it open."""
    return is_wal(path) and not Path(f"{path}-wal").exists()


@contextmanager
def looking(path: Path) -> Generator[sqlite3.Connection]:
    """Open a connection that only reads, and makes no file.

    Reading a file in WAL mode, SQLite makes a -wal and a -shm where there are none, and leaves them, unless it is told
    that nothing changes.
    """
    address = f"{path.resolve().as_uri()}?mode=ro" + ("&immutable=1" if is_open_nowhere(path) else "")
    with closing(sqlite3.connect(address, uri=True, timeout=LOCK_SECONDS)) as connection:
        yield connection


@contextmanager
def writing(path: Path) -> Generator[sqlite3.Connection]:
    """Open a connection that writes to a file that is there."""
    address = f"{path.resolve().as_uri()}?mode=rw"
    with closing(sqlite3.connect(address, uri=True, timeout=LOCK_SECONDS, isolation_level=None)) as connection:
        yield connection


# ---- Damage


def damage(path: Path) -> str | None:
    """Say what is wrong with a file, as far as it can be looked through in a bounded time; None where nothing is."""
    while True:
        before = path.stat().st_mtime_ns
        try:
            found = within(CHECK_SECONDS, lambda: quick_check(path))
        except TimeoutError:
            return None
        if found is None or path.stat().st_mtime_ns == before:  # else what was seen may be a write that was going on
            return found


def quick_check(path: Path) -> str | None:
    """Say what SQLite's check finds wrong with a file; None where it finds nothing."""
    try:
        with looking(path) as connection:
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            return None if answer == "ok" else f"it is damaged ({' '.join(answer.split())})"
    except sqlite3.DatabaseError as error:
        match error.sqlite_errorcode & 0xFF:
            case sqlite3.SQLITE_NOTADB:
                return "it is not a database"
            case sqlite3.SQLITE_CORRUPT:
                return f"it is damaged ({error})"
            case _:
                return None  # locked, or torn


def is_torn(path: Path) -> bool:
    """Tell whether a half-done write has to be taken back first, which only a connection that writes can do."""
    try:
        with looking(path) as connection:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        return error.sqlite_errorcode == sqlite3.SQLITE_READONLY_ROLLBACK
    return False


# ---- Locks


def is_locked(path: Path) -> bool:
    """Tell whether another process keeps all others from writing. Raises sqlite3.Error where it is something else."""
    if is_open_nowhere(path):
        return False
    try:
        # The last connection that closes a file in WAL mode writes into it, if it may: the reader must be the last.
        with looking(path) as reader:
            reader.execute("SELECT 1 FROM sqlite_master").fetchone()
            with writing(path) as writer:
                writer.execute("BEGIN IMMEDIATE")
                writer.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise
        return True
    return False


def users(path: Path) -> dict[int, str]:
    """Find the other processes that have a file open, as far as they may be looked at: pid and name."""
    wanted = {str(part) for part in parts(path.resolve())}
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and any(file.path in wanted for file in process.open_files()):
                found[process.pid] = process.name()
    return found


def lock_holders(path: Path) -> dict[int, str]:
    """Find the processes that hold a lock for writing; all that have the file open where the system does not tell."""
    found = users(path)
    holders = {pid for part in parts(path) for pid in write_locks(part)}
    return {pid: name for pid, name in found.items() if pid in holders} or found


def write_locks(path: Path) -> set[int]:
    """Find the pids that hold a lock for writing on a file; none where the system does not tell."""
    found: set[int] = set()
    with contextlib.suppress(OSError):  # no such file, or no Linux
        inode = str(path.stat().st_ino)
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            # 1: POSIX  ADVISORY  WRITE 19203 fe:00:2761976 120 120, with -> behind the number where it only waits
            _, *kind, pid, file, _, _ = line.split()
            if kind[-1] == "WRITE" and "->" not in kind and file.rpartition(":")[2] == inode:
                found.add(int(pid))
    return found


def list_processes(processes: Mapping[int, str]) -> str:
    """List processes by their names and pids."""
    return ", ".join(f"{name} (process {pid})" for pid, name in processes.items()) or "a process that cannot be seen"


# ---- Copies


def back_up(path: Path, room: int = 1) -> Path:
    """Copy a file beside it, while others may go on writing; returns the copy.

    Raises InputError where there is no room. room: how many times its size have to be free.
    """
    needed = room * sum(part.stat().st_size for part in parts(path)) + SPARE_BYTES
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise InputError(
            f"{path}: no room to back it up first ({decimal(needed)} are needed, {decimal(free)} free); free some space"
        )
    copy = aside(path, "backup")
    try:
        restore(path, copy)
        shutil.copymode(path, copy)
    except (sqlite3.Error, OSError) as error:
        copy.unlink(missing_ok=True)
        raise InputError(f"{path}: it could not be backed up ({error}), and nothing was changed") from error
    return copy


def restore(source: Path, target: Path) -> None:
    """Make one file's content another's, at once for all who read it."""
    with writing(source) as origin, closing(sqlite3.connect(target, timeout=LOCK_SECONDS)) as copy:
        origin.backup(copy)


def aside(path: Path, what: str) -> Path:
    """Find a name beside a file that nothing has yet."""
    stamped = path.with_name(f"{path.name}.{what}-{time.strftime('%Y%m%d-%H%M%S')}")
    tries = (stamped.with_name(f"{stamped.name}{again}") for again in ("", *(f"-{number}" for number in range(2, 100))))
    return next(name for name in tries if not name.exists())
