"""Where a run came from."""

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
    try:
        commit, changes = (
            subprocess.run(["git", "-C", root, *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.CalledProcessError):
        return found  # no git, or no repository
    return found | {"mlflow.source.git.commit": commit, "git.clean": str(not changes).lower()}
