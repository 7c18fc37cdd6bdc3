"""The runs that are RUNNING in a store, and whether they do run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from shrinkage.machine.clock import now
from shrinkage.machine.process import Process
from shrinkage.tracking.left_behind import process_of
from shrinkage.tracking.story import Story

from .schema import Tables

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

PAGE = 1000
RUNNING = """SELECT r.run_uuid, r.name, r.start_time, t.key, t.value
             FROM runs r LEFT JOIN tags t
             ON t.run_uuid = r.run_uuid AND (t.key LIKE 'process.%' OR t.key = 'shrinkage.journal')
             WHERE r.status = 'RUNNING' AND r.lifecycle_stage = 'active' ORDER BY r.start_time"""


@dataclass(frozen=True)
class Running:
    """A run that is RUNNING in the store. began: milliseconds since 1970."""

    run_id: str
    name: str
    began: int
    tags: dict[str, str]

    @property
    def process(self) -> Process | None:
        """The process that the run's tags name; None where they name none."""
        return process_of(self.tags)[0]

    @property
    def heartbeat(self) -> int:
        """The last sign of life, in milliseconds since 1970."""
        return process_of(self.tags)[1] or self.began

    def state(self, journals: Mapping[str, Story]) -> Literal["alive", "dead", "waiting", "elsewhere", "unknown"]:
        """Tell whether the run does run: alive, dead, waiting, elsewhere or unknown.

        waiting: its process has died and its journal, which tells how it ended, is not in the store yet.
        """
        process = self.process
        journal = journals.get(self.tags.get("shrinkage.journal", ""))
        if journal is not None and journal.process.is_dead(journal.heartbeat):
            return "waiting"
        if journal is not None and journal.process.host == Process.this().host:
            return "alive"  # also where it was resumed, and its tags do not say so yet
        if process is None:
            return "unknown"
        if process.host != Process.this().host:
            return "elsewhere"
        return "dead" if process.is_dead(self.heartbeat) else "alive"

    @property
    def description(self) -> str:
        """The run's name, its host and its last sign of life."""
        on = f" on {self.process.host}" if self.process else ""
        sign = "last sign of life" if self.process else "begun"
        return f"{self.name or self.run_id[:8]}{on}, {sign} {ago(self.heartbeat)}"


def running(tables: Tables) -> list[Running]:
    """Read the runs that are RUNNING without MLflow, whose client would make tables where there are none."""
    if "runs" not in tables.columns():
        return []
    found: dict[str, Running] = {}
    for run_id, name, began, key, value in tables.rows(RUNNING):
        run = found.setdefault(run_id, Running(run_id, name, began or 0, {}))
        if key is not None:
            run.tags[key] = value
    return list(found.values())


def running_by(client: "MlflowClient") -> list[Running]:
    """Read the runs that are RUNNING through a client."""
    from shrinkage.tracking.read import pages

    experiments = list(pages(lambda token: client.search_experiments(max_results=PAGE, page_token=token)))
    ids = [experiment.experiment_id for experiment in experiments]
    if not ids:
        return []
    condition = "attributes.status = 'RUNNING'"
    found = pages(lambda token: client.search_runs(ids, condition, max_results=PAGE, page_token=token))
    infos = ((run.info, run.data.tags) for run in found)
    return [Running(info.run_id, info.run_name or info.run_id, info.start_time, tags) for info, tags in infos]


def ago(milliseconds: int) -> str:
    """Say how long ago a moment was, in the largest unit that fits."""
    seconds = max(0, (now() - milliseconds) // 1000)
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if count := seconds // size:
            return f"{count} {unit}{'s' * (count > 1)} ago"
    return f"{seconds} s ago"
