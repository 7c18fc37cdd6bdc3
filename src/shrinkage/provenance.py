"""Where a run came from."""

import functools
import getpass
import subprocess
from pathlib import Path


def run_tags(root: Path, overrides: list[str]) -> dict[str, str]:
    """MLflow's tags for user and source, the command's overrides, the git commit and whether the tree was clean."""
    found = {
        "mlflow.user": getpass.getuser(),
        "mlflow.source.name": "train.py",
        "mlflow.source.type": "LOCAL",
        "overrides": " ".join(overrides),
    }
    return found | commit(root)


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
