"""What a sweep costs, as whole processes: python benchmarks/sweep.py [--rounds 3] [--lambdas 11] [--thousand]

The chapter's problem at 100 epochs for a grid of λ's, by the lanes launcher, the basic launcher, joblib, and a plain
Lightning loop with MLFlowLogger, which take turns; the same metrics are logged in all of them (lanes keep 20 points of
each curve, and all of them with tracking.history=all). With --thousand instead: 100 λ's × 10 seeds by lanes, once,
every run complete in MLflow, against the runs per second of the plain loop, and where the time goes. Stores exist
beforehand.
"""

import argparse
import sqlite3
import sys
import tempfile
from pathlib import Path

from one_run import print_times, seconds

HERE = Path(__file__).parent
TRAIN = str(HERE.parent / "train.py")


def plain(lambdas: int, epochs: int, folder: Path) -> list[str]:
    values = ",".join(str(number) for number in range(lambdas))
    store = f"sqlite:///{folder / 'mlflow.db'}"
    return [sys.executable, str(HERE / "plain_lightning.py"), str(epochs), store, str(folder), values]


def ours(launcher: str, lambdas: int, epochs: int, *more: str) -> list[str]:
    grid = f"lambd=range({lambdas})"
    arguments = ["-m", "experiment=d2l", grid, f"hydra/launcher={launcher}", f"trainer.max_epochs={epochs}", *more]
    return [sys.executable, TRAIN, *arguments]


def compare(lambdas: int, epochs: int, rounds: int, folder: Path) -> None:
    commands = {
        "lanes": ours("lanes", lambdas, epochs),
        "lanes, every epoch recorded": ours("lanes", lambdas, epochs, "tracking.history=all"),
        "basic": ours("basic", lambdas, epochs),
        "joblib": ours("joblib", lambdas, epochs),
        "plain Lightning + MLFlowLogger": plain(lambdas, epochs, folder),
    }
    times: dict[str, list[float]] = {key: [] for key in commands}
    for _ in range(rounds):
        for key, command in commands.items():
            times[key].append(seconds(command, folder))
    medians = print_times(times, f"{lambdas} λ's, {epochs} epochs, {rounds} rounds")
    for key in list(commands)[2:]:
        print(f"  lanes are {medians[key] / medians['lanes']:.1f} times as fast as {key}")


def thousand(plain_runs: int, epochs: int, folder: Path) -> None:
    before = seconds(plain(plain_runs, epochs, folder), folder)
    tracked = seconds(ours("lanes", 100, epochs, "seed=range(10)"), folder)
    after = seconds(plain(plain_runs, epochs, folder), folder)
    untracked = seconds(ours("lanes", 100, epochs, "seed=range(10)", "tracking=none"), folder)
    with sqlite3.connect(folder / "mlflow.db") as store:
        query = """SELECT count(*) FROM runs r WHERE status = 'FINISHED' AND
                   (SELECT count(*) FROM params p WHERE p.run_uuid = r.run_uuid) > 30 AND
                   (SELECT count(*) FROM metrics m WHERE m.run_uuid = r.run_uuid AND key = 'val/loss') = 20"""
        (complete,) = store.execute(query).fetchone()
    a_run = (before + after) / 2 / plain_runs
    print(f"1000 runs by lanes: {tracked:.1f} s, {tracked:.1f} ms a run, {complete} complete in MLflow")
    print(f"the same with tracking=none: {untracked:.1f} s, so the store takes {tracked - untracked:.1f} s")
    print(f"plain loop over {plain_runs} runs, before and after: {before:.1f} s and {after:.1f} s, {a_run:.2f} s a run")
    print(f"ratio of runs per second: {a_run * 1000 / tracked:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lambdas", type=int, default=11)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--thousand", action="store_true")
    parser.add_argument(
        "--plain-runs", type=int, default=10, help="how many runs of the plain loop --thousand measures"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for command in (ours("lanes", 2, 1), plain(1, 1, folder)):
            seconds(command, folder)
        if options.thousand:
            thousand(options.plain_runs, options.epochs, folder)
        else:
            compare(options.lambdas, options.epochs, options.rounds, folder)


if __name__ == "__main__":
    main()
