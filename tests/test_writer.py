"""The writer, between journals and a real store."""

import sqlite3
import threading
import time
from pathlib import Path

from shrinkage.tracking.delivery import Delivery, passes
from shrinkage.tracking.journal import Journal
from shrinkage.tracking.store import open_store


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
            except Exception as error:  # what may pass is tried again, as the writer does
                if not passes(error):
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
