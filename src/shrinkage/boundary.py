"""Where an error becomes one line, without secrets, and an exit code.

A person who typed something wrong, or whose store does not answer, gets `shrinkage: …` on stderr and never a traceback.
Every other error is a defect, and shows its own.
"""

import errno
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import TextIOBase
from typing import NoReturn, TextIO

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from shrinkage.errors import ShrinkageError
from shrinkage.machine.interrupt import interruptible
from shrinkage.machine.output import print_what_can_be_printed
from shrinkage.machine.secrets import masked, masked_override

FAILED = 1  # the exit code of a command that could not do what was asked


class Refused(CompactHydraException):
    """An error of a person's input inside a sweep. Hydra prints it without a traceback and exits with 1."""

    def __init__(self, error: object) -> None:
        super().__init__(one_line(error))


def one_line(error: object) -> str:
    """Write an error as the command line shows it: one line, without secrets."""
    return f"shrinkage: {masked(' '.join(line.strip() for line in str(error).splitlines()))}"


def tell(error: object) -> None:
    """Print an error that does not end the process."""
    print(one_line(error), file=sys.stderr)


def leave(error: object, code: int = FAILED) -> NoReturn:
    """Print an error and end the process."""
    tell(error)
    raise SystemExit(code)


class MaskedStream(TextIOBase):
    """A stream that shows texts without secrets, for those that others write."""

    encoding = "utf-8"

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(masked(text))
        return len(text)

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()


@contextmanager
def told_without_secrets(arguments: Sequence[str]) -> Generator[None]:
    """Run a command so that nothing shows the secrets in its arguments; Hydra and its errors print what was typed."""
    if not any(masked_override(argument) != argument for argument in arguments):
        yield
        return
    with redirect_stdout(MaskedStream(sys.stdout)), redirect_stderr(MaskedStream(sys.stderr)):
        yield


@contextmanager
def command_in_one_line(code: int = FAILED) -> Generator[None]:
    """Run a command of its own: what cannot be done ends it in one line with this exit code, Ctrl-C with 130."""
    print_what_can_be_printed()
    try:
        yield
    except ShrinkageError as error:
        leave(error, code)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


@contextmanager
def job_in_one_line() -> Generator[None]:
    """Run a job: bad input ends a single run with one line and exit code 1, and raises Refused in a sweep.

    A full disk is a person's affair too. A signal inside ends the process as a shell expects, see `interruptible`.
    """
    print_what_can_be_printed()
    try:
        with interruptible():
            yield
    except (ShrinkageError, OmegaConfBaseException, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.ENOSPC:
            raise
        if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.RUN:
            raise SystemExit(one_line(error)) from None
        raise Refused(error) from None
