"""The writer, between journals and a real store."""

import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from unittest import mock

import pytest

from shrinkage.errors import TrackingError
from shrinkage.machine import clock
from shrinkage.machine.process import Process
from shrinkage.tracking import store as stores
from shrinkage.tracking.delivery import Delivery
from shrinkage.tracking.journal import Journal
from shrinkage.tracking.left_behind import end_the_dead
from shrinkage.tracking.store import JOURNAL, open_store


def test_writers_that_bring_one_data_set_at_once_all_succeed(tmp_path: Path, store: Path) -> None:
    opened = open_store(f"sqlite:///{store}", "shrinkage", tmp_path / "mlartifacts")
    journals = [Journal.new(tmp_path, f"run {number}", {}) for number in range(6)]
    deliveries = [Delivery(opened, journal.path, fresh=True) for journal in journals]
    for delivery in deliveries:
        delivery.carry()
    together = threading.Barrier(len(deliveries))
    errors: list[Exception] = []

    def carry(delivery: Delivery) -> None:
        together.wait()
        for _ in range(20):
            try:
                delivery.carry()
                return
            except TrackingError as error:  # what may pass is tried again, as the writer does
                if not error.may_pass:
                    errors.append(error)
                    return
                time.sleep(0.1)
        errors.append(RuntimeError("it did not pass"))

    for digest in range(8):
        for journal in journals:
            journal.append("dataset", name="d2l", digest=str(digest), context="training", source={}, profile={})
        threads = [threading.Thread(target=carry, args=(delivery,)) for delivery in deliveries]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
    with sqlite3.connect(store) as connection:
        assert connection.execute("SELECT count(*) FROM datasets").fetchone() == (8,)
        assert connection.execute("SELECT count(*) FROM inputs WHERE source_type = 'DATASET'").fetchone() == (48,)


def test_who_ends_a_dead_run_looks_whether_others_have_begun_to_deliver_it(tmp_path: Path, store: Path) -> None:
    """The writer of a killed process, to which its journal is new, after the next run has been at it."""
    opened = open_store(f"sqlite:///{store}", "shrinkage", tmp_path / "mlartifacts")
    journal = Journal.new(tmp_path, "a run", {})
    Delivery(opened, journal.path, fresh=False).carry()
    Delivery(opened, journal.path, fresh=True).end("KILLED", clock.now())
    (run,) = opened.client.search_runs([opened.experiment_id])
    assert run.info.status == "KILLED"


def test_a_run_is_found_among_more_experiments_than_one_answer_holds(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "EXPERIMENTS_A_PAGE", 2)
    opened = open_store(f"sqlite:///{store}", "shrinkage", tmp_path / "mlartifacts")
    for number in range(4):
        opened.client.create_experiment(f"another {number}")
    run = opened.client.create_run("0", tags={JOURNAL: "7"}).info.run_id
    assert opened.find("7").info.run_id == run and opened.find("8") is None


def test_a_run_that_ends_while_the_dead_are_looked_for_is_not_one_of_them(tmp_path: Path) -> None:
    """Its process has ended, and well, between the list of running runs and the look at its process."""
    store = open_store(f"sqlite:///{tmp_path}/mlflow.db", "shrinkage", tmp_path / "mlartifacts")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    gone = {**asdict(Process.this()), "pid": ended.pid, "heartbeat": 0}
    tags = {f"process.{name}": str(value) for name, value in gone.items()}
    well, badly = (store.client.create_run(store.experiment_id, tags=tags).info.run_id for _ in range(2))
    listed = store.client.search_runs([store.experiment_id])
    store.client.set_terminated(well, "FINISHED")
    with mock.patch.object(store.client, "search_runs", return_value=listed):
        assert end_the_dead(store, tmp_path) == [badly]
    assert [store.client.get_run(run).info.status for run in (well, badly)] == ["FINISHED", "KILLED"]
