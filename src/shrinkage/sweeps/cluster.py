"""Work on a Ray cluster, or on this machine's cores as if they were one: tasks, their results, and what stops them.

Every node sees the same folders: a job writes its record, its checkpoints and its result into the sweep's own, which is
how a task that is run again goes on with what its dead predecessor has left.
"""

import hashlib
import logging
import os
import platform
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from shrinkage.boundary import tell
from shrinkage.errors import InputError
from shrinkage.machine.interrupt import SIGNALS

Result = TypeVar("Result")

PACKAGES = ("torch", "lightning", "hydra-core", "mlflow")
CARRIED = ("MLFLOW_", "SHRINKAGE_")  # prefixes of the environment variables that jobs need
KINDS = {"CPU": "num_cpus", "GPU": "num_gpus"}  # resources as Ray names those that there are, and those asked for
CONNECT_SECONDS = 10.0
LOOK_SECONDS, LOOKS = 3.0, 4  # between two looks at the cluster's head, and how many may fail; Ray gives up after 60 s
END_SECONDS = 15.0  # that tasks have to end in, where the sweep is left
WAITING = 4  # tasks for each that can run at once, that are handed over and not yet done


@contextmanager
def joined(address: str | None, folder: Path, resources: Mapping[str, float]) -> Generator[None]:
    """Join a cluster whose every node can do the work of the sweep in this folder, and leave it in the end.

    address: None for one of this machine's cores alone. resources: what a task takes. Raises InputError.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    connect(address)
    have = {key: ray.cluster_resources().get(name, 0) for name, key in KINDS.items()}
    left = threading.Event()
    if address is not None and address.startswith("ray://"):
        head = address.removeprefix("ray://")
    else:
        head = ray.get_runtime_context().gcs_address
    threading.Thread(target=watch, args=(head, left), daemon=True).start()
    try:
        if address is None:  # a cluster may grow
            for key, number in resources.items():
                if number > have[key]:
                    raise InputError(
                        f"hydra.launcher.{key}={number:g}: this machine has {have[key]:g}, and no job could begin; use "
                        f"hydra.launcher.{key}={have[key]:g}"
                    )
        else:
            nodes = sum(node["Alive"] for node in ray.nodes())
            about = f"{nodes} nodes, {have['num_cpus']:g} CPUs, {have['num_gpus']:g} GPUs"
            print(f"note: the Ray cluster at {head}: {about}", file=sys.stderr)
        check(folder)
        yield
    finally:
        left.set()
        if not lost.is_set():
            ray.shutdown()


lost = threading.Event()  # the head of the cluster has died


def watch(head: str, left: threading.Event) -> None:
    """Stop this process as SIGTERM would where the cluster's head is gone: Ray itself ends it without a word to it."""
    host, _, port = head.rpartition(":")
    failed = 0
    while not left.wait(LOOK_SECONDS) and failed < LOOKS:
        try:
            socket.create_connection((host, int(port)), timeout=LOOK_SECONDS).close()
            failed = 0
        except OSError:
            failed += 1
    if failed == LOOKS:
        lost.set()
        tell("the head of the Ray cluster has died, and the sweep stops")
        os.kill(os.getpid(), signal.SIGTERM)


def connect(address: str | None) -> None:
    """Join a cluster of Ray's. Raises InputError where there is none, or one of another Ray or Python."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if port.isdigit():  # Ray itself would try for ever
        try:
            socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
        except OSError as error:
            raise InputError(nobody_there(address, error.strerror or str(error))) from None
    arguments: dict[str, Any] = {"address": address} if address else {"address": "local", "include_dashboard": False}
    handlers = {signum: signal.getsignal(signum) for signum in SIGNALS}
    try:
        ray.init(**arguments, logging_level=logging.ERROR, log_to_driver=True)
        for signum, handler in handlers.items():  # Ray has put its own there, which aborts
            signal.signal(signum, handler)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError, OSError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(nobody_there(address, reason)) from None


def nobody_there(address: str | None, reason: str) -> str:
    """Say that no cluster can be joined at an address, and what to do."""
    return (
        f"hydra.launcher.address={address}: no cluster of Ray's can be joined there ({reason[:300]}); start one with "
        "`ray start --head`, set RAY_AUTH_MODE=token where it asks for a token, or leave the address out for this "
        "machine's cores"
    )


def check(folder: Path) -> None:
    """Ask every node whether it can do the sweep's work.

    Raises InputError where a node has other versions than this process, or does not see the sweep's folder.
    """
    ours = versions()
    probe = ray.remote(num_cpus=0)(describe_node)
    asked = [
        (
            f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}:{node['NodeManagerPort']})",
            probe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                Path.cwd(), folder
            ),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]
    for host, answer in asked:
        try:
            theirs, sees = ray.get(answer, timeout=120)
        except RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise InputError(f"the node {host} cannot run shrinkage ({reason[:300]}); install it there") from None
        other = [f"{name} {theirs.get(name)} and not {ours[name]}" for name in ours if theirs.get(name) != ours[name]]
        if other:
            raise InputError(
                f"the node {host} has {', '.join(other)}, so its numbers could be others; install the same there"
            )
        if not sees:
            raise InputError(
                f"the node {host} does not see {folder}: a sweep's folder must be on a disk that all nodes share; use "
                "hydra.sweep.dir=… there"
            )


def versions() -> dict[str, str]:
    """List the versions in this process on which a run's numbers depend; shrinkage's with a digest of its files."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:8]
    found = {"python": platform.python_version(), "shrinkage": f"{version('shrinkage')} ({digest})"}
    return found | {package: version(package) for package in PACKAGES}


def describe_node(cwd: Path, folder: Path) -> tuple[dict[str, str], bool]:
    """Tell a node's versions, and whether it sees both folders; it runs there."""

    return versions(), cwd.is_dir() and folder.is_dir()


def tasks_at_once(resources: Mapping[str, float]) -> int:
    """Count how many tasks of these resources can run at once."""
    have = ray.cluster_resources()
    return max(min(int(have.get(name, 0) / resources[key]) for name, key in KINDS.items() if resources[key]), 1)


def run_tasks(
    function: Callable[..., Result], tasks: Iterable[tuple[int, Sequence[object]]], resources: Mapping[str, float]
) -> Iterator[tuple[int, Result | Exception]]:
    """Run function(*arguments) for every task; yields each task's number and result in the order in which they end.

    What a task raised is its result. A task whose process dies is run again, three times, and then its result is that
    InputError. Where this process leaves off, so do the tasks, by the signal that Ctrl-C would send them.
    """
    about = (Path.cwd(), {key: value for key, value in os.environ.items() if key.startswith(CARRIED)})
    remote = ray.remote(max_retries=3, num_cpus=resources["num_cpus"], num_gpus=resources["num_gpus"])(run_in_worker)
    most = WAITING * tasks_at_once(resources)
    left = iter(tasks)
    running: dict[Future[Result], tuple[int, ray.ObjectRef[Any]]] = {}
    try:
        while True:
            while len(running) < most and (task := next(left, None)) is not None:
                reference = remote.remote(*about, function, *task[1])
                running[reference.future()] = task[0], reference
            if not running:
                return
            # Not by `ray.wait`, which makes an exit code of 1 of every signal.
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                number, _ = running.pop(future)
                yield number, result(future)
    finally:
        if running and not lost.is_set():
            for _, reference in running.values():
                ray.cancel(reference)
            wait(running, timeout=END_SECONDS)  # each ends its run


def result(future: Future[Result]) -> Result | Exception:
    """Return what a task returned, or as a value what it raised."""
    try:
        return future.result()
    except RayTaskError as error:
        return error.cause
    except RayError as error:
        reason = " ".join(str(error).split())
        return InputError(f"the process of the job died four times ({reason[:300]}); resume the sweep to try again")


def run_in_worker(
    cwd: Path, environment: Mapping[str, str], function: Callable[..., Result], *arguments: object
) -> Result:
    """Run a task in a worker's process, as if it had been started where the sweep was."""
    os.chdir(cwd)
    os.environ.update(environment)
    try:
        return function(*arguments)
    except SystemExit as left:  # which would end the worker, and have Ray start the task again
        how = f"by signal {left.code - 128}" if isinstance(left.code, int) else f"({left.code})"
        raise RuntimeError(f"the job was stopped {how}") from None
