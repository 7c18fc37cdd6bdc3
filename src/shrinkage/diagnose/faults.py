"""What is certainly wrong in a training script: each rule yields the line, what is wrong there, and how to mend it."""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .reading import NORM, Function, Loop, Norm, Scope, Script, has_minus, last_name, own_nodes, root_of, terms

CLAIMS_L2 = re.compile(r"(^|_)(l2|ridge|weight_decay)(_|$)", re.IGNORECASE)
HARMLESS = ("zero_grad", "no_grad", "requires_grad", "requires_grad_", "set_grad_enabled", "enable_grad")


@dataclass(frozen=True, order=True)
class Word:
    """A word about a line of a script: what is so, why that matters, and what to do."""

    line: int
    what: str
    why: str
    mend: str


def losses(script: Script) -> Iterator[tuple[Scope, ast.expr, int]]:
    """Yield each expression that certainly is, or is added to, what is minimised, with 1, or -1 if it is subtracted."""
    ascends = any(isinstance(node, ast.keyword) and node.arg == "maximize" for node in script.nodes)
    if ascends:
        return
    for scope in script.scopes:
        names = (
            {name for name in scope.minimised() if not is_turned(name, scope)} if script.optimisers() else set[str]()
        )
        for node in scope.nodes:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in names:
                    yield scope, value, 1
                case ast.AugAssign(target=ast.Name(id=name), op=ast.Add() | ast.Sub() as op, value=value) if (
                    name in names
                ):
                    yield scope, value, 1 if isinstance(op, ast.Add) else -1
                case ast.Return(value=ast.expr() as value) if is_training_step(script, scope):
                    yield scope, value, 1
                case _:
                    pass


def is_turned(name: str, scope: Scope) -> bool:
    """Tell whether a variable may change its sign, as by loss = -loss."""
    changes = [
        node for node in scope.nodes if isinstance(node, ast.AugAssign) and not isinstance(node.op, ast.Add | ast.Sub)
    ]
    turned = (term for value in scope.assigned(name) for sign, term in terms(value) if sign < 0 or has_minus(term))
    return any(isinstance(node, ast.Name) and node.id == name for term in turned for node in ast.walk(term)) or any(
        isinstance(node.target, ast.Name) and node.target.id == name for node in changes
    )


def is_training_step(script: Script, scope: Scope) -> bool:
    """Tell whether a function is the training step of a Lightning module that steps by itself."""
    by_hand = any(isinstance(node, ast.Attribute) and node.attr == "automatic_optimization" for node in script.nodes)
    name = scope.block.name if isinstance(scope.block, Function) else ""
    is_imported = any("lightning" in module for module in script.imports.values())
    return name == "training_step" and is_imported and not by_hand


def penalties(script: Script) -> Iterator[tuple[Scope, ast.expr, ast.expr, int, Norm]]:
    """Yield each norm of weights in what is minimised: scope, the whole sum, its term with the sign, and itself."""
    for scope, loss, sign in losses(script):
        for own, term in terms(loss, sign):
            if (norm := script.norm(term, scope)) is not None:
                yield scope, loss, term, own, norm


def wrong_sign(script: Script) -> Iterator[Word]:
    """Find penalties that are subtracted from what is minimised."""
    for _, _, term, sign, _ in penalties(script):
        if sign < 0:
            yield Word(
                term.lineno,
                "the penalty is subtracted from the loss that is minimised",
                "training then makes the weights larger, without a bound",
                "add it: loss + λ·penalty",
            )


def unsquared_norm(script: Script) -> Iterator[Word]:
    """Find norms that are not squared in a penalty that is called L2."""
    for _, _, _, sign, norm in penalties(script):
        claims = any(CLAIMS_L2.search(name) and "norm" not in name.lower() for name in norm.names)
        if sign > 0 and norm.kind == NORM and claims:
            yield Word(
                norm.node.lineno,
                f"{norm.names[0]} is the norm ‖w‖, not its square",
                "its gradient has length 1 however large the weights are, so it is no L2 penalty (weight decay)",
                "square it: (w ** 2).sum() / 2",
            )


def stepping_loops(script: Script) -> Iterator[tuple[list[ast.AST], list[ast.Call]]]:
    """Yield the nodes of each loop's body, and the steps in it, of the innermost loops that certainly step.

    Those that call functions of other files are left out, since these may do what seems to be missing.
    """
    for scope in script.scopes:
        for loop in scope.nodes:
            if isinstance(loop, Loop):
                nodes = list(own_nodes(loop.body))
                is_innermost = not any(
                    isinstance(node, Loop) and has_call(own_nodes(node.body), "step") for node in nodes
                )
                if is_innermost and (found := steps(script, nodes)) and not script.asks_strangers(nodes):
                    yield nodes, found


def has_call(nodes: Iterator[ast.AST], name: str) -> bool:
    """Tell whether a function or method of this name is called."""
    return any(isinstance(node, ast.Call) and last_name(node.func) == name for node in nodes)


def steps(script: Script, nodes: list[ast.AST]) -> list[ast.Call]:
    """List the calls `optimizer.step()` of optimisers that are made outside of these nodes and given to nobody."""
    made = script.optimisers()
    inside = {id(node) for node in nodes}
    given = {
        argument.id
        for node in script.nodes
        if isinstance(node, ast.Call) and not script.dotted(node.func).startswith("torch.optim.lr_scheduler.")
        for argument in [*node.args, *(word.value for word in node.keywords)]
        if isinstance(argument, ast.Name)
    }
    return [
        node
        for node in nodes
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "step"
        and not node.args
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in made.keys() - given
        and id(made[node.func.value.id]) not in inside
    ]


def never_cleared(script: Script) -> Iterator[Word]:
    """Find loops that add up gradients for ever."""
    if any(isinstance(node, ast.Attribute) and node.attr in ("zero_grad", "grad") for node in script.nodes):
        return
    for nodes, _ in stepping_loops(script):
        backward = [node for node in nodes if isinstance(node, ast.Call) and last_name(node.func) == "backward"]
        if backward:
            yield Word(
                backward[0].lineno,
                "gradients are never cleared",
                "backward adds to those of all steps before, so each step goes by their sum",
                "call optimizer.zero_grad() before it",
            )


def never_computed(script: Script) -> Iterator[Word]:
    """Find loops that step without a gradient."""
    names = {node.attr for node in script.nodes if isinstance(node, ast.Attribute)}
    names |= {node.id for node in script.nodes if isinstance(node, ast.Name)} | set(script.imports)
    if any("backward" in name or "grad" in name for name in names - set(HARMLESS)):
        return
    for _, found in stepping_loops(script):
        yield Word(
            found[0].lineno,
            "the optimiser steps, and no gradient has been computed",
            "a step without gradients changes nothing",
            "call loss.backward() before it",
        )


def never_reset(script: Script) -> Iterator[Word]:
    """Find sums over batches that go on through all epochs and are divided by the length of one."""
    for scope in script.scopes:
        for outer in scope.nodes:
            if not isinstance(outer, ast.For):
                continue
            inner = [node for node in outer.body if isinstance(node, ast.For)]
            inside = {id(node) for loop in inner for node in own_nodes(loop.body)}
            nodes = list(own_nodes(outer.body))
            leaves = any(isinstance(node, ast.Break | ast.Return) and id(node) not in inside for node in nodes)
            for added in nodes:
                if not (isinstance(added, ast.AugAssign) and isinstance(added.op, ast.Add) and id(added) in inside):
                    continue
                name = added.target.id if isinstance(added.target, ast.Name) else ""
                stored = [n for n in nodes if isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Store)]
                begins = scope.assigned(name)
                is_zero = len(begins) == 1 and isinstance(begins[0], ast.Constant) and begins[0].value == 0
                batches = {n.id for loop in inner for n in ast.walk(loop.iter) if isinstance(n, ast.Name)}
                batches -= {n.id for n in ast.walk(outer.iter) if isinstance(n, ast.Name)}
                means = [n for n in nodes if id(n) not in inside and is_mean(n, name, batches)]
                if len(stored) == 1 and is_zero and means and not leaves:
                    yield Word(
                        added.lineno,
                        f"{name} is never reset",
                        "it is divided by the length of one epoch and holds the sum over all epochs so far",
                        f"begin each epoch with {name} = 0",
                    )


def is_mean(node: ast.AST, name: str, batches: set[str]) -> bool:
    """Tell whether a node is `name / len(…)`, by the length of one of the batches or of their data set."""
    match node:
        case ast.BinOp(left=ast.Name(id=left), op=ast.Div(), right=ast.Call(func=ast.Name(id="len"), args=[of])):
            return left == name and root_of(of) in batches
        case _:
            return False


def compared_unalike(script: Script) -> Iterator[Word]:
    """Find lines that show a training loss with the penalty beside a validation loss of the same kind without it."""
    for scope in script.scopes:
        without = [node for node in scope.nodes if isinstance(node, ast.With) and has_call(ast.walk(node), "no_grad")]
        bare: dict[str, str] = {}
        for node in (each for block in without for each in own_nodes(block.body)):
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=function)) if scope.value_of(name):
                    bare[name] = ast.dump(function)
                case _:
                    pass
        for name in scope.minimised():
            value = scope.value_of(name)
            parts = [] if value is None else list(terms(value))
            called = {ast.dump(part.func) for _, part in parts if isinstance(part, ast.Call)}
            if not any(sign > 0 and script.norm(part, scope) for sign, part in parts):
                continue
            for node in scope.nodes:
                beside = shown(node)
                others = [other for other in beside if bare.get(other) in called]
                if name in beside and others:
                    yield Word(
                        node.lineno if isinstance(node, ast.expr) else 0,
                        f"{name} has the penalty in it, {others[0]} has not",
                        "the two differ by λ times the penalty even where the model fits both alike",
                        "compare the data loss alone on both sides",
                    )


def shown(node: ast.AST) -> set[str]:
    """Name the variables that one print, or one comparison, has beside one another, as they are or by item()."""
    match node:
        case ast.Call(func=ast.Name(id="print"), args=args):
            parts = [part for arg in args for part in (arg.values if isinstance(arg, ast.JoinedStr) else [arg])]
        case ast.Compare(left=left, comparators=comparators):
            parts = [left, *comparators]
        case _:
            return set()
    found: set[str] = set()
    for part in parts:
        inner = part.value if isinstance(part, ast.FormattedValue) else part
        if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute) and inner.func.attr == "item":
            inner = inner.func.value
        if isinstance(inner, ast.Name):
            found.add(inner.id)
    return found


RULES: tuple[Callable[[Script], Iterator[Word]], ...] = (
    *(wrong_sign, unsquared_norm, never_cleared, never_computed, never_reset, compared_unalike),
)


def find_faults(script: Script) -> list[Word]:
    """List what is certainly wrong, by line."""
    return sorted({word for rule in RULES for word in rule(script)})
