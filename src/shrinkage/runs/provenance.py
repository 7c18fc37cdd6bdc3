"""Where a run came from."""

import contextlib
import functools
import getpass
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("shrinkage", "torch", "lightning", "hydra-core", "mlflow", "scikit-learn", "numpy", "pandas")


def run_tags(root: Path, overrides: list[str]) -> dict[str, str]:
    """Collect the tags that say where a run came from: user and source as MLflow names them, the overrides, the git
    commit and whether the tree was clean, versions and the kind of machine.
    """
    found = {
        "mlflow.user": getpass.getuser(),
        "mlflow.source.name": "train.py",
        "mlflow.source.type": "LOCAL",
        "overrides": " ".join(overrides),
    }
    return found | commit(root) | versions()


@functools.cache  # what runs is what was imported: a commit made meanwhile is not it
def commit(root: Path) -> dict[str, str]:
    """Read the git commit of a folder and whether its tree was clean; no tags where there is no repository."""
    try:
        head, changes = (
            subprocess.run(["git", "-C", root, *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.CalledProcessError):
        return {}  # no git, or no repository
    return {"mlflow.source.git.commit": head, "git.clean": str(not changes).lower()}


@functools.cache
def versions() -> dict[str, str]:
    """Collect what may change a result from outside of the project, as tags `version.NAME`."""
    found = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return {f"version.{name}": value for name, value in found.items()}
