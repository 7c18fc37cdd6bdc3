"""Records of an earlier version, which it has left in `old/`: gone on with, done again, delivered and reported.

`killed` was interrupted by SIGKILL after three of six epochs; `table` has FINISHED; of the sweep `sweep` the third job
is missing; `study` is a study. Of a text column with two values (`kind`) both were features then.
"""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import choices, config, train_here
from hydra.utils import get_class
from omegaconf import OmegaConf

from shrinkage.errors import InputError
from shrinkage.machine.secrets import masked_values
from shrinkage.old_configs import in_todays_names
from shrinkage.report.choice import choose
from shrinkage.runs import identity
from shrinkage.runs.folder import Earlier
from shrinkage.runs.membership import VARIABLE, Membership
from shrinkage.runs.resume import take_over
from shrinkage.runs.yaml_text import yaml_text
from shrinkage.tracking.delivery import Delivery
from shrinkage.tracking.journal import KEPT
from shrinkage.tracking.store import JOURNAL, open_store
from shrinkage.tracking.story import Reader, Story

OLD = Path(__file__).with_name("old")
SWEEP = (
    *("data=table", "data.path=houses.csv", "data.target=price", "data.test=0.2", "data.batch_size=null"),
    *("penalty=l1", "trainer.max_epochs=3", "optimizer.lr=0.1", "progress=false", "lambd=0.03,0.1,0.3"),
)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The folder in which ann has worked, moved here."""
    folder = tmp_path / "home/ann"
    shutil.copytree(OLD, folder)
    (folder / "killed/checkpoints").mkdir()
    packed = folder / "killed/last.ckpt.gz"
    (folder / "killed/checkpoints/last.ckpt").write_bytes(gzip.decompress(packed.read_bytes()))
    results = folder / "sweep/results.jsonl"
    results.write_text(results.read_text().replace("/home/ann", str(folder)))
    return folder


def coefficients(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "coefficients.csv", keep_default_na=False)


def assert_same_model(ours: Path, theirs: Path) -> None:
    """The same features in the same order, and their coefficients to single precision."""
    assert list(coefficients(ours)["feature"]) == list(coefficients(theirs)["feature"])
    np.testing.assert_allclose(coefficients(ours)["weight"], coefficients(theirs)["weight"], rtol=1e-4, atol=1e-6)


def test_a_run_that_was_killed_goes_on_from_its_checkpoint(old: Path) -> None:
    folder = old / "killed"
    journal, written = old / "journals" / f"{Story.of(folder / KEPT).id}.journal", (folder / "config.yaml").read_text()
    store = f"tracking.uri=sqlite:///{old}/mlflow.db"
    done = train_here("tracking=mlflow", "tracking.offline=true", store, "resume=killed", "progress=false", cwd=old)
    assert done.returncode == 0, done.stderr
    events = list(Reader(journal).events())
    assert events[-1]["event"] == "end" and events[-1]["status"] == "FINISHED"
    resumed = [event["event"] for event in events].index("resume")
    steps = [event["step"] for event in events[resumed:] if "train/loss" in event.get("metrics", {})]
    assert steps[:3] == [4, 5, 6]  # and not from the beginning
    # MLflow lets nobody change a param, so those of a run that goes on stay in the names that it began with.
    params = [event["params"] for event in events if event["event"] == "params"]
    assert len(params) == 2
    assert all(params[0][name] == value for name, value in params[1].items() if not name.startswith("tracking"))
    assert (folder / "config.yaml").read_text() == written


def test_a_finished_run_is_done_again_and_comes_to_the_same_model(old: Path) -> None:
    done = train_here("rerun=table", "progress=false", "hydra.run.dir=again", cwd=old)
    assert done.returncode == 0, done.stderr
    assert_same_model(old / "again", old / "table")
    recorded = OmegaConf.load(old / "again/config.yaml").data
    assert recorded.encoding == "all" and recorded.separator == "comma" and recorded.fold_column is None


@pytest.mark.parametrize("how", [["resume_sweep=sweep"], ["skip_finished=true", "hydra.sweep.dir=another"]])
def test_a_sweep_goes_on_with_what_its_jobs_were(how: list[str], old: Path) -> None:
    done = train_here("hydra.mode=MULTIRUN", *SWEEP, *how, cwd=old)
    assert done.returncode == 0, done.stderr
    assert "2 runs had FINISHED and are taken as they are" in done.stdout
    assert "data.encoding=all" in done.stderr  # which this version would not choose by itself
    assert "λ.min" in done.stdout  # one answer of runs of both versions
    results = Membership.of(old / "sweep").results()
    assert {(result["params"]["lambd"], result["status"]) for result in results} == {
        (lambd, "FINISHED") for lambd in ("0.03", "0.1", "0.3")
    }
    (new,) = [Path(result["folder"]) for result in results if result["params"]["lambd"] == "0.3"]
    assert list(coefficients(new)["feature"]) == list(coefficients(old / "sweep/0")["feature"])
    again = train_here("hydra.mode=MULTIRUN", *SWEEP, *how, cwd=old)
    assert again.returncode == 0 and "3 runs had FINISHED" in again.stdout, again.stderr


def test_a_sweep_of_today_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its fingerprint: that of a config with a secret in it is not the one of its masked copy."""
    monkeypatch.setenv(VARIABLE, "")  # which `announce` sets
    Membership(tmp_path, None, 1).announce([])
    (tmp_path / "0").mkdir()
    about = json.dumps({"id": None, "name": "a run", "fingerprint": "0123456789abcdef", "sweep": str(tmp_path)})
    (tmp_path / "0/run.json").write_text(about)
    cfg = config("data=table", "data.path=a.csv", "data.target=y")
    (tmp_path / "0/config.yaml").write_text(yaml_text(identity.recorded(cfg)))
    assert take_over(tmp_path, cfg.data, []) == []
    assert (tmp_path / "0/run.json").read_text() == about


def test_a_study_says_how_it_is_done_again(old: Path) -> None:
    done = train_here("rerun=study", "progress=false", cwd=old)
    assert done.returncode == 1 and "a study is done again by its experiment, forum_table" in done.stderr
    target = Earlier.of(old / "study").recorded["study"]["_target_"]
    assert get_class(target).__name__ == "ForumTable"


def test_a_record_is_known_by_the_name_that_it_was_given(old: Path) -> None:
    """The hash of a config without keys that mean something else today has stayed."""
    earlier = Earlier.of(old / "killed")
    assert identity.fingerprint(earlier.recorded) == earlier.fingerprint


@pytest.mark.parametrize("data", choices("data"))
def test_a_config_of_today_is_left_as_it_is(data: str) -> None:
    given = ["data.path=a.csv", "data.target=y"] if data in ("table", "stream", "images", "text") else []
    given = given[:1] if data in ("images", "text") else given
    recorded = identity.recorded(config(f"data={data}", *given))
    assert in_todays_names(recorded) == recorded


def test_a_journal_of_then_is_delivered(old: Path) -> None:
    store = open_store(f"sqlite:///{old}/mlflow.db", "shrinkage", old / "mlartifacts")
    delivery = Delivery(store, old / "table" / KEPT, fresh=False)
    delivery.end("KILLED", 0)
    run = store.client.get_run(delivery.run_id)
    assert run.info.status == "FINISHED" and run.data.tags[JOURNAL] == delivery.id
    assert run.data.params["data._target_"] == "shrinkage.data.table.TableFile"
    assert run.data.metrics["val/r2"] > 0


def test_a_sweep_of_then_is_reported_with_each_metric_in_its_direction(old: Path) -> None:
    """Its runs do not say which of their metrics are better when larger."""
    lines = (old / "sweep/results.jsonl").read_text().splitlines()
    results = [json.loads(line) for line in lines]
    best = {name: pick(result["metrics"][name] for result in results) for name, pick in DIRECTIONS.items()}
    for name, value in best.items():
        assert choose(results, name).winner.mean == pytest.approx(value), name


def test_runs_of_both_versions_are_compared_by_what_they_meant(old: Path) -> None:
    """As a report of an experiment finds them in a store, where each has the params that its version recorded."""
    runs = [json.loads(line) for line in (old / "sweep/results.jsonl").read_text().splitlines()]

    def of_today(*overrides: str) -> dict:
        cfg = config(*(line for line in SWEEP if not line.startswith("lambd=")), "lambd=0.3", *overrides)
        params = masked_values(identity.params(identity.recorded(cfg)))
        return runs[0] | {"name": "today's", "params": params, "metrics": runs[0]["metrics"] | {"lambd": 0.3}}

    same = of_today("data.encoding=all")  # how the file was read differs in words, and its rows are the same
    answer = choose([*runs, same])
    assert len(answer.settings) == 1 and answer.winner.values == 3
    with pytest.raises(InputError, match=r"data\.encoding is all in 2 runs, auto in 1 runs"):
        choose([*runs, of_today()])
    with pytest.raises(InputError, match=r"data\.separator is auto in 1 runs, comma in 2 runs"):
        choose([*runs, same | {"tags": same["tags"] | {"data.digest": "of other rows"}}])


DIRECTIONS = {"val/loss": min, "val/r2": max, "val/rmse": min}
