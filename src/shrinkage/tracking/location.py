"""Which store is meant, told without importing MLflow."""

import os
import re
from pathlib import Path


def store_uri(configured: str | None, root: Path) -> str:
    """tracking.uri, else MLFLOW_TRACKING_URI, else `mlflow.db` in the root folder, where `mlflow ui` looks."""
    return configured or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root.resolve() / 'mlflow.db'}"


def sqlite_path(uri: str) -> Path | None:
    """The file of a SQLite URI, None for any other."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(uri.removeprefix("sqlite:///").split("?")[0])


def home(uri: str, root: Path) -> Path:
    """The folder that holds journals and a local store's artifacts: the SQLite file's own, else the root."""
    path = sqlite_path(uri)
    return (path.parent if path else root).resolve()


def without_password(uri: str) -> str:
    """The URI as it may be shown: user:password@ becomes ***@."""
    return re.sub(r"//[^/@]+@", "//***@", uri)
