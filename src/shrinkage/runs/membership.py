"""What a job knows of the sweep that it belongs to.

Jobs may run in other processes and any may die, so they and the sweep meet in a folder that one environment variable
names: `sweep.json` there has the parent run, every job adds a line to `results.jsonl` when it ends, and `progress` has
the last word of a job that takes long, `jobs` how many there will be, and `lambda_max` which of them begin a path.
"""

import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack, cast

from shrinkage.machine.disk import patiently
from shrinkage.names import as_json
from shrinkage.tracking.source import RunSummary

VARIABLE = "SHRINKAGE_SWEEP"
SWEEP, RESULTS = "sweep.json", "results.jsonl"
LINES_AT_ONCE = 1000  # of results that are read together


class Ending(TypedDict):
    """How a job ended, and which config it had."""

    status: str
    fingerprint: str


class Result(RunSummary, Ending):
    """A line of `results.jsonl`: a job's run as a report sees it, and what tells which job it was."""

    overrides: list[str]


class Changes(Ending):
    """What may change in a result when the store has the run."""

    run_id: str | None
    tags: dict[str, str]
    error: str | None


AnEnding = TypeVar("AnEnding", bound=Ending)


@dataclass(frozen=True)
class Membership:
    """The sweep that a job belongs to.

    folder: the sweep's own. parent: the id of the journal of the sweep's own run, None where nothing is tracked. times:
    how often the sweep has been begun. has_rows: whether its jobs are rows of a table, and no runs of their own.
    """

    folder: Path
    parent: str | None
    times: int = 1
    has_rows: bool = False

    @classmethod
    def of(cls, folder: Path) -> "Membership":
        """Read what a sweep has written of itself into its folder."""
        about = json.loads((folder / SWEEP).read_text(encoding="utf-8"))
        return cls(folder, about["parent"], about["times"], about.get("rows", False))

    @classmethod
    def of_this_job(cls) -> "Membership | None":
        """Find the sweep that this process works for; None for a single run."""
        folder = os.environ.get(VARIABLE)
        return cls.of(Path(folder)) if folder else None

    def announce(self, command: Sequence[str]) -> None:
        """Make this the sweep of every job that is started from now on.

        command: the overrides by which the sweep is known again.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        about = {"parent": self.parent, "times": self.times, "rows": self.has_rows, "command": list(command)}
        (self.folder / SWEEP).write_text(as_json(about), encoding="utf-8")
        os.environ[VARIABLE] = str(self.folder)

    def expect(self, jobs: int) -> None:
        """Note how many jobs there will be; a sweeper that knows calls this."""
        (self.folder / "jobs").write_text(str(jobs))

    def expected(self) -> int | None:
        """Tell how many jobs there will be; None where the sweeper decides as it goes, or has not begun."""
        path = self.folder / "jobs"
        return int(path.read_text()) if path.exists() else None

    def expect_at_lambda_max(self, fingerprints: Iterable[str]) -> None:
        """Note which runs, by their fingerprints, have the λ_max that their path begins at."""
        (self.folder / "lambda_max").write_text("\n".join(fingerprints))

    def is_at_lambda_max(self, fingerprint: str) -> bool:
        """Tell whether the run of this fingerprint has the λ_max that its path begins at."""
        path = self.folder / "lambda_max"
        return path.exists() and fingerprint in path.read_text().split()

    def tell(self, words: str) -> None:
        """Note how far this job has come; where several run at once, the last word counts."""
        (self.folder / "progress").write_text(words, encoding="utf-8")

    def read_progress(self) -> str:
        """Tell in words how far the jobs have come."""
        path = self.folder / "progress"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def forget_progress(self) -> None:
        """Remove the note of how far the jobs have come, once the sweep has ended."""
        (self.folder / "progress").unlink(missing_ok=True)

    def report(self, **result: Unpack[Result]) -> None:
        """Add how this job ended to the sweep's results. Raises InputError where a disk stays full.

        It is one write of one line, so that jobs may do it at the same moment.
        """
        self.append(result)

    def amend(self, folder: str, **changes: Unpack[Changes]) -> None:
        """Add what has changed of the last report on the run of a folder since that was made."""
        self.append({"folder": folder, **changes})

    def append(self, report: Mapping[str, object]) -> None:
        """Add a line to the reports. Raises InputError where a full disk has no room for it, after half a minute."""
        path = self.folder / RESULTS
        patiently(lambda: append_line(path, as_json(report).encode()), path)

    def results(self) -> list[Result]:
        """Read what the jobs have reported so far; of a run that was taken up again the last report.

        In a sweep that is begun again a job is known by its config: one that was stopped before it had a run has
        another folder when it FINISHES.
        """
        path = self.folder / RESULTS
        told: dict[str, dict[str, Any]] = {}
        texts: dict[str, str] = {}  # each once: runs of a sweep have nearly all of their params and tags in common
        if path.exists():
            with path.open("rb") as file:
                while lines := list(islice(file, LINES_AT_ONCE)):
                    for report in read_reports(lines):
                        for kind in ("params", "tags"):
                            if kind in report:
                                report[kind] = {name: texts.setdefault(v, v) for name, v in report[kind].items()}
                        told[report["folder"]] = told.get(report["folder"], {}) | report
        whole = [cast("Result", report) for report in told.values() if "status" in report]
        return self.drop_made_good(whole)

    def drop_made_good(self, last: Collection[AnEnding]) -> list[AnEnding]:
        """Drop the results of failed runs whose config has FINISHED in another folder.

        last: each folder's last result.
        """
        if self.times == 1:
            return list(last)
        done = {result["fingerprint"] for result in last if result["status"] == "FINISHED"}
        return [each for each in last if each["status"] == "FINISHED" or each["fingerprint"] not in done]

    def ended(self, hear: Callable[[Mapping[str, Any]], None] = lambda told: None) -> Iterator[int]:
        """Yield how many jobs have ended, again and again; each time only what is new is read.

        hear: is given each new line, as a job has told it.
        """
        path, place = self.folder / RESULTS, 0
        last: dict[str, Ending] = {}
        while True:
            if path.exists():
                with path.open("rb") as file:
                    file.seek(place)
                    for line in file:
                        if line.endswith(b"\n"):
                            place += len(line)
                            if "status" in (told := read_report(line) or {}):
                                last[str(told["folder"])] = {
                                    "status": told["status"],
                                    "fingerprint": told.get("fingerprint", ""),
                                }
                                hear(told)
            yield len(self.drop_made_good(last.values()))

    def finished(self) -> dict[str, Result]:
        """Find the results of jobs that had FINISHED before this sweep was begun again, by their fingerprints."""
        return {r["fingerprint"]: r for r in self.results() if r["status"] == "FINISHED"} if self.times > 1 else {}


def append_line(path: Path, line: bytes) -> None:
    """Append a line, in one write; where a crash or a full disk has left half a line, that one is ended before."""
    with path.open("ab+", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        is_torn = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
        left = b"\n" * is_torn + line + b"\n"
        while left:
            left = left[file.write(left) :]


def read_reports(lines: list[bytes]) -> list[dict[str, Any]]:
    """Read lines of results; those that are not whole, or not what a job has written, are left out.

    They are parsed as one array, in which equal names are one object in memory; line by line each would have its own.
    """
    with suppress(ValueError, RecursionError):
        together: list[Any] = json.loads(b"[" + b",".join(lines) + b"]")
        if lines[-1].endswith(b"\n") and len(together) == len(lines) and all(map(is_report, together)):
            return together
    return [told for line in lines if (told := read_report(line)) is not None]


def read_report(line: bytes) -> dict[str, Any] | None:
    """Read a line of results; None where it is not whole, or not what a job has written."""
    if not line.endswith(b"\n"):
        return None
    with suppress(ValueError, RecursionError):
        told: Any = json.loads(line)
        if is_report(told):
            return told
    return None


def is_report(told: Any) -> bool:
    """Tell whether a line that was read is one that a job has written, which names the job's folder."""
    return isinstance(told, dict) and isinstance(told.get("folder"), str)
