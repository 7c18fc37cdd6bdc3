"""`MLFLOW_RUN_ID`: which run becomes the one that it names, and that no other run is ever changed."""

import functools
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import mlflow
import pytest
from conftest import ROOT, mlflow_at, train_here
from mlflow.entities import Dataset, DatasetInput, Metric, Param, Run, RunTag
from mlflow.projects.utils import get_or_create_run
from mlflow.tracking import MlflowClient

from shrinkage.tracking import adoption
from shrinkage.tracking import client as clients
from shrinkage.tracking.client import Client
from shrinkage.tracking.delivery import Delivery
from shrinkage.tracking.journal import NOT_ADOPTED, Journal
from shrinkage.tracking.store import JOURNAL, Store, open_store
from shrinkage.tracking.story import Reader

pytestmark = pytest.mark.xdist_group("adoption")

OURS = {"data": "d2l", "lambd": "3.0", "penalty.mode": "prox"}  # the params of the runs that begin here


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("store")
    with mlflow_at(f"sqlite:///{folder}/mlflow.db"):  # for `mlflow_run`
        yield open_store(f"sqlite:///{folder}/mlflow.db", "shrinkage", folder / "mlartifacts")


def empty(store: Store) -> str:
    """As `MlflowClient().create_run` leaves it."""
    return store.client.create_run("0").info.run_id


def mlflow_run(store: Store, **parameters: str) -> str:
    """As `mlflow run` leaves it when it starts the command: made by the same function."""
    return get_or_create_run(None, str(ROOT), "0", str(ROOT), None, "main", parameters).info.run_id


def with_(store: Store, **content: list) -> str:
    run = empty(store)
    store.client.log_batch(run, **content)
    return run


def with_a_metric(store: Store) -> str:
    run = mlflow_run(store)
    store.client.log_metric(run, "val/loss", 0.5)
    return run


def with_data(store: Store) -> str:
    run = empty(store)
    store.client.log_inputs(run, datasets=[DatasetInput(Dataset("houses", "1", "local", "{}"))])
    return run


def with_a_model(store: Store) -> str:
    run = empty(store)
    model = store.client.create_logged_model(store.experiment_id, source_run_id=run)
    store.client.log_outputs(run, [mlflow.entities.LoggedModelOutput(model.model_id, 0)])
    return run


def ended(make: Callable[[Store], str], status: str) -> Callable[[Store], str]:
    def make_and_end(store: Store) -> str:
        run = make(store)
        store.client.set_terminated(run, status)
        return run

    return make_and_end


def deleted(store: Store) -> str:
    run = empty(store)
    store.client.delete_run(run)
    return run


def taken(store: Store) -> str:
    return with_(store, tags=[RunTag(JOURNAL, "another's")])


# What MLFLOW_RUN_ID names, and why a run that begins does not become it; None where it does.
NAMED = {
    "made by hand": (empty, None),
    "mlflow run": (mlflow_run, None),
    "mlflow run, with the λ of this run": (functools.partial(mlflow_run, lambd="3"), None),
    "made by hand, with a description": (lambda store: with_(store, tags=[RunTag("mlflow.note.content", "hi")]), None),
    "made by hand, with the machine's metrics": (
        lambda store: with_(store, metrics=[Metric("system/cpu", 1, 2, 3)]),
        None,
    ),
    "mlflow run, with another λ than this run has": (functools.partial(mlflow_run, lambd="1"), "says lambd=1"),
    "mlflow run, which has logged by itself": (with_a_metric, r"has metrics already \(val/loss\)"),
    "params by hand": (lambda store: with_(store, params=[Param("lambd", "3.0")]), r"has params already \(lambd\)"),
    "tags by hand": (lambda store: with_(store, tags=[RunTag("team", "blue")]), r"has tags already \(team\)"),
    "data": (with_data, r"has data sets already \(houses\)"),
    "a model": (with_a_model, r"has models already \(m-"),
    "deleted": (deleted, "that run was deleted"),
    "another journal's": (taken, "another run records there"),
    "nothing": (lambda store: "0" * 32, "there is no such run in this store"),
    "no run's id": (lambda store: "../a b", "there is no such run in this store"),
}
ENDED = {
    f"ended {status}": (ended(empty, status), rf"has ended \({status}\)") for status in ("FINISHED", "FAILED", "KILLED")
}


def content(run: Run) -> tuple:
    """All that a store has of a run."""
    return run.to_dictionary()["info"], run.to_dictionary()["data"], run.inputs.to_dictionary()


def named(store: Store, run_id: str) -> tuple | None:
    return None if set(run_id) == {"0"} or "." in run_id else content(store.client.get_run(run_id))


def journal_of(folder: Path, adopt: str, decided: bool, params: dict[str, str] = OURS) -> Path:
    journal = Journal.new(folder, "l2 λ=3", {"overrides": "lambd=3"}, adopt=adopt, decided=decided)
    journal.params(params)
    journal.metrics({"val/loss": 0.25}, 1)
    journal.end("FINISHED")
    return journal.path


def deliver(store: Store, path: Path, told: list[str] | None = None) -> Run:
    """All of a journal, by somebody who knows nothing of earlier deliveries; a copy of it is left for others."""
    text = path.read_bytes()
    delivery = Delivery(
        Store(store.uri, store.client, store.experiment_id),
        path,
        fresh=False,
        said=lambda **said: told.append(said["note"]) if told is not None and "note" in said else None,
    )
    delivery.carry()
    assert delivery.closed
    path.write_bytes(text)
    return store.client.get_run(delivery.run_id)


def assert_ours(run: Run, run_id: str) -> None:
    assert run.info.status == "FINISHED" and run.info.run_name == "l2 λ=3"
    assert run.data.metrics["val/loss"] == 0.25 and run.data.params["penalty.mode"] == "prox"
    assert float(run.data.params["lambd"]) == 3 and run.data.tags["overrides"] == "lambd=3"
    assert (run.info.run_id == run_id) == (NOT_ADOPTED not in run.data.tags)


@pytest.mark.parametrize("what", [*NAMED, *ENDED])
def test_which_run_may_be_adopted_when_training_begins(what: str, opened: Store) -> None:
    make, why = (NAMED | ENDED)[what]
    run_id = make(opened)
    before = named(opened, run_id)
    objection = adoption.refuse_at_start(opened.client, run_id, OURS)
    if why is None:
        assert objection is None
    else:
        assert objection.startswith(f"MLFLOW_RUN_ID={run_id}: ") and objection.endswith("; so this is a run of its own")
        assert re.search(why, objection), objection
    assert named(opened, run_id) == before  # to ask changes nothing


@pytest.mark.parametrize("has_ended", [False, True])
@pytest.mark.parametrize("what", NAMED)
def test_where_the_store_could_not_be_asked_the_delivery_asks(
    what: str, has_ended: bool, opened: Store, tmp_path: Path
) -> None:
    """A run that has ended is taken as one that is running: `mlflow run` ends its run with the process."""
    make, why = NAMED[what]
    run_id = make(opened)
    if has_ended and what not in ("nothing", "no run's id", "deleted"):
        opened.client.set_terminated(run_id)
    before, told = named(opened, run_id), []
    path = journal_of(tmp_path, run_id, decided=False)
    (one, two) = (deliver(opened, path, told) for _ in range(2))
    assert_ours(one, run_id)
    assert content(one) == content(two)
    if why is None:
        assert one.info.run_id == run_id and told == []
    else:
        assert one.info.run_id != run_id and named(opened, run_id) == before
        assert re.search(why, one.data.tags[NOT_ADOPTED]) and told == [one.data.tags[NOT_ADOPTED]]


@pytest.mark.parametrize("status", ["RUNNING", "FINISHED", "FAILED", "KILLED"])
@pytest.mark.parametrize("more", [False, True])
def test_what_was_decided_is_done_whatever_has_become_of_the_run(
    status: str, more: bool, opened: Store, tmp_path: Path
) -> None:
    run_id = mlflow_run(opened, lambd="3")
    path = journal_of(tmp_path, run_id, decided=True)
    if more:
        opened.client.set_tag(run_id, "team", "blue")
        opened.client.log_metric(run_id, "seconds", 7)
    if status != "RUNNING":
        opened.client.set_terminated(run_id, status)
    for run in (deliver(opened, path), deliver(opened, path)):
        assert_ours(run, run_id)
        assert run.info.run_id == run_id and run.data.params["lambd"] == "3"


@pytest.mark.parametrize("what", ["deleted", "another journal's", "nothing"])
def test_what_was_decided_yields_where_the_run_is_gone(what: str, opened: Store, tmp_path: Path) -> None:
    make, why = NAMED[what]
    run_id = make(opened)
    before = named(opened, run_id)
    run = deliver(opened, journal_of(tmp_path, run_id, decided=True))
    assert_ours(run, run_id)
    assert re.search(why, run.data.tags[NOT_ADOPTED]) and named(opened, run_id) == before


def test_a_journal_without_a_decision_is_delivered_as_if_nobody_could_be_asked(opened: Store, tmp_path: Path) -> None:
    """As earlier versions wrote them: one whose run was adopted before goes on there, though it holds all of it now."""
    run_id = mlflow_run(opened)
    path = journal_of(tmp_path, run_id, decided=False)
    (header, *_) = Reader(path).events()
    del header["decided"]
    lines = path.read_bytes().splitlines(keepends=True)
    again = Journal(path, header["id"])
    path.write_bytes(b"")
    again.append(header.pop("event"), **header)
    path.write_bytes(path.read_bytes() + b"".join(lines[1:]))
    run = deliver(opened, path)
    assert run.info.run_id == run_id
    assert content(deliver(opened, path)) == content(run)
    # So it left its run: with the journal's tag and no param.
    older = with_a_metric(opened)
    opened.client.set_tag(older, JOURNAL, "7" * 32)
    again = Journal(tmp_path / "older.journal", "7" * 32)
    again.append("run", **header | {"id": "7" * 32, "adopt": older})
    again.end("FINISHED")
    assert deliver(opened, again.path).info.run_id == older


class Dies(BaseException):
    """The process that delivers is killed."""


class Mortal:
    """A client of a store that dies at a call, before it is made or when it has been served."""

    def __init__(self, client: MlflowClient, last: int, after: bool) -> None:
        self.client, self.left, self.after = client, last, after

    def __getattr__(self, name: str) -> Callable:
        def call(*arguments: object, **named: object) -> object:
            self.left -= 1
            if self.left < 0 and not self.after:
                raise Dies
            answer = getattr(self.client, name)(*arguments, **named)
            if self.left < 0:
                raise Dies
            return answer

        return call


@pytest.mark.parametrize(
    ("what", "decided"),
    [
        ("mlflow run", False),
        ("ended mlflow run", False),
        ("ended mlflow run", True),
        ("mlflow run, which has logged by itself", False),
    ],
)
def test_a_delivery_that_dies_at_any_call_is_taken_up_by_another(
    what: str, decided: bool, opened: Store, tmp_path: Path
) -> None:
    """What is in the store then is what one delivery leaves: one run, on the run that was decided."""
    make = ended(mlflow_run, "FINISHED") if what.startswith("ended") else NAMED[what][0]
    adopted = decided or what != "mlflow run, which has logged by itself"
    for after in (False, True):
        for last in range(100):
            run_id = make(opened)
            path = journal_of(tmp_path, run_id, decided)
            before = named(opened, run_id)
            mortal = Store(opened.uri, Mortal(opened.client, last, after), opened.experiment_id)
            try:
                Delivery(mortal, path, fresh=last % 2 == 0).carry()
                break
            except Dies:
                run = deliver(opened, path)
            assert_ours(run, run_id)
            assert (run.info.run_id == run_id) == adopted
            assert adopted or named(opened, run_id) == before
            found = opened.client.search_runs(["0", opened.experiment_id], f"tags.`{JOURNAL}` = '{path.stem}'")
            assert [each.info.run_id for each in found] == [run.info.run_id]
        assert last >= 4


def test_of_many_that_claim_a_run_at_once_one_has_it(opened: Store, tmp_path: Path) -> None:
    for _ in range(5):
        run_id = mlflow_run(opened)
        paths = [journal_of(tmp_path, run_id, decided=True) for _ in range(4)]
        together = threading.Barrier(len(paths))
        found: dict[Path, Run] = {}

        def carry(path: Path, together: threading.Barrier, found: dict[Path, Run]) -> None:
            together.wait()
            found[path] = deliver(opened, path)

        threads = [threading.Thread(target=carry, args=(path, together, found)) for path in paths]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (first,) = [path for path, run in found.items() if run.info.run_id == run_id]
        assert opened.client.get_run(run_id).data.tags[JOURNAL] == first.stem
        for path, run in found.items():
            assert_ours(run, run_id)
            assert content(deliver(opened, path)) == content(run)
        assert len({run.info.run_id for run in found.values()}) == len(paths)


def test_a_claim_that_comes_second_is_refused_though_the_run_was_free_when_it_was_looked_at(opened: Store) -> None:
    run_id = empty(opened)
    assert adoption.claim(opened.client, run_id, "a") is None
    assert adoption.claim(opened.client, run_id, "a") is None
    assert adoption.claim(opened.client, run_id, "b") == "another run records there"


def begun(store: Store, folder: Path) -> Client:
    """A client whose writer has opened the store, which may take longer here than training waits for it."""
    client = Client(store.uri, "shrinkage", folder)
    while not client.is_ready:
        client.hear(60)
    return client


def close(client: Client) -> None:
    """Its writer ends, and no other one takes over."""
    client.writers = clients.MOST_WRITERS
    client.process.stdin.close()


def header(path: Path) -> dict:
    return next(Reader(path).events())


def test_a_run_says_in_its_first_line_what_was_decided(
    opened: Store, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """And on standard error where it is one of its own. The writer is asked, and not waited for where there is none."""
    client = begun(opened, tmp_path)
    journals = {}
    for name, run_id in {"running": mlflow_run(opened), "ended": ended(mlflow_run, "FINISHED")(opened)}.items():
        journals[name] = client.begin("a run", {"a": "b"}, params=OURS, adopt=run_id, folder=tmp_path / name)
        told, found = capsys.readouterr().err, header(journals[name].path)
        objection = f"MLFLOW_RUN_ID={run_id}: that run has ended (FINISHED); so this is a run of its own"
        if name == "running":
            assert found["adopt"] == run_id and found["decided"] and found["tags"] == {"a": "b"} and told == ""
        else:
            assert found["adopt"] is None and found["tags"] == {"a": "b", NOT_ADOPTED: objection}
            assert told == f"note: {objection}\n"
    for journal in journals.values():
        client.end(journal, "FINISHED")
        assert client.wait_for(journal)
    close(client)
    offline = Client(opened.uri, "shrinkage", tmp_path, offline=True)
    found = header(offline.begin("a run", {}, adopt=mlflow_run(opened), folder=tmp_path).path)
    assert found["adopt"] is not None and not found["decided"]


def test_the_one_that_comes_second_hears_of_it_when_its_record_is_delivered(
    opened: Store, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run_id = mlflow_run(opened)
    both = [begun(opened, tmp_path) for _ in range(2)]
    for client in both:
        assert client.ask_to_adopt(run_id, OURS) and client.adoptions[run_id] is None
    # Both have been told that they may; neither is in the store yet.
    journals = [Journal.new(tmp_path / "journals", "a run", {}, adopt=run_id, decided=True) for _ in both]
    for client, journal in zip(both, journals, strict=True):
        client.follow(journal)
        client.end(journal, "FINISHED")
    for client, journal in zip(both, journals, strict=True):
        assert client.wait_for(journal)
        close(client)
    first, second = (client.opened[journal.id]["run_id"] for client, journal in zip(both, journals, strict=True))
    assert (first == run_id) != (second == run_id)
    objection = f"MLFLOW_RUN_ID={run_id}: another run records there; so this is a run of its own"
    assert capsys.readouterr().err == f"note: {objection}\n"


def tracked(store: Store, folder: Path, *arguments: str) -> CompletedProcess:
    return train_here("tracking=mlflow", f"tracking.uri={store.uri}", "progress=false", *arguments, cwd=folder)


def test_training_under_a_run_that_has_ended_leaves_it_as_it_is(
    opened: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = opened.client.create_run("0", run_name="houses at λ=1").info.run_id
    opened.client.log_batch(run_id, params=[Param("lambd", "1"), Param("data", "table")])
    opened.client.set_terminated(run_id)
    before = named(opened, run_id)
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    known = {run.info.run_id for run in opened.client.search_runs([opened.experiment_id])}
    done = tracked(opened, tmp_path, "lambd=0", "trainer.max_epochs=1")
    assert done.returncode == 0, done.stderr
    objection = f"MLFLOW_RUN_ID={run_id}: that run has ended (FINISHED); so this is a run of its own"
    assert [line for line in done.stderr.splitlines() if "MLFLOW_RUN_ID" in line] == [f"note: {objection}"]
    (run,) = [run for run in opened.client.search_runs([opened.experiment_id]) if run.info.run_id not in known]
    assert run.data.params["lambd"] == "0" and run.data.params["data"] == "d2l"
    assert run.data.tags[NOT_ADOPTED] == objection
    assert named(opened, run_id) == before


def test_a_sweep_is_adopted_by_its_parent_alone_and_a_second_one_is_not(
    opened: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, experiments = mlflow_run(opened, lambd="0,1"), ["0", opened.experiment_id]
    known = {run.info.run_id for run in opened.client.search_runs(experiments)}
    parents = []
    for _ in range(2):
        monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
        done = tracked(opened, tmp_path, "lambd=0,1", "trainer.max_epochs=1", "hydra/launcher=lanes", "-m")
        assert done.returncode == 0, done.stderr
        made = [run for run in opened.client.search_runs(experiments) if run.info.run_id not in known]
        known |= {run.info.run_id for run in made}
        (parent,) = {run.data.tags["mlflow.parentRunId"] for run in made if "mlflow.parentRunId" in run.data.tags}
        parents.append(parent)
        assert len(made) == (2 if parent == run_id else 3)
        assert ("MLFLOW_RUN_ID" in done.stderr) == (parent != run_id)
    assert parents[0] == run_id != parents[1]
    assert "that run has ended (FINISHED)" in opened.client.get_run(parents[1]).data.tags[NOT_ADOPTED]


def test_an_adopted_run_that_goes_on_stays_itself(opened: Store, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """With the same MLFLOW_RUN_ID without a word; with another's, which is left alone, with one."""
    run_id, other = empty(opened), empty(opened)
    before = named(opened, other)
    client = begun(opened, tmp_path)
    folder = tmp_path / "run"
    folder.mkdir()
    journal = client.begin("a run", {}, params=OURS, adopt=run_id, folder=folder)
    client.end(journal, "KILLED")
    for adopt in (run_id, other):
        assert client.wait_for(journal)
        assert opened.client.get_run(run_id).info.status == "KILLED"
        journal = client.resume(folder / "run.journal", adopt)
        client.end(journal, "KILLED")
    assert client.wait_for(journal)
    close(client)
    assert capsys.readouterr().err == f"note: MLFLOW_RUN_ID={other}: a run that goes on stays the run that it is\n"
    assert named(opened, other) == before
    found = opened.client.search_runs(["0", opened.experiment_id], f"tags.`{JOURNAL}` = '{journal.id}'")
    assert [run.info.run_id for run in found] == [run_id]
