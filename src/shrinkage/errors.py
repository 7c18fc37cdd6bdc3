"""The errors that a person can do something about. Every other exception is a defect of the program."""

from typing import ClassVar

from .names import on_a_line


class ShrinkageError(Exception):
    """Something that cannot be done, in one line that gives the value, the rule and the way out.

    The command line shows it without a traceback. What no line can show of a name or a value, control characters and
    marks of the direction of writing, is written as \\n or \\u202e.

    may_pass: whether the same may succeed when it is tried again later, though nobody has changed anything.
    """

    may_pass: ClassVar[bool] = False

    def __init__(self, words: str) -> None:
        super().__init__(on_a_line(" ".join(words.splitlines())))


class InputError(ShrinkageError, ValueError):
    """What a person asked for cannot be done."""


class TrackingError(ShrinkageError):
    """What a run has recorded could not be brought into the store; it lies in the run's journal."""


class StoreAway(TrackingError):
    """The store does not answer at this moment: nobody is there, or it is locked, busy or full."""

    may_pass = True


class StoreReplaced(StoreAway):
    """The store's file has been deleted, or another one stands in its place, since it was opened."""


class StoreRefuses(TrackingError):
    """The store answers that it will not do this. code: MLflow's word for the reason, empty where it gives none."""

    def __init__(self, words: str, code: str = "") -> None:
        super().__init__(words)
        self.code = code
