"""A model that a run has written to its folder, logged and registered. Imported only where there is one."""

import hashlib
import json
import re
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow.pyfunc
import pandas as pd
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, Schema, TensorSpec

from shrinkage.names import in_markdown, on_a_line

from .source import describe_tests

NAME = "model"
EXAMPLE = "example"  # which MLflow writes anew
# What `export.write_model` leaves, by the names that `serving.py` has for them.
FILES = {"network": "model.pt2", "preprocessing": "preprocessing.json", "reading": "recipe.py", EXAMPLE: "example.json"}
TYPES = {"number": "double", "integer": "long", "boolean": "boolean", "date": "string", "text": "string"}
CURRENT = "current"  # the alias of the newest version
DIGESTS = "sha256"  # by which `serving.py` knows its files; it stands alone, so the word is in both
DTYPES = {"double": "float64", "long": "int64", "boolean": "bool", "string": "object", "datetime": "datetime64[ns]"}


def save(folder: Path, path: Path, model: Model) -> None:
    """Save what `export.write_model` has written as an MLflow model.

    Its code is `serving.py`, its data are artifacts, which it takes only as they are now.
    """
    description = json.loads((folder / FILES["preprocessing"]).read_text(encoding="utf-8"))
    example = json.loads((folder / FILES[EXAMPLE]).read_text(encoding="utf-8"))["dataframe_split"]
    rows = pd.DataFrame(example["data"], columns=example["columns"], dtype=object)
    types = {column["name"]: type_of(column) for column in description["columns"]}
    kind, targets = "string" if description["classes"] else "double", description["targets"]
    outputs: list[ColSpec | TensorSpec] = [ColSpec(kind, f"prediction_{name}") for name in targets]
    outputs = outputs or [ColSpec(kind, "prediction")]
    outputs += [ColSpec("double", f"probability_{name}") for name in description["classes"]]
    outputs += [ColSpec("double", name) for name in description.get("survival", {}).get("names", ())]
    files = {name: folder / file for name, file in FILES.items() if name != EXAMPLE}
    mlflow.pyfunc.save_model(
        path,
        mlflow_model=model,
        python_model=str(Path(__file__).with_name("serving.py")),
        artifacts={name: str(path) for name, path in files.items()},
        model_config={DIGESTS: {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}},
        signature=ModelSignature(Schema([ColSpec(type, name) for name, type in types.items()]), Schema(outputs)),
        input_example=rows.astype({name: DTYPES[type] for name, type in types.items()}),
        # What serving.py imports. A local version such as +cpu is in no index.
        pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in ("mlflow", "torch", "numpy", "pandas")],
    )


def type_of(column: dict[str, Any]) -> str:
    """Find the type of a column in the model's signature.

    MLflow makes False of a gap in a column of booleans, so one whose cells had gaps is `string`, which lets true,
    false and gaps through as they are.
    """
    if column["kind"] == "boolean" and column["has_gaps"]:
        return "string"
    if column["kind"] == "date" and column["date_format"] is None:
        return "datetime"
    return TYPES[column["kind"]]


def log_model(client: MlflowClient, experiment_id: str, run_id: str, metrics: dict[str, float], folder: Path) -> str:
    """Log a model of the run, with those of the run's metrics that have these values; returns the model's id.

    No run is made active for it, so that the run's status and times stay the journal's. A model that an earlier try
    has left whole is taken.
    """
    of_it = f"source_run_id = '{run_id}'"
    left = client.search_logged_models([experiment_id], filter_string=of_it)
    whole = [model for model in left if model.status == LoggedModelStatus.READY]
    for model in left:
        if model.status != LoggedModelStatus.READY:
            client.delete_logged_model(model.model_id)
    model_id = whole[0].model_id if whole else made(client, experiment_id, run_id, folder)
    measured = []
    for name, value in metrics.items():
        found = [m for m in client.get_metric_history(run_id, name) if m.value == value]
        if found:
            last = max(found, key=lambda metric: metric.step)
            measured.append(Metric(name, value, last.timestamp, last.step, model_id=model_id, run_id=run_id))
    client.log_batch(run_id, metrics=measured)
    step = max((metric.step for metric in measured), default=0)
    client.log_outputs(run_id, [LoggedModelOutput(model_id, step)])
    return model_id


def made(client: MlflowClient, experiment_id: str, run_id: str, folder: Path) -> str:
    """Make a new model of the run with its files; returns its id."""
    params = client.get_run(run_id).data.params
    logged = client.create_logged_model(experiment_id, NAME, source_run_id=run_id, params=params)
    status = LoggedModelStatus.FAILED
    try:
        with TemporaryDirectory() as temporary:
            path = Path(temporary) / NAME
            model = Model(
                artifact_path=logged.artifact_location,
                model_uuid=logged.model_id,
                model_id=logged.model_id,
                run_id=run_id,
            )
            save(folder, path, model)
            client.log_model_artifacts(logged.model_id, str(path))
        status = LoggedModelStatus.READY
    finally:
        client.finalize_logged_model(logged.model_id, status)
    return logged.model_id


def register(client: MlflowClient, run_id: str, model_id: str, name: str) -> str:
    """Register a model as a new version of this name; returns the version."""
    mlflow.set_tracking_uri(client.tracking_uri)  # where MLflow looks for `models:/…`, whatever the client
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    for known in client.search_model_versions(f"run_id = '{run_id}'"):
        if known.name == name and known.model_id == model_id:
            return str(known.version)
    about = client.get_run(run_id).data
    tags = {key: about.params[key] for key in ("penalty", "lambd", "model", "data") if key in about.params}
    words = describe(about.params, about.tags, about.metrics)
    source = f"models:/{model_id}"
    made = client.create_model_version(name, source, run_id=run_id, tags=tags, description=words, model_id=model_id)
    client.update_registered_model(name, words)
    client.set_registered_model_alias(name, CURRENT, str(made.version))
    return str(made.version)


def describe(params: dict[str, str], tags: dict[str, str], metrics: dict[str, float]) -> str:
    """Say what a model predicts, how it was trained and tested, and by which command, as Markdown."""
    target, path = params.get("data.target"), params.get("data.path")
    tests = describe_tests(metrics)
    predicts = f"{in_markdown(target)} of {in_markdown(path)}" if target and path else params.get("data", "")
    sentences = [
        f"Predicts {predicts}: a {params.get('model')} model under penalty={params.get('penalty')} with "
        f"λ = {params.get('lambd')}, trained on {tags.get('data.rows.train', '?')} rows.",
        f"On {tags.get('data.rows.test', '?')} test rows: {tests}." if tests else "It has seen no test rows.",
    ]
    source, overrides = tags.get("mlflow.source.name", ""), tags.get("overrides", "").split(" ")
    words = ["python"] * source.endswith(".py") + [source, *overrides]
    if any(word.startswith("experiment=") for word in overrides):
        words.append("hydra.mode=RUN")  # the experiment may be a sweep, and this was one run
    command = on_a_line(" ".join(words))
    fence = "`" * (1 + max(map(len, re.findall("`+", command)), default=0))  # a block of code would not be wrapped
    return f"{' '.join(sentences)}\n\n{fence} {command} {fence}"
