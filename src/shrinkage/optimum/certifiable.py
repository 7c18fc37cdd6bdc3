"""Which trainings tend to an optimum that is known, and the certifier of one that does."""

import inspect

import torch
from torch import nn

from shrinkage.data.base import DataModule
from shrinkage.models.linear import Linear
from shrinkage.penalties.base import Penalty
from shrinkage.penalties.l2 import L2
from shrinkage.tasks.base import ConvexTask, Task

from .certifier import Certifier
from .problem import Problem
from .sparse_problem import SparseProblem


def make_certifier(
    model: nn.Module,
    task: Task,
    penalty: Penalty,
    optimizer: torch.optim.Optimizer,
    lambd: float,
    datamodule: DataModule,
    exact: bool,
    problems: int = 1,
    could_standardize: bool = False,
) -> Certifier | str:
    """Make what tells how far its optimum a training is; where nothing can, say why.

    exact, problems, could_standardize: see `Certifier`.
    """
    if not isinstance(task, ConvexTask):
        return f"{type(task).__name__} does not say that its loss is convex, so nothing certifies an optimum"
    reason = why_not(model, penalty, optimizer, lambd, datamodule)
    if reason is not None:
        return reason
    train = datamodule.parts["train"]
    if datamodule.is_sparse and datamodule.standardize and (model.bias is None or penalty.scope != "weights"):
        return (
            "data.standardize=true of sparse data leaves it to a free bias to subtract the means, and there is none; "
            "use data.standardize=false, or model.bias=true with penalty.scope=weights"
        )
    if train.weight is not None and not takes_weights(task):
        return (
            f"rows have weights, and best_bias of {type(task).__name__} takes none, so that no optimum is known; give "
            "it a third argument weight, as ConvexTask says, or leave data.weight and data.class_weight out"
        )
    if task.is_joint and penalty.of_columns and not all(penalty.of_columns):
        return f"beside columns of factor 0 no bound is known for {type(task).__name__}, whose rows are compared"
    if task.is_joint and penalty.scope != "weights":
        return f"{type(task).__name__} has no bias, and penalty.scope=all penalises one"
    bias = "none" if model.bias is None or task.is_joint else "free" if penalty.scope == "weights" else "penalised"
    weight, offset = (None if each is None else torch.from_numpy(each) for each in (train.weight, train.offset))
    factor = None if penalty.of_columns is None else torch.tensor(penalty.of_columns, dtype=torch.float64)
    together, y = penalty.holds_columns and task.outputs > 1, torch.from_numpy(train.y)
    if datamodule.is_sparse:
        if factor is not None and bias == "penalised":
            factor = torch.cat([factor, factor.new_ones(1)])
        problem = SparseProblem(train.x, y, task, bias, weight, offset, factor, together)
        return Certifier(problem, 1.0, datamodule.classes, exact, problems, could_standardize)
    problem = Problem(torch.from_numpy(train.x), y, task, bias, weight, offset, factor, together)
    # With momentum a gradient moves the weights by η/(1 − μ) in the end, and decoupled decay by η alone.
    factor = 1 - optimizer.param_groups[0]["momentum"] if penalty.mode == "decay" else 1.0
    return Certifier(problem, factor, datamodule.classes, exact, problems, could_standardize)


def takes_weights(task: ConvexTask) -> bool:
    """Tell whether a task says which bias is best for rows that count by weights."""
    try:
        inspect.signature(task.best_bias).bind("output", "target", "weight")
    except TypeError:
        return False
    return True


def why_not(
    model: nn.Module,
    penalty: Penalty,
    optimizer: torch.optim.Optimizer,
    lambd: float,
    datamodule: DataModule,
) -> str | None:
    """Say why no optimum is known that a training with a convex loss tends to; None if one is."""
    if type(model) is not Linear:
        return f"the objective of {type(model).__name__} is not convex, so nothing certifies an optimum"
    if not datamodule.in_memory:
        return "its rows are read from disk, and an optimum is solved for in memory"
    if penalty.elastic_net(lambd) is None:
        return f"{type(penalty).__name__} is no sum of L1 and L2, and no optimum under it is known here"
    if penalty.holds_columns and penalty.scope != "weights":
        return "a bias that is penalised beside groups of weights is none of them, and no optimum is known here"
    if penalty.groups:
        return "penalty.groups gives λ by parameter, and no optimum under it is known here"
    if penalty.mode == "cautious":
        return "a cautious decay does not tend to the minimiser of loss + λΩ(w)"
    if penalty.rate != "lr":
        return f"with penalty.rate={penalty.rate} the decay does not follow the learning rate, nor its optimum λ"
    if penalty.mode == "decay" and not isinstance(optimizer, torch.optim.SGD):
        words = f"{type(optimizer).__name__} with decay does not tend to the minimiser of loss + λΩ(w)"
        if isinstance(penalty, L2) and lambd > 0:
            words += f": over full batches its fixed point has the least data loss under ‖w‖_∞ ≤ 1/λ = {1 / lambd:.3g}"
        return words
    return None
