"""One run by a call, as `shrinkage` and train.py make it by a command."""

import signal
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from shrinkage import config, rules
from shrinkage.errors import InputError
from shrinkage.fit import train_at
from shrinkage.help import PACKAGE, Configs, folder_of
from shrinkage.machine.imports import importing_much
from shrinkage.machine.secrets import learn_overrides
from shrinkage.overrides import check_overrides
from shrinkage.runs import resume
from shrinkage.runs.folder import RunLocation
from shrinkage.runs.record import Record

from .given import overrides_for

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from shrinkage.training.module import PenalisedModule
    from shrinkage.training.run import Training


class Run:
    """A run that has been trained and recorded.

    name, folder, status; metrics: the last value of each; params: as MLflow has them, as text. module: Lightning's,
    whose network is `module.model`.
    """

    def __init__(self, record: Record, training: "Training") -> None:
        self.record, self.training = record, training
        self.name, self.folder, self.status = record.name, record.folder, record.status
        self.metrics: Mapping[str, float] = record.metrics
        self.params: Mapping[str, str] = record.params
        self.module: PenalisedModule = training.module

    def __repr__(self) -> str:
        known = [name for name in ("val/loss", "train/loss") if name in self.metrics][:1]
        return f"<Run {self.name}: {self.status}, {', '.join(f'{key} {self.metrics[key]:.4g}' for key in known)}>"

    @property
    def id(self) -> str | None:
        """The run's id, by which `resume=` and `rerun=` find it: MLflow's, the journal's before the store has the run.

        None where nothing is tracked.
        """
        journal = self.record.journal
        return self.record.run_id or (None if journal is None else journal.id)

    def predict(self, rows: Any) -> "pd.DataFrame":
        """Predict from rows as they were given to train on, with or without the target: a DataFrame, or an array.

        Returns the column `prediction`, the target in its own units or the name of a class, and for classes
        `probability_NAME` of each, or of several targets `prediction_NAME`, and of times until an event
        `survival_TIME` for each of `task.times`: what the registered model predicts. Raises InputError where a cell
        cannot be read, or the data have no columns.
        """
        import numpy as np
        import pandas as pd
        import torch

        from shrinkage.data.recipe import Refused, predicted
        from shrinkage.runs.export import describe_survival, of_rows, with_strata

        data, model = self.training.datamodule, self.module.model
        survival = self.module.survival()
        recipe = with_strata(data.recipe(), data, survival)
        if not isinstance(rows, pd.DataFrame):
            names, values = [column.name for column in recipe.columns], np.asarray(rows)
            if values.ndim != 2 or values.shape[1] != len(names):
                raise InputError(
                    f"rows of shape {values.shape}: must have the {len(names)} columns that were trained on"
                )
            rows = pd.DataFrame(values, columns=names)
        was_training = model.training
        try:
            x = torch.from_numpy(recipe(rows)).to(next(model.parameters()))
            offset = recipe.offsets(rows)
            with torch.no_grad():
                output = of_rows(model, data).eval()(x).double()
            more = (self.module.task.link, offset, data.target_names)
            columns = predicted(output.numpy(), data.class_names, data.center, data.scale, *more)
            if told := describe_survival(survival, data):
                columns |= recipe.survival(rows, columns["prediction"], told["survival"])
        except Refused as error:
            raise InputError(str(error)) from None
        finally:
            model.train(was_training)
        return pd.DataFrame(columns, index=rows.index)

    def figure(self) -> "Figure":
        """Draw losses, penalty and the norm of the weights over the training, as the record has them."""
        return self.training.learning_curves(self.name)


def fit(*overrides: str | DictConfig, data: Any = None, target: str | Sequence[str] | None = None) -> Run:
    """Train one model under one penalty and record it, as the command `shrinkage OVERRIDES` does.

        shrinkage.fit("penalty=l1", "lambd=0.03", data=frame, target="price")

    overrides: as on the command line; or one config, composed by Hydra's compose API with `return_hydra_config=True`.
    data: a DataFrame, or a pair of arrays (X, y), which is kept under `outputs/data/`, so that the run can be resumed
    and done again. target: the column to predict, or several. Raises InputError for what cannot be done, TrackingError
    if the store fails; nothing exits.
    """
    configs = [each for each in overrides if not isinstance(each, str)]
    if configs:
        if len(overrides) > 1 or data is not None or target is not None:
            raise InputError("a config says all of a run, so nothing stands beside it; compose it with these values")
        cfg, place = as_job(configs[0])
    else:
        typed = [*([] if data is None else overrides_for(data, target)), *map(str, overrides)]
        if data is None and target is not None:
            raise InputError(f"target={target!r}: of which data? give data=FRAME, or the override data.target=…")
        cfg, place = as_job(composed(typed))
    learn_overrides(place.overrides)
    with process_kept():
        try:
            tree = rules.complete(cfg)
            if tree["study"] is not None:
                raise InputError("a study is a command of its own: shrinkage experiment=NAME")
            if tree["resume"] is not None:
                resume.refuse_values(place.overrides, "resume")
            return Run(*train_at(cfg, tree, place))
        except OmegaConfBaseException as error:
            raise InputError(" ".join(str(error).split())) from None
        except SystemExit:  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from None


def composed(overrides: list[str]) -> DictConfig:
    """Compose a config of the package's, with Hydra's own part. Raises InputError."""
    check_overrides(overrides)
    Configs([folder_of(PACKAGE + "shrinkage.conf")], "train").check_settings(overrides)
    before = GlobalHydra.instance().hydra  # a notebook may compose configs of its own
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module("shrinkage.conf", version_base="1.3"):
            return compose("train", overrides, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(" ".join(str(error).split())) from None
    finally:
        GlobalHydra.instance().hydra = before


def as_job(cfg: DictConfig) -> tuple[DictConfig, RunLocation]:
    """Make of a composed config what Hydra makes of it for a job, and find the place of its run. Raises InputError."""
    if "hydra" in cfg:
        hydra, own = cfg.hydra, OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
        if hydra.mode == RunMode.MULTIRUN:
            raise InputError("these values make a sweep, and this is one run; use shrinkage.choose, or shrinkage -m …")
        OmegaConf.set_readonly(own, False)
        own.choices = {group: hydra.runtime.choices[group] for group in config.GROUPS}
        return own, RunLocation(Path.cwd(), Path(hydra.run.dir), list(hydra.overrides.task))
    try:
        config.as_dict(cfg.choices)
    except (ValueError, OmegaConfBaseException):
        raise InputError(
            "the config does not say which choices it was composed of; compose it with return_hydra_config=True"
        ) from None
    return cfg, RunLocation.of_this_job()


@contextmanager
def process_kept() -> Generator[None]:
    """Give the process back as it was: a run sets its threads, and Lightning ignores Ctrl-C after the first one."""
    with importing_much():
        import torch
        from threadpoolctl import threadpool_limits

    threads, handler = torch.get_num_threads(), signal.getsignal(signal.SIGINT)
    with threadpool_limits(None):
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, handler)
