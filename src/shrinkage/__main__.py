"""The command `shrinkage`: train.py from any folder, and the project's other commands by a word each."""

import runpy
import sys

COMMANDS = {  # `shrinkage WORD …` is `python -m MODULE …`
    "report": "shrinkage.report",
    "doctor": "shrinkage.doctor",
    "sync": "shrinkage.tracking.sync",
    "convert": "shrinkage.optimum.conventions",
    "diagnose": "shrinkage.diagnose",
    "lab": "shrinkage_studies.lab",
}


def main() -> None:
    """Run the command that the first word names, or train as the overrides say."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word in COMMANDS:
        del sys.argv[1]
        runpy.run_module(COMMANDS[word], run_name="__main__", alter_sys=True)
    else:
        from shrinkage.train import main as train

        train()


if __name__ == "__main__":
    main()
