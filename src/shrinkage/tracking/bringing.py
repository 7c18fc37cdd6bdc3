"""Journals whose processes have ended are brought into the store, each into the experiment that it is meant for.

Each stands for itself: what keeps one out of the store is said of that one, and the others go on.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shrinkage.errors import InputError, ShrinkageError, StoreAway, StoreRefuses, TrackingError
from shrinkage.machine.secrets import masked

from .bulk import carry_ended, open_bulk
from .delivery import Delivery, Waiting
from .store import Store, open_store
from .story import Story

Says = Callable[..., None]  # hears what a delivery notes


@dataclass(frozen=True)
class Brought:
    """What became of a journal. error: why its run is not in the store, or not all of it; None where it is.

    lost: files that were gone. damaged: how many lines of it were no use.
    """

    story: Story
    error: ShrinkageError | None = None
    lost: Sequence[str] = ()
    damaged: int = 0


@dataclass
class Stores:
    """The experiments of one tracking URI, each opened when the first journal is for it; artifacts as in `open_store`.

    experiment: the only one, whatever journals say; None for the one that each is meant for.
    """

    uri: str
    artifacts: Path
    experiment: str | None = None
    opened: dict[str, Store] = field(default_factory=dict[str, Store])

    def meant_for(self, story: Story) -> str:
        """Name the experiment that a journal is to go into."""
        return self.experiment or story.experiment

    def open(self, experiment: str) -> Store:
        """Open an experiment. Raises StoreAway, StoreRefuses and InputError, as `open_store` does."""
        if experiment not in self.opened:
            self.opened[experiment] = open_store(self.uri, experiment, self.artifacts)
        return self.opened[experiment]


def bring(
    stories: Iterable[Story], stores: Stores, said: Callable[[Story], Says] = lambda story: lambda **told: None
) -> Iterator[list[Brought]]:
    """Deliver journals, sweeps before what stands under them; yields what became of those that one step was about.

    said: gives what hears the notes of a journal's delivery.
    """
    for runs in sweeps_first(stories):
        for experiment in dict.fromkeys(map(stores.meant_for, runs)):
            left = {each.path: each for each in runs if stores.meant_for(each) == experiment}
            try:
                store = stores.open(experiment)
                bulk = open_bulk(store)
            except (TrackingError, InputError) as error:
                yield [Brought(each, error) for each in left.values()]
                continue
            for some in carry_ended(bulk, list(left.values())):
                yield [Brought(left.pop(each.path), None, each.lost, each.damaged) for each in some]
            for each in left.values():
                yield [bring_one(each, store, said(each))]


def sweeps_first(stories: Iterable[Story]) -> tuple[list[Story], list[Story]]:
    """Divide runs into those that stand under no other, which come first, and those that do."""
    stories = list(stories)
    return [each for each in stories if each.parent is None], [each for each in stories if each.parent is not None]


def bring_one(story: Story, store: Store, said: Says) -> Brought:
    """Deliver one journal, whose process has ended, with its end."""
    path, uri = story.path, masked(store.uri)
    error: ShrinkageError | None = None
    delivery = Delivery(store, path, fresh=False, said=said)
    try:
        delivery.end("KILLED", story.heartbeat)
    except Waiting:
        error = TrackingError(f"{path}: the sweep that it belongs to has to come first, and could not")
    except FileNotFoundError:
        return Brought(story)  # another process was quicker
    except StoreAway as reason:
        error = StoreAway(f"{path}: {uri} does not take it now: {reason}")
    except StoreRefuses as reason:
        error = StoreRefuses(f"{path}: {uri} does not take it: {reason}")
    except InputError as reason:
        error = reason
    except OSError as reason:
        error = TrackingError(f"{path}: it cannot be read ({reason.strerror or reason})")
    return Brought(story, error, delivery.lost, delivery.reader.damaged)
