"""What a run with a model to take away shows of it: residuals in the user's units, of held-out rows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import config

from shrinkage.report.charts import outcome_charts
from shrinkage.report.figures import outcome_figure, write_picture
from shrinkage.tracking.outcome import Outcome
from shrinkage.training.run import build


@pytest.mark.parametrize("task", ["regression", "huber", "poisson", "gamma", "multi_regression"])
def test_residuals_are_those_of_the_test_rows(task: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"a": random.normal(size=100), "y": random.poisson(3, 100) + 1.0, "z": random.normal(size=100)}
    )
    frame["y"] = frame["y"] * 1.5 if task != "poisson" else frame["y"]
    frame.to_csv(tmp_path / "rows.csv", index=False)
    target = "data.target=[y,z]" if task == "multi_regression" else "data.target=y"
    own = (f"data.path={tmp_path / 'rows.csv'}", target, "data.test=0.3", f"task={task}")
    exact = ("penalty=l1", "lambd=0.01", "trainer=exact", "trainer.precision=64-true")
    training = build(config("data=table", "data.task=regression", *own, *exact), tmp_path)
    training.run()
    outcome = training.outcome(None)
    assert outcome is not None and Outcome.from_json(outcome.as_json()).name == "residuals"
    names = ("y", "z") if task == "multi_regression" else ("y",)
    rows = training.datamodule.rows["test"]
    for name, series in zip(names, outcome.series, strict=True):
        predicted, left = map(np.array, zip(*series.points, strict=True))
        assert len(left) == 30 and len(series.line) == 6 and (np.diff(predicted) >= 0).all()
        observed = np.sort(frame[name].to_numpy()[rows])
        if task in ("poisson", "gamma"):
            assert np.square(left).sum() == pytest.approx(2 * 30 * training.test["test/loss"])
        else:
            np.testing.assert_allclose(np.sort(predicted + left), observed, rtol=1e-6, atol=1e-9)
    charts = outcome_charts(outcome)
    assert len(charts) == len(names) and all("<circle" in chart.html() for chart in charts)
    assert write_picture(outcome_figure(outcome), tmp_path / "residuals.png").stat().st_size > 5_000
