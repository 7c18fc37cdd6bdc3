"""The house itself: its arrows, its style, and what a newcomer is told."""

import re
import subprocess
import sys
from pathlib import Path

from conftest import ROOT


def test_arrows_point_one_way() -> None:
    done = subprocess.run([Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_style() -> None:
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_types() -> None:
    python = ["--pythonpath", sys.executable]
    done = subprocess.run([sys.executable, "-m", "pyright", *python], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_help_names_the_groups_and_the_first_commands() -> None:
    done = subprocess.run([sys.executable, "train.py", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    for word in (
        "penalty: adamw, base, elastic_net, group_lasso, huber",
        "python train.py penalty=l1",
        "mlflow ui",
        "lambd: 3",
    ):
        assert word in done.stdout


def test_the_files_that_people_read_name_no_machine() -> None:
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        assert not re.search(r"(^|[\s\"'`(=])/(root|home|work|tmp)/", (ROOT / name).read_text(encoding="utf-8")), name
