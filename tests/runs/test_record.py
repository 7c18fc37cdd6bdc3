"""What a run leaves in a real SQLite store, read back through MLflow; and what becomes of it under many hands."""

import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, config, runs, tracked_here, train_here, train_py
from mlflow.tracking import MlflowClient
from sklearn.datasets import load_diabetes

from shrinkage.boundary import Refused
from shrinkage.data.splits import Rows, Split
from shrinkage.fit import fit
from shrinkage.runs.folder import RunLocation
from shrinkage.runs.record import Record
from shrinkage.tracking.client import Client
from shrinkage.tracking.location import store_uri, without_password
from shrinkage.training.run import build


@pytest.fixture(scope="module")
def l1_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess, Path]:
    folder = tmp_path_factory.mktemp("run")
    arguments = ("data=diabetes", "penalty=l1", "lambd=0.1", "trainer.max_epochs=4")
    return train_py(*arguments, cwd=folder, store=folder / "mlflow.db"), folder / "mlflow.db"


def test_the_whole_record(l1_run: tuple[subprocess.CompletedProcess, Path]) -> None:
    done, store = l1_run
    assert done.returncode == 0, done.stderr
    (run,) = runs(store)
    client = MlflowClient(f"sqlite:///{store}")
    assert run.info.status == "FINISHED" and run.info.run_name == "l1 λ=0.1 seed=0 diabetes trainer.max_epochs=4"
    assert run.info.run_id in done.stdout and "FINISHED" in done.stdout
    assert "above its optimum" in done.stdout

    params = run.data.params
    assert [params[group] for group in ("data", "model", "penalty", "optimizer")] == ["diabetes", "linear", "l1", "sgd"]
    assert (params["lambd"], params["seed"], params["penalty.mode"], params["step_unit"]) == (
        "0.1",
        "0",
        "prox",
        "epoch",
    )

    metrics = run.data.metrics
    assert (metrics["lambd"], metrics["log10_lambd"]) == (0.1, -1.0)
    curves = ["train/loss", "train/penalty", "train/objective", "val/loss", "val/r2", "val/rmse", "val/mae"]
    curves += ["weight/l1", "weight/l2", "weight/half_squared_l2", "weight/linf", "weight/zeros", "bias/l2"]
    for name in curves:
        history = client.get_metric_history(run.info.run_id, name)
        assert [point.step for point in history] == [0, 1, 2, 3, 4], name
    once = ["test/loss", "test/r2", "test/rmse", "test/mae", "lambd", "log10_lambd"]
    once += [f"optimum/{name}" for name in ("duality_gap", "kkt", "objective", "gap", "same_support", "lambda_max")]
    assert all(len(client.get_metric_history(run.info.run_id, name)) == 1 for name in once)
    assert not [name for name in metrics if name.startswith("best/")]  # which early stopping has
    assert metrics["train/penalty"] == pytest.approx(0.1 * metrics["weight/l1"], rel=1e-6)

    tags = run.data.tags
    assert tags["equivalent.sklearn"] == "Lasso(alpha=0.1)" and tags["equivalent.mse"] == "λ = 0.2"
    target = load_diabetes().target
    deviation = target[Split(0.2, 0.2, 0, None, 0, 0, False).parts(Rows(target))["train"]].std()
    assert tags["equivalent.glmnet"] == f"glmnet(alpha=1, lambda={0.1 * deviation:.6g})"
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    assert tags["mlflow.source.git.commit"] == commit and tags["git.clean"] in ("true", "false")
    assert tags["overrides"] == "data=diabetes penalty=l1 lambd=0.1 trainer.max_epochs=4"

    inputs = {i.tags[0].value: i.dataset for i in run.inputs.dataset_inputs}
    assert set(inputs) == {"training", "validation", "testing"}
    assert inputs["training"].name == "diabetes" and len({d.digest for d in inputs.values()}) == 3

    experiment = client.get_experiment(run.info.experiment_id)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    folder = Path(client.download_artifacts(run.info.run_id, ""))
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {
        "config.yaml",
        "overrides.yaml",
        "figures/learning_curves.png",
        "figures/objective.png",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "coefficients.csv",
    }
    resolved = yaml.safe_load((folder / "config.yaml").read_text())
    assert resolved["lambd"] == 0.1 and resolved["choices"]["penalty"] == "l1"
    assert yaml.safe_load((folder / "overrides.yaml").read_text()) == tags["overrides"].split()


def test_nothing_is_left_behind(l1_run: tuple[subprocess.CompletedProcess, Path]) -> None:
    done, store = l1_run
    assert not list((store.parent / "journals").iterdir())
    assert "Traceback" not in done.stderr
    assert {path.name for path in store.parent.iterdir()} - {"mlflow.db-shm", "mlflow.db-wal"} == {
        "journals",
        "mlartifacts",
        "mlflow.db",
        "mlflow.db.lock",
        "outputs",
    }


def test_under_early_stopping_the_last_values_are_those_of_the_weights_that_are_kept(
    tmp_path: Path, store: Path
) -> None:
    overrides = ["data.num_train=10", "model.init=torch", "lambd=0", "optimizer.lr=0.01", "early_stopping.patience=3"]
    done = tracked_here(*overrides, "trainer.max_epochs=300", cwd=tmp_path, store=store)
    assert done.returncode == 0, done.stderr
    (run,) = runs(store)
    history = MlflowClient(f"sqlite:///{store}").get_metric_history(run.info.run_id, "val/loss")
    metrics, last = run.data.metrics, history[-1].step
    assert metrics["val/loss"] == metrics["best/val/loss"] == min(point.value for point in history if point.step)
    assert metrics["best/epoch"] == last - 3 and [point.step for point in history].count(last) == 2


def test_a_failed_run_says_so_and_keeps_its_traceback(tmp_path: Path, store: Path) -> None:
    done = tracked_here("optimizer.lr=5", "trainer.max_epochs=300", cwd=tmp_path, store=store)
    assert done.returncode == 1 and "diverged" in done.stderr and "Traceback" not in done.stderr
    (run,) = runs(store)
    client = MlflowClient(f"sqlite:///{store}")
    assert run.info.status == "FAILED" and "diverged" in run.data.tags["error"]
    assert "traceback.txt" in [artifact.path for artifact in client.list_artifacts(run.info.run_id)]


def test_fit_returns_what_a_sweeper_minimises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = config("trainer.max_epochs=2", "lambd=0.1")
    training = build(cfg, tmp_path)
    training.run()
    measured = training.module.measured
    assert fit(cfg) == measured["val/loss"]
    assert len({measured[name] for name in ("val/loss", "train/loss", "train/objective")}) == 3
    with pytest.raises(Refused, match=r"lambd=-1: λ must be ≥ 0; use penalty=none for no penalty"):
        fit(config("lambd=-1"))


def test_where_the_store_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert store_uri(None, tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert store_uri(None, tmp_path) == "http://127.0.0.1:5000"
    assert store_uri("sqlite:///x.db", tmp_path) == "sqlite:///x.db"
    assert without_password("postgresql://me:secret@db/runs") == "postgresql://***@db/runs"


def test_the_writer_never_adopts_a_run_of_somebody_else_and_sends_no_telemetry(tmp_path: Path, monkeypatch) -> None:
    from shrinkage.tracking.client import writer_environment

    monkeypatch.setenv("MLFLOW_RUN_ID", "somebody-elses")
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    environment = writer_environment()
    assert "MLFLOW_RUN_ID" not in environment and environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    assert writer_environment()["MLFLOW_DISABLE_TELEMETRY"] == "false"


def test_a_broken_store_is_refused_in_one_line(tmp_path: Path, store: Path) -> None:
    store.write_bytes(b"this is no database" * 100)
    done = tracked_here(cwd=tmp_path, store=store)
    assert done.returncode == 1 and "cannot be" in done.stderr and "Traceback" not in done.stderr


def test_a_run_whose_artifact_is_gone_and_whose_param_is_long_says_so(tmp_path: Path, store: Path) -> None:
    client = Client(f"sqlite:///{store}", "shrinkage", tmp_path)
    client.wait_until_ready()
    journal = client.begin("a run", {}, folder=tmp_path / "run")
    journal.params({"data.weight": "0.0123456789," * 600})
    journal.metrics({"val/loss": 0.5}, 0)
    journal.artifact(tmp_path / "run" / "nowhere.txt")
    client.end(journal, "FINISHED")
    assert client.wait_for(journal)
    (run,) = runs(store)
    assert run.info.status == "FINISHED" and run.data.metrics == {"val/loss": 0.5}
    assert run.data.tags["lost.artifacts"] == str(tmp_path / "run" / "nowhere.txt")
    value = run.data.params["data.weight"]
    assert len(value) == 6000 and value.endswith("(cut: config.yaml has all of it)")
    client.process.stdin.close()


@pytest.mark.parametrize(("wished", "kept"), [("all", ["best", "last"]), ("best", ["best"]), ("none", [])])
def test_a_finished_run_keeps_the_checkpoints_that_were_wished(wished: str, kept: list[str], tmp_path: Path) -> None:
    """A job as a lane and by itself; one that was interrupted has all that it needs to go on."""
    two = ("lambd=1,2", "data=diabetes", "trainer.max_epochs=2", f"tracking.checkpoints={wished}")
    for launcher in ("lanes", "basic"):
        done = train_here(*two, f"hydra/launcher={launcher}", f"hydra.sweep.dir={launcher}", "-m", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        for job in ("0", "1"):
            folder = tmp_path / launcher / job / "checkpoints"
            assert sorted(path.stem for path in folder.glob("*")) == kept, folder
    cfg = config(f"tracking.checkpoints={wished}")
    for status, left in (("KILLED", ["best", "last"]), ("FAILED", ["best", "last"]), ("FINISHED", kept)):
        folder = tmp_path / status / "checkpoints"
        folder.mkdir(parents=True)
        for name in ("best", "last"):
            (folder / f"{name}.ckpt").touch()
        Record(cfg, RunLocation(tmp_path, tmp_path / status, []), None).end(status)
        assert sorted(path.stem for path in folder.iterdir()) == left
