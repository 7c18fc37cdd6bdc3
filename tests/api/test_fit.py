"""A run by a call: what it records is what the command records, and bad input is an InputError."""

import _thread
import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import train_py, wait_for
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

import shrinkage
from shrinkage import InputError
from shrinkage.tracking.source import INTERCEPT
from shrinkage.tracking.story import Story

OVERRIDES = ("data=diabetes", "penalty=l1", "lambd=0.1", "trainer.max_epochs=3", "progress=false")
# Tags that name where, when and by which command a run was made.
HOW_STARTED = ("process.", "shrinkage.journal", "folder", "mlflow.source.", "git.")


@pytest.fixture
def here(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a store of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
    return tmp_path


@pytest.fixture
def frame() -> pd.DataFrame:
    """Eighty rows with columns of each type, and a price."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(80, 2))
    kind = pd.Categorical(draw.choice(["x", "y", "z"], 80))
    return pd.DataFrame({"a": x[:, 0], "it's, so": x[:, 1], 3: draw.random(80) > 0.5, "kind": kind}).assign(
        price=10 + x @ [1.0, 2.0]
    )


def stored(client: MlflowClient, run: Run) -> dict[str, object]:
    """All that the store has of a run but what names how it was started."""
    points = {
        (name, point.step, point.value)
        for name in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, name)
    }
    folder = Path(client.download_artifacts(run.info.run_id, ""))
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    texts = {name: path.read_bytes() for name, path in files.items() if path.suffix in (".csv", ".yaml", ".png")}
    return {
        "status": run.info.status,
        "name": run.info.run_name,
        "points": points,
        "params": run.data.params,
        "tags": {name: value for name, value in run.data.tags.items() if not name.startswith(HOW_STARTED)},
        "inputs": sorted(each.dataset.digest for each in run.inputs.dataset_inputs),
        "files": set(files),
        "texts": texts,
    }


def test_the_record_is_that_of_the_command(here: Path, store: Path) -> None:
    done = train_py(*OVERRIDES, cwd=here, store=store)
    assert done.returncode == 0, done.stderr
    run = shrinkage.fit(*OVERRIDES)
    client = MlflowClient(f"sqlite:///{store}")
    (experiment,) = [each for each in client.search_experiments() if each.name == "shrinkage"]
    ours, its = client.search_runs([experiment.experiment_id])
    assert ours.info.run_id == run.id
    assert stored(client, ours) == stored(client, its)
    histories = [path.read_bytes() for path in here.rglob("history.json")]
    assert len(histories) == 2 and histories[0] == histories[1]
    assert run.metrics == ours.data.metrics and run.params == ours.data.params


def test_a_frame_is_kept_so_that_its_run_can_be_done_again(
    here: Path, frame: pd.DataFrame, capsys: pytest.CaptureFixture
) -> None:
    run = shrinkage.fit("penalty=l1", "lambd=0.03", "trainer=exact", "progress=false", data=frame, target="price")
    table = pd.read_csv(run.folder / "coefficients.csv", keep_default_na=False).set_index("feature")["coefficient"]
    numbers = table[["a", "it's, so"]].to_numpy() @ frame[["a", "it's, so"]].to_numpy().T
    others = [table.filter(like="kind").filter(regex=f"{kind}$").sum() for kind in frame["kind"]]
    expected = table[INTERCEPT] + numbers + table.filter(regex="^3").sum() * frame[3].to_numpy() + others
    predicted = run.predict(frame.rename(columns=str).drop(columns="price"))["prediction"]
    # In single precision, of values around 10 whose terms are as large.
    assert predicted.to_numpy() == pytest.approx(expected, abs=100 * 10 * np.finfo(np.float32).eps)
    (file,) = (here / "outputs" / "data").iterdir()
    assert run.params["data.path"] == str(file)
    shrinkage.fit(f"rerun={run.id}", "progress=false")
    assert "The same: all" in capsys.readouterr().out
    found = shrinkage.runs()
    assert len(found) == 2 and found["data.path"].nunique() == 1
    one = found[found["run_id"] == run.id].iloc[0]
    assert one["lambd"] == 0.03 and one["seed"] == 0 and one["data.drop"] == [] and one["penalty"] == "l1"
    assert one["val/loss"] == run.metrics["val/loss"] and one["data.standardize"] is np.True_


def test_arrays_of_classes_are_predicted_with_probabilities(here: Path) -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(60, 2))
    y = np.where(x[:, 0] + 0.1 * draw.normal(size=60) > 0, "yes", "no")
    run = shrinkage.fit("lambd=0.01", "trainer.max_epochs=20", "tracking=none", "progress=false", data=(x, y))
    assert run.id is None
    found = run.predict(x)
    p = found[["probability_no", "probability_yes"]].to_numpy()
    assert p.sum(axis=1) == pytest.approx(1) and (found["prediction"] == y).mean() > 0.9
    assert (np.array(["no", "yes"])[p.argmax(axis=1)] == found["prediction"]).all()
    network = run.module.model
    assert len(run.figure().axes) >= 2 and network.weight.shape == (1, 2)
    with pytest.raises(InputError, match=r"rows of shape \(60, 1\)"):
        run.predict(x[:, :1])


def test_counts_are_predicted_as_rates(here: Path) -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(60, 2))
    y = draw.poisson(np.exp(x[:, 0]))
    overrides = ("task=poisson", "trainer=exact", "penalty=l1", "lambd=0.01", "tracking=none", "progress=false")
    run = shrinkage.fit(*overrides, data=(x, y))
    table = pd.read_csv(run.folder / "coefficients.csv", keep_default_na=False).set_index("feature")["coefficient"]
    logarithm = table[INTERCEPT] + x @ table.drop(INTERCEPT).to_numpy()
    # In single precision, of logarithms of a few.
    assert run.predict(x)["prediction"].to_numpy() == pytest.approx(np.exp(logarithm), rel=10 * 2**-23)


def test_a_composed_config_is_taken_as_it_is(here: Path) -> None:
    values = ("tracking=none", "progress=false", "trainer.max_epochs=2", "lambd=0.5")
    with initialize_config_module("shrinkage.conf", version_base="1.3"):
        known = GlobalHydra.instance().hydra
        whole = compose("train", list(values), return_hydra_config=True)
        without = compose("train", list(values))
        by_config = shrinkage.fit(whole)
        by_words = shrinkage.fit(*values)
        assert known is not None and GlobalHydra.instance().hydra is known
    assert by_config.metrics == by_words.metrics and by_config.record.fingerprint == by_words.record.fingerprint
    assert by_config.name == by_words.name
    with pytest.raises(InputError, match="return_hydra_config=True"):
        shrinkage.fit(without)
    with pytest.raises(InputError, match="compose it with these values"):
        shrinkage.fit(whole, "lambd=3")


def test_ctrl_c_ends_the_run_and_leaves_the_process_as_it_was(here: Path) -> None:
    def interrupt() -> None:
        wait_for(lambda: any(b'"step": 3,' in path.read_bytes() for path in here.rglob("*.journal")), 60, every=0.01)
        _thread.interrupt_main()

    handler, threads = signal.default_int_handler, torch.get_num_threads()
    before = signal.signal(signal.SIGINT, handler)  # Lightning's, of an interruption in another test, may ignore it
    try:
        with ThreadPoolExecutor(1) as pool:
            interrupting = pool.submit(interrupt)
            with pytest.raises(KeyboardInterrupt):
                shrinkage.fit("tracking.offline=true", "progress=false", "trainer.max_epochs=5000")
            interrupting.result()
        assert signal.getsignal(signal.SIGINT) is handler and torch.get_num_threads() == threads
    finally:
        signal.signal(signal.SIGINT, before)
    (journal,) = here.rglob("*.journal")
    assert Story.of(journal).status == "KILLED"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("lambd=-1",), "lambd=-1: λ must be ≥ 0"),
        (("penalty=nope",), "Could not find 'penalty/nope'"),
        (("lambd=1,2",), "Ambiguous value"),
        (("lambd",), "an override is key=value"),
        (("experiment=choose",), "these values make a sweep"),
        (("experiment=bayes",), "a study is a command"),
        (("optimizer.nope=3",), "Could not override 'optimizer.nope'"),
        (("resume=outputs", "lambd=3"), "leave them out"),
        (("resume=nope",), "there is no store"),
    ],
)
def test_bad_overrides(overrides: tuple[str, ...], words: str, here: Path) -> None:
    with pytest.raises(InputError, match=words):
        shrinkage.fit(*overrides)
    assert not list(here.rglob("run.json"))


def test_bad_data(here: Path, frame: pd.DataFrame) -> None:
    for data, target, words in (
        (frame, "cost", "target='cost': no column has this name"),
        (frame, None, "which column is to be predicted"),
        (None, "price", "of which data"),
        ([1, 2], "price", "must be a DataFrame"),
        ((np.ones(3), np.ones(3)), None, "X has a row and y a value"),
        (frame.assign(mixed=[1, "a"] * 40), "price", "column mixed"),
        (frame.assign(a=np.nan), "price", "missing values"),
        (frame.assign(**{"3": 1.0}), "price", "several columns are called '3'"),
    ):
        with pytest.raises(InputError, match=words):
            shrinkage.fit("tracking=none", "progress=false", data=data, target=target)
    with pytest.raises(InputError, match="there is no store"):
        shrinkage.runs()


def test_a_choice_refuses_bad_input(here: Path, frame: pd.DataFrame) -> None:
    for overrides, given, words in (
        ([], {"target": "cost"}, "no column has this name"),
        ([], {"folds": 1}, "folds=1: must be a whole number, 2 or more"),
        ([], {"refit": "best"}, "must be min"),
        (["penalty=nope"], {}, "Could not find 'penalty/nope'"),
        (["hydra.sweeper.num=1"], {}, r"hydra\.sweeper\.num=1"),  # which the sweep's own process says
    ):
        with pytest.raises(InputError, match=words):
            shrinkage.choose(frame, *overrides, **{"target": "price"} | given)


def test_importing_is_light_and_the_names_are_there() -> None:
    heavy = ["torch", "lightning", "hydra", "omegaconf", "mlflow", "pandas", "numpy", "yaml", "psutil"]
    program = f"""
import sys, json, shrinkage
early = [name for name in {heavy} if name in sys.modules]
import shrinkage.fit, shrinkage.runs.folder
print(json.dumps([early, [type(each).__name__ for each in (shrinkage.fit, shrinkage.runs, shrinkage.track)]]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[], ["function"] * 3]
    assert all(callable(getattr(shrinkage, name)) for name in shrinkage.WHERE) and shrinkage.WHERE.keys() < {
        *dir(shrinkage)
    }
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        shrinkage.nope  # noqa: B018
