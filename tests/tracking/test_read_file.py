import math
import sqlite3
from pathlib import Path

import pandas as pd
import pytest
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from shrinkage.tracking import read
from shrinkage.tracking.read_file import find_in_file

VALUES = (0.25, math.nan, math.inf, -1e-300)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    """A store's address, with an experiment of runs of every kind under one parent; with it both ids."""
    folder = tmp_path_factory.mktemp("filled")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("all kinds", artifact_location=(folder / "a b&ü").as_uri())
    elsewhere = client.create_experiment("another")
    parent = client.create_run(experiment, run_name="sweep").info.run_id
    children = []
    for number, value in enumerate(VALUES):
        run = client.create_run(
            experiment, start_time=1000 + number % 2, tags={"mlflow.parentRunId": parent}
        ).info.run_id
        points = [Metric(name, value / (1 + s), 7, s) for name in ("train/loss", "val/loss") for s in (2, 0, 1, 1)]
        client.log_batch(run, [*points, Metric("λ", 0.1, 7, 0)], [Param("λ", "0.1")], [RunTag("error", "no")][:number])
        client.set_terminated(run, "FINISHED" if number else "FAILED")
        children.append(run)
    table = folder / "coefficients.csv"
    table.write_text("output,feature,weight,coefficient\n,NA,0.1,0.2\n", encoding="utf-8")
    client.log_artifact(children[0], str(table))
    client.create_run(experiment, tags={"mlflow.parentRunId": parent})  # it still goes on
    deleted = client.create_run(experiment, tags={"mlflow.parentRunId": parent}).info.run_id
    client.delete_run(deleted)
    stranger = client.create_run(elsewhere, tags={"mlflow.parentRunId": parent}).info.run_id
    client.set_terminated(stranger)
    return uri, parent, experiment


def test_the_file_tells_what_mlflow_tells(filled: tuple[str, str, str]) -> None:
    uri, parent, experiment = filled
    client = read.open_to_read(uri)
    for target, runs in ((parent, 5), ("all kinds", 3), (experiment, 3), ("another", 1), ("Default", 0)):
        asked = read.find(client, uri, target)
        found, source = find_in_file(uri, target)
        assert repr(found) == repr(asked)  # NaN is no equal of itself
        assert len(found.runs) == runs
        for run in found.runs:
            assert repr(source.history(run)) == repr(read.StoreSource(client).history(run))
            ours, theirs = source.coefficients(run), read.StoreSource(client).coefficients(run)
            assert (ours is None) == (theirs is None)
            if ours is not None:
                pd.testing.assert_frame_equal(ours, theirs)


def test_where_the_file_does_not_tell_mlflow_is_asked(filled: tuple[str, str, str], tmp_path: Path) -> None:
    uri, parent, _ = filled
    (child, *_) = find_in_file(uri, parent)[0].runs
    (tmp_path / "text.db").write_text("no database")
    sqlite3.connect(tmp_path / "empty.db").close()
    for address, target in (
        (uri, "nothing"),
        (uri, child["run_id"]),
        (f"sqlite:///{tmp_path / 'text.db'}", parent),
        (f"sqlite:///{tmp_path / 'empty.db'}", parent),
        (f"sqlite:///{tmp_path / 'nowhere.db'}", parent),
        ("http://127.0.0.1:9", parent),
    ):
        assert find_in_file(address, target) is None
    assert not (tmp_path / "nowhere.db").exists()
