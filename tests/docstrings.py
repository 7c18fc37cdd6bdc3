"""Which functions do other rooms use, do they have a docstring, and does it name the InputError that they raise?

`python tests/docstrings.py [ROOT]` prints those that do not, by room. All is read from the syntax; nothing is imported
but the bases of other libraries. A room is a file or a package directly under `shrinkage`, and each other package.

A function or class is used by another room where a file there imports it or reads it from an imported module. A method
or property is, where another room has an attribute of its name and its objects may come there by imports: the type is
not known, so this asks for a little too much. A function raises InputError where it does so itself or calls a function
or method of its own room that does, outside of a `try` that catches it.
"""

import ast
import pydoc
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

PACKAGES = ("shrinkage", "shrinkage_studies", "hydra_plugins.shrinkage")
ERROR = "shrinkage.errors.InputError"
Function = ast.FunctionDef | ast.AsyncFunctionDef


def room_of(module: str) -> str:
    """The room of a module, "report" of "shrinkage.report.sentences"."""
    for package in PACKAGES[1:]:
        if module == package or module.startswith(f"{package}."):
            return package
    return [*module.split("."), ""][1] or "shrinkage"


@dataclass
class Module:
    """A file. names: what each imported or defined name stands for, by its full dotted name."""

    name: str
    path: Path
    tree: ast.Module
    names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        package = self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self.names[alias.asname or alias.name.split(".")[0]] = (
                        alias.name if alias.asname else alias.name.split(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom):
                parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
                source = ".".join([*parts, *([node.module] if node.module else [])])
                self.names |= {alias.asname or alias.name: f"{source}.{alias.name}" for alias in node.names}
        for node in self.tree.body:
            if isinstance(node, (*Function.__args__, ast.ClassDef)):
                self.names[node.name] = f"{self.name}.{node.name}"

    def meaning(self, node: ast.expr) -> str | None:
        """The full dotted name that a name or an attribute of a module stands for."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        if isinstance(node, ast.Attribute):
            owner = self.meaning(node.value)
            return owner and f"{owner}.{node.attr}"
        return None


@dataclass(frozen=True)
class Definition:
    """A function, a class or a method. owner: the class of a method."""

    module: Module
    node: Function | ast.ClassDef
    owner: ast.ClassDef | None = None

    @property
    def name(self) -> str:
        return ".".join([self.module.name, *([self.owner.name] if self.owner else []), self.node.name])

    @property
    def place(self) -> str:
        return f"{self.module.path}:{self.node.lineno}"


class House:
    """All files of the three packages below `root/src`."""

    def __init__(self, root: Path) -> None:
        self.modules: dict[str, Module] = {}
        for path in sorted((root / "src").rglob("*.py")):
            name = ".".join(path.relative_to(root / "src").with_suffix("").parts).removesuffix(".__init__")
            tree = ast.parse(path.read_text(encoding="utf-8"))
            self.modules[name] = Module(name, path.relative_to(root), tree)
        self.definitions: dict[str, Definition] = {}
        for module in self.modules.values():
            for node in module.tree.body:
                if isinstance(node, (*Function.__args__, ast.ClassDef)):
                    self.add(Definition(module, node))
                if isinstance(node, ast.ClassDef):
                    for inner in node.body:
                        if isinstance(inner, Function):
                            self.add(Definition(module, inner, node))

    @property
    def rooms(self) -> set[str]:
        """All rooms; the package `shrinkage` itself is none."""
        return set(map(room_of, self.modules)) - {"shrinkage", "hydra_plugins"}

    def add(self, definition: Definition) -> None:
        self.definitions[definition.name] = definition

    def resolved(self, name: str | None) -> str | None:
        """The name where it is defined, followed through what packages pass on from their own files."""
        seen = set()
        while name and name not in self.definitions and name not in seen:
            seen.add(name)
            owner, _, last = name.rpartition(".")
            if owner in self.modules:
                name = self.modules[owner].names.get(last)
            else:
                owner = self.resolved(owner)
                name = f"{owner}.{last}" if owner in self.definitions else name
        return name

    @cached_property
    def used(self) -> dict[str, set[str]]:
        """By the name of a definition the other rooms that use it."""
        found, attributes = defaultdict(set), defaultdict(set)
        for module in self.modules.values():
            room = room_of(module.name)
            for node in ast.walk(module.tree):
                meaning = None
                if isinstance(node, ast.Attribute):
                    attributes[node.attr].add(room)
                if isinstance(node, ast.Name | ast.Attribute):
                    meaning = self.resolved(module.meaning(node))
                if meaning in self.definitions:
                    found[meaning].add(room)
        for name, definition in self.definitions.items():
            own = room_of(definition.module.name)
            if definition.owner is not None:
                found[name] |= {room for room in attributes[definition.node.name] if own in self.reached(room)}
            found[name].discard(own)
        return {name: rooms for name, rooms in found.items() if rooms and not name.rpartition(".")[2].startswith("_")}

    @cached_property
    def arrows(self) -> dict[str, set[str]]:
        """By each room those that it imports from."""
        found = {room: set() for room in self.rooms}
        for module in self.modules.values():
            names = set(module.names.values())
            used = {name for name in names if name in self.modules or name.rpartition(".")[0] in self.modules}
            found.setdefault(room_of(module.name), set()).update(map(room_of, used))
        return found

    def reached(self, room: str) -> set[str]:
        """The rooms whose objects may come into a room: those that it imports from, and that these import from."""
        found, new = set(), {room}
        while new:
            found |= new
            new = set().union(*(self.arrows.get(other, ()) for other in new)) - found
        return found

    def bases(self, definition: Definition) -> Iterator[str]:
        """The full names of the bases of a class, from near to far, those of other libraries as well."""
        for node in definition.node.bases:
            node = node.value if isinstance(node, ast.Subscript) else node
            name = self.resolved(definition.module.meaning(node))
            if name is not None:
                yield name
                if name in self.definitions:
                    yield from self.bases(self.definitions[name])

    def docstring(self, definition: Definition) -> str | None:
        """Its own, or that of the method which it overrides; of a class also that of its way to begin."""
        own = ast.get_docstring(definition.node)
        if definition.owner is None:
            begins = (self.definitions.get(f"{definition.name}.{name}") for name in ("__init__", "__post_init__"))
            return "\n".join(filter(None, [own, *(ast.get_docstring(begin.node) for begin in begins if begin)])) or None
        if own:
            return own
        owner = self.definitions[f"{definition.module.name}.{definition.owner.name}"]
        for base in self.bases(owner):
            overridden = self.definitions.get(f"{base}.{definition.node.name}")
            if overridden is not None:
                inherited = ast.get_docstring(overridden.node)
            elif base not in self.definitions:
                inherited = getattr(getattr(pydoc.locate(base), definition.node.name, None), "__doc__", None)
            else:
                inherited = None
            if inherited:
                return inherited
        return None

    @cached_property
    def raisers(self) -> set[str]:
        """The functions and methods that raise InputError themselves, or by what they call in their own room."""
        calls = {name: set(self.called(definition)) for name, definition in self.definitions.items()}
        found = {name for name, definition in self.definitions.items() if self.raises(definition)}
        while True:
            more = {name for name, called in calls.items() if name not in found and called & found}
            if not more:
                return found
            found |= more

    def raises(self, definition: Definition) -> bool:
        if isinstance(definition.node, ast.ClassDef):
            return False
        for node in self.uncaught(definition.node, definition.module):
            if isinstance(node, ast.Raise) and node.exc is not None:
                made = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
                if self.is_input_error(definition, made):
                    return True
        return False

    def is_input_error(self, definition: Definition, made: ast.expr) -> bool:
        """Whether it is InputError, a class of it, or a function or method that returns one."""
        name = self.resolved(definition.module.meaning(made)) or self.of_self(definition, made)
        if name == ERROR:
            return True
        other = self.definitions.get(name)
        if other is None:
            return False
        if isinstance(other.node, ast.ClassDef):
            return ERROR in self.bases(other)
        returned = other.node.returns
        return returned is not None and self.is_input_error(other, returned)

    def of_self(self, definition: Definition, node: ast.expr) -> str | None:
        """The method that `self.name` stands for: of the class itself, or of a base."""
        if definition.owner is None or not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
            return None
        if node.value.id not in ("self", "cls"):
            return None
        own = f"{definition.module.name}.{definition.owner.name}"
        for name in (own, *self.bases(self.definitions[own])):
            if f"{name}.{node.attr}" in self.definitions:
                return f"{name}.{node.attr}"
        return None

    def called(self, definition: Definition) -> Iterator[str]:
        """What it calls in its own room; a class stands for its way to begin."""
        if isinstance(definition.node, ast.ClassDef):
            return
        for node in self.uncaught(definition.node, definition.module):
            if not isinstance(node, ast.Call):
                continue
            name = self.resolved(definition.module.meaning(node.func)) or self.of_self(definition, node.func)
            other = self.definitions.get(name)
            if other is not None and room_of(other.module.name) == room_of(definition.module.name):
                yield name
                if isinstance(other.node, ast.ClassDef):
                    yield from (f"{name}.{begin}" for begin in ("__init__", "__post_init__"))

    def uncaught(self, node: ast.AST, module: Module) -> Iterator[ast.AST]:
        """The nodes of a function outside of a `try` that catches InputError, and of functions inside it."""
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (*Function.__args__, ast.ClassDef, ast.Lambda)):
                continue
            if isinstance(child, ast.Try) and any(self.catches(handler, module) for handler in child.handlers):
                for rest in (*child.handlers, *child.orelse, *child.finalbody):
                    yield from self.uncaught(rest, module)
                continue
            yield child
            yield from self.uncaught(child, module)

    def catches(self, handler: ast.ExceptHandler, module: Module) -> bool:
        kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        if any(isinstance(node, ast.Raise) and node.exc is None for node in ast.walk(handler)):
            return False  # and raises it again
        names = {kind and (module.meaning(kind) or getattr(kind, "id", None)) for kind in kinds}
        return bool(names & {None, ERROR, "ValueError", "Exception", "BaseException"})

    def without_a_docstring(self) -> list[Definition]:
        """The functions, classes and methods that other rooms use and that nobody explains."""
        return [self.definitions[name] for name in self.used if not self.docstring(self.definitions[name])]

    def silent_about_their_error(self) -> list[Definition]:
        """Those that raise InputError, or a class that does when it is made, and whose docstring does not name it."""
        found = []
        for name in self.used:
            definition = self.definitions[name]
            begins = [f"{name}.{begin}" for begin in ("__init__", "__post_init__")]
            if {name, *(begins if isinstance(definition.node, ast.ClassDef) else [])} & self.raisers:
                words = self.docstring(definition) or ""
                if "InputError" not in words:
                    found.append(definition)
        return found


def by_room(definitions: list[Definition]) -> str:
    """One line each, "room  file:line  name"."""
    lines = [f"{room_of(d.module.name):12} {d.place}  {d.name}" for d in definitions]
    return "\n".join(sorted(lines))


if __name__ == "__main__":
    house = House(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parents[1])
    print(f"{len(house.used)} functions, classes and methods are used by other rooms.")
    for what, found in (
        ("have no docstring", house.without_a_docstring()),
        ("raise InputError without naming it in their docstring", house.silent_about_their_error()),
    ):
        print(f"\n{len(found)} {what}:\n{by_room(found)}")
