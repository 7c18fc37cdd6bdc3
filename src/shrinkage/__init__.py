"""Which penalty, and how strong, for this model on this data? What a script or a notebook may call.

`fit`: one run. `choose`: the λ to take. `runs`: what the store has, as a table. `track`, `JournalLogger`: record
anyone's training without losing anything. docs/python.md shows each.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api.chosen import Choice as Choice
    from .api.chosen import choose as choose
    from .api.fitted import Run as Run
    from .api.fitted import fit as fit
    from .api.logger import JournalLogger as JournalLogger
    from .api.table import runs as runs
    from .api.tracked import TrackedRun as TrackedRun
    from .api.tracked import track as track
    from .errors import InputError as InputError
    from .errors import TrackingError as TrackingError

WHERE = {  # of each public name, which is imported when it is first asked for
    "Choice": "api.chosen",
    "InputError": "errors",
    "JournalLogger": "api.logger",
    "Run": "api.fitted",
    "TrackedRun": "api.tracked",
    "TrackingError": "errors",
    "choose": "api.chosen",
    "fit": "api.fitted",
    "runs": "api.table",
    "track": "api.tracked",
}


class Package(ModuleType):
    """This package. Its functions `fit` and `runs` stay what they are when the modules of these names are imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if name not in WHERE:
            super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    if name not in WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{WHERE[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *WHERE})


sys.modules[__name__].__class__ = Package
