"""Many processes that write runs through one MLflow server at once: with PostgreSQL, beside SQLite, beside no server.

python benchmarks/server.py [--runs 1000] [--processes 16] [--points 100] [--rounds 5]

Every run has two curves of so many points, sixty params and ten tags, by the journal and the writer that every run has.
Then all of it is read back: every run FINISHED, every curve whole, nothing twice. The server with PostgreSQL is that
of deploy/server.py, with users; the one with SQLite is a bare `mlflow server`; without a server all processes write
into one SQLite file.

At last one run of train.py, from its command to its end: with each of them and untracked, in turn, so many rounds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from shrinkage.training.ranks import free_port

ROOT = Path(__file__).parents[1]
KINDS = ("server, PostgreSQL", "server, SQLite", "no server, SQLite")
SERVER = str(ROOT / "deploy" / "server.py")
WRITER = """
import sys, time
from pathlib import Path
from shrinkage.tracking.client import connect

uri, folder, first, count, points = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:6])
client = connect(uri, "load", folder, 0, "auto")
client.wait_until_ready()
print("ready", flush=True)
sys.stdin.readline()
journals = []
for number in range(first, first + count):
    tags = {f"tag{n}": str(n) for n in range(10)}
    journal = client.begin(f"run {number}", tags, folder=folder / "runs" / str(number))
    journal.params({f"param{n}": str(n) for n in range(60)})
    for step in range(points):
        journal.metrics({"val/loss": number + step / points, "train/loss": step}, step)
    client.end(journal, "FINISHED")
    journals.append(journal)
for journal in journals:
    while not client.wait_for(journal):
        time.sleep(0.5)
"""


@contextmanager
def answering(command: list[str], port: int, environment: dict[str, str]) -> Iterator[None]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                    break
                except OSError:
                    if process.poll() is not None:
                        log.seek(0)
                        sys.exit(log.read().decode()[-2000:])
                    time.sleep(0.5)
            yield
        finally:
            process.terminate()
            process.wait()


@contextmanager
def store(kind: str, folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A tracking URI, and the environment to use it in."""
    gentle = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    if kind == "no server, SQLite":
        yield f"sqlite:///{folder}/mlflow.db", gentle
        return
    port = free_port()
    if kind == "server, SQLite":
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
        command += ["--artifacts-destination", str(folder / "artifacts"), "--port", str(port), "--workers", "2"]
        environment = gentle
    else:
        server = folder / "server"
        ports = ("--port", str(port), "--database-port", str(free_port()))
        subprocess.run([sys.executable, SERVER, "init", str(server), *ports], check=True, capture_output=True)
        command = [sys.executable, SERVER, "run", str(server)]
        password = json.loads((server / "settings.json").read_text())["admin_password"]
        environment = gentle | {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": password}
    with answering(command, port, gentle):
        yield f"http://127.0.0.1:{port}", environment


def write(uri: str, environment: dict[str, str], folder: Path, processes: int, runs: int, points: int) -> float:
    """Seconds that all of them took, from when all were ready."""
    started = []
    for number in range(processes):
        home = folder / str(number) if uri.startswith("http") else folder
        home.mkdir(exist_ok=True)
        first = number * runs // processes
        count = (number + 1) * runs // processes - first
        command = [sys.executable, "-c", WRITER, uri, str(home), str(first), str(count), str(points)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        started.append(subprocess.Popen(command, env=environment, text=True, **pipes))
    for process in started:
        process.stdout.readline()
    start = time.perf_counter()
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    codes = [process.wait() for process in started]
    seconds = time.perf_counter() - start
    if any(codes):
        sys.exit(f"{sum(map(bool, codes))} of {processes} processes failed")
    return seconds


def check(uri: str, runs: int, points: int) -> None:
    """Every run FINISHED once, with every point of its curves once; else the end."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("load").experiment_id
    found, token = [], None
    while token != "":
        page = client.search_runs([experiment], max_results=500, page_token=token)
        found, token = found + list(page), page.token or ""
    names = {run.info.run_name for run in found}
    if len(found) != runs or len(names) != runs or {run.info.status for run in found} != {"FINISHED"}:
        statuses = Counter(run.info.status for run in found)
        sys.exit(f"{len(found)} runs of {len(names)} names are there, not {runs}: {dict(statuses)}")
    for run in found:
        for name in ("val/loss", "train/loss"):
            steps = [point.step for point in client.get_metric_history(run.info.run_id, name)]
            if steps != list(range(points)) or len(run.data.params) != 60:
                sys.exit(f"{run.info.run_name}: {name} has {len(steps)} points, and there are {points}")


def walls(folder: Path, rounds: int) -> dict[str, float]:
    """The median seconds of one run of train.py with each store; all servers stand by."""
    command = [sys.executable, str(ROOT / "train.py"), "data=diabetes", "penalty=l1", "lambd=0.1", "progress=false"]
    command += ["trainer.max_epochs=300"]
    seconds: dict[str, list[float]] = {}
    with ExitStack() as servers:
        stores = {}
        for number, kind in enumerate(KINDS):
            place = folder / str(number)
            place.mkdir(mode=0o711)
            stores[kind] = servers.enter_context(store(kind, place))
        for _ in range(rounds):
            for kind, (uri, environment) in {"untracked": (None, os.environ), **stores}.items():
                tracking = "tracking=none" if uri is None else f"tracking.uri={uri}"
                start = time.perf_counter()
                subprocess.run([*command, tracking], env=environment, cwd=folder, check=True, capture_output=True)
                seconds.setdefault(kind, []).append(time.perf_counter() - start)
    return {kind: median(each) for kind, each in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    speeds = {}
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            folder.chmod(0o711)  # PostgreSQL's user has to get through
            with store(kind, folder) as (uri, environment):
                seconds = write(uri, environment, folder, given.processes, given.runs, given.points)
                os.environ.update(environment)
                check(uri, given.runs, given.points)
        speeds[kind] = given.runs / seconds
        print(
            f"{kind}: {given.runs} runs of 2 × {given.points} points by {given.processes} processes in "
            f"{seconds:.0f} s, {speeds[kind]:.1f} runs a second; all there, each once",
            flush=True,
        )
    base = speeds[KINDS[-1]]
    print(", ".join(f"{kind}: {speed / base:.2f}" for kind, speed in speeds.items()), "of the last one's runs a second")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        seconds = walls(Path(name), given.rounds)
    base = seconds[KINDS[-1]]
    told = (f"{kind}: {each:.1f} s ({each / base:.2f})" for kind, each in seconds.items())
    print(f"one run, the median of {given.rounds} rounds (and its ratio to the last): {', '.join(told)}")


if __name__ == "__main__":
    main()
