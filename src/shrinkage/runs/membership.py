"""What a job knows of the sweep that it belongs to.

Jobs may run in other processes and any may die, so they and the sweep meet in a folder that one environment variable
names: `sweep.json` there has the parent run, every job adds a line to `results.jsonl` when it ends, and `progress` has
the last word of a job that takes long, `jobs` how many there will be, and `lambda_max` which of them begin a path.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "SHRINKAGE_SWEEP"
SWEEP, RESULTS = "sweep.json", "results.jsonl"


@dataclass(frozen=True)
class Membership:
    """The sweep that a job belongs to.

    folder: the sweep's own. parent: the id of the journal of the sweep's own run, None where nothing is tracked. times:
    how often the sweep has been begun.
    """

    folder: Path
    parent: str | None
    times: int = 1

    @classmethod
    def of(cls, folder: Path) -> "Membership":
        """Read what a sweep has written of itself into its folder."""
        about = json.loads((folder / SWEEP).read_text(encoding="utf-8"))
        return cls(folder, about["parent"], about["times"])

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
        about = {"parent": self.parent, "times": self.times, "command": list(command)}
        (self.folder / SWEEP).write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")
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

    def report(self, **result: object) -> None:
        """Add how this job ended to the sweep's results.

        It is one write of one line, so that jobs may do it at the same moment.
        """
        with (self.folder / RESULTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(result, ensure_ascii=False) + "\n")

    def results(self) -> list[dict]:
        """Read what the jobs have reported so far; of a run that was taken up again the last report.

        In a sweep that is begun again a job is known by its config: one that was stopped before it had a run has
        another folder when it FINISHES.
        """
        path = self.folder / RESULTS
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        told = [json.loads(line) for line in lines if line.endswith("\n")]
        return self.standing({result["folder"]: result for result in told})

    def standing(self, last: Mapping[str, dict]) -> list[dict]:
        """Drop the results of failed runs whose config has FINISHED in another folder.

        last: each folder's last result.
        """
        if self.times == 1:
            return list(last.values())
        done = {result["fingerprint"] for result in last.values() if result["status"] == "FINISHED"}
        return [each for each in last.values() if each["status"] == "FINISHED" or each["fingerprint"] not in done]

    def ended(self) -> Iterator[int]:
        """Yield how many jobs have ended, again and again; each time only what is new is read."""
        path, place, last = self.folder / RESULTS, 0, {}
        while True:
            if path.exists():
                with path.open("rb") as file:
                    file.seek(place)
                    for line in file:
                        if line.endswith(b"\n"):
                            place += len(line)
                            told = json.loads(line)
                            last[told["folder"]] = {key: told.get(key) for key in ("status", "fingerprint")}
            yield len(self.standing(last))

    def finished(self) -> dict[str, dict]:
        """Find the results of jobs that had FINISHED before this sweep was begun again, by their fingerprints."""
        return {r["fingerprint"]: r for r in self.results() if r["status"] == "FINISHED"} if self.times > 1 else {}
