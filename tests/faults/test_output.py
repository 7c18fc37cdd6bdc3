"""What a run prints is not the run: it may have no reader, no room and no letters for it."""

import itertools
import os
import tempfile
from pathlib import Path

import pytest
from conftest import ROUNDS, forked, runs
from faults import FULL

from shrinkage.machine.output import forgiving

pytestmark = pytest.mark.xdist_group("faults")

RUN = ("trainer.max_epochs=2", "progress=false")
COMMANDS = {"a run": RUN, "a sweep": (*RUN, "lambd=0,1", "hydra.sweep.dir=here", "-m")}

ALL = [*itertools.product(COMMANDS, ("full", "unread"))]
CASES = ALL if FULL else [("a run", "full"), ("a sweep", "unread")]


@pytest.mark.parametrize("number", range(ROUNDS))
@pytest.mark.parametrize(("command", "stream"), CASES)
def test_nobody_takes_what_is_printed(command: str, stream: str, number: int, tmp_path: Path, store: Path) -> None:
    about = {
        "arguments": COMMANDS[command],
        "cwd": str(tmp_path),
        "environment": os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{store}"},
    }
    reader, output = os.pipe()
    os.close(reader)
    if stream == "full":
        os.close(output)
        output = os.open("/dev/full", os.O_WRONLY)
    with tempfile.TemporaryFile() as errors:
        try:
            code = forked(about, output, errors.fileno())
        finally:
            os.close(output)
        errors.seek(0)
        said = errors.read().decode()
    assert code == 0 and "Traceback" not in said and "Error" not in said, said
    assert {run.info.status for run in runs(store)} == {"FINISHED"}


def test_letters_that_an_encoding_does_not_have_are_escaped(tmp_path: Path) -> None:
    path = tmp_path / "printed"
    with path.open("w", encoding="ascii") as file:
        print("λ = 3", file=forgiving(file), flush=True)
    assert path.read_text(encoding="ascii") == "\\u03bb = 3\n"
