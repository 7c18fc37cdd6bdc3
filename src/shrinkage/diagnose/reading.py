"""Read a training script: its scopes, what its names stand for, and which expressions are norms of weights.

Whatever is not certain is None or nothing, so that no rule says a word about it.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from shrinkage.errors import InputError

Function = ast.FunctionDef | ast.AsyncFunctionDef
Block = ast.Module | Function
Loop = ast.For | ast.While

L1, L2, NORM = "l1", "l2", "norm"  # Σ|w|, Σw², and ‖w‖₂, which is not squared
# Packages whose functions neither clear gradients nor compute them, but for torch's own, which are known by name.
KNOWN = ("torch", "math", "numpy", "time", "random", "os", "sys", "logging", "matplotlib", "copy", "itertools", "tqdm")
HARMLESS_METHODS = ("train", "eval", "to", "item", "append", "backward", "step", "unscale_", "scale", "parameters")


@dataclass(frozen=True)
class Scope:
    """A module's or a function's own code. nodes: all of its nodes, without those of functions inside of it."""

    block: Block
    nodes: list[ast.AST] = field(repr=False)

    def assigned(self, name: str) -> list[ast.expr]:
        """List what is assigned to a name here; an element of a tuple for each of several names."""
        found: list[ast.expr] = []
        for node in self.nodes:
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    found += [value for each, value in pairs(target, node.value) if each == name]
        return found

    def value_of(self, name: str) -> ast.expr | None:
        """Return what a name stands for, if it is assigned once and never changed; else None."""
        stores = [node for node in self.nodes if isinstance(node, ast.Name) and node.id == name]
        values = self.assigned(name)
        once = sum(isinstance(node.ctx, ast.Store) for node in stores) == 1
        return values[0] if once and len(values) == 1 else None

    def minimised(self) -> set[str]:
        """Name the variables whose own `backward` is called here."""
        calls = (node for node in self.nodes if isinstance(node, ast.Call) and last_name(node.func) == "backward")
        return {
            call.func.value.id
            for call in calls
            if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name)
        }


class Script:
    """A training script. imports: what each imported name stands for. scopes: the module's first, then functions'."""

    def __init__(self, text: str, name: str) -> None:
        """Parse it. Raises InputError where it is no Python."""
        try:
            self.tree = ast.parse(text)
        except (SyntaxError, ValueError) as error:
            where = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
            raise InputError(f"{name}{where}: it is no Python that can be read; give a training script") from error
        self.nodes = list(ast.walk(self.tree))
        self.imports: dict[str, str] = {}
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for each in node.names:
                    bound = each.asname or each.name.partition(".")[0]
                    self.imports[bound] = each.name if each.asname else bound
            elif isinstance(node, ast.ImportFrom):
                self.imports |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
        blocks = [self.tree, *(node for node in self.nodes if isinstance(node, Function))]
        self.scopes = [Scope(block, list(own_nodes(block.body))) for block in blocks]
        self.negative = set(self.names_given_a_negative())
        self.functions = {scope.block.name: scope for scope in self.scopes if isinstance(scope.block, Function)}

    def names_given_a_negative(self) -> Iterator[str]:
        """Yield the names that are anywhere given something with a minus in it."""
        for node in self.nodes:
            match node:
                case ast.Assign(targets=targets, value=value) if has_minus(value):
                    yield from (last_name(target) for target in targets)
                case ast.AnnAssign(target=target, value=ast.expr() as value) if has_minus(value):
                    yield last_name(target)
                case ast.keyword(arg=str() as name, value=value) if has_minus(value):
                    yield name
                case ast.arguments(args=args, defaults=defaults):
                    of_them = zip(args[len(args) - len(defaults) :], defaults, strict=False)
                    yield from (argument.arg for argument, value in of_them if has_minus(value))
                case _:
                    pass

    def may_be_negative(self, factor: ast.expr) -> bool:
        """Tell whether a factor may be a negative number by what the script says of it."""
        names = {last_name(node) for node in ast.walk(factor) if isinstance(node, ast.Name | ast.Attribute)}
        return has_minus(factor) or bool(names & self.negative) or (bool(names) and "default" in self.negative)

    def dotted(self, node: ast.expr) -> str:
        """Write a function's full name, such as torch.optim.SGD; empty where it is no name."""
        if isinstance(node, ast.Name):
            return self.imports.get(node.id, node.id)
        inner = self.dotted(node.value) if isinstance(node, ast.Attribute) else ""
        return f"{inner}.{node.attr}" if inner and isinstance(node, ast.Attribute) else ""

    def optimisers(self) -> dict[str, ast.Call]:
        """Find the names that stand for an optimiser of torch's, and nothing else, with how each is made."""
        found: dict[str, list[ast.expr]] = {}
        for scope in self.scopes:
            for name in {node.id for node in scope.nodes if isinstance(node, ast.Name)}:
                found.setdefault(name, []).extend(scope.assigned(name))
        return {
            name: values[0]
            for name, values in found.items()
            if len(values) == 1
            and isinstance(values[0], ast.Call)
            and self.dotted(values[0].func).startswith("torch.optim.")
            and not self.dotted(values[0].func).startswith("torch.optim.lr_scheduler")
        }

    def asks_strangers(self, nodes: Iterable[ast.AST]) -> bool:
        """Tell whether something is called of which nobody can say what it does to gradients."""
        return any(self.is_strange(node.func) for node in nodes if isinstance(node, ast.Call))

    def is_strange(self, function: ast.expr) -> bool:
        """Tell whether a function is of another file, or of an object that is not known to be one of torch's."""
        root = root_of(function)
        if root in self.imports or "*" in self.imports:
            return self.imports.get(root, "*").partition(".")[0] not in KNOWN
        made = [value for scope in self.scopes for value in scope.assigned(root)]
        is_bound = bool(made) or any(isinstance(node, ast.arg) and node.arg == root for node in self.nodes)
        of_torch = [isinstance(value, ast.Call) and self.dotted(value.func).startswith("torch.") for value in made]
        if not root or not is_bound or (made and all(of_torch)):
            return False
        if isinstance(function, ast.Attribute):
            return function.attr not in HARMLESS_METHODS
        is_model = any(
            isinstance(node, ast.Attribute) and node.attr == "parameters" and root_of(node) == root
            for node in self.nodes
        )
        return not (is_model or root in self.functions or re.search("loss|criterion", root, re.IGNORECASE))

    def norm(self, node: ast.expr, scope: Scope, weights: frozenset[str] = frozenset()) -> "Norm | None":
        """Tell which norm of weights an expression is, up to a factor; None if it is none, or that is not certain.

        weights: names that stand for weights here.
        """
        match node:
            case ast.Name(id=name):
                value = scope.value_of(name)
                known = None if value is None else self.norm(value, scope, weights)
                return known and known.called(name)
            case ast.BinOp(left=left, op=ast.Mult() | ast.Div() as op, right=right):
                first = self.norm(left, scope, weights)
                second = self.norm(right, scope, weights) if isinstance(op, ast.Mult) else None
                if (first is None) == (second is None):
                    return None
                other, found = (right, first) if first is not None else (left, second)
                if found is None or self.may_be_negative(other):
                    return None
                return Norm(found.kind, found.node, False, found.names)
            case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=2)):
                inner = self.norm(left, scope, weights)
                return Norm(L2, node) if inner is not None and inner.kind == NORM and inner.is_bare else None
            case ast.Call():
                return self.norm_of_call(node, scope, weights)
            case _:
                return None

    def norm_of_call(self, node: ast.Call, scope: Scope, weights: frozenset[str]) -> "Norm | None":
        """Tell the same of a call."""
        name, operands = last_name(node.func), operands_of(node, self)
        if name in ("norm", "vector_norm") and operands and self.are_weights(operands[0], weights):
            if any(word.arg in ("dim", "axis") for word in node.keywords):
                return None
            order = [*operands[1:2], *(word.value for word in node.keywords if word.arg in ("p", "ord"))]
            value = order[0].value if order and isinstance(order[0], ast.Constant) else None
            kind = NORM if not order or value == 2 else L1 if value == 1 else None
            return None if kind is None else Norm(kind, node)
        if name == "pow" and len(operands) == 2 and isinstance(operands[1], ast.Constant) and operands[1].value == 2:
            inner = self.norm(operands[0], scope, weights)
            return Norm(L2, node) if inner is not None and inner.kind == NORM and inner.is_bare else None
        if name == "sum" and len(operands) == 1 and not node.keywords:
            return self.norm_of_sum(operands[0], node, scope, weights)
        if isinstance(node.func, ast.Name) and node.func.id in self.functions and not node.keywords:
            inside = self.functions[node.func.id]
            returned = [each.value for each in inside.nodes if isinstance(each, ast.Return) and each.value is not None]
            given = [argument.arg for argument in inside.block.args.args] if isinstance(inside.block, Function) else []
            if len(returned) == 1 and len(given) == len(node.args) and inside is not scope:
                passed = zip(given, node.args, strict=True)
                names = frozenset(mine for mine, value in passed if self.are_weights(value, weights))
                found = self.norm(returned[0], inside, names)
                return found and found.called(node.func.id)
        return None

    def norm_of_sum(self, summed: ast.expr, node: ast.Call, scope: Scope, weights: frozenset[str]) -> "Norm | None":
        """Tell which norm a sum is: of elements, or of the norms of several weights."""
        if isinstance(summed, ast.GeneratorExp | ast.ListComp) and len(summed.generators) == 1:
            loop = summed.generators[0]
            of_parameters = isinstance(loop.iter, ast.Call) and last_name(loop.iter.func) == "parameters"
            if of_parameters and isinstance(loop.target, ast.Name):
                found = self.norm(summed.elt, scope, weights | {loop.target.id})
                return None if found is None else Norm(found.kind, node, is_bare=False)
            return None
        match summed:
            case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=2)) if self.are_weights(left, weights):
                return Norm(L2, node)
            case ast.Call():
                operands = operands_of(summed, self)
                if not operands or not self.are_weights(operands[0], weights):
                    return None
                name, rest = last_name(summed.func), operands[1:]
                if name == "abs" and not rest:
                    return Norm(L1, node)
                is_two = len(rest) == 1 and isinstance(rest[0], ast.Constant) and rest[0].value == 2
                return Norm(L2, node) if (name == "square" and not rest) or (name == "pow" and is_two) else None
            case _:
                return None

    def are_weights(self, node: ast.expr, weights: frozenset[str]) -> bool:
        """Tell whether an expression certainly stands for weights that are trained."""
        if isinstance(node, ast.Attribute):
            return node.attr == "weight"
        if not isinstance(node, ast.Name):
            return False
        made = [value for scope in self.scopes for value in scope.assigned(node.id)]
        is_trained = [isinstance(value, ast.Call) and has_true(value, "requires_grad") for value in made]
        return node.id in weights or (bool(made) and all(is_trained))


@dataclass(frozen=True)
class Norm:
    """A norm of weights in a script. kind: which. node: where. is_bare: whether it is no sum of several weights' norms.

    names: what the script calls it.
    """

    kind: str
    node: ast.expr
    is_bare: bool = True
    names: tuple[str, ...] = ()

    def called(self, name: str) -> "Norm":
        """Add a name that the script has for it."""
        return Norm(self.kind, self.node, self.is_bare, (*self.names, name))


def own_nodes(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Yield nodes and what is in them, in their order, but not the insides of functions and classes."""
    for node in body:
        yield node
        if not isinstance(node, Function | ast.Lambda | ast.ClassDef):
            yield from own_nodes(ast.iter_child_nodes(node))


def pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """Yield the names of an assignment with what each is given, as far as that is written down."""
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        for each, own in zip(target.elts, value.elts, strict=True):
            yield from pairs(each, own)


def last_name(node: ast.expr) -> str:
    """Return the last part of a function's name: `backward` of loss.backward."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def root_of(node: ast.expr) -> str:
    """Return the first part of a function's name: `loss` of loss.backward; empty where it is no name."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def operands_of(call: ast.Call, script: Script) -> list[ast.expr]:
    """List what a function of torch's works on, whether it is written as a function or as a method of a tensor."""
    if isinstance(call.func, ast.Name) or script.dotted(call.func).startswith("torch."):
        return call.args
    return [call.func.value, *call.args] if isinstance(call.func, ast.Attribute) else []


def has_true(call: ast.Call, keyword: str) -> bool:
    """Tell whether a call is given keyword=True."""
    return any(w.arg == keyword and isinstance(w.value, ast.Constant) and w.value.value is True for w in call.keywords)


def has_minus(node: ast.expr) -> bool:
    """Tell whether there is a minus in an expression."""
    return any(isinstance(each, ast.USub | ast.Sub) for each in ast.walk(node))


def terms(node: ast.expr, sign: int = 1) -> Iterator[tuple[int, ast.expr]]:
    """Yield the terms of a sum, each with its sign."""
    match node:
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right):
            yield from terms(left, sign)
            yield from terms(right, sign if isinstance(op, ast.Add) else -sign)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            yield from terms(operand, -sign)
        case _:
            yield sign, node
