"""Imports of thousands of modules, which stay until the process ends."""

import gc
import sys
from collections.abc import Generator
from contextlib import contextmanager

MANY = 100  # modules, from which on it pays


@contextmanager
def importing_much() -> Generator[None]:
    """Import inside without looking for garbage among what is imported, neither now nor later.

    Modules, functions and classes are never garbage. Python's collector looks through a million of them again and again
    while PyTorch and Lightning are imported, and once more when the process ends: a third of the processor time that
    both take. Where everything has been imported before, nothing changes.
    """
    modules, was_enabled = len(sys.modules), gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) - modules >= MANY:
            gc.freeze()
        if was_enabled:
            gc.enable()
