"""The only place where a penalty meets an update: the objective is data loss + λ·Ω(w).

A penalty acts in one of three ways: `penalised_loss` adds it to what is differentiated, `decayed` shrinks the weights
before the optimiser's step, `proxed` after it. All three are pure functions, so that lanes can vectorise them; λ is a
number or a 0-d tensor.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from shrinkage.errors import InputError
from shrinkage.penalties.base import Params, Penalty

NORMALISATION = (
    nn.modules.batchnorm._NormBase,  # BatchNorm and InstanceNorm of every dimension
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


def split_parameters(model: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """A model's parameters by name: the weights, and apart from them biases and normalisation parameters."""
    weights, rest = {}, {}
    for prefix, layer in model.named_modules():
        for name, parameter in layer.named_parameters(prefix=prefix, recurse=False):
            bias = name.rsplit(".", 1)[-1].endswith("bias") or isinstance(layer, NORMALISATION)
            (rest if bias else weights)[name] = parameter
    return weights, rest


def penalised(penalty: Penalty, model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that Ω is taken over, by `penalty.scope`."""
    weights, rest = split_parameters(model)
    return weights if penalty.scope == "weights" else weights | rest


def penalised_loss(penalty: Penalty, data_loss: Tensor, weights: Params, lambd: Tensor | float) -> Tensor:
    """data_loss + λ·Ω(w), 0-d: what mode `loss` differentiates, and in every mode what is minimised."""
    return data_loss + lambd * penalty.value(weights)


def decayed(penalty: Penalty, weights: Params, lr: float, lambd: Tensor | float) -> dict[str, Tensor]:
    """w − ηλ∇Ω(w): what the weights become before the optimiser's step, with that step's η."""
    return penalty.decay(weights, lr * lambd)


def proxed(
    penalty: Penalty, weights: Params, lr: float, lambd: Tensor | float, momentum: float = 0.0
) -> dict[str, Tensor]:
    """prox_{sΩ}(w) with s = ηλ/(1 − μ): what the weights become after the optimiser's step, with that step's η.

    Under momentum μ (Nesterov's too) a gradient moves the weights by η/(1 − μ) in the end; with the threshold scaled
    alike the fixed point is the minimiser of the objective, and with ηλ it is not.
    """
    return penalty.prox(weights, lr * lambd / (1 - momentum))


def detached(weights: Params) -> dict[str, Tensor]:
    """The same tensors without their history."""
    return {name: w.detach() for name, w in weights.items()}


@torch.no_grad()
def assign_(weights: Params, values: Mapping[str, Tensor]) -> None:
    """Copy values into the weights, in place."""
    for name, w in weights.items():
        w.copy_(values[name])


def check_optimizer(penalty: Penalty, optimizer: torch.optim.Optimizer) -> None:
    """Raises InputError where the optimiser decays by itself, or steps in a metric that the prox does not know."""
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
    """The learning rate from which on the penalty alone makes the weights grow; inf where none does.

    With curvature c of Ω, mode decay multiplies by 1 − ηλc: η < 2/(λc). Mode loss under SGD with momentum μ has the
    bound 2(1 + μ)/(λc), with Nesterov's 2(1 + μ)/((1 + 2μ)λc). Adaptive optimisers in mode loss and every prox have
    none.
    """
    strength = lambd * penalty.curvature
    sgd = isinstance(optimizer, torch.optim.SGD)
    if strength == 0 or penalty.mode == "prox" or (penalty.mode == "loss" and not sgd):
        return float("inf")
    if penalty.mode == "decay":
        return 2 / strength
    group = optimizer.param_groups[0]
    momentum = group["momentum"]
    return 2 * (1 + momentum) / ((1 + 2 * momentum if group["nesterov"] else 1) * strength)
