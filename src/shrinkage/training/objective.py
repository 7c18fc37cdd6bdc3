"""The only place where a penalty meets an update: the objective is data loss + λ·Ω(w).

A penalty acts in one of four ways: `penalised_loss` adds it to what is differentiated, `decayed` shrinks the weights
before the optimiser's step, `cautiously_decayed` where that step shrinks them too, `proxed` after it. All are pure
functions, so that lanes can vectorise them; λ is a number or a 0-d tensor.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from shrinkage.errors import InputError
from shrinkage.penalties.base import Params, Penalty, add_up

NORMALISATION = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


def split_parameters(model: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """Split a model's parameters by name into the weights, and apart from them biases and normalisation parameters."""
    weights, rest = {}, {}
    for prefix, layer in model.named_modules():
        for name, parameter in layer.named_parameters(prefix=prefix, recurse=False):
            bias = name.rsplit(".", 1)[-1].endswith("bias") or isinstance(layer, NORMALISATION)
            (rest if bias else weights)[name] = parameter
    return weights, rest


def penalised(penalty: Penalty, model: nn.Module) -> dict[str, nn.Parameter]:
    """Find the parameters that Ω is taken over, by `penalty.scope` and `penalty.groups`.

    Raises InputError where a pattern matches none of them, and where none is left.
    """
    weights, rest = split_parameters(model)
    named = weights if penalty.scope == "weights" else weights | rest
    for pattern in penalty.groups or {}:
        if not any(fnmatchcase(name, pattern) for name in named):
            raise InputError(
                f"penalty.groups: {pattern!r} matches no parameter that penalty.scope={penalty.scope} takes in; they "
                f"are {', '.join(named)}"
            )
    found = {name: named[name] for factor, names in names_by_factor(penalty, tuple(named)) if factor for name in names}
    if not found:
        raise InputError("penalty.groups: every factor is 0, so nothing is penalised; use penalty=none for no penalty")
    return found


def names_by_factor(penalty: Penalty, names: tuple[str, ...]) -> list[tuple[float, tuple[str, ...]]]:
    """Group the parameters' names by their factors on λ, in their order; a factor that is 0 comes too."""
    return grouped(tuple((penalty.groups or {}).items()), names)


@functools.cache
def grouped(patterns: tuple[tuple[str, float], ...], names: tuple[str, ...]) -> list[tuple[float, tuple[str, ...]]]:
    found: dict[float, tuple[str, ...]] = {}
    for name in names:
        matching = [factor for pattern, factor in patterns if fnmatchcase(name, pattern)]
        factor = float(matching[-1]) if matching else 1.0
        found[factor] = (*found.get(factor, ()), name)
    return list(found.items())


def value(penalty: Penalty, weights: Params) -> Tensor:
    """Measure the weights by the penalty's number Ω(w), 0-d.

    With groups or factors of columns it is Σ_g f_g·Ω(w_g) over the parameters, or the columns, w_g of each factor f_g.
    """
    return add_up(factor * penalty.value(part) for factor, part, _ in parts_by_factor(penalty, weights))


def parts_by_factor(
    penalty: Penalty, weights: Params
) -> Iterator[tuple[float, dict[str, Tensor], dict[str, Tensor | None]]]:
    """Part the weights by their factors on λ: the factor, the weights that have it, and which of their entries do.

    Of a weight whose columns have several factors the others' entries are zero, where every Ω is zero, too; the mask of
    its columns [p] says which are its own, None all. A factor of columns that is 0 does not come.
    """
    for factor, names in names_by_factor(penalty, tuple(weights)):
        own = {name: weights[name] for name in names}
        if penalty.of_columns is None:
            yield factor, own, dict.fromkeys(own)
            continue
        for of_columns in dict.fromkeys((*penalty.of_columns, 1.0)):
            part: dict[str, Tensor] = {}
            masks: dict[str, Tensor | None] = {}
            for name, w in own.items():
                if w.ndim == 2:
                    mask = torch.tensor([each == of_columns for each in penalty.of_columns], device=w.device)
                    part[name], masks[name] = torch.where(mask, w, 0.0), mask
                elif of_columns == 1:  # a bias that is penalised is of no column
                    part[name], masks[name] = w, None
            if of_columns and part:
                yield factor * of_columns, part, masks


def apply_to_parts(
    penalty: Penalty,
    function: Callable[[Params, Tensor | float], dict[str, Tensor]],
    weights: Params,
    step: Tensor | float,
) -> dict[str, Tensor]:
    """Return function(w_g, f_g·step) of the parameters, or columns, w_g of each factor f_g, together."""
    done = dict(weights)
    for factor, part, masks in parts_by_factor(penalty, weights):
        for name, moved in function(part, factor * step).items():
            mask = masks[name]
            done[name] = moved if mask is None else torch.where(mask, moved, done[name])
    return done


def penalised_loss(penalty: Penalty, data_loss: Tensor, weights: Params, lambd: Tensor | float) -> Tensor:
    """Add the penalty to the data loss: data_loss + λ·Ω(w), 0-d.

    That is what mode `loss` differentiates, and what is minimised in every mode.
    """
    return data_loss + lambd * value(penalty, weights)


def decay_rate(penalty: Penalty, lr: float, largest: float) -> float:
    """Return what λ is multiplied by in a decay at the learning rate η, the largest of which in the run is η_max."""
    return {"lr": lr, "corrected": lr * lr / largest, "constant": largest}[penalty.rate]


def decayed(penalty: Penalty, weights: Params, rate: float, lambd: Tensor | float) -> dict[str, Tensor]:
    """Shrink the weights before the optimiser's step: w − rλ∇Ω(w), with the `decay_rate` r."""
    return apply_to_parts(penalty, penalty.decay, weights, rate * lambd)


def cautiously_decayed(
    penalty: Penalty, weights: Params, before: Params, rate: float, lambd: Tensor | float
) -> dict[str, Tensor]:
    """Shrink the weights where the optimiser's step from w⁰ to w has moved them towards 0, or not at all.

    There they become w − rλ∇Ω(w⁰), and elsewhere stay w. weights: after the step; before: w⁰. Reference: Chen et al.
    (2025), "Cautious weight decay".
    """
    shrunk = decayed(penalty, before, rate, lambd)
    return {
        name: torch.where((before[name] - w) * before[name] >= 0, w - (before[name] - shrunk[name]), w)
        for name, w in weights.items()
    }


def proxed(
    penalty: Penalty, weights: Params, lr: float, lambd: Tensor | float, momentum: float = 0.0
) -> dict[str, Tensor]:
    """Take the penalty's proximal step after the optimiser's: prox_{sΩ}(w) with s = ηλ/(1 − μ), and that step's η.

    Under momentum μ (Nesterov's too) a gradient moves the weights by η/(1 − μ) in the end; with the threshold scaled
    alike the fixed point is the minimiser of the objective, and with ηλ it is not.
    """
    return apply_to_parts(penalty, penalty.prox, weights, lr * lambd / (1 - momentum))


def detached(weights: Params) -> dict[str, Tensor]:
    """Return the same tensors without their history."""
    return {name: w.detach() for name, w in weights.items()}


@torch.no_grad()
def assign_(weights: Params, values: Mapping[str, Tensor]) -> None:
    """Copy values into the weights, in place."""
    for name, w in weights.items():
        w.copy_(values[name])


@torch.no_grad()
def lost_to_rounding(penalty: Penalty, lambd: float, weights: Params, optimizer: torch.optim.Optimizer) -> float:
    """Measure the share of the weights that a step of a decay or prox leaves bit for bit as they are.

    In bfloat16 a number has seven binary digits behind its first: w·(1 − ηλ) is rounded back to w for every w where
    ηλ < 2⁻⁹. 0 in other precisions, and where the penalty is a part of the loss.
    """
    lr = optimizer.param_groups[0]["lr"]
    if penalty.mode == "loss" or lambd == 0:
        return 0.0
    moved, count = 0, 0
    for name, w in detached(weights).items():
        if torch.finfo(w.dtype).bits > 16:
            return 0.0
        step = proxed if penalty.mode == "prox" else decayed
        after = step(penalty, {name: w}, lr, lambd)[name].to(w.dtype)
        moved += int(((after != w) & (w != 0)).sum())
        count += int((w != 0).sum())
    return 1 - moved / count if count else 0.0


def check_optimizer(penalty: Penalty, optimizer: torch.optim.Optimizer) -> None:
    """Refuse an optimiser that decays by itself, or steps in a metric that the prox does not know.

    Raises InputError.
    """
    own_decay = max(group.get("weight_decay", 0) for group in optimizer.param_groups)
    if own_decay:
        raise InputError(
            f"optimizer.weight_decay={own_decay:g}: λ has one home, so an optimiser may not decay by itself; "
            "use lambd=… with penalty=l2 penalty.mode=decay (or penalty=adamw) and weight_decay 0"
        )
    if penalty.mode == "prox" and not isinstance(optimizer, torch.optim.SGD):
        raise InputError(
            f"penalty.mode=prox with {type(optimizer).__name__}: the prox here is Euclidean and that optimiser "
            "rescales every coordinate, so the fixed point would not be the minimiser; "
            "use optimizer=sgd, or penalty.mode=loss"
        )


def largest_stable_lr(penalty: Penalty, lambd: float, optimizer: torch.optim.Optimizer) -> float:
    """Return the learning rate from which on the penalty alone makes the weights grow; inf if none does.

    With curvature c of Ω, modes decay and cautious multiply by 1 − ηλc: η < 2/(λc). Mode loss under SGD with momentum μ
    has the bound 2(1 + μ)/(λc), with Nesterov's 2(1 + μ)/((1 + 2μ)λc). Adaptive optimisers in mode loss and every prox
    have none.
    """
    strength = lambd * penalty.curvature * max([1.0, *(penalty.groups or {}).values(), *(penalty.of_columns or ())])
    sgd = isinstance(optimizer, torch.optim.SGD)
    if strength == 0 or penalty.mode == "prox" or (penalty.mode == "loss" and not sgd):
        return float("inf")
    if penalty.mode in ("decay", "cautious"):
        return 2 / strength
    group = optimizer.param_groups[0]
    momentum = group["momentum"]
    return 2 * (1 + momentum) / ((1 + 2 * momentum if group["nesterov"] else 1) * strength)
