"""Processor time of whole commands, with all the processes that they leave behind them."""

import contextlib
import ctypes
import os
import resource
import subprocess

ADOPT_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER of Linux


def processor_seconds(command: list[str], folder: str, **environment: str) -> tuple[float, str]:
    """Run a command to its end and that of all processes that it started; returns their time and its standard output.

    A run's writer is detached from it, and ends after it: it becomes a child of this process, which waits for it.
    """
    ctypes.CDLL(None).prctl(ADOPT_ORPHANS, 1, 0, 0, 0)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout
