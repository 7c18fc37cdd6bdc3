"""The process that carries journals into MLflow, beside the one that trains.

It imports MLflow and opens the store while the other still imports PyTorch, and writes on another core, so that a run
pays for neither. A JSON object a line comes in: first what store it is, then journals to follow, and questions whether
a run may be adopted; answers go out in the same way. A store that does not answer is tried again and again. When the
input ends without a run's end (the training process was killed), it ends the run for it. What is not in the store some
time after that waits for the next run, or for `python -m shrinkage.tracking.sync`.
"""

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

from mlflow.entities import RunTag
from mlflow.environment_variables import MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT

from shrinkage.errors import InputError, ShrinkageError, StoreAway, StoreRefuses, StoreReplaced, TrackingError
from shrinkage.machine.clock import now
from shrinkage.machine.output import print_what_can_be_printed
from shrinkage.machine.secrets import masked

from .adoption import refuse_at_start
from .bringing import Stores, bring
from .bulk import RUNS, Bulk, batches, open_bulk
from .delivery import Delivery, Waiting
from .ended import has_ended
from .left_behind import end_the_dead, orphans
from .store import Store, open_store
from .story import Story

POLL_SECONDS = 1.0
BACK_OFF_SECONDS = (0.2, 0.5, 1, 2, 5, 10)  # the last one again and again
HEARTBEAT_SECONDS, HEARTBEAT_SHARE = 30.0, 0.02  # at least so long apart, and at most so much of the time
# Where many can be written at once: how many runs that still go on are in the store meanwhile; for how long those must
# have gone on, where there are more, and from when on any is.
MOST_LIVE, SOON_SECONDS, LIVE_SECONDS = 4, 10.0, 300.0
IN_FLIGHT = 4  # runs that are delivered to a server at once
MOST_AWAY = 3  # how many journals of earlier runs in a row the store does not take now, before they are left for later
AFTER_SECONDS = 60.0  # how long a store that is away is still tried when the training process has ended


def reply(**fields: object) -> None:
    """Answer the training process, if it is still there."""
    try:
        print(json.dumps(fields) + "\n", end="", file=sys.__stdout__, flush=True)  # in one piece, from any thread
    except BrokenPipeError:  # the training process was killed; its runs are ended all the same
        sys.__stdout__ = Path(os.devnull).open("w")  # noqa: SIM115 it lives as long as the process


class Writer:
    """The work of the writer process, a round at a time."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.home = Path(settings["home"])
        self.store: Store | None = None
        self.bulk: Bulk | None = None
        self.told: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.questions: list[dict[str, Any]] = []  # whether a run may be adopted
        self.followed: dict[str, bool] = {}  # paths of journals that no delivery has been made of; fresh?
        self.held: dict[str, float] = {}  # those of them that wait for their end, and since when
        self.complete: dict[str, None] = {}  # those of them whose runs have ended
        self.seen: dict[str, int] = {}  # how large those that have not were when they were last looked at
        self.deliveries: dict[str, Delivery] = {}
        self.listening, self.ended = True, 0  # ended: when the training process did
        self.failures, self.try_again = 0, 0.0
        self.beaten, self.beat_again = 0.0, time.monotonic() + HEARTBEAT_SECONDS
        self.errands: Iterator[None] = iter(())

    def listen(self) -> None:
        """Take in what the training process says, until it ends."""
        for line in sys.stdin:
            self.told.put(json.loads(line))
        self.told.put(None)

    def work(self) -> None:
        """Carry journals until the training process has ended and all is in the store, or for a minute after."""
        threading.Thread(target=self.listen, daemon=True).start()
        looked, deadline = 0.0, float("inf")
        while self.listening or ((self.deliveries or self.followed) and time.monotonic() < deadline):
            named = self.hear()
            if not self.listening and deadline == float("inf"):
                deadline, looked = time.monotonic() + AFTER_SECONDS, 0.0
            if time.monotonic() < self.try_again:
                continue
            if self.store is None:
                self.open()
                continue
            self.answer_questions(self.store)
            due = time.monotonic() - looked >= POLL_SECONDS
            paths = [*self.followed, *self.deliveries] if due else [path for path in named if path in self]
            if self.bulk is not None:
                paths = self.carry_many(paths, due, self.store, self.bulk)
            self.carry_each(list(dict.fromkeys(paths)), self.store)
            if due:
                looked = time.monotonic()
                self.beat(self.store)
                next(self.errands, None)

    def __contains__(self, path: str) -> bool:
        return path in self.followed or path in self.deliveries

    @property
    def is_away(self) -> bool:
        return time.monotonic() < self.try_again

    def hear(self) -> list[str]:
        """List the journals that are spoken of; waits for the first word a moment."""
        named = []
        try:
            wait = self.listening
            word = self.told.get(timeout=POLL_SECONDS if not self.is_away else 0.2) if wait else time.sleep(0.2)
            while True:
                if word is None:
                    if wait:
                        self.listening, self.ended = False, now()
                    break
                if "adopt" in word:
                    self.questions.append(word)
                else:
                    path = word["follow"]
                    if path not in self and Path(path).exists():  # else its end was seen before this word of it
                        self.followed[path] = word["fresh"]
                    named.append(path)
                word = self.told.get_nowait()
        except queue.Empty:
            pass
        return named

    def open(self) -> None:
        """Open the store, or leave it in peace for a while.

        Raises StoreRefuses, and InputError for a deleted experiment.
        """
        settings = self.settings
        try:
            store = open_store(settings["uri"], settings["experiment"], self.home / "mlartifacts")
        except StoreAway as error:
            self.stay_away(error)
            return
        self.store, self.bulk = store, open_bulk(store)
        self.answered()
        reply(ready=True)
        if settings["errands"]:
            self.errands = self.run_errands(store)

    def answer_questions(self, store: Store) -> None:
        """Answer whether runs may be adopted."""
        while self.questions and not self.is_away:
            question = self.questions.pop()
            try:
                objection = refuse_at_start(store.client, question["adopt"], question["params"])
            except StoreAway as error:  # the training process does not wait for long, and the delivery will ask again
                self.stay_away(error)
                return
            self.answered()
            reply(adopt=question["adopt"], objection=objection)

    def carry_many(self, paths: list[str], due: bool, store: Store, bulk: Bulk) -> list[str]:
        """Deliver the journals of runs that have ended, many at once; returns those of the paths that are for the API.

        They are gathered until there are many, or until it is time. Where many runs are still going on, most of them
        wait for their end, too: to have them in the store meanwhile would cost more than all the rest. The first of all
        does not, since it may be the sweep's own, which the others stand under.
        """
        new = [path for path in paths if path in self.followed and path not in self.complete]
        self.complete |= dict.fromkeys(path for path in new if self.has_grown(path) and has_ended(Path(path)))
        if due or len(self.complete) >= RUNS or len(self.complete) == len(self.followed):
            for batch in list(batches(map(Path, self.complete))):  # each takes its own out of what is complete
                if not self.carry_batch(batch, store, bulk):
                    break
        for path in [path for path in new if path in self.followed and path not in self.complete]:
            since = self.held.setdefault(path, time.monotonic())
            if time.monotonic() - since >= self.patience or not self.listening:
                self.deliver_alone(path, store)
        return [path for path in [*paths, *self.deliveries] if path in self.deliveries]

    @property
    def patience(self) -> float:
        """How many seconds a run goes on before it is delivered without waiting for its end."""
        live = len(self.deliveries)
        if live >= MOST_LIVE:
            return LIVE_SECONDS
        return SOON_SECONDS if live and len(self.followed) > MOST_LIVE else 0.0

    def has_grown(self, path: str) -> bool:
        """Tell whether a journal's size has changed since this was last asked; true for one that is gone, too."""
        try:
            size = os.stat(path).st_size  # noqa: PTH116 of a thousand runs each second
        except FileNotFoundError:
            return True
        before, self.seen[path] = self.seen.get(path, -1), size
        return size != before

    def carry_batch(self, batch: list[Path], store: Store, bulk: Bulk) -> bool:
        """Deliver the journals of runs that have ended in one transaction; those that it does not take go by the API.

        Returns whether the store has answered.
        """
        # When the training process has ended, any other may have begun to deliver its journals.
        fresh = {path: self.followed[str(path)] and self.listening for path in batch}
        try:
            carried, has_answered = bulk.carry(fresh, reply), True
        except StoreReplaced as error:
            self.stay_away(error)
            return False
        except (StoreAway, StoreRefuses):  # which of them it is about, and why, the delivery of each will say
            carried, has_answered = [], False
            self.followed |= dict.fromkeys(map(str, batch), False)
        for each in carried:
            del self.followed[str(each.path)]
            self.held.pop(str(each.path), None)
            reply(closed=each.path.stem, lost=each.lost)
        for path in map(str, batch):
            del self.complete[path]
            self.seen.pop(path, None)
            if path in self.followed:
                self.deliver_alone(path, store)
        return has_answered

    def deliver_alone(self, path: str, store: Store) -> None:
        """Have a journal delivered by the API from now on."""
        self.deliveries[path] = Delivery(store, Path(path), self.followed.pop(path), reply)
        self.held.pop(path, None)
        self.seen.pop(path, None)

    def carry_each(self, paths: list[str], store: Store) -> None:
        """Deliver what is new in journals: to a server a few at once, since most of a call's time is its way."""
        at_once = IN_FLIGHT if store.uri.startswith("http") else 1
        for path in paths:
            if path in self.followed:
                self.deliver_alone(path, store)
        with ThreadPoolExecutor(at_once) as pool:  # which has no thread before it is given work
            attempts = pool.map if at_once > 1 else map
            for first in range(0, len(paths), at_once):
                if self.is_away:
                    return
                some = paths[first : first + at_once]
                for path, error in zip(some, attempts(self.attempt, some), strict=True):
                    self.settle(path, error)

    def attempt(self, path: str) -> TrackingError | OSError | None:
        """Deliver what is new in a journal; returns why it could not be."""
        delivery = self.deliveries[path]
        try:
            delivery.carry() if self.listening else delivery.end("KILLED", self.ended)
        except (StoreAway, StoreRefuses, Waiting, FileNotFoundError) as error:
            return error
        return None

    def settle(self, path: str, error: TrackingError | OSError | None) -> None:
        """Make of an attempt what follows of it."""
        delivery = self.deliveries[path]
        match error:
            case Waiting():
                return
            case StoreAway():
                if not self.is_away:
                    self.stay_away(error)
                return
            case StoreRefuses():  # the others go on; the journal stays where it is
                reply(undelivered=Path(path).stem, reason=str(error))
                del self.deliveries[path]
                return
            case FileNotFoundError():
                delivery.closed = True  # another process has seen to it
            case _:
                self.answered()
        if delivery.closed:
            del self.deliveries[path]
            reply(closed=Path(path).stem, lost=delivery.lost)

    def stay_away(self, error: StoreAway) -> None:
        """Leave the store in peace for a while, that grows. One whose file is another one now needs another process."""
        if isinstance(error, StoreReplaced):
            raise SystemExit  # the training process starts one, which opens the file anew and delivers all of it
        self.try_again = time.monotonic() + BACK_OFF_SECONDS[min(self.failures, len(BACK_OFF_SECONDS) - 1)]
        self.failures += 1
        if self.failures > 1:  # a lock that has gone at the second try is not worth a word
            reply(away=str(error))

    def answered(self) -> None:
        """Note that the store has answered, and say so where it had been away."""
        if self.failures > 1:
            reply(back=True)
        self.failures = 0

    def beat(self, store: Store) -> None:
        """Tell the store that its runs are alive, and the journals, by the time of their last change."""
        if time.monotonic() < self.beat_again or not self.listening:
            return
        started = time.monotonic()
        for path, delivery in self.deliveries.items():
            try:
                os.utime(path)
                if delivery.run_id and delivery.status == "RUNNING":
                    heartbeat = RunTag("process.heartbeat", str(now()))
                    store.client.log_batch(delivery.run_id, tags=[heartbeat], synchronous=True)
            except Exception:  # what it is, the next delivery says
                break
        for path in self.followed:
            with contextlib.suppress(OSError):
                os.utime(path)
        took = time.monotonic() - started
        self.beat_again = time.monotonic() + max(HEARTBEAT_SECONDS, took / HEARTBEAT_SHARE)

    def run_errands(self, store: Store) -> Iterator[None]:
        """Do what earlier processes have left behind, a step at a time; what cannot be done is said."""
        try:
            end_the_dead(store, self.home)
        except Exception as error:  # whoever asks for it by `sync` hears of it
            print(masked(str(error)), file=sys.stderr)
        yield
        found = orphans(self.home, self.settings["uri"])
        errors = [each for each in found if isinstance(each, InputError)]
        stores = Stores(self.settings["uri"], self.home / "mlartifacts", opened={self.settings["experiment"]: store})
        has_said, times_away = False, 0
        for step in chain([[]], bring([each for each in found if isinstance(each, Story)], stores)):
            errors += [each.error for each in step if each.error is not None and not each.error.may_pass]
            if errors and not has_said:
                reply(note=f"{errors[0]} (what waits, and why, says python -m shrinkage.tracking.sync)")
                has_said = True
            times_away = times_away + 1 if any(isinstance(each.error, StoreAway) for each in step) else 0
            if times_away == MOST_AWAY:  # it is not about the journals; the next run tries again
                return
            yield


def main() -> None:
    # Ctrl-C and SIGTERM are for the process that trains; this one ends with it, when all is written.
    """Run the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print_what_can_be_printed()
    sys.stdout = sys.stderr  # MLflow prints, and standard output is for answers
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)  # for which it reads each run back from a server
    settings = json.loads(sys.stdin.readline())
    try:
        Writer(settings).work()
    except ShrinkageError as error:
        reply(refused=masked(str(error)))
    except Exception as error:
        reply(failed=masked(f"{type(error).__name__}: {error}"), traceback=masked(traceback.format_exc()))
