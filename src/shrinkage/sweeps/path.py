"""Finds the λ's of a regularisation path, from the smallest λ at which every weight is zero downwards.

Reference: Friedman, Hastie & Tibshirani (2010), "Regularization paths for generalized linear models via coordinate
descent", §2.5.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, open_dict

from shrinkage import rules, split
from shrinkage.config import is_of_steps
from shrinkage.data.base import DataModule
from shrinkage.errors import InputError
from shrinkage.optimum.certifier import Certifier
from shrinkage.optimum.convex_problem import ConvexProblem
from shrinkage.optimum.exchangeable_columns import note_on_columns
from shrinkage.optimum.problem import Problem
from shrinkage.runs import identity
from shrinkage.training.workshop import Workshops

LEAST_L1_RATIO = 0.001  # glmnet's: ridge has no λ_max, and takes that of an elastic net of so little L1
RATIO = 0.001
SOLVED = {"trainer": "exact"}  # what has a convex problem solved, where the user has asked for no steps
# What brings runs by steps to the optimum of a convex problem, where the user has not said otherwise; they start at
# zero weights, so that of several optima no seed chooses.
CONVERGED = {
    "data.batch_size": "null",
    "trainer.until_gap": "1e-06",
    "polish": "20000",
    "model.init": "normal",
    "model.sigma": "0",
}


@dataclass(frozen=True)
class LambdaPath:
    """The λ's of a regularisation path, from the largest down, and what else its runs need.

    is_convex: whether its problem has an optimum that is certified. notes: on the data. at_lambda_max: whether the path
    begins where every weight is zero in a model of all rows that are not test rows.
    """

    lambd: list[float]
    is_convex: bool
    notes: list[str]
    at_lambda_max: bool = False


class NoPath(InputError):
    """No trainer can train all models of a path, whatever else is chosen."""


def geometric(largest: float, ratio: float, num: int, zero: bool) -> list[float]:
    """Return num numbers from `largest` down to ratio · largest, evenly spaced in log λ, to six digits; zero: and 0."""
    return [float(f"{value:.6g}") for value in np.geomspace(largest, ratio * largest, num)] + [0.0] * zero


def lambda_path(
    cfg: DictConfig,
    num: int,
    ratio: float | None,
    largest: float | None,
    zero: bool,
    workshops: Workshops | None = None,
) -> LambdaPath:
    """Find the path of num λ's for a config's model, penalty and data; the config's own λ counts for nothing.

    The path is that of all rows which are not test rows, so that it is one for all folds. largest: None for λ_max, the
    smallest λ at which every weight is zero, for Ω = ½‖w‖² that of an elastic net with l1_ratio = 0.001. ratio: None
    for 0.001, where λ_max is known so far below the λ_max of L1 alone, also for ½‖w‖². zero: whether 0 comes last. No
    penalty has the path 0. workshops: those of other paths, whose data may be the same. Raises InputError if λ_max is
    neither known nor given, or a value of the config is bad; NoPath for sparse features without L1.
    """
    rules.check(cfg)
    cfg = cfg.copy()
    if "refit" in cfg.data:
        with open_dict(cfg):
            cfg.data.refit = True
    workshop = (workshops or Workshops()).open(cfg)
    datamodule = workshop.datamodule
    model = workshop.model(cfg.seed)
    penalty = workshop.penalty(cfg, model)
    certifier = workshop.certifier(model, penalty, lambd=1.0)
    notes = datamodule.notes + ([] if isinstance(certifier, str) else note_on_columns(datamodule))
    net = penalty.elastic_net(1.0)
    if datamodule.is_sparse and net is not None and (net[0] == 0 or zero):
        what = f"penalty={cfg.choices.penalty}" if net[0] == 0 else "hydra.sweeper.zero=true"
        raise NoPath(
            f"{what}: sparse features are solved for under L1 and elastic nets with λ > 0, whose optimum needs no "
            "zeros written; use penalty=l1,elastic_net with hydra.sweeper.zero=false"
        )
    if net == (0.0, 0.0):
        return LambdaPath([0.0], not isinstance(certifier, str), notes)
    if isinstance(certifier, str) or net is None:
        if largest is None:
            raise InputError(
                f"hydra.sweeper.max is not set: with penalty={cfg.choices.penalty} and model={cfg.choices.model} no "
                f"λ_max is known ({certifier}); use hydra.sweeper.max=1, from which the path goes down to "
                "hydra.sweeper.ratio times it"
            )
        return LambdaPath(geometric(largest, ratio or RATIO, num, zero), False, notes)
    l1, l2 = map(float, net)
    at_lambda_max = largest is None and l1 > 0 and "refit" in cfg.data
    if largest is None:
        l1_ratio = max(l1, LEAST_L1_RATIO * (l1 + l2))
        largest = rounded_up(problem_of_all_rows(certifier, datamodule).lambda_max(l1_ratio) / certifier.factor)
        if largest == 0:
            raise InputError("no column has anything to do with the target: λ_max is 0, and there is no path to take")
        ratio = ratio or RATIO * (1 if l1 else LEAST_L1_RATIO)
    return LambdaPath(geometric(largest, ratio or RATIO, num, zero), True, notes, at_lambda_max)


def problem_of_all_rows(certifier: Certifier, datamodule: DataModule) -> ConvexProblem:
    """Return the problem of the training rows, with the validation rows of data that cannot be split anew."""
    problem = certifier.problem
    if "val" not in datamodule.parts or not isinstance(problem, Problem):
        return problem
    val = datamodule.parts["val"]
    pairs = {
        "x": (problem.x, val.x),
        "y": (problem.y, val.y),
        "row_weight": (problem.row_weight, val.weight),
        "offset": (problem.offset, val.offset),
    }
    joined = {
        name: torch.cat([ours, torch.from_numpy(theirs)])
        for name, (ours, theirs) in pairs.items()
        if ours is not None and theirs is not None
    }
    return replace(problem, **joined)


def rounded_up(value: float) -> float:
    """Round a value ≥ 0 up to six digits, so that every weight is zero at a λ_max in so many."""
    return float(f"{value * (1 + 5e-6):.6g}")  # half of the sixth digit is at most 5e-6 of the value


def path_key(cfg: Mapping[str, Any]) -> str:
    """Return what configs with the same path have in common: all but the seed and the split of the data."""
    tree = identity.recorded(cfg)
    del tree["seed"]
    tree["data"] = {key: value for key, value in tree["data"].items() if f"data.{key}" not in split.KEYS}
    return str(tree)


def jobs_along(jobs: Sequence[Sequence[str]], paths: Sequence[LambdaPath]) -> list[list[str]]:
    """Return each job's overrides once for every λ of its path, with those that bring it to its optimum.

    A convex problem is solved exactly, unless the job asks for steps: then it has as many as bring it there.
    """
    found = []
    for job, along in zip(jobs, paths, strict=True):
        adding = (CONVERGED if asks_for_steps(job) else SOLVED) if along.is_convex else {}
        given = identity.setting(list(job))
        added = [f"{key}={value}" for key, value in adding.items() if key not in given]
        found += [[*job, f"lambd={value!r}", *added] for value in along.lambd]
    return found


def asks_for_steps(job: Sequence[str]) -> bool:
    """Tell whether a job's overrides ask for a training by steps, also where its problem could be solved exactly."""
    given = identity.setting(list(job))
    return given.get("trainer") != "exact" and ("trainer" in given or any(map(is_of_steps, given)))
