"""Asking something that may not answer, and what it said in one line."""

import queue
import sqlite3
import threading
from collections.abc import Callable
from typing import TypeVar

from shrinkage.errors import InputError
from shrinkage.machine.secrets import masked

T = TypeVar("T")

LONGEST = 300  # characters


def within(seconds: float, call: Callable[[], T]) -> T:
    """Call a function and return what it returns.

    Raises what it raises, and TimeoutError where it takes longer, and is left alone.
    """
    answers: queue.SimpleQueue[tuple[T] | Exception] = queue.SimpleQueue()

    def work() -> None:
        try:
            answers.put((call(),))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer for {seconds:.0f} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer[0]


def describe(error: BaseException) -> str:
    """Describe an error in one line, without secrets, and without what libraries put around it."""
    said = " ".join(str(getattr(error, "orig", None) or error).split())
    said = masked(said.split(" [SQL")[0].split(" (Background on")[0])[:LONGEST].rstrip(". ")
    speaks_for_itself = isinstance(error, InputError | OSError | sqlite3.Error) and said
    return said if speaks_for_itself else f"{type(error).__name__}: {said}"
