"""What one run costs, as whole processes: python benchmarks/one_run.py [--rounds 5] [--epochs 100]

Four commands take turns, so that a machine that slows down slows all of them: this project with and without tracking, a
plain Lightning script with MLFlowLogger, and a bare PyTorch loop. Their stores exist beforehand. Ratios are of medians.
Then: where the start-up goes, by `python -X importtime`.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent


def seconds(command: list[str], folder: Path) -> float:
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return time.perf_counter() - started


def print_times(times: dict[str, list[float]], title: str) -> dict[str, float]:
    """The median of each command, printed with the spread."""
    medians = {key: statistics.median(values) for key, values in times.items()}
    print(f"{title}, seconds of wall clock (median, smallest to largest)")
    for key, values in times.items():
        print(f"  {key:32} {medians[key]:7.2f}  ({min(values):.2f} to {max(values):.2f})")
    return medians


def import_costs(top: int) -> list[tuple[float, str]]:
    """The packages whose own modules take longest to import, in seconds, for all that a run imports."""
    code = "import shrinkage.fit, shrinkage.training.run"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True)
    costs: dict[str, float] = {}
    for line in done.stderr.splitlines()[1:]:
        own, _, module = line.removeprefix("import time:").split("|")
        package = module.strip().split(".")[0]
        costs[package] = costs.get(package, 0) + int(own) / 1e6
    return sorted(((cost, package) for package, cost in costs.items()), reverse=True)[:top]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = [sys.executable, str(HERE.parent / "train.py"), "experiment=d2l", f"trainer.max_epochs={options.epochs}"]
        plain = [sys.executable, str(HERE / "plain_lightning.py"), str(options.epochs)]
        commands = {
            "shrinkage": ours,
            "shrinkage tracking=none": [*ours, "tracking=none"],
            "plain Lightning + MLFlowLogger": [*plain, f"sqlite:///{folder / 'mlflow.db'}", name],
            "bare loop": [sys.executable, str(HERE / "bare_loop.py"), str(options.epochs)],
        }
        for command in commands.values():
            seconds(command, folder)
        times: dict[str, list[float]] = {key: [] for key in commands}
        for _ in range(options.rounds):
            for key, command in commands.items():
                times[key].append(seconds(command, folder))
    medians = print_times(times, f"{options.epochs} epochs, {options.rounds} rounds")
    print("ratios of medians")
    for key, base in (
        ("shrinkage", "plain Lightning + MLFlowLogger"),
        ("shrinkage", "bare loop"),
        ("shrinkage", "shrinkage tracking=none"),
        ("plain Lightning + MLFlowLogger", "bare loop"),
    ):
        print(f"  {key} / {base}: {medians[key] / medians[base]:.2f}")
    print("imports, seconds in each package's own modules")
    for cost, package in import_costs(8):
        print(f"  {package:24} {cost:.2f}")


if __name__ == "__main__":
    main()
