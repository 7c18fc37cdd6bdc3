"""The main commands' ratios, in one line of HISTORY.md: python benchmarks/all.py [--check]

Processor time of whole commands with the writers that they leave behind, in ratio to a baseline of the same minutes.
Each command and its baseline take turns; stores exist beforehand. --check measures the small sweep alone, compares it
with the last line, and warns where it costs more than 1.5 times as much; a measurement alone never fails it.
"""

import argparse
import datetime
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from choose import PEER, make_table
from processor import processor_seconds
from sweep import ours, plain

HERE = Path(__file__).parent
HISTORY = HERE / "HISTORY.md"
TITLE = "## All, by one command"
SMALL, PLAIN_RUNS, EPOCHS = 40, 3, 100
WORTH_A_WARNING = 1.5
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}


def seconds(command: list[str], folder: Path) -> float:
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    return processor_seconds(command, str(folder), **store, **ONE_THREAD)[0]


def in_turn(commands: dict[str, list[str]], folder: Path, rounds: int) -> dict[str, float]:
    """The median processor seconds of each command."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            times[name].append(seconds(command, folder))
    return {name: statistics.median(each) for name, each in times.items()}


def small_sweep(folder: Path, rounds: int) -> float:
    """What 40 λ's of the chapter's problem cost by lanes, in runs of the plain loop."""
    took = in_turn({"lanes": ours("lanes", SMALL, EPOCHS), "plain": plain(PLAIN_RUNS, EPOCHS, folder)}, folder, rounds)
    print(
        f"{SMALL} runs by lanes {took['lanes']:.1f} s, {PLAIN_RUNS} of the plain loop {took['plain']:.1f} s", flush=True
    )
    return took["lanes"] / (took["plain"] / PLAIN_RUNS)


def thousand(folder: Path) -> tuple[float, float]:
    """What a run costs of 1,000 by lanes: processor milliseconds, and how many times as much a plain one."""
    commands = {
        "lanes": ours("lanes", 100, EPOCHS, "seed=range(10)"),
        "plain": plain(PLAIN_RUNS, EPOCHS, folder),
    }
    took = in_turn(commands, folder, 1)
    print(
        f"1,000 runs by lanes {took['lanes']:.1f} s, {PLAIN_RUNS} of the plain loop {took['plain']:.1f} s", flush=True
    )
    return took["lanes"], took["plain"] / PLAIN_RUNS / took["lanes"] * 1000


def choose(folder: Path, rounds: int) -> float:
    """What `experiment=choose` costs on 300 rows of 16 columns, in scikit-learn's three CV classes."""
    path = make_table("300x16", str(folder))
    command = [sys.executable, str(HERE.parent / "train.py"), "experiment=choose", f"data.path={path}", "data.target=y"]
    took = in_turn(
        {"choose": [*command, "progress=false"], "peer": [sys.executable, "-c", PEER, str(path)]}, folder, rounds
    )
    print(f"choose {took['choose']:.1f} s, scikit-learn {took['peer']:.1f} s", flush=True)
    return took["choose"] / took["peer"]


def lines_so_far() -> list[str]:
    """The lines that this program has added to HISTORY.md, with the head of their table."""
    section = HISTORY.read_text(encoding="utf-8").partition(TITLE)[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("|")]


def add(line: str) -> None:
    """Add a line below the last one."""
    last, text = lines_so_far()[-1], HISTORY.read_text(encoding="utf-8")
    before, title, section = text.partition(TITLE)
    HISTORY.write_text(before + title + section.replace(f"{last}\n", f"{last}\n{line}\n", 1), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        for command in (ours("lanes", 2, 1), plain(1, 1, folder)):  # they make the store
            seconds(command, folder)
        small = small_sweep(folder, options.rounds)
        if options.check:
            date, at, before, *_ = (cell.strip() for cell in lines_so_far()[-1].strip("|").split("|"))
            warning = "WARNING: " if small > WORTH_A_WARNING * float(before) else ""
            print(
                f"{warning}{SMALL} runs by lanes cost as much as {small:.1f} runs of the plain loop; it was {before} "
                f"at {at} ({date}, benchmarks/HISTORY.md)"
            )
            return
        milliseconds, ratio = thousand(folder)
        chosen = choose(folder, options.rounds)
    words = ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    cells = [f"{datetime.date.today()}", commit, f"{small:.1f}", f"{milliseconds:.1f}", f"{ratio:.0f}", f"{chosen:.1f}"]
    line = f"| {' | '.join(cells)} |"
    add(line)
    print(line)


if __name__ == "__main__":
    main()
