"""The folder of a run or sweep, looked at before Hydra uses it."""

import os
import sys
from pathlib import Path

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, flag_override

from shrinkage.boundary import command_in_one_line, leave
from shrinkage.config import root_of
from shrinkage.errors import InputError
from shrinkage.runs import resume
from shrinkage.runs.membership import Membership
from shrinkage.tracking.location import store_uri


class Folders(Callback):
    """Hydra's callback that refuses, in one line, a folder that cannot be written; a run or sweep that was begun before
    goes on in its own."""

    def on_run_start(self, config: DictConfig, **kwargs: object) -> None:
        with command_in_one_line():
            if config.resume is not None:
                redirect_run(config)
        check_writable(Path(config.hydra.run.dir), "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        with command_in_one_line():
            redirect_sweep(config)
        check_writable(Path(config.hydra.sweep.dir), "hydra.sweep.dir")


def redirect_run(config: DictConfig) -> None:
    """Let the run that `resume=` names go on in its folder, whose .hydra stays as it is."""
    resume.refuse_values(config.hydra.overrides.task, "resume")
    folder = resume.find_resumable(config, root_of(config.hydra)).folder
    with flag_override(config, ["struct", "readonly"], False), flag_override(config.hydra, "readonly", False):
        config.resume = str(folder)
        config.hydra.run.dir = str(folder)
        config.hydra.output_subdir = None


def redirect_sweep(config: DictConfig) -> None:
    """Let a sweep that was begun before go on in its folder; new jobs have numbers that tell how often it was begun."""
    if config.resume is not None or config.rerun is not None:
        raise InputError("resume and rerun are for one run; a sweep goes on with resume_sweep, its run's id or folder")
    root = root_of(config.hydra)
    if config.resume_sweep is not None:
        folder = resume.sweep_folder(str(config.resume_sweep), store_uri(config.tracking.uri, root), root)
    elif config.skip_finished:
        folder = resume.find_last_sweep(resume.command(config), Path(config.hydra.sweep.dir).resolve())
    else:
        folder = None
    if folder is None:
        return
    then = resume.take_over(folder, config.data, config.hydra.overrides.task)
    if then:
        print(f"note: {folder} was begun by an earlier version, and goes on with {' '.join(then)}", file=sys.stderr)
    again = f"again{Membership.of(folder).times}-${{hydra.job.num}}"
    with flag_override(config, ["struct", "readonly"], False), flag_override(config.hydra, "readonly", False):
        config.hydra.sweep.dir, config.hydra.sweep.subdir = str(folder), again
        # Each job is composed anew, with these.
        quoted = str(folder).replace("'", "\\'")
        config.hydra.overrides.hydra += [f"hydra.sweep.dir='{quoted}'", f"hydra.sweep.subdir={again}", *then]


def check_writable(folder: Path, key: str) -> None:
    """Exit with one line if the folder cannot be made or written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = None if os.access(folder, os.W_OK) else "permission denied"
    except OSError as error:
        reason = error.strerror
    if reason:
        leave(f"{key}={folder}: cannot be written ({reason}); run from a folder that can, or set {key}=…")
