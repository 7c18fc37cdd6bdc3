"""Ctrl-C and SIGTERM, wherever they arrive: SystemExit with the code that a shell expects, 130 or 143."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


left = threading.Event()  # by such a signal


def leave(signum: int, _: object) -> None:
    """Handle a signal: end this process with the exit code that a shell expects."""
    left.set()
    raise SystemExit(128 + signum)


@contextmanager
def interruptible() -> Generator[None]:
    """Have `leave` handle the signals inside; in a thread other than the main one, which gets none, nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, leave) for signum in SIGNALS}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
