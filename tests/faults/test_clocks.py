"""Clocks that are wrong, or are set while a run goes on: the order of a record is its journal's."""

import json
import os
import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import ROUNDS

from shrinkage.machine import process
from shrinkage.machine.clock import now
from shrinkage.machine.process import SILENT_MILLISECONDS, Process, died
from shrinkage.tracking import journal as journals
from shrinkage.tracking.delivery import Delivery
from shrinkage.tracking.journal import Journal
from shrinkage.tracking.store import JOURNAL, open_store
from shrinkage.tracking.story import Reader, Story, line_of

YEAR = 365 * 24 * 3600 * 1000
JUMPS = (-YEAR, -3_600_000, -1000, 0, 1, 3_600_000, YEAR)


@pytest.fixture
def jumping(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A clock that is set to another time now and then; by it the others are read too."""
    shift = 0

    def clock() -> int:
        nonlocal shift
        shift += random.choice(JUMPS) if random.random() < 0.3 else 0
        return max(now() + shift, 1)

    for module in (journals, process):
        monkeypatch.setattr(module, "now", clock)
    yield


@pytest.mark.parametrize("ahead", [-YEAR, YEAR])
def test_a_heartbeat_that_is_none_of_now_keeps_no_run_alive(ahead: int) -> None:
    here = Process.this()
    of_another_boot = Process(here.host, here.pid, "another start of this machine", here.started)
    assert of_another_boot.is_dead(now() + ahead)
    assert not of_another_boot.is_dead(now() + random.randrange(-SILENT_MILLISECONDS, SILENT_MILLISECONDS) // 2)
    assert not here.is_dead(now() + ahead)  # which is certainly there
    assert now() - YEAR // 2 < died(now(), now() + ahead) <= now()


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_journal_keeps_its_order(number: int, tmp_path: Path, jumping: None) -> None:
    """A run that is resumed, with a clock that jumps: what was measured last is what the store has as the last."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    journal = Journal.new(tmp_path / "journals", "a run", {}, store=uri, experiment="shrinkage")
    journal.metrics({"loss": 3.0}, 1)
    journal.metrics({"loss": 2.0}, 2)
    content = journal.path.read_bytes()
    header = json.loads(content.splitlines()[0][9:])
    header["process"] |= {"started": "long ago"}  # it died
    journal.path.write_bytes(line_of(header) + content.partition(b"\n")[2])
    heartbeat = (max(now() + random.choice(JUMPS), 1)) * 1_000_000
    os.utime(journal.path, ns=(heartbeat, heartbeat))
    journal = Journal.resumed(tmp_path / "journals", journal.path)
    journal.metrics({"loss": 1.0}, 3)
    journal.replace({"loss": 2.5}, 3)  # early stopping has put earlier weights back
    journal.end("FINISHED")
    times = [event["time"] for event in Reader(journal.path).events()]
    assert all(earlier <= later for earlier, later in pairwise(times)), times
    store = open_store(uri, "shrinkage", tmp_path / "mlartifacts")
    Delivery(store, journal.path, fresh=True).carry()
    (run,) = store.client.search_runs([store.experiment_id], f"tags.`{JOURNAL}` = '{journal.id}'")
    assert run.info.status == "FINISHED" and run.data.metrics == {"loss": 2.5}
    assert run.info.start_time <= run.info.end_time


def test_a_dead_run_ends_after_what_it_did(tmp_path: Path) -> None:
    journal = Journal.new(tmp_path / "journals", "a run", {}, store="", experiment="shrinkage")
    journal.metrics({"loss": 3.0}, 1)
    for ahead in (-YEAR, YEAR):
        heartbeat = now() + ahead
        os.utime(journal.path, ns=(heartbeat * 1_000_000, heartbeat * 1_000_000))
        store = open_store(f"sqlite:///{tmp_path}/{ahead}.db", "shrinkage", tmp_path / "mlartifacts")
        copy = tmp_path / f"{ahead}.journal"
        copy.write_bytes(journal.path.read_bytes())
        Delivery(store, copy, fresh=False).end("KILLED", Story.of(journal.path).heartbeat)
        (run,) = store.client.search_runs([store.experiment_id])
        assert run.info.status == "KILLED" and journal.latest <= run.info.end_time <= now()
