"""Which process a run lives in, and whether that process is still there."""

import functools
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from .clock import now

# A heartbeat comes every half minute. Where the process itself cannot be looked at, many missed ones say it is dead.
SILENT_MILLISECONDS = 10 * 60_000
LINUX = Path("/proc/self/stat")  # is there
UNSEEN = "unseen"  # when a process began that is there and that this user may not look at


@dataclass(frozen=True)
class Process:
    """A process of some machine, known so well that no other is taken for it.

    host: its name. boot: of which start of the machine, and of which container, the pid is. started: when the process
    began, in units that no setting of the clock moves where the system has such.
    """

    host: str
    pid: int
    boot: str
    started: str | None

    @classmethod
    def this(cls) -> "Process":
        """Describe this process."""
        return described(os.getpid())

    def is_dead(self, heartbeat: int) -> bool:
        """Tell whether it is certain that the process has ended; never where it is another host's.

        heartbeat: the last sign of life, in milliseconds since 1970. It decides where the name of the host is ours
        and its pids are not: after a new start of the machine or of a container.
        """
        if self.host != socket.gethostname():
            return False
        if self.boot != boot():
            return is_silent(heartbeat)
        return started(self.pid) not in (self.started, UNSEEN)


@functools.cache  # each run says which process it lives in, and a sweep has thousands; a fork has another number
def described(pid: int) -> Process:
    """Describe the process of this number, which is the one that asks."""
    return Process(socket.gethostname(), pid, boot(), started(pid))


def is_silent(heartbeat: int) -> bool:
    """Tell whether the last sign of life, in milliseconds since 1970, is so far from now that nobody lives.

    One that lies far ahead was given by a clock that has been set back since then: whoever lives gives another one, by
    this clock, half a minute later.
    """
    return abs(now() - heartbeat) > SILENT_MILLISECONDS


def died(last: int, heartbeat: int) -> int:
    """Tell when a process is taken to have died: at its last sign of life, neither before what it did nor after now.

    last: when it did the last thing that is known, in milliseconds since 1970, as the heartbeat.
    """
    return max(last, min(heartbeat, now()))


@functools.cache
def boot() -> str:
    """Name the start of this machine, and the space of process numbers in it: a container has its own."""
    try:
        start = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{start} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 no file
    except OSError:  # no Linux
        return str(round(psutil.boot_time() / 60))


def started(pid: int) -> str | None:
    """Tell when the process of this number began; None where there is none, or a zombie alone."""
    try:
        with suppress(PermissionError):  # it is another user's
            os.kill(pid, 0)
        if not LINUX.exists():
            process = psutil.Process(pid)
            return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.0f}"
    except (ProcessLookupError, psutil.NoSuchProcess):
        return None
    try:
        # Ticks since the machine started. The name before them may hold spaces, parentheses and any bytes.
        about = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if about[0] in (b"Z", b"X") else about[19].decode("ascii")
    except OSError:  # it has just ended, or may not be looked at
        return UNSEEN
