"""hydra/launcher=lanes: Hydra's own conformance suite, and whole sweeps through the command line."""

import pickle
import subprocess
from pathlib import Path

import pytest
from conftest import CONF, family, statuses, train_py
from hydra import version
from hydra.core.utils import JobStatus
from hydra.test_utils.launcher_common_tests import BatchedSweeperTestSuite, LauncherTestSuite
from mlflow.tracking import MlflowClient
from omegaconf import OmegaConf

SUITE = [("lanes", [f"hydra.searchpath=[file://{CONF}]"])]


@pytest.fixture(autouse=True)
def the_behaviour_that_the_suite_expects() -> None:
    """A job's folder is its working folder, as before Hydra 1.2."""
    version.setbase("1.1")


@pytest.mark.parametrize(("launcher_name", "overrides"), SUITE)
class TestLauncher(LauncherTestSuite):
    pass


@pytest.mark.parametrize(
    ("launcher_name", "overrides"), [(SUITE[0][0], [*SUITE[0][1], "hydra.sweeper.max_batch_size=2"])]
)
class TestBatches(BatchedSweeperTestSuite):
    pass


def sweep(store: Path, *arguments: str) -> subprocess.CompletedProcess:
    return train_py("-m", "hydra/launcher=lanes", *arguments, cwd=store.parent, store=store)


def test_a_lane_has_the_record_that_a_run_has(store: Path, tmp_path: Path) -> None:
    """λ = 0 and 3 as lanes, then as jobs of their own: the same params, tags, metrics and artifacts."""
    arguments = (
        "tracking.history=all",
        "lambd=0,3",
        "penalty=l1",
        "seed=1",
        "trainer.max_epochs=22",
        "data=diabetes",
    )
    done = sweep(store, *arguments)
    assert done.returncode == 0, done.stderr
    _, lanes = family(store)
    other = tmp_path / "other"
    other.mkdir()
    done = train_py("-m", *arguments, cwd=other, store=other / "mlflow.db")
    assert done.returncode == 0, done.stderr
    _, jobs = family(other / "mlflow.db")
    lanes, jobs = ({run.info.run_name: run for run in found} for found in (lanes, jobs))
    assert lanes.keys() == jobs.keys() and len(jobs) == 2
    clients = [MlflowClient(f"sqlite:///{path}") for path in (store, other / "mlflow.db")]
    own = {"mlflow.parentRunId", "shrinkage.journal", "folder", "process.pid", "process.started", "process.heartbeat"}
    for name, lane in lanes.items():
        job = jobs[name]
        assert lane.info.status == job.info.status == "FINISHED"
        for part in ("params", "tags"):
            ours, theirs = ({k: v for k, v in getattr(run.data, part).items() if k not in own} for run in (lane, job))
            assert ours == theirs
        assert lane.data.tags.keys() == job.data.tags.keys()
        assert lane.data.metrics == pytest.approx(job.data.metrics, rel=1e-4, abs=1e-6)
        assert [d.dataset.digest for d in lane.inputs.dataset_inputs] == [
            d.dataset.digest for d in job.inputs.dataset_inputs
        ]
        files, steps = [], []
        for client, run in zip(clients, (lane, job), strict=True):
            files.append(
                [f.path for folder in ("", "checkpoints") for f in client.list_artifacts(run.info.run_id, folder)]
            )
            steps.append([point.step for point in client.get_metric_history(run.info.run_id, "val/r2")])
        assert files[0] == files[1] and "checkpoints/last.ckpt" in files[0] and steps[0] == steps[1]
    (folder,) = (tmp_path / "multirun").glob("*/*")
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"0", "1"}
    # Hydra's configs are kept once for each kind of job, the job's own values always.
    assert {path.name for path in (folder / "0" / ".hydra").iterdir()} == {
        "config.yaml",
        "hydra.yaml",
        "overrides.yaml",
    }
    assert not (folder / "1" / ".hydra").exists()
    for job in range(2):
        overrides = OmegaConf.load(folder / str(job) / "overrides.yaml")
        assert OmegaConf.load(folder / str(job) / "config.yaml").lambd == int(overrides[1][-1])


def test_hydras_configs_and_callbacks_of_every_lane_where_they_are_asked_for(store: Path) -> None:
    arguments = ("lambd=0,3", "trainer.max_epochs=1", "tracking=none", "hydra.output_subdir=hydra")
    done = sweep(store, *arguments, "+hydra.callbacks.own._target_=hydra.experimental.callbacks.PickleJobInfoCallback")
    assert done.returncode == 0, done.stderr
    (folder,) = (store.parent / "multirun").glob("*/*")
    for job, lambd in enumerate((0, 3)):
        kept = folder / str(job) / "hydra"
        assert OmegaConf.load(kept / "config.yaml").lambd == lambd
        assert OmegaConf.load(kept / "hydra.yaml").hydra.runtime.output_dir == str(folder / str(job))
        assert OmegaConf.load(kept / "overrides.yaml")[0] == f"lambd={lambd}"
        assert pickle.loads((kept / "config.pickle").read_bytes()).lambd == lambd
        returned = pickle.loads((kept / "job_return.pickle").read_bytes())
        assert returned.status is JobStatus.COMPLETED and returned.return_value > 0 and returned.cfg.lambd == lambd


def test_groups_failures_and_single_jobs_in_one_sweep(store: Path) -> None:
    """Two models make two groups, trained in parts of two and one; λ = −1 fails by itself, and so does divergence."""
    done = sweep(
        store,
        "lambd=0,-1,1,900",
        "model=linear,mlp",
        "penalty=l2",
        "trainer.max_epochs=25",
        "hydra.launcher.max_lanes=2",
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    parent, children = family(store)
    assert parent.info.status == "FAILED" and statuses(children) == {"FINISHED": 4, "FAILED": 4}
    for run in children:
        error = {"-1": "λ must be ≥ 0", "900": "diverged"}.get(run.data.params["lambd"])
        assert error is None or error in run.data.tags["error"]
        history = MlflowClient(f"sqlite:///{store}").get_metric_history(run.info.run_id, "val/loss")
        assert error is not None or ([history[0].step, history[-1].step] == [0, 25] and len(history) == 20)
    assert "4 of 8 runs FINISHED" in done.stdout
    assert done.stderr.count("FAILED: ") == 2 and "2 groups" in done.stderr
    assert "FAILED, 2 runs: lambd=-1: λ must be ≥ 0" in done.stderr  # one cause, said once


def test_dropout_runs_one_by_one_and_says_so(store: Path) -> None:
    done = sweep(store, "lambd=0,1", "model=mlp", "model.dropout=0.5", "trainer.max_epochs=1", "tracking=none")
    assert done.returncode == 0, done.stderr
    assert "2 jobs are trained one by one: the model draws random numbers" in done.stderr
    assert "2 of 2 runs FINISHED" in done.stdout
