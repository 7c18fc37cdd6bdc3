"""The journal on the disk: whole lines only, each event once, nothing believed that was not written."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkage.errors import InputError
from shrinkage.machine import clock, disk
from shrinkage.machine.process import Process
from shrinkage.tracking.journal import Journal
from shrinkage.tracking.story import Reader, Story


def whole(folder: Path) -> Journal:
    journal = Journal.new(folder, "naïve λ", {"a": "b"})
    journal.params({"lambd": 3})
    for step in range(3):
        journal.metrics({"loss": step / 3}, step)
    journal.end("FINISHED")
    return journal


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[dict]]:
    journal = whole(tmp_path_factory.mktemp("journal"))
    return journal.path.read_bytes(), list(Reader(journal.path).events())


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("journal") / "x.journal"


def test_events_come_back_in_order_and_once(tmp_path: Path) -> None:
    journal = Journal.new(tmp_path, "l1 λ=3", {"a": "b"})
    reader = Reader(journal.path)
    assert [event["event"] for event in reader.events()] == ["run"]
    journal.params({"lambd": 3})
    journal.metrics({"val/loss": 0.5}, step=1)
    journal.end("FINISHED")
    params, metrics, end = reader.events()
    assert params["params"] == {"lambd": "3"} and metrics["step"] == 1 and end["status"] == "FINISHED"
    assert list(reader.events()) == []


def test_an_event_whose_handling_fails_comes_again(tmp_path: Path) -> None:
    reader = Reader(whole(tmp_path).path)
    for event in reader.events():
        if event["event"] == "params":
            break
    assert next(reader.events()) == event


@given(cut=st.integers(0, 1200))
@settings(max_examples=60, deadline=None)
def test_a_torn_line_is_left_until_it_is_whole(written: tuple[bytes, list[dict]], path: Path, cut: int) -> None:
    content, events = written
    path.write_bytes(content[:cut])
    reader = Reader(path)
    first = list(reader.events())
    assert first == events[: len(first)] and reader.damaged == 0
    path.write_bytes(content)
    assert first + list(reader.events()) == events


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_what_was_not_written_is_not_believed(
    written: tuple[bytes, list[dict]], path: Path, data: st.DataObject
) -> None:
    """Bytes that are flipped, cut out or put in leave events out; none comes back changed, or in another place."""
    content, events = written
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "put", "line"])):
            case "flip":
                damaged[at] ^= data.draw(st.integers(1, 255))
            case "cut":
                del damaged[at : at + data.draw(st.integers(1, 300))]
            case "put":
                damaged[at:at] = data.draw(st.binary(min_size=1, max_size=20))
            case "line":
                damaged[at:at] = b"\n"
        damaged = damaged or bytearray(b"x")
    path.write_bytes(bytes(damaged))
    found = list(Reader(path).events())
    remaining = iter(events)
    assert all(event in remaining for event in found)  # in order, and each at most once
    try:
        story = Story.of(path)
    except InputError as error:
        assert "damaged" in str(error) and "\n" not in str(error)
    else:
        assert story.name == "naïve λ" and story.status in ("FINISHED", "RUNNING")


def test_a_full_disk_holds_events_back_and_loses_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full says what a full disk says."""
    journal = Journal.new(tmp_path, "a run", {})
    path, journal.path = journal.path, Path("/dev/full")
    journal.metrics({"loss": 1.0}, 0)
    journal.metrics({"loss": 0.5}, 1)
    monkeypatch.setattr(disk, "SECONDS", 0.1)
    with pytest.raises(InputError, match=r"No space left on device.*, and the last 3 events"):
        journal.end("FINISHED")
    journal.path = path
    journal.write()
    assert [event["event"] for event in Reader(path).events()] == ["run", "metrics", "metrics", "end"]


def test_a_run_that_goes_on_tells_nothing_twice(tmp_path: Path) -> None:
    journal = Journal.new(tmp_path, "a run", {})
    journal.metrics({"loss": 1.0}, 0)
    journal.metrics({"loss": 0.5}, 1)
    with pytest.raises(InputError, match="still running"):  # in this process
        Journal.resumed(tmp_path, journal.path)
    journal.end("KILLED")
    with journal.path.open("ab") as file:
        file.write(b"00000000 {torn")
    again = Journal.resumed(tmp_path, journal.path)
    again.metrics({"loss": 0.5}, 1)
    again.metrics({"loss": 0.25}, 2)
    again.metrics({"loss": 0.5, "test/loss": 3.0}, 1)
    again.end("FINISHED")
    events = list(Reader(journal.path).events())
    assert [e["event"] for e in events] == ["run", "metrics", "metrics", "end", "resume", "metrics", "metrics", "end"]
    assert [e["metrics"] for e in events if e["event"] == "metrics"][2:] == [{"loss": 0.25}, {"test/loss": 3.0}]
    assert again.id == journal.id and Story.of(again.path).status == "FINISHED"


def test_a_process_is_dead_only_where_that_is_certain() -> None:
    this = Process.this()
    long_ago, just_now = 0, clock.now()
    assert not this.is_dead(long_ago)
    assert Process(this.host, this.pid, this.boot, "another start").is_dead(just_now)
    assert Process(this.host, 2**22 + 1, this.boot, "1").is_dead(just_now)
    assert not Process("another host", 2**22 + 1, this.boot, "1").is_dead(long_ago)
    assert not Process(this.host, 2**22 + 1, "before the machine was started", "1").is_dead(just_now)
    assert Process(this.host, this.pid, "before the machine was started", "1").is_dead(long_ago)


def test_secrets_stay_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shrinkage.machine import secrets

    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    monkeypatch.setenv("TOKEN_FILE", "/run/secrets/token")
    secrets.of_environment.cache_clear()
    try:
        uri = "postgresql://me:pass@word@db/runs?sslpassword=hidden"
        journal = Journal.new(tmp_path, "a hf_0123456789", {"overrides": f"tracking.uri={uri}"}, store=uri)
        journal.params({"tracking.uri": uri, "data.path": "/run/secrets/token", "api_key": "abcdefgh-key", "seed": 0})
        journal.tags({"error": "401 for hf_0123456789", "overrides": "+model.api_key=visible1 lambd=3"})
        assert secrets.masked("model:\n  password: visible2\n  api_key: null\nlambd: 3") == (
            "model:\n  password: ***\n  api_key: null\nlambd: 3"
        )
        tree = {"a": {"api_key": "visible3", "token": None}, "b": ["x=1", "secret=visible3"], "c": 3}
        assert secrets.masked_tree(tree) == {"a": {"api_key": "***", "token": None}, "b": ["x=1", "secret=***"], "c": 3}
        assert secrets.masked("postgresql://u:pa/ss@host/db") == "postgresql://***@host/db"
        assert secrets.masked("https://host/a?x=1 and b") == "https://host/a?x=1 and b"
        text = journal.path.read_text()
    finally:
        secrets.of_environment.cache_clear()
    assert not any(
        secret in text for secret in ("hf_0123456789", "me:pass", "word@db", "hidden", "abcdefgh", "visible1")
    )
    params = json.loads(text.splitlines()[1].partition(" ")[2])["params"]
    assert params == {
        "tracking.uri": "postgresql://***@db/runs?sslpassword=***",
        "data.path": "/run/secrets/token",
        "api_key": "***",
        "seed": "0",
    }
