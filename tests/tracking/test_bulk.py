"""Runs that have ended, written many at once: the rows are those of MLflow's API, whatever happens meanwhile."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
from conftest import ROOT, ROUNDS, has_postgresql
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, event, inspect

from shrinkage.errors import ShrinkageError
from shrinkage.machine import clock
from shrinkage.tracking import bulk as bulks
from shrinkage.tracking import writer as writers
from shrinkage.tracking.bulk import Bulk, batches, hindrance, open_bulk
from shrinkage.tracking.delivery import Delivery
from shrinkage.tracking.ended import TABLES, has_ended
from shrinkage.tracking.journal import Journal
from shrinkage.tracking.store import JOURNAL, Store, open_store
from shrinkage.tracking.writer import Writer
from shrinkage.training.ranks import free_port

TIME = 1_790_000_000_000


class Stopped(BaseException):
    """The process ends here."""


@dataclass
class Side:
    """One of two stores that are to come out the same, with its own copies of the journals."""

    store: Store
    folder: Path

    @property
    def journals(self) -> Path:
        return self.folder / "journals"

    def bulk(self) -> Bulk:
        found = open_bulk(self.store)
        assert found is not None
        return found

    def by_the_api(self, paths: list[Path]) -> None:
        for path in paths:
            with contextlib.suppress(ShrinkageError, FileNotFoundError):
                Delivery(self.store, path, fresh=False).end("KILLED", TIME)

    def by_bulk(self, paths: list[Path]) -> None:
        """As a writer does it: many at once, and what is left by the API."""
        self.bulk().carry(dict.fromkeys(paths, False))
        self.by_the_api(paths)

    def clear(self) -> None:
        with self.bulk().engine.begin() as connection:
            for table in reversed(TABLES):
                connection.exec_driver_sql(f"DELETE FROM {table}")
        self.store.found.clear()
        shutil.rmtree(self.journals, ignore_errors=True)
        self.journals.mkdir()

    def rows(self) -> dict[str, list[str]]:
        """All rows of all tables, with what is random by what it stands for."""
        engine = self.bulk().engine
        quote = engine.dialect.identifier_preparer.quote
        with engine.connect() as connection:

            def read(query: str) -> list[tuple]:
                return [tuple(row) for row in connection.exec_driver_sql(query)]

            contents = {name: read(f"SELECT * FROM {quote(name)}") for name in inspect(connection).get_table_names()}
            known = dict(read(f"SELECT run_uuid, value FROM tags WHERE key = '{JOURNAL}'"))
            known |= {
                uuid: f"{experiment}{name}{digest}"
                for uuid, experiment, name, digest in read(
                    "SELECT dataset_uuid, experiment_id, name, digest FROM datasets"
                )
            }
            inputs = read("SELECT input_uuid, source_id, destination_id FROM inputs")
            known |= {uuid: f"{known[source]} of {known[run]}" for uuid, source, run in inputs}
        known |= {str(self.folder): "home"}

        def plain(row: tuple) -> str:
            text = repr(row)
            for random, stands_for in known.items():
                text = text.replace(random, stands_for)
            return text

        runs = {name: sorted(map(plain, rows)) for name, rows in contents.items() if name not in ("experiments",)}
        artifacts = self.folder / "mlartifacts"
        files = sorted(
            f"{known.get(path.relative_to(artifacts).parts[1])} {path.name} {path.read_bytes()}"
            for path in artifacts.rglob("*")
            if path.is_file() and path.relative_to(artifacts).parts[1] in known
        )
        return runs | {"files": files}


@contextlib.contextmanager
def postgresql() -> Iterator[Callable[[str], str]]:
    """A database server of its own; yields what makes a database in it and says its address."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "deploy"))
        import server as deployed

        folder = Path(name)
        folder.chmod(0o711)
        settings = {"database_password": "open-sesame", "database_port": free_port()}
        deployed.make_database(folder, settings)

        def make(database: str) -> str:
            deployed.client(settings, "createdb", database)
            return deployed.address(settings, database)

        with deployed.database(folder, settings):
            yield make


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def sides(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    if request.param == "postgresql" and not has_postgresql():
        pytest.skip("needs the extra `server`, and PostgreSQL's programs")
    root, both = tmp_path_factory.mktemp("sides"), []
    (root / "there.txt").write_text("here")
    with contextlib.ExitStack() as stack:
        make = stack.enter_context(postgresql()) if request.param == "postgresql" else None
        for name in ("api", "bulk"):
            folder = root / name
            uri = f"sqlite:///{folder}/mlflow.db" if make is None else make(name)
            store = open_store(uri, "shrinkage", folder / "mlartifacts")
            both.append(Side(store, folder))
        yield both[0], both[1]
        for side in both:
            side.bulk().engine.dispose()


GOOD = ["val/loss", "train loss", "λ:1", "weight/l2", "a" * 250]
BAD = ["a//b", "/a", "..", "", "b" * 251, "semi;colon"]
numbers = st.one_of(
    st.sampled_from([float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 1.7976931348623157e308, 5e-324, 3, 2**60]),
    st.floats(),
)
texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8), st.sampled_from(["é" * 6001, "x" * 9000])
)


def names(is_bad: bool) -> st.SearchStrategy[str]:
    return st.sampled_from(GOOD + BAD if is_bad else GOOD)


@st.composite
def stories(draw: st.DrawFn) -> dict:
    """What a run tells, in its journal's order; one in six has something that MLflow refuses."""
    is_bad = draw(st.integers(0, 5)) == 0
    key = names(is_bad)
    metrics = st.tuples(st.integers(0, 3), st.integers(TIME, TIME + 2), st.dictionaries(key, numbers, max_size=4))
    dataset = st.tuples(st.sampled_from(["d2l", "δ"]), st.sampled_from(["1", "2"]), st.sampled_from(["train", "test"]))
    return {
        "name": draw(
            st.one_of(st.just("a run λ=3"), st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=260))
        ),
        "first_tags": draw(st.dictionaries(st.sampled_from(["kind", "mlflow.user", "a b"]), texts, max_size=3)),
        "events": draw(
            st.lists(
                st.one_of(
                    st.tuples(st.just("metrics"), metrics),
                    st.tuples(st.just("params"), st.dictionaries(key, texts, max_size=3)),
                    st.tuples(st.just("tags"), st.dictionaries(key, texts, max_size=3)),
                    st.tuples(st.just("dataset"), dataset),
                    st.tuples(st.just("artifact"), st.sampled_from(["there.txt", "gone.txt"])),
                ),
                max_size=8,
            )
        ),
        "many": draw(st.sampled_from([0, 0, 0, 1100])),  # points, more than MLflow takes at once
        "damaged": draw(st.booleans()),
        "end": draw(st.sampled_from(["FINISHED", "FAILED", "KILLED", "resumed", None])),
    }


def write(story: dict, folder: Path, parent: str | None) -> Journal:
    """The journal of a story."""
    journal = Journal.new(folder, story["name"], story["first_tags"], parent=parent, home=folder.parents[1])
    for what, told in story["events"]:
        match what:
            case "metrics":
                journal.append("metrics", step=told[0], time=told[1], metrics=told[2])
            case "dataset":
                journal.append("dataset", name=told[0], digest=told[1], context=told[2], source={"é": 1}, profile={})
            case "artifact":
                journal.append("artifact", path=str(folder.parents[1] / told), folder="figures")
            case _:
                journal.append(what, **{what: told})
    for number in range(story["many"]):
        journal.append("metrics", step=number, time=TIME, metrics={"val/loss": number / 7})
    if story["damaged"]:
        with journal.path.open("ab") as file:
            file.write(b'00000000 {"event": "tags"}\n')
    if story["end"] == "resumed":
        journal.append("end", status="KILLED", time=TIME + 5)
        journal.append("resume", time=TIME + 6, process={"pid": 1})
        journal.append("end", status="FINISHED", time=TIME + 7)
    elif story["end"] is not None:
        journal.append("end", status=story["end"], time=TIME + 5)
    return journal


def assert_same(one: Side, other: Side) -> None:
    """Every row of every table, as a multiset; what differs is named."""
    rows, others = one.rows(), other.rows()
    differing = {
        table: [sorted(set(rows[table]) - set(others[table])), sorted(set(others[table]) - set(rows[table]))]
        for table in rows.keys() | others.keys()
        if rows[table] != others[table]
    }
    assert not differing, json.dumps(differing, indent=1)[:3000]


@given(
    told=st.lists(stories(), min_size=1, max_size=3),
    existing=st.integers(0, 7),
    with_sweep=st.booleans(),
    stop=st.integers(0, 40),
)
@settings(
    max_examples=8 * ROUNDS,
    deadline=None,
    phases=[Phase.generate],  # to make a failure smaller takes minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_the_rows_are_those_of_the_api_however_often_and_wherever_it_stops(
    sides: tuple[Side, Side], told: list[dict], existing: int, with_sweep: bool, stop: int
) -> None:
    """existing: which runs the API has begun. stop: before what statement, file or move the process ends, once."""
    api, bulk = sides
    for side in sides:
        side.clear()
    parent = Journal.new(api.journals, "sweep", {}) if with_sweep else None
    journals = [write(story, api.journals, None if parent is None else parent.id) for story in told]
    for path in api.journals.iterdir():
        shutil.copy(path, bulk.journals / path.name)

    def copies(side: Side) -> list[Path]:
        return [side.journals / journal.path.name for journal in journals]

    if parent is not None:
        for side in sides:
            with contextlib.suppress(ShrinkageError):
                Delivery(side.store, side.journals / parent.path.name, fresh=False).carry()
    for number, journal in enumerate(journals):
        if existing >> number & 1:
            for side in sides:
                with contextlib.suppress(ShrinkageError):
                    Delivery(side.store, side.journals / journal.path.name, fresh=False).carry()
    kept = {path: path.read_bytes() for side in sides for path in copies(side) if path.exists()}
    api.by_the_api(copies(api))
    with stopping(bulk, stop), contextlib.suppress(Stopped):
        bulk.bulk().carry(dict.fromkeys([path for path in copies(bulk) if path.exists()], False))
    bulk.by_bulk([path for path in copies(bulk) if path.exists()])
    assert_same(bulk, api)
    assert [path.exists() for path in copies(bulk)] == [path.exists() for path in copies(api)]
    for first, second in ((Side.by_bulk, Side.by_bulk), (Side.by_the_api, Side.by_bulk)):
        for path, content in kept.items():
            path.write_bytes(content)
        first(api, copies(api))
        second(bulk, copies(bulk))
        assert_same(bulk, api)


@contextlib.contextmanager
def stopping(side: Side, at: int) -> Iterator[None]:
    """Raise Stopped before the statement, copied file or move of a journal that is the one of this number."""
    count = iter(range(10**9))
    engine = side.bulk().engine

    def step(*_: object, **__: object) -> None:
        if next(count) == at:
            raise Stopped

    def stepping(function):
        def stepped(*arguments):
            step()
            return function(*arguments)

        return stepped

    for name in ("before_cursor_execute", "commit"):
        event.listen(engine, name, step)
    try:
        with mock.patch.multiple(bulks, copy=stepping(bulks.copy), put_away=stepping(bulks.put_away)):
            yield
    finally:
        for name in ("before_cursor_execute", "commit"):
            event.remove(engine, name, step)


def test_other_tables_than_those_that_are_known_are_left_to_the_api(tmp_path: Path) -> None:
    """By a column more, a NOT NULL more, or another key; a deleted experiment and an active model's metrics, too."""
    store = open_store(f"sqlite:///{tmp_path}/mlflow.db", "shrinkage", tmp_path / "mlartifacts")
    found = open_bulk(store)
    assert found is not None
    for mended in (
        "ALTER TABLE params ADD COLUMN more TEXT",
        "CREATE TABLE params (key TEXT NOT NULL, value TEXT, run_uuid TEXT NOT NULL, PRIMARY KEY (key, run_uuid))",
        "CREATE TABLE params (key TEXT NOT NULL, value TEXT NOT NULL, run_uuid TEXT NOT NULL, PRIMARY KEY (key))",
    ):
        engine = create_engine(f"sqlite:///{tmp_path}/mlflow.db")
        with engine.connect() as connection:
            if mended.startswith("CREATE"):
                connection.exec_driver_sql("DROP TABLE params")
            connection.exec_driver_sql(mended)
            assert "params" in (hindrance(connection) or "")
    with mock.patch.dict("os.environ", MLFLOW_ACTIVE_MODEL_ID="m-1"):
        assert open_bulk(store) is None


def test_a_run_of_a_deleted_experiment_is_left_to_the_api(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/mlflow.db", "shrinkage", tmp_path / "mlartifacts")
    found = open_bulk(store)
    assert found is not None
    journal = Journal.new(tmp_path / "journals", "a run", {})
    journal.end("FINISHED")
    store.client.delete_experiment(store.experiment_id)
    assert found.carry({journal.path: True}) == [] and journal.path.exists()
    store.client.restore_experiment(store.experiment_id)
    (carried,) = found.carry({journal.path: True})
    assert carried.path == journal.path and not journal.path.exists()


def test_whether_a_journal_has_ended_is_told_by_its_last_line(tmp_path: Path) -> None:
    journal = Journal.new(tmp_path, "a run", {})
    journal.tags({"a": "x" * 9000})
    assert not has_ended(journal.path)
    journal.end("FINISHED")
    assert has_ended(journal.path)
    journal.append("resume", time=clock.now(), process={})
    assert not has_ended(journal.path)


def test_a_batch_is_bounded_by_its_runs_and_by_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / str(number) for number in range(250)]
    for path in paths:
        path.write_bytes(b"x" * 10)
    assert [len(batch) for batch in batches(paths)] == [100, 100, 50]
    monkeypatch.setattr(bulks, "BYTES", 25)
    assert [len(batch) for batch in batches(paths[:5])] == [2, 2, 1]


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    store = open_store(uri, "shrinkage", tmp_path)
    made = Writer({"uri": uri, "experiment": "shrinkage", "home": str(tmp_path), "errands": False})
    made.store, made.bulk = store, open_bulk(store)
    return made


def follow(writer: Writer, runs: int) -> list[Journal]:
    """Begin so many runs, which the writer is told of."""
    journals = [Journal.new(writer.home / "journals", f"run {number}", {}) for number in range(runs)]
    writer.followed |= {str(journal.path): True for journal in journals}
    return journals


def carry_many(writer: Writer) -> list[str]:
    """The journals that the writer delivers by the API when it has looked at all of them."""
    assert writer.store is not None and writer.bulk is not None
    return list(dict.fromkeys(writer.carry_many(list(writer.followed), True, writer.store, writer.bulk)))


def test_a_writer_that_finds_more_ended_runs_than_a_transaction_takes_carries_all_of_them(writer: Writer) -> None:
    for journal in follow(writer, 2 * bulks.RUNS + 1):
        journal.end("FINISHED")
    assert carry_many(writer) == []
    assert not writer.followed and not writer.complete and not list((writer.home / "journals").iterdir())


def test_of_many_runs_few_are_in_the_store_before_they_end(writer: Writer) -> None:
    """At once the first alone; four where they go on for long, and all where they go on for very long."""
    first = str(follow(writer, 9)[0].path)
    assert carry_many(writer) == [first]
    assert carry_many(writer) == [first]
    for seconds, live in ((writers.SOON_SECONDS, writers.MOST_LIVE), (writers.LIVE_SECONDS, 9)):
        writer.held = {path: since - seconds for path, since in writer.held.items()}
        assert len(carry_many(writer)) == live
    assert not writer.followed


def test_few_runs_are_in_the_store_at_once(writer: Writer) -> None:
    paths = [str(journal.path) for journal in follow(writer, writers.MOST_LIVE)]
    assert carry_many(writer) == paths


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_a_copied_artifact_is_the_file_with_its_mode_and_its_time(size: int, tmp_path: Path) -> None:
    source, folder = tmp_path / "a file", tmp_path / "artifacts" / "checkpoints"
    for content, mode in (
        (bytes(range(256)) * (size // 256 + 1), 0o640),
        (b"another", 0o444),
    ):  # the second replaces it
        source.unlink(missing_ok=True)
        source.write_bytes(content[:size])
        source.chmod(mode)
        os.utime(source, ns=(TIME, TIME * 1000))
        with source.open("rb") as file:
            bulks.copy(file.fileno(), folder, source.name)
        (copied,) = folder.iterdir()
        assert copied.read_bytes() == source.read_bytes() and copied.name == source.name
        theirs, ours = source.stat(), copied.stat()
        assert (theirs.st_mode, theirs.st_mtime_ns) == (ours.st_mode, ours.st_mtime_ns)
        assert theirs.st_ino != ours.st_ino
