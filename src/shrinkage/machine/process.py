"""Which process a run lives in, and whether that process is still there."""

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

# A heartbeat comes every half minute. Where the process itself cannot be looked at, many missed ones say it is dead.
SILENT_MILLISECONDS = 10 * 60_000


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
        return cls(socket.gethostname(), os.getpid(), boot(), started(os.getpid()))

    def is_dead(self, heartbeat: int) -> bool:
        """Tell whether it is certain that the process has ended; never where it is another host's.

        heartbeat: the last sign of life, in milliseconds since 1970. It decides where the name of the host is ours
        and its pids are not: after a new start of the machine or of a container.
        """
        if self.host != socket.gethostname():
            return False
        if self.boot != boot():
            return time.time_ns() // 1_000_000 - heartbeat > SILENT_MILLISECONDS
        return started(self.pid) != self.started


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
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        try:
            # Ticks since the machine started. The name before them may hold spaces and parentheses.
            return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
        except (OSError, UnicodeDecodeError):
            return f"{process.create_time():.0f}"
    except psutil.NoSuchProcess:
        return None
