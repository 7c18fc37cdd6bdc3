"""Imports of thousands of modules, which stay until the process ends, and of some that nobody needs."""

import gc
import importlib
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import Any

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
        with without_signal_processing():
            yield
    finally:
        if len(sys.modules) - modules >= MANY:
            gc.freeze()
        if was_enabled:
            gc.enable()


@contextmanager
def without_signal_processing() -> Generator[None]:
    """Import Lightning inside without `scipy.signal`, a sixth of its start.

    Lightning imports torchmetrics, and that imports the module to write an alias into it, `hamming`, for the package
    SRMRpy. Where that one is installed, nothing changes; afterwards `scipy.signal` is imported by whoever asks for it.
    """
    name = "scipy.signal"
    if name in sys.modules or "torchmetrics" in sys.modules or find_spec("srmrpy") is not None:
        yield
        return
    stand_in = StandIn(name, hamming=None)
    sys.modules[name] = stand_in
    try:
        yield
    finally:
        stand_in.step_aside()


class StandIn(ModuleType):
    """Stands for a module while another one is imported that asks it for known names; any other brings the module."""

    def __init__(self, name: str, **known: object) -> None:
        super().__init__(name)
        self.__dict__.update(known)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system asks whether it is a package
            raise AttributeError(name)
        self.step_aside()
        return getattr(importlib.import_module(self.__name__), name)

    def step_aside(self) -> None:
        """Leave the place to the module itself, which the next import brings."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        package, _, name = self.__name__.rpartition(".")
        if package in sys.modules and vars(sys.modules[package]).get(name) is self:
            delattr(sys.modules[package], name)
