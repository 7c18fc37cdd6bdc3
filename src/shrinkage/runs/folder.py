"""A run's folder: where it stands, and what a run that was begun before has left there."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from hydra.core.hydra_config import HydraConfig
from yaml import YAMLError

from shrinkage import config
from shrinkage.errors import InputError
from shrinkage.old_configs import in_todays_names
from shrinkage.tracking.journal import KEPT, SUFFIX

from .identity import FROM_COMMAND
from .yaml_text import from_yaml

ABOUT = "run.json"  # in a run's folder: by which it is found again


Tree = TypeVar("Tree", dict[str, Any], list[str])


@dataclass(frozen=True)
class RunLocation:
    """Where a run stands: the folder of train.py, the run's own folder, and the overrides that it was started with."""

    root: Path
    folder: Path
    overrides: list[str]

    @classmethod
    def of_this_job(cls) -> "RunLocation":
        """Find where Hydra has placed the run of this process; without Hydra it is a new folder under outputs/."""
        if not HydraConfig.initialized():
            return cls(Path.cwd(), Path("outputs") / f"{datetime.now():%Y-%m-%d/%H-%M-%S-%f}", [])
        hydra = HydraConfig.get()
        return cls(config.root_of(hydra), Path(hydra.runtime.output_dir).resolve(), list(hydra.overrides.task))


@dataclass(frozen=True)
class Earlier:
    """A run that was begun before, as its folder tells of it.

    id: of its journal, None where it was not tracked. sweep: the folder of the sweep that it belongs to.
    """

    folder: Path
    name: str
    id: str | None
    fingerprint: str
    sweep: Path | None

    @classmethod
    def of(cls, folder: Path) -> "Earlier":
        """Read which run has left its record in a folder. Raises InputError where none has."""
        try:
            about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
            sweep, identifier = about["sweep"], about["id"]
            if not (identifier is None or re.fullmatch("[0-9a-f]{32}", identifier)):
                raise ValueError(f"id={identifier} is none of a journal")
            fingerprint, name = str(about["fingerprint"]), str(about["name"])
            return cls(folder, name, identifier, fingerprint, None if sweep is None else Path(sweep))
        except FileNotFoundError:
            raise InputError(
                f"{folder}: no run has left {ABOUT} there; give the folder, the id or the name of one"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{folder / ABOUT}: it cannot be read ({error}); begin the run anew") from error

    @property
    def is_script(self) -> bool:
        """Whether a script has recorded the run, which no config can do again."""
        return self.fingerprint == ""

    def journal(self, home: Path) -> Path | None:
        """Find the run's journal, among those that wait or in its own folder; None where it was not tracked."""
        paths = [home / "journals" / f"{self.id}{SUFFIX}", self.folder / KEPT]
        found = [path for path in paths if self.id is not None and path.exists()]
        return found[0] if found else None

    @property
    def written(self) -> dict[str, Any]:
        """The config that the run recorded, as it stands in its folder. Raises InputError where it cannot be read."""
        return self.read("config.yaml", dict)

    @property
    def recorded(self) -> dict[str, Any]:
        """The config that the run recorded, in the names of this version. Raises InputError as `written` does."""
        return in_todays_names(self.written)

    def cfg(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Build the config with which the run goes on: its own, with what the resuming command decides.

        Raises InputError where that cannot be read.
        """
        return self.recorded | {key: command[key] for key in FROM_COMMAND}

    def place(self, root: Path) -> RunLocation:
        """Find where the run stands, with the overrides that it was started with.

        Raises InputError where they cannot be read.
        """
        return RunLocation(root, self.folder, self.read("overrides.yaml", list))

    def read(self, file: str, kind: type[Tree]) -> Tree:
        """Read a YAML file that the run has left. Raises InputError where it is missing, or holds something else."""
        path = self.folder / file
        try:
            found = from_yaml(path.read_text(encoding="utf-8"))
            if isinstance(found, kind):
                return found
            reason = f"it holds no {kind.__name__}"
        except (OSError, ValueError, YAMLError) as error:
            reason = str(error)
        raise InputError(f"{path}: it cannot be read ({reason}); begin the run anew")

    @property
    def checkpoint(self) -> Path | None:
        """The file from which its training goes on; None where it begins anew."""
        path = self.folder / "checkpoints" / "last.ckpt"
        return path if path.exists() else None
