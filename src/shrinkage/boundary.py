"""TODO: what this file is."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from shrinkage.errors import InputError, TrackingError
from shrinkage.machine.interrupt import interruptible
from shrinkage.machine.secrets import masked

if TYPE_CHECKING:
    pass


class Refused(CompactHydraException):
    """An InputError on its way through a sweep: Hydra prints it without a traceback and exits with 1."""

    def __init__(self, error: object) -> None:
        super().__init__(f"shrinkage: {error}")


@contextmanager
def in_one_line() -> Iterator[None]:
    """On bad input the command line gets one line and exit code 1, a sweep and everybody else Refused."""
    try:
        with interruptible():
            yield
    except (InputError, TrackingError, OmegaConfBaseException, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.ENOSPC:
            raise
        words = masked(" ".join(line.strip() for line in str(error).splitlines()))
        if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.RUN:
            raise SystemExit(f"shrinkage: {words}") from None
        raise Refused(words) from None
