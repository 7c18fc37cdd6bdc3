"""The folders of files that MLflow once kept runs in."""

import shlex
from pathlib import Path
from urllib.parse import unquote

from .schema import SQLiteTables
from .sqlite import has_content, looking


def folder_of(uri: str) -> Path:
    """Find the folder that a tracking URI of files, or a path, means."""
    return Path(unquote(uri.removeprefix("file://").removeprefix("file:")))


def successor(folder: Path) -> Path:
    """Name the SQLite file that the runs of such a folder are moved into."""
    return folder.with_name(f"{folder.name}.db")


def has_runs(folder: Path) -> bool:
    """Tell whether it is such a folder: a client of a database makes one of the same name for artifacts alone."""
    return any(folder.glob("*/meta.yaml"))


def is_migrated(folder: Path) -> bool:
    """Tell whether the runs of such a folder are in its SQLite file already."""
    target = successor(folder)
    if not has_content(target):
        return False
    with looking(target) as connection:
        tables = SQLiteTables(connection)
        return "experiments" in tables.columns() and bool(tables.rows("SELECT 1 FROM experiments LIMIT 1"))


def migration(folder: Path) -> str:
    """Build the command that moves the runs of such a folder into a SQLite file."""
    source = folder.parent if folder.name == "mlruns" else folder
    target = f"sqlite:///{successor(folder)}"
    return shlex.join(["mlflow", "migrate-filestore", "--source", str(source), "--target", target])
