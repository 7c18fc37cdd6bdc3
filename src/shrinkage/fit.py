"""One run, from a composed config to its record. Read this file first.

What is typed is checked, the writer process is started, and only then is PyTorch imported (`training`): a typo is
answered at once, and MLflow opens its store meanwhile.
"""

import sys

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from shrinkage import config
from shrinkage.errors import InputError
from shrinkage.interrupt import interruptible
from shrinkage.membership import Membership
from shrinkage.record import Place, recorded
from shrinkage.report.summary import show_summary
from shrinkage.tracking.client import TrackingError


class Refused(CompactHydraException):
    """An InputError on its way through a sweep: Hydra prints it without a traceback and exits with 1."""


def fit(cfg: DictConfig) -> float:
    """Train one config and record it: the final val/loss, which a sweeper may minimise.

    Under early stopping the final weights are the best ones. On bad input the command line gets one line and exit code
    1, a sweep and everybody else Refused.
    """
    try:
        with interruptible():
            return train(cfg)
    except (InputError, TrackingError) as error:
        message = f"shrinkage: {error}"
        if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.RUN:
            raise SystemExit(message) from None
        raise Refused(message) from None


def train(cfg: DictConfig) -> float:
    place = Place.of_this_job()
    name = config.run_name(cfg, place.overrides)
    sweep = Membership.of_this_job()
    with recorded(cfg, place, name, sweep) as record:
        config.check(cfg)
        record.connect()

        from shrinkage.training import build

        training = build(cfg, place.folder, label="" if sweep else name)
        record.begin(training)
        for sentence in [] if sweep else training.advice():
            print(f"note: {sentence}", file=sys.stderr)
        training.run()
        record.complete(training)
        if not sweep:
            show_summary(name, training.module.measured, training.test)
    return training.module.measured["val/loss"]
