"""The laws of a task."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from shrinkage.tasks.base import ConvexTask, Target, Task

from .laws import is_finite, require, require_close, require_lanes

ROWS, CONTEXT = 12, 4
EXACT = 1e-12  # of numbers of about 1 in double precision, in sums of a few dozen


def check_task(
    make: Callable[[Target], Task], target: Target, seed: int = 0, values: Sequence[float] | None = None
) -> None:
    """Check the laws of a task for a data set's target, on outputs that are drawn from a seed.

    make: builds the task of a target, as a config does: `for_target` of the class. values: numbers that the rows have
    as targets, in turn, for a task that does not take any; None draws them, or takes `target.least` and the three
    numbers that are one larger each, so that `Target(least=0)` is one of counts.

    The loss of a row depends on its own outputs and target alone, unless a task is joint, and that of a batch is the
    mean of its rows'; sums of batches add up to those of the whole; and both can be vectorised over lanes. Of a
    `ConvexTask` the loss is convex, `slope`, `curvatures` and `curvature` are those of its derivatives, `fenchel_young`
    is ℓ(z) + ℓ*(u) − u·z, `best_bias` is the best, and the loss falls for ever where `recession` says. Raises
    AssertionError for the first law that is broken.
    """
    task = make(target)
    generator = torch.Generator().manual_seed(seed)
    output, wanted = draw(task, target, generator, values)
    check_losses(task, output, wanted)
    check_sums(task, output, wanted)
    stacked = torch.stack([output, output.flip(0)])
    require_lanes(
        lambda z: task.sums(z, wanted), (stacked,), EXACT * ROWS, task, "sums can be vectorised by torch.vmap"
    )
    if isinstance(task, ConvexTask):
        if task.is_joint:
            check_joint(task, output, wanted)
            return
        check_convex(task, output, wanted)
        check_derivatives(task, output, wanted)
        check_dual(task, output, wanted)
        check_recession(task, output, wanted, generator)


def draw(
    task: Task, target: Target, generator: torch.Generator, values: Sequence[float] | None = None
) -> tuple[Tensor, Tensor]:
    """Draw outputs and targets of some rows; every class is among the targets, or as many values as there are rows."""
    rows = (ROWS, CONTEXT) if target.kind == "language" else (ROWS,)
    output = torch.randn(*rows, task.outputs, generator=generator, dtype=torch.float64)
    if target.has_events:
        times = torch.randint(1, ROWS // 2, rows, generator=generator).double()
        return output, torch.stack([times, (torch.arange(ROWS) % 3 > 0).double()], dim=1)
    if values is None and target.least is not None:
        values = [target.least + more for more in range(4)]
    if values is not None:
        return output, torch.tensor(values, dtype=torch.float64)[torch.arange(ROWS) % len(values)]
    if target.names:
        rows = (*rows, len(target.names))
    if target.classes is None:
        return output, torch.randn(*rows, generator=generator, dtype=torch.float64)
    return output, (torch.arange(output[..., 0].numel()) % target.classes).reshape(rows)


def check_losses(task: Task, output: Tensor, target: Tensor) -> None:
    """Check that the losses are one number a row, which other rows do not change, and have finite gradients."""
    losses = task.losses(output, target)
    law = "losses has one number for each row"
    require(losses.shape == (ROWS,), task, law, found=tuple(losses.shape), expected=(ROWS,))
    require(is_finite(losses), task, "losses are finite", losses=losses)
    if not task.is_joint:
        alone = torch.cat([task.losses(output[row : row + 1], target[row : row + 1]) for row in range(ROWS)])
        require_close(alone, losses, EXACT, task, "the loss of a row depends on that row alone")
    require_close(task.loss(output, target), losses.mean(), EXACT, task, "loss is the mean of losses")
    z = output.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(task.loss(z, target), z)
    require(is_finite(gradient), task, "the loss has a finite gradient", gradient=gradient)


def check_sums(task: Task, output: Tensor, target: Tensor) -> None:
    """Check that what is measured does not depend on how the rows are cut into batches."""
    whole = task.sums(output, target)
    parts = [task.sums(output[rows], target[rows]) for rows in (slice(0, 5), slice(5, None))]
    added = {name: value + parts[1][name] for name, value in parts[0].items()}
    if not task.is_joint:
        require_close(added, whole, EXACT * ROWS, task, "the sums of two batches add up to those of both together")
    measured = task.measure(whole)
    for name, value in measured.items():
        require(value.shape == (), task, "each metric is one number", metric=name, value=value)
    require_close(
        measured["loss"], task.losses(output, target).mean(), EXACT, task, "the loss measured is the mean loss"
    )


def check_convex(task: ConvexTask, output: Tensor, target: Tensor) -> None:
    """Check that the loss between two outputs is no more than the mean of theirs."""
    other = output.roll(1, 0)
    middle = task.losses((output + other) / 2, target)
    mean = (task.losses(output, target) + task.losses(other, target)) / 2
    law = "ℓ((a + b)/2) ≤ (ℓ(a) + ℓ(b))/2"
    require((middle <= mean + EXACT).all(), task, law, a=output, b=other, at_middle=middle, mean=mean)


def check_joint(task: ConvexTask, output: Tensor, target: Tensor) -> None:
    """Check the sum of a joint task's losses: convexity, derivatives, and bounds for multiples of its slopes."""

    def total(output: Tensor) -> Tensor:
        return task.losses(output, target).sum()

    other = output.roll(1, 0)
    middle, mean = total((output + other) / 2), (total(output) + total(other)) / 2
    law = "the sum of the losses is convex"
    require(bool(middle <= mean + EXACT), task, law, a=output, b=other, at_middle=middle, mean=mean)
    slope = task.slope(output, target)
    require_close(slope, torch.func.grad(total)(output), EXACT, task, "slope is the gradient of the sum of the losses")
    curvatures = torch.func.hessian(total)(output).reshape(ROWS, ROWS)
    joint = task.joint_part(output, target, torch.eye(ROWS, dtype=output.dtype))
    found = task.curvatures(output, target).diag() - joint.T @ joint
    require_close(found, curvatures, EXACT, task, "curvatures and joint_part are the second derivatives D − MᵀM")
    for share in (0.0, 0.3, 1.0):
        bound = task.fenchel_young(output, target, share * slope).sum()
        law = "fenchel_young of s·∇L is no less than L(z) − L(z′) − s·∇L·(z − z′)"
        for scale in (0.5, 2.0):
            least = total(output) - total(scale * other) - share * (slope * (output - scale * other)).sum()
            require(bool(bound >= least - EXACT * ROWS), task, law, share=share, bound=bound, least=least)
    exact = task.fenchel_young(output, target, slope)
    require_close(exact, torch.zeros_like(exact), EXACT, task, "fenchel_young is 0 at u = ∇L(z)")


def check_derivatives(task: ConvexTask, output: Tensor, target: Tensor) -> None:
    """Check the slopes and curvatures against automatic differentiation, and what else follows from them."""

    def loss(row: Tensor, target: Tensor) -> Tensor:
        return task.losses(row[None], target[None])[0]

    k = task.outputs
    slopes = torch.vmap(torch.func.grad(loss))(output, target)
    require_close(task.slope(output, target), slopes, EXACT, task, "slope is the gradient ∇ℓ(z)")
    curvatures = torch.vmap(torch.func.hessian(loss))(output, target)
    found = task.curvatures(output, target).reshape(-1, k, k)
    require_close(found, curvatures, EXACT, task, "curvatures are the second derivatives ∇²ℓ(z)")
    largest = float(torch.linalg.eigvalsh(curvatures).max())
    law = "no second derivative in any direction is more than `curvature`"
    require(largest <= task.curvature + EXACT, task, law, curvature=task.curvature, found=largest)
    if task.is_least_squares:
        off = task.losses(output, target) - (output - target.reshape(output.shape)).square().sum(dim=1) / 2
        law = "is_least_squares: ℓ(z) is ½‖z − t‖² and a constant"
        require_close(off, off[:1].expand(ROWS), EXACT, task, law)
    counts = 1 + torch.arange(ROWS, dtype=output.dtype) % 3
    for weight in (None, counts):
        bias = task.best_bias(output, target) if weight is None else task.best_bias(output, target, weight)
        slope = task.slope(output + bias, target)
        total = slope.sum(dim=0) if weight is None else weight @ slope
        law = "best_bias is argmin_b Σwᵢℓ(zᵢ + b), where the weighted slopes add up to 0"
        require_close(total, torch.zeros_like(total), 1e-6 * ROWS, task, law, bias=bias, weight=weight)


def check_dual(task: ConvexTask, output: Tensor, target: Tensor) -> None:
    """Check the Fenchel–Young differences: for the slope u at z' they are ℓ(z) − ℓ(z') − u·(z − z')."""
    other = output.roll(1, 0)
    dual = task.slope(other, target)
    expected = task.losses(output, target) - task.losses(other, target) - (dual * (output - other)).sum(dim=1)
    law = "fenchel_young(z, t, ∇ℓ(z′)) = ℓ(z) − ℓ(z′) − ∇ℓ(z′)·(z − z′)"
    require_close(task.fenchel_young(output, target, dual), expected, EXACT, task, law)
    at_slope = task.fenchel_young(output, target, task.slope(output, target))
    require_close(at_slope, torch.zeros_like(at_slope), EXACT, task, "fenchel_young is 0 at u = ∇ℓ(z)")


def check_recession(task: ConvexTask, output: Tensor, target: Tensor, generator: torch.Generator) -> None:
    """Check that the loss rises at last in the directions in which it does not fall for ever."""
    falling = task.recession(target).double()
    law = "recession has rows a of [rows, m, outputs]"
    require(falling.ndim == 3 and falling.shape[::2] == (ROWS, task.outputs), task, law, found=tuple(falling.shape))
    if falling.shape[1]:
        for direction in torch.randn(50, task.outputs, generator=generator, dtype=torch.float64):
            unit = direction / direction.norm()
            far, farther = (task.losses(output + scale * unit, target) for scale in (300, 600))  # e⁶⁰⁰ is a number
            rises = (falling @ direction < 0).any(dim=1)
            law = "the loss never rises along d if a·d ≥ 0 for each row a of recession, and else it does at last"
            require(torch.equal(farther > far, rises), task, law, d=direction, far=far, farther=farther)
