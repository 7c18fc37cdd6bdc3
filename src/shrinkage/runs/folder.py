"""A run's folder: where it stands, and what a run that was begun before has left there."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from shrinkage import config
from shrinkage.errors import InputError
from shrinkage.tracking.journal import KEPT, SUFFIX

from .identity import FROM_COMMAND
from .old_configs import in_todays_names
from .yaml_text import from_yaml

ABOUT = "run.json"  # in a run's folder: by which it is found again


@dataclass(frozen=True)
class Place:
    """Where a run stands: the folder of train.py, the run's own folder, and the overrides that it was started with."""

    root: Path
    folder: Path
    overrides: list[str]

    @classmethod
    def of_this_job(cls) -> "Place":
        """Find where Hydra has placed the run of this process; without Hydra it is a new folder under outputs/."""
        if not HydraConfig.initialized():
            return cls(Path.cwd(), Path("outputs") / f"{datetime.now():%Y-%m-%d/%H-%M-%S-%f}", [])
        hydra = HydraConfig.get()
        return cls(config.root_of(hydra), Path(hydra.runtime.output_dir), list(hydra.overrides.task))


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
            sweep = about["sweep"]
            return cls(folder, about["name"], about["id"], about["fingerprint"], None if sweep is None else Path(sweep))
        except FileNotFoundError:
            raise InputError(
                f"{folder}: no run has left {ABOUT} there; give the folder, the id or the name of one"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{folder / ABOUT}: it cannot be read ({error}); begin the run anew") from error

    def journal(self, home: Path) -> Path | None:
        """Find the run's journal, among those that wait or in its own folder; None where it was not tracked."""
        paths = [home / "journals" / f"{self.id}{SUFFIX}", self.folder / KEPT]
        found = [path for path in paths if self.id is not None and path.exists()]
        return found[0] if found else None

    @property
    def written(self) -> dict:
        """The config that the run recorded, as it stands in its folder."""
        return from_yaml((self.folder / "config.yaml").read_text(encoding="utf-8"))

    @property
    def recorded(self) -> dict:
        """The config that the run recorded, in the names of this version."""
        return in_todays_names(self.written)

    def cfg(self, command: DictConfig) -> DictConfig:
        """Build the config with which the run goes on: its own, with what the resuming command decides."""
        cfg = OmegaConf.create(self.recorded)
        with open_dict(cfg):
            for key in FROM_COMMAND:
                cfg[key] = command[key]
        return cfg

    def place(self, root: Path) -> Place:
        """Find where the run stands, with the overrides that it was started with."""
        overrides = from_yaml((self.folder / "overrides.yaml").read_text(encoding="utf-8"))
        return Place(root, self.folder, overrides)

    @property
    def checkpoint(self) -> Path | None:
        """The file from which its training goes on; None where it begins anew."""
        path = self.folder / "checkpoints" / "last.ckpt"
        return path if path.exists() else None
