"""The launcher that runs each job of a sweep as a task of Ray's: hydra/launcher=ray

The launcher of lanes does the same with each group of them, and with the jobs that are no lanes.
"""

import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction

from hydra_plugins.shrinkage.jobs import SweepLauncher, as_job_return, run
from shrinkage.errors import InputError
from shrinkage.runs.folder import RunLocation
from shrinkage.sweeps.compose import Composer

if TYPE_CHECKING:
    from hydra_plugins.shrinkage.jobs import Group
    from shrinkage.fit_lanes import Outcome
    from shrinkage.training.sharing import CannotShare


log = logging.getLogger(__name__)


class RayLauncher(SweepLauncher):
    """The launcher of hydra/launcher=ray.

    address: of a cluster, None for this machine's cores. num_cpus and num_gpus: what a job takes of them.
    """

    def __init__(self, address: str | None, num_cpus: float, num_gpus: float) -> None:
        self.address, self.resources = address, {"num_cpus": num_cpus, "num_gpus": num_gpus}

    def run_jobs(self, numbered: dict[int, list[str]], folder: Path) -> list[JobReturn]:
        with joined(self.address, folder, self.resources):
            return list(run_each(self.hydra_context, self.task_function, self.composer, numbered, self.resources))


@contextmanager
def joined(address: str | None, folder: Path, resources: Mapping[str, float]) -> Generator[None]:
    """Join a cluster that can do a sweep's work. Bad input is refused in one line."""
    from shrinkage.boundary import job_in_one_line

    with job_in_one_line():
        try:
            from shrinkage.sweeps import cluster
        except ModuleNotFoundError:
            raise InputError(
                "hydra/launcher: Ray is not installed; use pip install 'shrinkage[ray]', or leave it out"
            ) from None
        with cluster.joined(address, folder, resources):
            yield


def run_each(
    context: HydraContext,
    task_function: TaskFunction,
    composer: Composer,
    numbered: Mapping[int, list[str]],
    resources: Mapping[str, float],
) -> Iterator[JobReturn]:
    """Run the jobs of these overrides side by side; yields what they come to, in their order."""
    from shrinkage.sweeps import cluster

    singletons = Singleton.get_state()
    tasks = (
        (number, (context, composer.whole(overrides, number), task_function, singletons))
        for number, overrides in numbered.items()
    )
    done: dict[int, JobReturn | Exception] = {}
    for number, result in cluster.run_tasks(run, tasks, resources):
        done[number] = result
        log.info("\t#%d has ended, %d of %d", number, len(done), len(numbered))
    for number in numbered:
        yield as_job_return(done[number], numbered[number])


def train_groups(
    groups: Sequence["Group"], max_lanes: int | None, resources: Mapping[str, float]
) -> Iterator[tuple["Group", "list[Outcome] | CannotShare"]]:
    """Train groups of lanes as tasks; yields the outcomes of each part of a group, in the order in which they end."""
    from shrinkage.fit_lanes import Outcome
    from shrinkage.sweeps import cluster
    from shrinkage.training.sharing import CannotShare

    places = cluster.tasks_at_once(resources)
    parts = [part for group in groups for part in group.parts(max_lanes or -(-len(group.cfgs) // places))]
    tasks = enumerate((part.cfgs, part.places, max_lanes) for part in parts)
    ended = 0
    for number, result in cluster.run_tasks(train, tasks, resources):
        part = parts[number]
        ended += len(part.cfgs)
        log.info("\t%d of %d lanes have ended", ended, sum(len(group.cfgs) for group in groups))
        if isinstance(result, CannotShare):
            yield part, result
        elif isinstance(result, Exception):
            yield part, [Outcome(result) for _ in part.cfgs]
        else:
            yield part, [Outcome(told) for told in result]


def train(
    cfgs: Sequence[Mapping[str, Any]], places: Sequence[RunLocation], max_lanes: int | None
) -> list[float | Exception]:
    """Train lanes in the process of a worker; returns the loss of each, or what went wrong."""
    from shrinkage.fit_lanes import fit_lanes

    def told(outcome: "Outcome") -> float | Exception:
        try:
            return outcome.get()
        except Exception as error:
            return error

    return [told(outcome) for outcome in fit_lanes(cfgs, places, max_lanes)]
