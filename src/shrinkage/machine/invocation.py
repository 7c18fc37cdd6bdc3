"""How this process was started, so that a person or a program can start the same again with other words."""

import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Invocation:
    """A command without its arguments: as a person types it, and as a process is started."""

    typed: list[str]
    words: list[str]


def invocation() -> Invocation:
    """Find the command of this process: a script such as train.py, `python -m` a package, or an installed command."""
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), Path(str(getattr(main, "__file__", sys.argv[0])))
    if spec is not None:
        package = ["-m", spec.parent]
        return Invocation(["python", *package], [sys.executable, *package])
    typed = ["python", file.name] if file.suffix == ".py" else [file.name]
    return Invocation(typed, [sys.executable, str(file)])
