"""What is wrong with the weight penalty of a training script, by its text alone; nothing of it is run.

    python -m shrinkage.diagnose train_mine.py

Says only what is certain. Exit code 0: nothing is wrong (conventions may differ); 1: faults.
"""

import argparse
import sys
from pathlib import Path

from shrinkage.boundary import command_in_one_line
from shrinkage.errors import InputError

from .factors import find_conventions
from .faults import Word, find_faults
from .reading import Script


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m shrinkage.diagnose",
        description="What is certainly wrong with the weight penalty of a training script? It is read and not run.",
        epilog="Exit code 0: nothing, though conventions may differ; 1: faults. More in docs/diagnose.md.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a training script in Python")
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    given = arguments()
    with command_in_one_line():
        sys.exit(diagnose(given.file))


def diagnose(path: Path) -> int:
    """Print what is wrong with a script and what differs; returns the exit code. Raises InputError for no script."""
    try:
        script = Script(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InputError(f"{path}: cannot be read ({why}); give a training script in Python") from error
    faults, conventions = find_faults(script), find_conventions(script)
    for kind, words in (("fault", faults), ("convention", conventions)):
        for word in words:
            print(told(path, kind, word))
    if not faults:
        print("Nothing is certainly wrong.")
    return 1 if faults else 0


def told(path: Path, kind: str, word: Word) -> str:
    """Write a word about a line in two lines."""
    return f"{path}:{word.line}: {kind}: {word.what}\n    {word.why}; {word.mend}"


if __name__ == "__main__":
    main()
