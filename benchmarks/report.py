"""How long the report of many runs takes: python benchmarks/report.py [--runs 10000] [--keep FOLDER]

Makes a real SQLite store with so many finished runs under one parent (two penalties, five folds, twenty seeds, a path
of λ's, each with the params, metrics, tags and data sets of a run of diabetes) and reports the experiment and the
sweep, each in a process of its own, with its seconds and its peak memory.
"""

import argparse
import json
import math
import os
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import closing
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

PENALTIES, FOLDS, SEEDS = ("l1", "l2"), 5, 20
FEATURES = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
CURVES = ("train/loss", "val/loss")
STEPS = (0, 1, 3, 10, 30, 100)


def run_of(penalty: str, lambd: float, fold: int, seed: int) -> tuple[dict, dict, dict]:
    """Params, metrics and tags as a run of diabetes has them."""
    params = {f"trainer.option_{number}": "None" for number in range(20)}
    params |= {f"model.option_{number}": "0.01" for number in range(10)}
    params |= {
        "data": "diabetes", "data._target_": "shrinkage.data.diabetes.Diabetes", "data.val": "0.2", "data.test": "0.2",
        "data.seed": "0", "data.folds": str(FOLDS), "data.fold": str(fold), "data.repeat": "0",
        "model": "linear", "optimizer": "sgd", "optimizer.lr": "0.01", "penalty": penalty, "penalty.scope": "weights",
        "penalty._target_": f"shrinkage.penalties.{penalty}", "penalty.mode": {"l1": "prox", "l2": "loss"}[penalty],
        "data.batch_size": "None", "lambd": str(lambd), "seed": str(seed), "step_unit": "epoch",
    }  # fmt: skip
    decade = math.log10(lambd)
    loss = 0.25 + 0.02 * (decade + 1.5) ** 2 + 0.01 * fold + random.gauss(0, 0.002)
    metrics = {f"other/{number}": random.random() for number in range(18)}
    metrics |= {
        "lambd": lambd, "log10_lambd": decade, "train/loss": loss - 0.03, "val/loss": loss, "val/r2": 1 - loss,
        "train/penalty": 0.01, "train/objective": loss - 0.02, "weight/l1": 1 / (1 + lambd), "weight/zeros": 0.0,
        "weight/l2": 1 / (1 + lambd), "optimum/gap": 1e-7, "optimum/duality_gap": 2e-7, "optimum/objective": loss,
    }  # fmt: skip
    tags = {f"equivalent.{number}": "Ridge(alpha=7.92)" for number in range(12)}
    tags |= {"data.digest": "aad2f9cc3843f405", "data.rows.train": "283", "data.rows.val": "71"}
    return params, metrics, tags


def fill(store: Path, runs: int) -> str:
    """A store with its runs, written past MLflow, which takes 35 ms for each; the id of their parent."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{store}")
    experiment = client.create_experiment("shrinkage", artifact_location=(store.parent / "mlartifacts").as_uri())
    parent = client.create_run(experiment, run_name="sweep").info.run_id
    client.set_terminated(parent)
    values = runs // (len(PENALTIES) * FOLDS * SEEDS)
    now = int(1000 * time.time())
    rows: dict[str, list[tuple]] = {name: [] for name in ("runs", "params", "latest", "metrics", "tags", "inputs")}
    with closing(sqlite3.connect(store)) as connection, connection:
        for part in ("train", "val", "test"):
            data = (part, experiment, "diabetes", part, "local", "{}", "{}", "{}")
            connection.execute(
                "INSERT INTO datasets (dataset_uuid, experiment_id, name, digest, dataset_source_type, dataset_source, "
                "dataset_schema, dataset_profile) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                data,
            )
        for number in range(values * len(PENALTIES) * FOLDS * SEEDS):
            rest, value = divmod(number, values)
            rest, penalty = divmod(rest, len(PENALTIES))
            seed, fold = divmod(rest, FOLDS)
            lambd = 10 ** (-4 + 5 * value / max(values - 1, 1))
            params, metrics, tags = run_of(PENALTIES[penalty], lambd, fold, seed)
            run = uuid.uuid4().hex
            name = f"{PENALTIES[penalty]} λ={lambd:.4g} seed={seed} data.fold={fold}"
            tags |= {"mlflow.parentRunId": parent, "mlflow.runName": name}
            artifacts = store.parent / "mlartifacts" / run / "artifacts"
            artifacts.mkdir(parents=True)
            (artifacts / "coefficients.csv").write_text(
                "output,feature,weight,coefficient\n"
                + "".join(f",{f},{j / (1 + lambd)},{j / (1 + lambd)}\n" for j, f in enumerate(FEATURES))
                + ",(intercept),0,152\n"
            )
            rows["runs"].append(
                (run, name, "LOCAL", "root", "FINISHED", now, now, "active", artifacts.as_uri(), experiment)
            )
            rows["params"] += [(key, text, run) for key, text in params.items()]
            rows["latest"] += [(key, number, now, STEPS[-1], 0, run) for key, number in metrics.items()]
            rows["metrics"] += [(k, metrics[k] + 1 / (1 + s), now, s, 0, run) for k in CURVES for s in STEPS]
            rows["tags"] += [(key, text, run) for key, text in tags.items()]
            rows["inputs"] += [(uuid.uuid4().hex, "DATASET", part, "RUN", run) for part in ("train", "val", "test")]
        for statement, name in (
            ("runs (run_uuid, name, source_type, user_id, status, start_time, end_time, lifecycle_stage, artifact_uri, "
             "experiment_id)", "runs"),
            ("params (key, value, run_uuid)", "params"),
            ("latest_metrics (key, value, timestamp, step, is_nan, run_uuid)", "latest"),
            ("metrics (key, value, timestamp, step, is_nan, run_uuid)", "metrics"),
            ("tags (key, value, run_uuid)", "tags"),
            ("inputs (input_uuid, source_type, source_id, destination_type, destination_id)", "inputs"),
        ):  # fmt: skip
            marks = ", ".join("?" * (statement.count(",") + 1))
            connection.executemany(f"INSERT INTO {statement} VALUES ({marks})", rows[name])
    return parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="make store and reports here, and leave them")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (chosen.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        store = folder / "mlflow.db"
        begun = time.perf_counter()
        parent = fill(store, chosen.runs)
        print(f"{chosen.runs} runs written in {time.perf_counter() - begun:.0f} s, {store.stat().st_size >> 20} MiB")
        for what, target in (("the experiment", "shrinkage"), ("the sweep", parent)):
            out = folder / f"report-{what.split()[1]}"
            command = [
                sys.executable,
                "-m",
                "shrinkage.report",
                target,
                "--store",
                f"sqlite:///{store}",
                "--out",
                str(out),
            ]
            begun = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds = time.perf_counter() - begun
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # the largest of the children so far
            answer = json.loads((out / "answer.json").read_text(encoding="utf-8"))
            print(f"{what}: {answer['runs']} runs in {seconds:.1f} s, at most {peak:.0f} MiB")


if __name__ == "__main__":
    main()
