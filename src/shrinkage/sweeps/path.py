"""The λ's of a regularisation path: for each penalty from the smallest λ at which every weight is zero downwards.

Reference: Friedman, Hastie & Tibshirani (2010), "Regularization paths for generalized linear models via coordinate
descent", §2.5.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from omegaconf import DictConfig, OmegaConf, open_dict

from shrinkage import rules
from shrinkage.errors import InputError
from shrinkage.optimum.certifier import certifier, note_on_columns, why_not
from shrinkage.optimum.exact import lambda_max
from shrinkage.runs import identity
from shrinkage.training.workshop import make, make_task, quieten

LEAST_L1_RATIO = 0.001  # glmnet's: ridge has no λ_max, and takes that of an elastic net of so little L1
RATIO = 0.001
# What brings runs of a convex problem to their optimum, where the user has not said otherwise; they start at zero
# weights, so that of several optima no seed chooses.
CONVERGED = {
    "data.batch_size": "null",
    "trainer.until_gap": "1e-06",
    "polish": "20000",
    "model.init": "normal",
    "model.sigma": "0",
}


@dataclass(frozen=True)
class Path:
    """lambd: λ's from the largest down. overrides: what its runs are given beside them. notes: on the data.

    at_lambda_max: whether it begins where every weight is zero in a model of all rows that are not test rows.
    """

    lambd: list[float]
    overrides: dict[str, str]
    notes: list[str]
    at_lambda_max: bool = False


def geometric(largest: float, ratio: float, num: int, zero: bool) -> list[float]:
    """num numbers from `largest` down to ratio · largest, evenly spaced in log λ, to six digits; 0 behind them."""
    return [float(f"{value:.6g}") for value in np.geomspace(largest, ratio * largest, num)] + [0.0] * zero


def path(cfg: DictConfig, num: int, ratio: float | None, largest: float | None, zero: bool) -> Path:
    """The path of a config's model, penalty and data; its λ counts for nothing.

    The grid is that of all rows which are not test rows, so that it is one for all folds. largest: None for λ_max, the
    smallest λ at which every weight is zero, for Ω = ½‖w‖² that of an elastic net with l1_ratio = 0.001. ratio: None
    for 0.001, where λ_max is known so far below the λ_max of L1 alone, also for ½‖w‖². No penalty has the path 0.
    Raises InputError where λ_max is neither known nor given.
    """
    rules.check(cfg)
    quieten()
    cfg = cfg.copy()
    if "refit" in cfg.data:
        with open_dict(cfg):
            cfg.data.refit = True
    datamodule = make(cfg.data, order_seed=0)
    datamodule.setup()
    task = make_task(cfg, datamodule)
    model = make(cfg.model, inputs=datamodule.inputs, outputs=task.outputs)
    penalty, optimizer = make(cfg.penalty), make(cfg.optimizer)(model.parameters())
    net = penalty.elastic_net(1.0)
    reason = why_not(model, task, penalty, optimizer, 1.0, datamodule)
    if net == (0.0, 0.0):
        notes = datamodule.notes + (note_on_columns(datamodule) if reason is None else [])
        return Path([0.0], CONVERGED if reason is None else {}, notes)
    if reason is not None:
        if largest is None:
            raise InputError(
                f"hydra.sweeper.max is not set: with penalty={cfg.choices.penalty} and model={cfg.choices.model} no "
                f"λ_max is known ({reason}); use hydra.sweeper.max=1, from which the path goes down to "
                "hydra.sweeper.ratio times it"
            )
        return Path(geometric(largest, ratio or RATIO, num, zero), {}, datamodule.notes)
    problem = certifier(model, task, penalty, optimizer, datamodule, exact=False)
    x, y = problem.x, problem.y
    if "val" in datamodule.parts:  # data that cannot be split anew
        val = datamodule.parts["val"]
        x, y = np.concatenate([x, val.x]), np.concatenate([y, val.y])
    strength = sum(net)
    l1_ratio = max(net[0] / strength, LEAST_L1_RATIO)
    at_lambda_max = largest is None and net[0] > 0 and problem.problem.bias == "free" and "refit" in cfg.data
    if largest is None:
        largest = rounded_up(lambda_max(x, y, datamodule.classes, l1_ratio) / strength / problem.factor)
        if largest == 0:
            raise InputError("no column has anything to do with the target: λ_max is 0, and there is no path to take")
        ratio = ratio or RATIO * (l1_ratio if net[0] == 0 else 1)
    notes = datamodule.notes + note_on_columns(datamodule)
    return Path(geometric(largest, ratio or RATIO, num, zero), CONVERGED, notes, at_lambda_max)


def rounded_up(value: float) -> float:
    """The value ≥ 0 in six digits and not below it, so that every weight is zero at a λ_max in so many."""
    return float(f"{value * (1 + 5e-6):.6g}")  # half of the sixth digit is at most 5e-6 of the value


def kind(cfg: DictConfig) -> str:
    """What configs with one path have in common: all but the seed and the split of the data."""
    tree = OmegaConf.to_container(cfg, resolve=True)
    del tree["seed"]
    for key in ("fold", "repeat", "seed"):
        tree["data"].pop(key, None)
    return str(tree)


def expanded(jobs: Sequence[Sequence[str]], paths: Sequence[Path]) -> list[list[str]]:
    """Each job's overrides once for every λ of its path, with what the path adds where the job says nothing."""
    found = []
    for job, along in zip(jobs, paths, strict=True):
        given = identity.setting(list(job))
        added = [f"{key}={value}" for key, value in along.overrides.items() if key not in given]
        found += [[*job, f"lambd={value!r}", *added] for value in along.lambd]
    return found
