"""What is said while something takes long: on a terminal, above what is printed, and nowhere else."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from shrinkage.machine.waiting import doing

SCRIPT = """
import time
from shrinkage.machine.waiting import doing
with doing("looking") as say:
    print("printed")
    say("looking [again]")
    time.sleep(0.3)
"""


def test_a_terminal_shows_what_is_done_and_takes_nothing_out_of_a_file(tmp_path: Path) -> None:
    terminal, side = pty.openpty()
    with (tmp_path / "out").open("w") as out:
        subprocess.run(
            [sys.executable, "-c", SCRIPT], stdout=out, stderr=side, check=True, env=os.environ | {"TERM": "xterm"}
        )
    os.close(side)
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert "looking …" in shown and "looking [again] …" in shown and "printed" not in shown
    assert (tmp_path / "out").read_text() == "printed\n"


def test_nothing_is_shown_elsewhere(capsys: pytest.CaptureFixture) -> None:
    with doing("looking") as say:
        say("looking again")
    assert capsys.readouterr() == ("", "")
