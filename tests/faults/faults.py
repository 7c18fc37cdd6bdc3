"""What the tests of faults share: a server to be killed, a gate before it, and everything that a store has of a run.

One round of each fault is part of the suite. `SHRINKAGE_ROUNDS=20 python -m pytest tests/faults -n 0` makes twenty
of each, at their full length.
"""

import contextlib
import http.client
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import ROUNDS, wait_for

from shrinkage.training.ranks import free_port

FULL = ROUNDS > 1
# Tags that say where and when a run was, and not what it came to.
OWN = ("process.", "shrinkage.journal", "folder", "mlflow.parentRunId", "mlflow.runName", "overrides", "error")
OWN += ("git.", "mlflow.source.")


@dataclass(frozen=True)
class Recorded:
    """All that a store has of a run: how often each (metric, step, value), params, tags, paths of artifacts."""

    status: str
    points: Counter
    params: dict[str, str]
    tags: dict[str, str]
    inputs: list[str]
    artifacts: set[str]

    def assert_same(self, other: "Recorded", ignore: tuple[str, ...] = ()) -> None:
        assert self.status == other.status
        assert set(self.points.values()) == {1}, [point for point, times in self.points.items() if times > 1]
        assert self.points == other.points
        params, others = ({k: v for k, v in p.items() if k not in ignore} for p in (self.params, other.params))
        assert params == others
        assert self.tags == other.tags
        assert self.inputs == other.inputs
        assert self.artifacts == other.artifacts


def recorded(store: Path, artifacts: Path, run_id: str) -> Recorded:
    """Read from the database itself, where nothing is counted twice. artifacts: a folder with those of all runs."""
    with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:

        def rows(query: str) -> list[tuple]:
            return connection.execute(query, (run_id,)).fetchall()

        value = "CASE WHEN is_nan THEN 'nan' ELSE value END"
        points = Counter(rows(f"SELECT key, step, {value} FROM metrics WHERE run_uuid = ?"))
        tags = dict(rows("SELECT key, value FROM tags WHERE run_uuid = ?"))
        digests = rows(
            "SELECT d.digest FROM inputs i JOIN datasets d ON i.source_id = d.dataset_uuid WHERE i.destination_id = ?"
        )
        ((status,),) = rows("SELECT status FROM runs WHERE run_uuid = ?")
        params = dict(rows("SELECT key, value FROM params WHERE run_uuid = ?"))
    (folder,) = [path for path in artifacts.rglob(run_id) if path.is_dir()]
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    tags = {key: value for key, value in tags.items() if not key.startswith(OWN)}
    return Recorded(status, points, params, tags, sorted(digest for (digest,) in digests), files)


def run_ids(store: Path) -> list[str]:
    """Of all runs, oldest first; [] while there is no store."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
            return [run for (run,) in connection.execute("SELECT run_uuid FROM runs ORDER BY start_time, run_uuid")]
    except sqlite3.OperationalError:
        return []


class Server:
    """`mlflow server` over a SQLite store, with its artifacts."""

    def __init__(self, store: Path, artifacts: Path) -> None:
        self.store, self.artifacts, self.port = store, artifacts, free_port()
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                *(Path(sys.executable).parent / "mlflow", "server", "--workers", "1"),
                *("--backend-store-uri", f"sqlite:///{self.store}", "--artifacts-destination", str(self.artifacts)),
                *("--host", "127.0.0.1", "--port", str(self.port)),
            ],
            # Without its eight processes for jobs that nobody gives it.
            env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(self.answers, 120)

    def answers(self) -> bool:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def kill(self) -> None:
        """All of its processes, at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Gate:
    """Stands before a server, on a port of its own: `mode` is open, 500, slow (so many seconds each) or shut."""

    def __init__(self, server: Server) -> None:
        self.server, self.mode, self.slow = server, "open", 0.0
        gate = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if gate.mode == "500":
                    self.answer(500, [], b'{"error_code": "INTERNAL_ERROR", "message": "out of order"}')
                    return
                if gate.mode == "slow":
                    time.sleep(gate.slow)
                try:
                    if gate.mode == "shut":
                        raise ConnectionRefusedError
                    upstream = http.client.HTTPConnection("127.0.0.1", gate.server.port, timeout=60)
                    headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
                    upstream.request(self.command, self.path, body, headers)
                    answer = upstream.getresponse()
                    content = answer.read()
                except (OSError, http.client.HTTPException):  # whoever asked is left without an answer too
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                kept = [(k, v) for k, v in answer.getheaders() if k.lower() == "content-type"]
                self.answer(answer.status, kept, content)

            def answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
                self.send_response(status)
                for header in headers:
                    self.send_header(*header)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = serve

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"


@contextlib.contextmanager
def tmpfs(folder: Path, size: str) -> Iterator[Path]:
    """A small disk of its own. Skips the test where nothing may be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
