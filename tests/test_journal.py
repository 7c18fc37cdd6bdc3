"""The journal on the disk: whole lines only, each event once."""

import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkage.tracking.journal import Journal, Reader


def test_events_come_back_in_order_and_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "l1 λ=3", {"a": "b"}, parent=None)
    reader = Reader(journal.path)
    assert [event["event"] for event in reader.events()] == ["run"]
    journal.params({"lambd": 3})
    journal.metrics({"val/loss": 0.5}, step=1)
    journal.end("FINISHED")
    params, metrics, end = reader.events()
    assert params["params"] == {"lambd": "3"} and metrics["step"] == 1 and end["status"] == "FINISHED"
    assert list(reader.events()) == []


@given(cut=st.integers(0, 400))
@settings(max_examples=40, deadline=None)
def test_a_torn_line_is_left_until_it_is_whole(tmp_path_factory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(folder, "naïve λ", {}, parent=None)
    for step in range(3):
        journal.metrics({"loss": step / 3}, step)
    journal.end("FINISHED")
    content = journal.path.read_bytes()
    whole = [json.loads(line) for line in content.splitlines()]
    torn = folder / "torn.jsonl"
    torn.write_bytes(content[: min(cut, len(content))])
    reader = Reader(torn)
    first = list(reader.events())
    assert first == whole[: len(first)]
    torn.write_bytes(content)
    assert first + list(reader.events()) == whole
