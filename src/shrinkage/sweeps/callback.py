"""Around a sweep: the parent run that its jobs stand under, the progress, and the answer at its end."""

import atexit
import contextlib
import importlib
import math
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from shrinkage import rules
from shrinkage.boundary import command_in_one_line, tell
from shrinkage.config import as_dict, config_flags, root_of
from shrinkage.errors import InputError, ShrinkageError
from shrinkage.machine.disk import patiently
from shrinkage.machine.imports import importing_much
from shrinkage.machine.interrupt import SIGNALS, leave, left
from shrinkage.machine.invocation import invocation
from shrinkage.machine.secrets import learn, learn_overrides, masked_override
from shrinkage.machine.waiting import doing
from shrinkage.runs import identity, resume
from shrinkage.runs.membership import SWEEP, Membership, Result
from shrinkage.runs.provenance import run_tags
from shrinkage.tracking.client import Client, connect
from shrinkage.tracking.journal import JOURNALS, KEPT, SUFFIX, Journal
from shrinkage.tracking.location import home, store_uri
from shrinkage.tracking.source import describe_tests
from shrinkage.tracking.views import PAGE

from .telling import show_failures, show_progress

if TYPE_CHECKING:
    from shrinkage.report.answer import Answer
    from shrinkage.report.page import Pictures

importlib.import_module("concurrent.futures.thread")  # pandas needs it, and not while the interpreter exits

REFIT = "refit"  # the folder of the refit, in the sweep's
IN_THIS_PROCESS = ("basic", "lanes")  # launchers whose jobs train here


@dataclass(frozen=True)
class ParentRun:
    """The sweep's own run, which its jobs stand under: its journal, and the client that carries it into the store."""

    client: Client
    journal: Journal

    def end(self, status: str, has_jobs: bool, has_finished: bool) -> None:
        """End the run and say where it is, also where waiting for the store is interrupted."""
        try:
            self.client.end(self.journal, status)
            self.client.wait_for(self.journal)
        except ShrinkageError as error:
            tell(error)
        finally:
            self.tell_address(status, has_jobs, has_finished)

    def tell_address(self, status: str, has_jobs: bool, has_finished: bool) -> None:
        """Print where the sweep is in the store."""
        if has_jobs:  # else nothing was tried
            print(f"The sweep is {status}. {self.client.where(self.journal)}")
        run_id = self.client.run_id(self.journal)
        if status == "KILLED" and has_finished and run_id:
            print(f"What has finished tells: python -m shrinkage.report {run_id}")
        sys.stdout.flush()


class Sweep(Callback):
    """Hydra's callback for a multirun: makes the parent run before the first job and ends it after the last one.

    Hydra does not call `on_multirun_end` where a job has failed, and nothing at all where the process is interrupted;
    so the end hangs on the interpreter's exit too, and whichever comes first does it.
    """

    def __reduce__(self) -> "tuple[type[Sweep], tuple[()]]":
        # Launchers send their callbacks to the workers, which need none of what this process holds.
        return Sweep, ()

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        self.started = time.monotonic()
        self.config, self.root, self.invocation = config, root_of(config.hydra), invocation()
        given = list(config.hydra.overrides.task)
        learn_overrides(given)
        learn(as_dict(config, resolve=False))
        self.overrides = [masked_override(override) for override in given]
        self.as_given = dict(zip(self.overrides, given, strict=True))
        self.name = identity.sweep_name(given)
        self.parent: ParentRun | None = None
        self.pictures: Pictures | None = None
        self.ended = False
        for signum in SIGNALS:
            signal.signal(signum, leave)
        folder = Path(config.hydra.sweep.dir).resolve()
        earlier = Membership.of(folder) if (folder / SWEEP).exists() else None
        has_rows = config.tracking.enabled and config.tracking.jobs == "table"
        with command_in_one_line():
            if earlier is not None and earlier.has_rows != has_rows:
                raise InputError(
                    f"tracking.jobs={config.tracking.jobs}: the jobs of a sweep are all of one kind, and this one was "
                    f"begun otherwise; use tracking.jobs={'table' if earlier.has_rows else 'runs'}"
                )
            if config.tracking.enabled:
                with doing("opening the store"):
                    self.parent = self.begin_parent(config, folder, earlier)
        parent = None if self.parent is None else self.parent.journal.id
        self.membership = Membership(folder, parent, 1 if earlier is None else earlier.times + 1, has_rows)
        self.membership.announce(resume.command(config))
        atexit.register(self.end_at_exit)
        if earlier is not None:
            print(f"{len(self.membership.finished())} runs had FINISHED and are taken as they are, in {folder}")
        self.done = threading.Event()
        shown = self.membership, config.metric, self.done
        threading.Thread(target=show_progress, args=shown, daemon=True).start()

    def begin_parent(self, config: DictConfig, folder: Path, earlier: Membership | None) -> "ParentRun":
        """Begin the journal of the parent run, or go on with it if the sweep was begun before."""
        uri = store_uri(config.tracking.uri, self.root)
        beside = home(uri, self.root)
        client = connect(uri, config.tracking.experiment, beside, 0, config.tracking.offline)
        if config.hydra.runtime.choices["hydra/launcher"] in IN_THIS_PROCESS:
            with importing_much():  # it takes as long as the writer opens the store
                importlib.import_module("shrinkage.training.run")
        client.wait_until_ready()
        # Taken out of the environment: it is this run and none of the jobs that it means.
        adopt = os.environ.pop("MLFLOW_RUN_ID", None) or None
        known = [] if earlier is None else [beside / JOURNALS / f"{earlier.parent}{SUFFIX}", folder / KEPT]
        for path in known:
            if path.exists():
                return ParentRun(client, client.resume(path, adopt))
        rules.check_tags(config)
        own = {key: value for key, value in as_dict(config, resolve=False).items() if key != "hydra"}
        tags = identity.own_tags(config) | run_tags(self.root, self.overrides, own) | {"kind": "sweep"}
        return ParentRun(client, client.begin(self.name, tags, adopt=adopt, folder=folder))

    def on_multirun_end(self, config: DictConfig, **kwargs: object) -> None:
        self.end()

    def end(self) -> None:
        """End the sweep, once: its answer, the report, the refitted model, and the parent's status."""
        if self.ended:
            return
        self.done.set()
        self.membership.forget_progress()
        refit = self.membership.folder / REFIT  # of a sweep that was begun before
        results = [result for result in self.membership.results() if result["folder"] != str(refit)]
        total = self.membership.expected()
        finished, failed, killed = (
            [result for result in results if result["status"] == status] for status in ("FINISHED", "FAILED", "KILLED")
        )
        missing = max((total or 0) - len(results), 0)
        stopped = bool(failed and missing and not killed and self.config.on_error == "stop")
        refused = not results and not left.is_set()  # with all its jobs, by the launcher
        if (killed or missing) and not (stopped or refused):
            status = "KILLED"
        else:
            status = "FINISHED" if finished and not failed else "FAILED"
        of_all = f" of {total}" if total else ""
        seconds = time.monotonic() - self.started
        if results or total:
            print(f"\n{len(finished)}{of_all} runs FINISHED in {seconds:.0f} s, in {self.membership.folder}")
            sys.stdout.flush()
        show_failures(failed, self.membership.folder)
        if (killed or missing) and not refused:
            print(f"{len(killed) + missing} did not finish", file=sys.stderr)
        self.ended = True
        answer = model = None
        try:
            if status != "KILLED":
                answer, model = self.conclude(finished, results)
        except SystemExit:  # Ctrl-C or SIGTERM
            status = "KILLED"
            raise
        finally:
            if self.parent is not None:
                if self.membership.has_rows:
                    self.keep_table(answer, self.parent)
                self.parent.end(status, bool(results or total), bool(finished))
            if status != "FINISHED" and (results or total) and not refused:
                folder = shlex.quote(str(self.membership.folder))
                print(f"To go on with it, the same command and: resume_sweep={folder}")
                sys.stdout.flush()
        if answer is not None:
            from shrinkage.report.terminal import show

            show(answer)
        if model is not None:
            print(model)

    def end_at_exit(self) -> None:
        """Call `end` while the interpreter exits, which would show a traceback of a SystemExit."""
        with contextlib.suppress(SystemExit):
            self.end()

    def conclude(self, finished: list[Result], results: list[Result]) -> "tuple[Answer | None, str | None]":
        """Answer, refit, and answer again if there is a refitted model, since the answer then speaks of its weights."""
        answer = model = None
        try:
            with doing("choosing λ and drawing the report"):
                answer = self.answer(finished, results)
            if answer is None:
                return None, None
            print(f"The report: {self.membership.folder / 'report.html'}")
            if self.parent is not None:
                winner = answer.winner
                error = {} if math.isnan(winner.error) else {f"{answer.metric}_error": winner.error}
                self.parent.journal.metrics(
                    {answer.metric: winner.mean, **error, answer.axis: winner.min}, step=self.membership.times - 1
                )
            model = self.refit(answer, results) if self.config.refit else None
            if model is not None:
                answer = self.answer(finished, self.membership.results()) or answer
        except Exception:  # a defect of the report must not keep the parent from its end
            traceback.print_exc()
        return answer, model

    def answer(self, finished: list[Result], results: list[Result]) -> "Answer | None":
        """Choose a λ, and write and record the report. If nothing can be chosen, print the runs and return None."""
        trained = [result for result in finished if "train/loss" in result["metrics"]]  # and no study
        if not trained:
            return None
        from shrinkage.report.cells import csv_safe

        with importing_much():
            from shrinkage.report.choice import choose
            from shrinkage.report.next_step import Command
            from shrinkage.report.page import draw, table_of_runs, write
            from shrinkage.report.sweep_summary import show_runs
            from shrinkage.tracking.source import FolderSource

        folder = self.membership.folder
        try:
            answer = choose(results, self.config.metric)
        except InputError as error:
            show_runs(trained)
            print(f"note: {error}", file=sys.stderr)
            csv_safe(table_of_runs(results)).to_csv(folder / "runs.csv", index=False)
            self.keep(folder / "runs.csv")
            return None
        if self.pictures is None:  # else they are drawn: with the refitted model only words change
            self.pictures = draw(answer, FolderSource(), folder)
        command = Command(self.typed(), folder)
        for path in write(answer, results, self.pictures, folder, self.name, command):
            self.keep(path)
        if self.parent is not None:
            pages = self.parent.client.pages(self.parent.journal, "report.html")
            self.parent.journal.tags(answer.tags(*pages))
            self.parent.journal.append("view", name=self.name, only=answer.one_split(PAGE))
            if not self.parent.journal.has_params:  # MLflow lets nobody change one, and the first answer stands
                self.parent.journal.params(answer.choices)
        return answer

    def typed(self) -> list[str]:
        """List the words of the sweep's command, but for the folders that it was given."""
        flags = [word for word in sys.argv[1:] if word in ("-m", "--multirun")]
        of_hydra = [
            masked_override(override)
            for override in as_dict(self.config.hydra.overrides, resolve=False)["hydra"]
            if not override.startswith(("hydra.mode=", "hydra.sweep.", "hydra.run."))
        ]
        return [*self.invocation.typed, *config_flags(self.config.hydra), *flags, *of_hydra, *self.overrides]

    def keep_table(self, answer: "Answer | None", parent: "ParentRun") -> None:
        """Record the jobs as rows of a table, and those that the answer takes as runs."""
        from shrinkage.tracking.jobs_table import JOBS, ROWS, write_rows

        path, rows = self.membership.folder / JOBS, self.membership.results()
        rows = [row for row in rows if row["folder"] != str(self.membership.folder / REFIT)]
        try:
            patiently(lambda: write_rows(rows, path), path)
            self.keep(path)
            parent.journal.tags({ROWS: len(rows)})
            taken = [Path(str(run["folder"]), KEPT) for run in answer.taken] if answer is not None else []
            for journal in [parent.client.bring_in(kept) for kept in taken if kept.exists()]:
                parent.client.wait_for(journal)
        except ShrinkageError as error:
            tell(error)

    def keep(self, path: Path) -> None:
        """Record a file with the parent run."""
        if self.parent is not None:
            self.parent.journal.artifact(path.resolve())

    def refit(self, answer: "Answer", results: list[Result]) -> str | None:
        """Train at the chosen λ on training and validation rows, by a command of its own. Return what came of it.

        results: those of the jobs that the answer is chosen from.
        """
        winner, which = answer.winner, str(self.config.refit)
        if which == "1se" and winner.one_se is None:
            print("note: refit=1se: there is no λ.1se without an error over splits; λ.min is taken", file=sys.stderr)
            which = "min"
        value = winner.value_for(which)
        chosen = winner.runs_at(value)[0]["folder"]
        run = next(result for result in results if result["folder"] == chosen)
        if run["params"].get("data.refit") is None:
            print(
                f"note: refit={which}: data={run['params']['data']} has no rows to join; it takes data from a table",
                file=sys.stderr,
            )
            return None
        name = self.config.export or Path(run["params"].get("data.path", run["params"]["data"])).stem
        command = [*identity.without_sweep(run["overrides"]), "data.refit=true", f"export={name}", "hydra.mode=RUN"]
        command = [*config_flags(self.config.hydra), *command]
        print(f"refit at {which}: {shlex.join([*self.invocation.typed, *command])}")
        sys.stdout.flush()
        folder = self.membership.folder / REFIT
        ended = subprocess.run(
            [
                *self.invocation.words,
                *(self.as_given.get(override, override) for override in command),
                f"hydra.run.dir={folder}",
            ],
            check=False,
        )
        told = [result for result in self.membership.results() if result["folder"] == str(folder)]
        if ended.returncode or not told:
            tell("the refit did not finish; its command is above")
            return None
        (result,) = told
        tests = describe_tests(result["metrics"])
        words = f"Refitted at λ.{which} = {value:g} on training and validation rows"
        words += f"; the test rows, seen once: {tests}" if tests else "; there is no test part"
        registered = result["tags"].get("model.registered")
        if self.parent is not None and registered is not None:
            self.parent.journal.tags({"model.registered": registered})
            words += "\n" + self.parent.client.how_to_predict(registered, folder)
        return words
