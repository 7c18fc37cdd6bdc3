"""Conventions of a training script, which are no faults: by what factor its λ differs from λ here."""

import ast
from collections.abc import Iterator

from .faults import Word, penalties
from .reading import L1, L2, Scope, Script, last_name, terms

LAYERS = ("Linear", "Conv1d", "Conv2d", "Conv3d")
MENDED = "nothing is to be mended; docs/conventions.md has λ in other libraries"


def find_conventions(script: Script) -> list[Word]:
    """List what differs by a factor or by a habit, by line."""
    return sorted({*factors(script), *decayed_biases(script)})


def factors(script: Script) -> Iterator[Word]:
    """Say by what factor a script's λ differs from λ here, where its penalty and its data loss are known exactly."""
    for scope, loss, term, sign, norm in penalties(script):
        share = share_of(term, norm.node)
        doubled = doubling(script, loss, scope)
        if sign < 0 or norm.names or share is None or doubled is None or norm.kind not in (L1, L2):
            continue
        ours = (2 * share if norm.kind == L2 else share) / doubled  # λ here over λ of the script
        reasons = ["the penalty has no ½"] * (norm.kind == L2 and share == 1)
        reasons += ["MSELoss is twice the mean of ½r²"] * (doubled == 2)
        if not reasons:
            continue
        factor = {0.5: "your λ is ours × 2", 2.0: "your λ is ours × ½", 1.0: "your λ is ours"}.get(ours)
        if factor is not None:
            yield Word(term.lineno, factor, " and ".join(reasons), MENDED)


def share_of(term: ast.expr, norm: ast.expr) -> float | None:
    """Return the number that stands beside λ and a norm, 1 or ½; None for another one, and where λ is no name."""
    numbers, others = 1.0, 0

    def take(node: ast.expr, divided: bool) -> None:
        nonlocal numbers, others
        match node:
            case ast.BinOp(left=left, op=ast.Mult() | ast.Div() as op, right=right):
                take(left, divided)
                take(right, divided != isinstance(op, ast.Div))
            case ast.Constant(value=int() | float() as value) if value:
                numbers = numbers / value if divided else numbers * value
            case _:
                if node is not norm:
                    others += 1 if isinstance(node, ast.Name | ast.Attribute) and not divided else 2

    take(term, False)
    return numbers if others == 1 and numbers in (0.5, 1.0) else None


def doubling(script: Script, loss: ast.expr, scope: Scope) -> float | None:
    """Return how many times the data loss here a sum has: 2 for MSELoss, 1 for cross-entropies, else None."""
    found: list[float] = []
    for _, term in terms(loss):
        if not isinstance(term, ast.Call):
            continue
        made = None if not isinstance(term.func, ast.Name) else script.scopes[0].value_of(term.func.id)
        made = scope.value_of(term.func.id) or made if isinstance(term.func, ast.Name) else made
        maker = made if isinstance(made, ast.Call) else term
        name = script.dotted(maker.func)
        if not maker.keywords and name.startswith("torch.nn."):
            found += {"MSELoss": [2.0], "mse_loss": [2.0]}.get(name.rpartition(".")[2], [])
            found += [1.0] * name.lower().replace("_", "").endswith(("crossentropyloss", "crossentropy"))
    return found[0] if len(found) == 1 else None


def decayed_biases(script: Script) -> Iterator[Word]:
    """Say where an optimiser decays all parameters of a network that has biases."""
    layers = [node for node in script.nodes if isinstance(node, ast.Call) and last_name(node.func) in LAYERS]
    if not layers or any(word.arg == "bias" for layer in layers for word in layer.keywords):
        return
    for made in script.optimisers().values():
        decay = [word.value for word in made.keywords if word.arg == "weight_decay"]
        is_off = any(isinstance(value, ast.Constant) and value.value == 0 for value in decay)
        takes_all = [
            node for node in made.args[:1] if isinstance(node, ast.Call) and last_name(node.func) == "parameters"
        ]
        if decay and takes_all and not is_off:
            yield Word(
                made.lineno,
                "the biases are decayed, too",
                "weight_decay holds for all parameters that the optimiser is given; here biases are free",
                "penalty.scope=all does the same here; there, parameter groups keep biases out",
            )
