"""Where a run came from."""

import contextlib
import functools
import getpass
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGES = ("shrinkage", "torch", "lightning", "hydra-core", "mlflow", "scikit-learn", "numpy", "pandas")

# Whose versions and commit every run has anyway.
KNOWN = {"shrinkage", "shrinkage_studies", "torch", "lightning"}


def run_tags(root: Path, overrides: list[str], cfg: Mapping[str, Any]) -> dict[str, str]:
    """Collect the tags that say where a run of a config came from: its overrides, and what `origin_tags` does.

    cfg: the config, whose classes from outside packages have tags of their own (see `package_tags`).
    """
    source = "train.py" if (root / "train.py").is_file() else "shrinkage"
    found = origin_tags(root, source) | {"overrides": " ".join(overrides)}
    for package in sorted(packages(cfg)):
        found |= package_tags(package)
    return found


def origin_tags(root: Path, source: str) -> dict[str, str]:
    """Collect the tags that say where a run came from: user and source as MLflow names them, the git commit of a folder
    and whether the tree was clean, versions and the kind of machine.
    """
    found = {"mlflow.user": getpass.getuser(), "mlflow.source.name": source, "mlflow.source.type": "LOCAL"}
    return found | commit(root) | versions()


def packages(cfg: Mapping[str, Any]) -> set[str]:
    """Find the packages whose classes a config names by `_target_`, but for those that every run records."""
    found: set[str] = set()
    waiting: list[Any] = [cfg]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            waiting.extend(node.values())
            if isinstance(named := node.get("_target_"), str):
                found.add(named.partition(".")[0])
        elif isinstance(node, list):
            waiting.extend(node)
    return found - KNOWN


@functools.cache
def package_tags(package: str) -> dict[str, str]:
    """Collect the tags of an outside package: `version.NAME`, and where git keeps it `git.commit.NAME` and
    `git.clean.NAME`, whether its tree was clean.
    """
    found: dict[str, str] = {}
    with contextlib.suppress(PackageNotFoundError):
        found[f"version.{package}"] = version(package)
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return found
    file = Path(spec.origin)
    # A package that is installed into a folder of somebody's repository is no part of that.
    kept = git(file.parent, "ls-files", file.name)
    tags = commit(file.parent) if kept else {}
    return found | {f"{name.removeprefix('mlflow.source.')}.{package}": value for name, value in tags.items()}


@functools.cache  # what runs is what was imported: a commit made meanwhile is not it
def commit(root: Path) -> dict[str, str]:
    """Read the git commit of a folder and whether its tree was clean; no tags where there is no repository."""
    head, changes = git(root, "rev-parse", "HEAD"), git(root, "status", "--porcelain", "--untracked-files=no")
    if head is None or changes is None:
        return {}
    return {"mlflow.source.git.commit": head, "git.clean": str(not changes).lower()}


def git(folder: Path, *words: str) -> str | None:
    """Ask git about a folder; None where there is no git, or no repository."""
    try:
        done = subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


@functools.cache
def versions() -> dict[str, str]:
    """Collect what may change a result from outside of the project, as tags `version.NAME`."""
    found = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return {f"version.{name}": value for name, value in found.items()}
