"""Runs that were begun before, found again: by the store's id, by name, or by their folder."""

import functools
import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from omegaconf import DictConfig

from shrinkage.errors import InputError
from shrinkage.machine.secrets import masked_override, masked_values
from shrinkage.old_configs import missing_from_data
from shrinkage.tracking.left_behind import waiting
from shrinkage.tracking.location import home, store_uri
from shrinkage.tracking.story import Story

from . import identity
from .folder import ABOUT, Earlier, RunLocation
from .identity import FROM_COMMAND
from .membership import SWEEP, Membership, Result

STACK = "lanes.json"


def find_earlier(command: Mapping[str, Any], place: RunLocation, sweep: Membership | None) -> Earlier | None:
    """Find the run that goes on in this process: the one that `resume=` names, or a sweep's interrupted one.

    Of a sweep that is begun for the first time it is the one in the job's own folder, whose process has died: clusters
    start a job again by themselves. None where it begins. Raises InputError where the one that is named cannot go on.
    """
    if sweep is None:
        return None if command["resume"] is None else find_resumable(command, place.root)
    if sweep.times == 1 and not (place.folder / ABOUT).exists():
        return None
    fingerprint = identity.fingerprint(identity.recorded(command))
    if sweep.times > 1:
        return sweep_jobs(sweep.folder).get(fingerprint)
    with suppress(InputError):  # it died while it wrote this
        earlier = Earlier.of(place.folder)
        return earlier if earlier.fingerprint == fingerprint else None
    return None


def find_finished(jobs: Sequence[tuple[Mapping[str, Any], Path]], sweep: Membership) -> list[Result | None]:
    """Find what each job reported when it FINISHED in an earlier attempt; None for a job that did not.

    jobs: their configs and folders. In a sweep that is begun again a job is known by its config alone.
    """
    if sweep.times > 1:
        told = sweep.finished()
        return [told.get(identity.fingerprint(identity.recorded(command))) for command, _ in jobs]
    if not any((folder / ABOUT).exists() for _, folder in jobs):
        return [None] * len(jobs)
    here = {(each["fingerprint"], each["folder"]): each for each in sweep.results() if each["status"] == "FINISHED"}
    return [
        here.get((identity.fingerprint(identity.recorded(command)), str(folder.resolve()))) for command, folder in jobs
    ]


def refuse_values(overrides: Sequence[str], key: str) -> None:
    """Refuse values beside `resume=` or `rerun=`.

    Raises InputError, since such a run takes all of them from its record.
    """
    own = [line for line in overrides if line.lstrip("+~").partition("=")[0].split(".")[0] not in FROM_COMMAND]
    if own:
        raise InputError(f"{', '.join(own)}: {key}=… takes every value from what the run recorded; leave them out")


def find_resumable(command: Mapping[str, Any], root: Path) -> Earlier:
    """Find the run that `resume=` names. Raises InputError where there is none, or it has FINISHED."""
    uri = store_uri(command["tracking"]["uri"], root)
    earlier = find(str(command["resume"]), uri, root)
    if earlier.is_script:
        refuse_script(str(command["resume"]), earlier.name)
    path = earlier.journal(home(uri, root))
    if path is not None and Story.of(path).status == "FINISHED":
        raise InputError(f"resume={command['resume']}: the run is FINISHED; rerun={command['resume']} does it again")
    if earlier.recorded["study"] is not None:
        raise InputError(f"resume={command['resume']}: a study has no checkpoints; start its experiment again")
    return earlier


def find(target: str, uri: str, root: Path) -> Earlier:
    """Find the run of this folder, id or name; of several of one name the last.

    Raises InputError where there is none.
    """
    return Earlier.of(folder_of(target, uri, root))


def refuse_script(target: str, name: str) -> NoReturn:
    """Refuse to train a run that has no config. Raises InputError."""
    raise InputError(f"{target}: a script has recorded {name}; start that again, with JournalLogger(run={target!r})")


def folder_of(target: str, uri: str, root: Path) -> Path:
    """Find the folder of the run or sweep of this folder, id or name.

    Raises InputError where it is not on this machine.
    """
    if (folder := existing_folder(target)) is not None:
        return folder
    for story in reversed(waiting(home(uri, root))):
        if isinstance(story, Story) and target in (story.id, story.name) and story.folder is not None:
            return story.folder

    from shrinkage.tracking import read

    tags = read.one(read.open_to_read(uri, "tracking.uri="), uri, target).data.tags
    place, host = tags.get("folder"), tags.get("process.host")
    if not place or not Path(place).is_dir():
        raise InputError(
            f"{target}: its folder, {place or 'which it has not recorded'}, is not on this machine"
            + (f"; it was made on {host}" if host else "")
        )
    return Path(place)


def existing_folder(target: str) -> Path | None:
    """Find the folder at this path; None where there is none."""
    with suppress(OSError):  # a name may be too long for a folder's
        if Path(target).is_dir():
            return Path(target).resolve()
    return None


@functools.cache
def sweep_jobs(sweep: Path) -> dict[str, Earlier]:
    """Find the runs that a sweep had begun when this process started, by the fingerprints of their configs."""
    found = {}
    for path in sweep.rglob(ABOUT):
        try:
            earlier = Earlier.of(path.parent)
        except InputError:  # it died while it wrote this
            continue
        found[earlier.fingerprint] = earlier
    return found


def new_stack(sweep: Path, folders: Sequence[Path]) -> Path:
    """Make a folder for the state of lanes that are trained together; folders: those of their runs."""
    folder = sweep / "lanes" / uuid.uuid4().hex[:8]
    folder.mkdir(parents=True)
    (folder / STACK).write_text(json.dumps([str(path) for path in folders]), encoding="utf-8")
    return folder


def forget_stack(folder: Path) -> None:
    """Remove the state of lanes that have ended."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # others are still there
        folder.parent.rmdir()


def stacks(sweep: Path) -> dict[Path, list[Earlier]]:
    """Find the lanes that were trained together in a sweep, by the folder that keeps their state.

    Raises InputError if what a lane has left in its folder cannot be read.
    """
    found = {}
    for path in sorted((sweep / "lanes").glob(f"*/{STACK}")):
        folders = [Path(folder) for folder in json.loads(path.read_text(encoding="utf-8"))]
        if all((folder / ABOUT).exists() for folder in folders):  # else it died before the training began
            found[path.parent] = [Earlier.of(folder) for folder in folders]
    return found


def take_over(sweep: Path, data: Mapping[str, object], overrides: Sequence[str]) -> list[str]:
    """Let the jobs that an earlier version left in a sweep's folder be known by what this one calls their configs.

    Where their configs lack keys of `data` whose value is another one today, returns the overrides by which the jobs to
    come mean what those meant, unless the command says something else. data: the command's own. Raises InputError
    if the sweep's results cannot be read.
    """
    missing: dict[str, object] = {}
    told = {result["folder"]: result for result in Membership.of(sweep).results()}
    for path in sorted(sweep.rglob(ABOUT)):
        with suppress(InputError, OSError):  # it died while it wrote this
            earlier = Earlier.of(path.parent)
            if not (lacking := missing_from_data(earlier.written)):
                continue  # all other differences between versions are none to a fingerprint
            missing |= lacking
            fingerprint = identity.fingerprint(earlier.recorded)
            if fingerprint == earlier.fingerprint:
                continue  # it has been taken over before
            about = json.loads(path.read_text(encoding="utf-8")) | {"fingerprint": fingerprint}
            path.write_text(json.dumps(about), encoding="utf-8")
            if (result := told.get(str(path.parent))) is not None:
                params = masked_values(identity.params(earlier.recorded))
                Membership.of(sweep).report(**{**result, "fingerprint": fingerprint, "params": params})
    said = identity.setting(list(overrides))
    own = {key: value for key, value in missing.items() if data.get(key, value) != value and f"data.{key}" not in said}
    return [f"data.{key}={value}" for key, value in own.items()]


def sweep_folder(target: str, uri: str, root: Path) -> Path:
    """Find the folder of the sweep of this folder, id or name. Raises InputError where it is no sweep."""
    folder = folder_of(target, uri, root)
    if not (folder / SWEEP).exists():
        raise InputError(
            f"resume_sweep={target}: {folder} is no sweep's folder; give the id, name or folder of a sweep"
        )
    return folder


def command(cfg: DictConfig) -> list[str]:
    """List the overrides by which a sweep is known again, without secrets: all but those that change no number."""
    own = (*identity.COMMAND, *identity.WITHOUT_EFFECT)
    lines = [line for line in cfg.hydra.overrides.task if line.lstrip("+~").partition("=")[0].split(".")[0] not in own]
    return [masked_override(line) for line in lines]


def find_last_sweep(command: Sequence[str], folder: Path) -> Path | None:
    """Find the last sweep with the same command near a folder; None where there is none.

    folder: the one that the sweep would get; sweeps in it, beside it, and beside its parent are looked at.
    """
    found = [*folder.glob(SWEEP), *folder.parent.glob(f"*/{SWEEP}"), *folder.parent.parent.glob(f"*/*/{SWEEP}")]
    same = [path for path in found if command_of(path) == list(command)]
    return max(same, key=lambda path: path.stat().st_mtime).parent if same else None


def command_of(path: Path) -> object:
    """Read the command of a sweep from what it has written of itself; None where that was cut off by a crash."""
    with suppress(OSError, ValueError):
        about: Any = json.loads(path.read_text(encoding="utf-8"))
        return about.get("command") if isinstance(about, dict) else None
    return None
