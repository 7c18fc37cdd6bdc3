"""Which store is meant, told without importing MLflow."""

import os
from pathlib import Path

from shrinkage.machine.secrets import masked

# For MLflow, unless the user has chosen otherwise.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # nothing leaves this machine
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # a server that is gone is not waited for
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # one for each of a hundred small files
}

# In addresses of MLflow's page: the side of it that is for models, not for prompts; the view of a sweep's jobs.
MODEL_TRAINING, JOBS_OF = "workflowType=machine_learning", "jobs-"


def store_uri(configured: str | None, root: Path) -> str:
    """Find which store is meant: tracking.uri, else MLFLOW_TRACKING_URI, else `mlflow.db` in the root folder."""
    return configured or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root.resolve() / 'mlflow.db'}"


def sqlite_path(uri: str) -> Path | None:
    """Find the file of a SQLite URI; None for any other."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(uri.removeprefix("sqlite:///").split("?")[0])


def home(uri: str, root: Path) -> Path:
    """Find the folder that holds journals and a local store's artifacts: the SQLite file's own, else the root."""
    path = sqlite_path(uri)
    return (path.parent if path else root).resolve()


def without_password(uri: str) -> str:
    """Replace user:password@ in a URI by ***@, so that it may be shown."""
    return masked(uri)


def run_page(experiment_id: str, run_id: str, file: str | None = None) -> str:
    """Build the address of a run on MLflow's page, or of a file among its artifacts, from the page's root."""
    within = "" if file is None else f"/artifacts/{file}"
    return f"#/experiments/{experiment_id}/runs/{run_id}{within}?{MODEL_TRAINING}"


def jobs_page(experiment_id: str, sweep: str) -> str:
    """Build the address of the runs that stand under a sweep's own run on MLflow's page, sorted by λ."""
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={JOBS_OF}{sweep}&{MODEL_TRAINING}"
