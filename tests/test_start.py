"""What a command imports, and when: each of these packages takes a tenth of a second to two seconds."""

import subprocess
import sys
from pathlib import Path

from conftest import ROOT

NOT_WHAT_IS_TYPED = {"torch", "lightning", "scipy", "matplotlib", "sklearn", "sympy", "rich"}
NOT_A_RUN_OF_DRAWN_DATA = {"pandas", "pyarrow", "sklearn", "plotly", "mlflow"}  # Lightning itself brings matplotlib
NOR = {"scipy.signal", "scipy.stats"}  # of the packages that it does import


def test_nothing_is_imported_before_it_is_needed(tmp_path: Path, store: Path) -> None:
    """One whole run, since it is the way of every run from what was typed to the end that is looked at."""
    done = subprocess.run(
        [
            sys.executable,
            "-X",
            "importtime",
            ROOT / "train.py",
            "penalty=l1",
            "lambd=0.1",  # its exact optimum is known at its end, and drawn
            "trainer.max_epochs=1",
            f"tracking.uri=sqlite:///{store}",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    modules = [line.rpartition("|")[2].strip() for line in lines]  # in the order of their ends
    packages = [module.partition(".")[0] for module in modules]
    checked = set(packages[: packages.index("torch")])
    assert {"shrinkage", "hydra"} <= checked
    assert not checked & (NOT_WHAT_IS_TYPED | NOT_A_RUN_OF_DRAWN_DATA)
    assert not set(packages) & NOT_A_RUN_OF_DRAWN_DATA and not set(modules) & NOR
