"""Journals that earlier processes have left, and odd things among them: each stands for itself.

What can be delivered is, by `sync` and by the next run, into the experiment that it is meant for; every other thing is
named, and stays as it is.
"""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROUNDS, wait_for
from faults import FULL
from mlflow.tracking import MlflowClient

from shrinkage.runs.membership import Membership
from shrinkage.tracking.client import MOST_WRITERS, Client
from shrinkage.tracking.journal import Journal
from shrinkage.tracking.left_behind import orphans
from shrinkage.tracking.store import JOURNAL, open_store
from shrinkage.tracking.story import line_of
from shrinkage.tracking.sync import sync

pytestmark = pytest.mark.xdist_group("faults")


def leftover(home: Path, uri: str, number: int, experiment: str, adopt: str | None = None) -> Path:
    """The journal of a run that has FINISHED, of a process that has ended."""
    journals = home / "journals"
    journal = Journal.new(
        journals, f"run {number}", {}, adopt=adopt, decided=adopt is not None, store=uri, experiment=experiment
    )
    journal.params({"number": number})
    for step in range(random.randrange(1, 4)):
        journal.metrics({"val/loss": number / (step + 1)}, step)
    journal.end("FINISHED")
    header, *events = journal.path.read_bytes().splitlines(keepends=True)
    written = json.loads(header[9:])
    written["process"] |= {"started": "long ago"}
    journal.path.write_bytes(b"".join([line_of(written), *events]))
    return journal.path


def change(change: Callable[[dict], dict], at: int = 0) -> Callable[[Path], None]:
    """What changes one event of a journal, with a checksum that fits."""

    def changed(path: Path) -> None:
        lines = path.read_bytes().splitlines(keepends=True)
        lines[at] = line_of(change(json.loads(lines[at][9:])))
        path.write_bytes(b"".join(lines))

    return changed


def replace(path: Path, make: Callable[[Path], None]) -> None:
    path.unlink()
    make(path)


# What stays, with a word of what is said of it.
ODD: dict[str, tuple[str, Callable[[Path], None]]] = {
    "empty": ("damaged", lambda path: path.write_bytes(b"")),
    "garbage": ("damaged", lambda path: path.write_bytes(random.randbytes(5000))),
    "a first line that was cut": ("damaged", lambda path: path.write_bytes(path.read_bytes()[:100])),
    "a folder": ("Is a directory", lambda path: replace(path, Path.mkdir)),
    "a pipe": ("no file", lambda path: replace(path, os.mkfifo)),
    "a link in a circle": ("cannot be read", lambda path: replace(path, lambda path: path.symlink_to(path))),
    "without a store": ("'store'", change(lambda event: {k: v for k, v in event.items() if k != "store"})),
    "a process that is none": ("none of a journal", change(lambda event: event | {"process": {"pid": "x"}})),
    "of a newer version": ("newer version", change(lambda event: event | {"format": 99})),
    "an event of a newer version": ("event dream", change(lambda event: event | {"event": "dream"}, 1)),
    "a metric without a step": ("does not take it", change(lambda event: {"event": "metrics", "metrics": {}}, 2)),
}
# What is delivered all the same.
WHOLE: dict[str, Callable[[Path], None]] = {
    "as it was written": lambda path: None,
    "a field of a newer version": change(lambda event: event | {"colour": "blue"}),
    "without a format": change(lambda event: {k: v for k, v in event.items() if k != "format"}),
    "line ends of Windows": lambda path: path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n")),
    "a torn end": lambda path: path.write_bytes(path.read_bytes() + b'12345678 {"event": "resu'),
}
EXPERIMENTS = ("shrinkage", "another")


def left_behind(home: Path, uri: str, odd_ones: int) -> tuple[dict[str, str], dict[Path, str], Path]:
    """Journals in a random order: experiments of the whole ones by id, what is said of so many others, and one that was
    to become a run that is deleted by now.
    """
    kinds = [*WHOLE, *random.sample(list(ODD), odd_ones), *(["as it was written"] * random.randrange(5))]
    random.shuffle(kinds)
    whole, odd = {}, {}
    for number, kind in enumerate(kinds):
        experiment = random.choice(EXPERIMENTS)
        path = leftover(home, uri, number, experiment)
        if kind in WHOLE:
            WHOLE[kind](path)
            whole[path.stem] = experiment
        else:
            odd[path], make = ODD[kind]
            make(path)
    client = open_store(uri, "shrinkage", home / "mlartifacts").client
    gone = client.create_run("0").info.run_id
    client.log_param(gone, JOURNAL, (adopting := leftover(home, uri, 99, "shrinkage", adopt=gone)).stem)
    client.delete_run(gone)
    return whole, odd, adopting


def assert_each_in_its_experiment(uri: str, whole: dict[str, str]) -> None:
    client = MlflowClient(uri)
    for journal, experiment in whole.items():
        found = client.get_experiment_by_name(experiment).experiment_id
        (run,) = client.search_runs([found], f"tags.`{JOURNAL}` = '{journal}'")
        assert run.info.status == "FINISHED" and run.data.metrics["val/loss"] >= 0


@pytest.mark.parametrize("number", range(ROUNDS))
def test_sync_brings_in_what_it_can(number: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    whole, odd, adopting = left_behind(tmp_path, uri, len(ODD))
    before = {path: path.read_bytes() for path in odd if path.is_file()}
    assert sync([], uri, None) == 1
    errors = capfd.readouterr().err
    assert "Traceback" not in errors
    for path, words in odd.items():
        (said,) = [line for line in errors.splitlines() if path.name in line]
        assert words in said, said
    assert {path: path.read_bytes() for path in before} == before
    assert set((tmp_path / "journals").glob("*.journal")) == set(odd)  # the adopting one is a run of its own
    assert_each_in_its_experiment(uri, whole | {adopting.stem: "shrinkage"})


@pytest.mark.parametrize("number", range(ROUNDS))
def test_the_next_run_brings_in_what_it_can(number: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    whole, odd, adopting = left_behind(tmp_path, uri, len(ODD) if FULL else 4)  # it takes its time with each
    client = Client(uri, "shrinkage", tmp_path)
    client.wait_until_ready()
    wait_for(lambda: set((tmp_path / "journals").glob("*.journal")) == set(odd), 120)
    journal = client.begin("the next run", {}, folder=tmp_path / "run")
    journal.metrics({"val/loss": 1.0}, 0)
    client.end(journal, "FINISHED")
    assert client.wait_for(journal)
    client.writers = MOST_WRITERS  # no other one takes over
    client.process.stdin.close()
    client.process.wait()
    assert "python -m shrinkage.tracking.sync" in capfd.readouterr().err
    assert_each_in_its_experiment(uri, whole | {adopting.stem: "shrinkage", journal.id: "shrinkage"})


def test_many_leftovers_are_found_by_their_first_and_last_lines(tmp_path: Path) -> None:
    """However long a journal is: what lies between its first line and its last is not kept, nor taken apart."""
    path = leftover(tmp_path, "sqlite:///x.db", 0, "shrinkage")
    header, *events = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(header + b"\0" * 20_000_000 + b"\n" + b"".join(events))
    (story,) = orphans(tmp_path, "sqlite:///x.db")
    assert story.status == "FINISHED" and story.name == "run 0"


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_line_of_results_that_is_torn_is_passed_over(number: int, tmp_path: Path) -> None:
    """A job that is killed, or a full disk, may leave half a line; those before it and after it are read."""
    sweep = Membership(tmp_path, None)
    told = {
        "status": "FINISHED",
        "overrides": [],
        "params": {},
        "metrics": {},
        "tags": {},
        "run_id": None,
        "error": None,
    }

    def report(job: int) -> None:
        name = f"λ={job} \u2028\x85 \udcff"  # what other programs take for a line's end, and no UTF-8
        sweep.report(**told, name=name, folder=str(job), fingerprint=str(job))

    for job in range(3):
        report(job)
    path = tmp_path / "results.jsonl"
    whole, last, _ = path.read_bytes().rpartition(path.read_bytes().splitlines(keepends=True)[-1])
    path.write_bytes(whole + last[: random.randrange(len(last))])
    report(3)
    assert [result["folder"] for result in sweep.results()] == ["0", "1", "3"]
    assert {result["name"][-1] for result in sweep.results()} == {"\udcff"}
    assert next(sweep.ended()) == 3
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert [result["folder"] for result in sweep.results()] == ["0", "1", "3"]
