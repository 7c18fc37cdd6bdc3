"""What stores say where they do not do what they are asked: real ones, and what becomes of their words."""

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import DataError, OperationalError

from shrinkage.errors import StoreAway, StoreRefuses, TrackingError
from shrinkage.tracking.answers import asking
from shrinkage.tracking.store import explain, open_store

NO_CODE = "text"  # a body that is no JSON, as a proxy's


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's client sends a request once, as the writer has it."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")


@contextlib.contextmanager
def answering(status: int, code: str) -> Iterator[str]:
    """A server that has one answer to everything; yields its address."""
    body = b"<html>" if code == NO_CODE else json.dumps({"error_code": code, "message": "so it is"}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def answer_to_opening(uri: str, folder: Path) -> TrackingError:
    with pytest.raises(TrackingError) as raised:
        open_store(uri, "shrinkage", folder / "mlartifacts")
    return raised.value


def answer_of_an_open_one(uri: str) -> TrackingError:
    with pytest.raises(TrackingError) as raised, asking():
        MlflowClient(uri).get_run("0" * 32)
    return raised.value


@pytest.mark.parametrize(
    ("status", "code", "may_pass"),
    [
        (500, NO_CODE, True),
        (502, NO_CODE, True),
        (503, NO_CODE, True),
        (504, NO_CODE, True),
        (429, NO_CODE, True),
        (500, "INTERNAL_ERROR", True),  # the server's own database is away, as it may be
        (503, "TEMPORARILY_UNAVAILABLE", True),
        (400, "BAD_REQUEST", False),
        (400, "INVALID_PARAMETER_VALUE", False),
        (401, NO_CODE, False),
        (403, NO_CODE, False),
        (403, "PERMISSION_DENIED", False),
        (404, NO_CODE, False),
        (404, "RESOURCE_DOES_NOT_EXIST", False),
        (501, "NOT_IMPLEMENTED", False),
    ],
)
def test_one_answer_whether_asking_a_server_again_may_help(
    status: int, code: str, may_pass: bool, tmp_path: Path
) -> None:
    with answering(status, code) as uri:
        opened = answer_of_an_open_one(uri)
        assert opened.may_pass == may_pass, opened
        if code != "RESOURCE_DOES_NOT_EXIST":  # which an experiment that is to be made is told too
            opening = answer_to_opening(uri, tmp_path)
            assert opening.may_pass == may_pass, opening
            if not may_pass:
                assert uri in str(opening) and "\n" not in str(opening)
    if status == 502:
        assert str(opened) == "it answers 502"


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("http://127.0.0.1:9", "Connection refused"),
        ("http://nowhere.invalid", "Name or service not known|Temporary failure in name resolution"),
    ],
)
def test_a_server_that_is_not_there_may_come(uri: str, words: str, tmp_path: Path) -> None:
    for answer in (answer_of_an_open_one(uri), answer_to_opening(uri, tmp_path)):
        assert isinstance(answer, StoreAway)
        assert str(answer) in words.split("|")


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(StoreRefuses), asking():
        MlflowClient("http://127.0.0.1:port").get_run("0" * 32)


def test_a_server_that_is_silent_may_answer_later(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        answer = answer_of_an_open_one(f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert isinstance(answer, StoreAway) and str(answer) == "no answer in time"


def raised_by_sqlite(fault: str, path: Path) -> sqlite3.Error:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.commit()
    if fault == "no database":
        path.write_bytes(b"this is text, and no database" * 100)
    with (
        contextlib.closing(sqlite3.connect(path)) as first,
        contextlib.closing(
            sqlite3.connect(f"file:{path}{'?mode=ro' if fault == 'read-only' else ''}", uri=True, timeout=0)
        ) as second,
    ):
        if fault == "locked":
            first.execute("BEGIN EXCLUSIVE")
        if fault == "full":
            second.execute("PRAGMA max_page_count=2")
        with pytest.raises(sqlite3.Error) as raised:
            second.execute("INSERT INTO t VALUES (zeroblob(100000))" if fault != "no table" else "SELECT * FROM u")
    return raised.value


def as_mlflow_has_it(error: sqlite3.Error) -> MlflowException:
    """As `ManagedSessionMaker` raises it."""
    from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

    try:
        try:
            raise OperationalError("INSERT", {}, error) from error
        except OperationalError as caught:
            raise MlflowException(message=caught, error_code=TEMPORARILY_UNAVAILABLE) from caught
    except MlflowException as wrapped:
        return wrapped


@pytest.mark.parametrize(
    ("fault", "opening", "opened"),
    [
        ("locked", True, True),
        ("full", True, True),
        ("no database", False, False),
        # A person is there to mend it when a store is opened; a run that trains is not to suffer by it.
        ("read-only", False, True),
        ("no table", False, True),
    ],
)
def test_one_answer_for_sqlite_by_its_code(fault: str, opening: bool, opened: bool, tmp_path: Path) -> None:
    error = raised_by_sqlite(fault, tmp_path / "a.db")
    for each in (OperationalError("INSERT", {}, error), as_mlflow_has_it(error)):
        for explains, may_pass in ((partial(explain, "sqlite:///a.db"), opening), (None, opened)):
            with pytest.raises(TrackingError) as raised, asking(explains):
                raise each
            assert raised.value.may_pass == may_pass, (each, raised.value)
            if fault == "locked":
                assert str(raised.value) == "another process has locked the database"


class Postgres(Exception):
    """An error as psycopg has it."""

    def __init__(self, words: str, sqlstate: str | None) -> None:
        super().__init__(words)
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("words", "state", "may_pass"),
    [
        ("terminating connection due to administrator command", "57P01", True),
        ("too many connections for role", "53300", True),
        ("deadlock detected", "40P01", True),
        ("permission denied for table runs", "42501", False),
        ("connection to server failed: FATAL:  the database system is starting up", None, True),
        ('connection failed: FATAL:  password authentication failed for user "ann"', None, False),
        ('connection failed: FATAL:  database "runs" does not exist', None, False),
    ],
)
def test_one_answer_for_postgresql_by_its_state(words: str, state: str | None, may_pass: bool) -> None:
    for explains in (partial(explain, "postgresql://ann:secret@there/runs"), None):
        with pytest.raises(TrackingError) as raised, asking(explains):
            raise OperationalError("SELECT", {}, Postgres(words, state))
        assert raised.value.may_pass == may_pass and "secret" not in str(raised.value)


def test_a_statement_that_a_database_cannot_take_is_refused() -> None:
    with pytest.raises(StoreRefuses), asking(partial(explain, "postgresql://there/runs")):
        raise DataError("INSERT", {}, Postgres("value too long", "22001"))


@pytest.mark.parametrize("number", [28, 5, 30])  # ENOSPC, EIO, EROFS
def test_a_disk_is_waited_for_once_the_store_was_open(number: int) -> None:
    with pytest.raises(StoreAway, match=os.strerror(number)), asking():
        raise OSError(number, os.strerror(number))


def test_a_defect_is_no_store_that_is_away() -> None:
    with pytest.raises(StoreRefuses, match="KeyError: 'x'"), asking():
        {}["x"]
