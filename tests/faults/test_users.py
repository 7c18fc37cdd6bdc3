"""Two users of one machine on one store: what one may not write it is told, and what both may is shared."""

import contextlib
import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shrinkage.errors import StoreRefuses
from shrinkage.tracking.journal import Journal
from shrinkage.tracking.left_behind import stories
from shrinkage.tracking.store import open_store

pytestmark = [
    pytest.mark.xdist_group("faults"),
    pytest.mark.skipif(os.geteuid() != 0, reason="to be another user needs root"),
]

NOBODY = 65534


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that all users may write into."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@contextlib.contextmanager
def another_user() -> Iterator[None]:
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def test_a_store_has_the_permissions_of_any_new_file(shared: Path) -> None:
    """SQLite itself lets its owner alone write a new file, whatever the umask says, and so no group shares it."""
    store = shared / "mlflow.db"
    with umask(0o002):
        opened = open_store(f"sqlite:///{store}", "shrinkage", shared / "mlartifacts")
    assert stat.filemode(store.stat().st_mode) == "-rw-rw-r--"
    opened.client.create_run(opened.experiment_id)
    for path in shared.glob("mlflow.db*"):
        os.chown(path, 0, NOBODY)  # the group that both are in
    os.setegid(NOBODY)
    try:
        with another_user(), contextlib.closing(sqlite3.connect(store)) as connection:
            connection.execute("UPDATE runs SET name = 'another'")
            connection.commit()
    finally:
        os.setegid(0)
    (run,) = opened.client.search_runs([opened.experiment_id])
    assert run.info.run_name == "another"


def test_a_store_that_this_user_may_not_write_is_refused_when_it_is_opened(shared: Path) -> None:
    uri = f"sqlite:///{shared}/mlflow.db"
    with umask(0o022):
        open_store(uri, "shrinkage", shared / "mlartifacts")
    for lock in (0o644, 0o666):
        Path(shared, "mlflow.db.lock").chmod(lock)
        with another_user(), pytest.raises(StoreRefuses, match=r"mlflow\.db.*choose another place with tracking\.uri="):
            open_store(uri, "shrinkage", shared / "mlartifacts")


def test_a_journal_of_another_user_is_left(shared: Path) -> None:
    journals = [Journal.new(shared, name, {}, store="sqlite:///x.db") for name in ("ours", "theirs")]
    os.chown(journals[1].path, NOBODY, NOBODY)
    told = {str(each) if isinstance(each, Exception) else each.name for each in stories(shared.glob("*.journal"))}
    assert "ours" in told and len(told) == 2
    assert any(f"belongs to user {NOBODY} and this is user 0" in words for words in told)
