"""The clock by which events of a record are dated."""

import time


def now() -> int:
    """Read the clock, in whole milliseconds since 1970."""
    return time.time_ns() // 1_000_000
