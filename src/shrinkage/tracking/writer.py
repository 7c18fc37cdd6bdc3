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
from pathlib import Path

from mlflow.entities import RunTag

from shrinkage.errors import ShrinkageError, StoreAway, StoreRefuses
from shrinkage.machine.clock import now
from shrinkage.machine.secrets import masked

from .adoption import refuse_at_start
from .delivery import Delivery, Waiting
from .store import Store, open_store
from .sync import end_the_dead, orphans

POLL_SECONDS = 1.0
BACK_OFF_SECONDS = (0.2, 0.5, 1, 2, 5, 10)  # the last one again and again
HEARTBEAT_SECONDS, HEARTBEAT_SHARE = 30.0, 0.02  # at least so long apart, and at most so much of the time
AFTER_SECONDS = 60.0  # how long a store that is away is still tried when the training process has ended


def reply(**fields: object) -> None:
    """Answer the training process, if it is still there."""
    try:
        print(json.dumps(fields), file=sys.__stdout__, flush=True)
    except BrokenPipeError:  # the training process was killed; its runs are ended all the same
        sys.__stdout__ = Path(os.devnull).open("w")  # noqa: SIM115 it lives as long as the process


class Writer:
    """The work of the writer process, a round at a time."""

    def __init__(self, settings: dict) -> None:
        self.settings = settings
        self.home = Path(settings["home"])
        self.store: Store | None = None
        self.told: queue.Queue[dict | None] = queue.Queue()
        self.questions: list[dict] = []  # whether a run may be adopted
        self.followed: dict[str, bool] = {}  # paths of journals that no delivery has been made of; fresh?
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
            self.answer_questions()
            due = time.monotonic() - looked >= POLL_SECONDS
            paths = [*self.followed, *self.deliveries] if due else [path for path in named if path in self]
            for path in dict.fromkeys(paths):
                if not self.is_away:
                    self.carry(path)
            if due:
                looked = time.monotonic()
                self.beat()
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
            self.store = open_store(settings["uri"], settings["experiment"], self.home / "mlartifacts")
        except StoreAway as error:
            self.stay_away(error)
            return
        self.answered()
        reply(ready=True)
        if settings["errands"]:
            self.errands = self.run_errands()

    def answer_questions(self) -> None:
        """Answer whether runs may be adopted."""
        while self.questions and not self.is_away:
            question = self.questions.pop()
            try:
                objection = refuse_at_start(self.store.client, question["adopt"], question["params"])
            except StoreAway as error:  # the training process does not wait for long, and the delivery will ask again
                self.stay_away(error)
                return
            self.answered()
            reply(adopt=question["adopt"], objection=objection)

    def carry(self, path: str) -> None:
        """Deliver what is new in a journal."""
        if path in self.followed:
            self.deliveries[path] = Delivery(self.store, Path(path), self.followed.pop(path), reply)
        delivery = self.deliveries[path]
        try:
            delivery.carry() if self.listening else delivery.end("KILLED", self.ended)
            self.answered()
        except Waiting:
            return
        except FileNotFoundError:
            delivery.closed = True  # another process has seen to it
        except StoreAway as error:
            self.stay_away(error)
            return
        except StoreRefuses as error:  # the others go on; the journal stays where it is
            reply(undelivered=Path(path).stem, reason=str(error))
            del self.deliveries[path]
            return
        if delivery.closed:
            del self.deliveries[path]
            reply(closed=Path(path).stem, lost=delivery.lost)

    def stay_away(self, error: StoreAway) -> None:
        """Leave the store in peace for a while, that grows."""
        self.try_again = time.monotonic() + BACK_OFF_SECONDS[min(self.failures, len(BACK_OFF_SECONDS) - 1)]
        self.failures += 1
        if self.failures > 1:  # a lock that has gone at the second try is not worth a word
            reply(away=str(error))

    def answered(self) -> None:
        """Note that the store has answered, and say so where it had been away."""
        if self.failures > 1:
            reply(back=True)
        self.failures = 0

    def beat(self) -> None:
        """Tell the store that its runs are alive, and the journals, by the time of their last change."""
        if time.monotonic() < self.beat_again or not self.listening:
            return
        started = time.monotonic()
        for path, delivery in self.deliveries.items():
            try:
                os.utime(path)
                if delivery.run_id is not None and delivery.status == "RUNNING":
                    heartbeat = RunTag("process.heartbeat", str(now()))
                    self.store.client.log_batch(delivery.run_id, tags=[heartbeat], synchronous=True)
            except Exception:  # what it is, the next delivery says
                break
        took = time.monotonic() - started
        self.beat_again = time.monotonic() + max(HEARTBEAT_SECONDS, took / HEARTBEAT_SHARE)

    def run_errands(self) -> Iterator[None]:
        """Do what earlier processes have left behind, a step at a time."""
        try:
            end_the_dead(self.store, self.home)
            yield
            for story in orphans(self.home, self.settings["uri"]):
                delivery = Delivery(self.store, story.path, fresh=False)
                with contextlib.suppress(Waiting, OSError):  # its parent comes first; another process is at it
                    delivery.end("KILLED", story.heartbeat)
                yield
        except Exception as error:  # whoever asks for it by `sync` hears of it
            print(masked(str(error)), file=sys.stderr)


def main() -> None:
    # Ctrl-C and SIGTERM are for the process that trains; this one ends with it, when all is written.
    """Run the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stdout = sys.stderr  # MLflow prints, and standard output is for answers
    settings = json.loads(sys.stdin.readline())
    try:
        Writer(settings).work()
    except ShrinkageError as error:
        reply(refused=masked(str(error)))
    except Exception as error:
        reply(failed=masked(f"{type(error).__name__}: {error}"), traceback=masked(traceback.format_exc()))
