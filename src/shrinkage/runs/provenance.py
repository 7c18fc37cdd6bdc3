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
    """MLflow's tags for user and source, the command's overrides, the git commit and whether the tree was clean, the
    versions and the kind of machine."""
    found = {
        "mlflow.user": getpass.getuser(),
        "mlflow.source.name": "train.py",
        "mlflow.source.type": "LOCAL",
        "overrides": " ".join(overrides),
    }
    return found | commit(root) | versions()


@functools.cache  # what runs is what was imported: a commit made meanwhile is not it
def commit(root: Path) -> dict[str, str]:
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
    """What may change a result from outside of the project, by `version.NAME`."""
    found = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return {f"version.{name}": value for name, value in found.items()}
