"""Metrics against scikit-learn, in their directions, and one that comes from outside."""

import json
import math
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CONF, config, train_here
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from sklearn import metrics as sklearn

from shrinkage.errors import InputError
from shrinkage.runs.membership import Membership
from shrinkage.tasks.auto import task_for
from shrinkage.tasks.base import Target, Task
from shrinkage.tasks.classification import Classification
from shrinkage.tasks.gamma import Gamma
from shrinkage.tasks.huber import Huber
from shrinkage.tasks.metrics.base import WholePartMetric
from shrinkage.tasks.poisson import Poisson
from shrinkage.tasks.regression import Regression
from shrinkage.testing import check_metric
from shrinkage.training.run import build

CHOICES = sorted(file.stem for file in (CONF / "metrics").glob("*.yaml"))


def make(name: str) -> object:
    """The metric of one choice of conf/metrics."""
    (node,) = OmegaConf.load(CONF / "metrics" / f"{name}.yaml").values()
    return instantiate(node)


def measured(task: Task, output: torch.Tensor, target: torch.Tensor) -> dict[str, float]:
    """Every metric of a task, with the rows in two batches."""
    halves = [task.sums(output[rows], target[rows]) for rows in (slice(0, 3), slice(3, None))]
    sums = {name: halves[0][name] + halves[1][name] for name in halves[0]}
    return {name: float(value) for name, value in (task.measure(sums) | task.measure_whole(output, target)).items()}


@pytest.mark.parametrize("name", CHOICES)
def test_every_choice_is_a_metric_of_its_file_name_that_keeps_the_laws(name: str) -> None:
    metric = make(name)
    assert metric.name == name
    check_metric(metric)


@given(st.integers(2, 4), st.integers(5, 60), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_metrics_of_classes_are_those_of_scikit_learn(classes: int, n: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    task = task_for(Target(classes=classes))
    task.add_metrics(make(name) for name in CHOICES if make(name).predicts == "classes")
    output = torch.from_numpy(random.normal(size=(n, task.outputs)).round(1))  # rounded, so that there are ties
    target = torch.from_numpy(np.concatenate([np.arange(classes), random.integers(classes, size=n - classes)]))
    found, y = measured(task, output, target), target.numpy()
    logs = task.predictions(output).log_softmax(dim=1).numpy()
    p = np.exp(logs)
    predicted, labels = task.predictions(output).argmax(dim=1).numpy(), np.arange(classes)
    # Of two classes by the second's logit, of more one against the rest.
    rest = [(output[:, 0].numpy(), y)] if classes == 2 else [(logs[:, k], y == k) for k in labels]
    expected = {
        "accuracy": sklearn.accuracy_score(y, predicted),
        "balanced_accuracy": sklearn.balanced_accuracy_score(y, predicted),
        "brier": sklearn.brier_score_loss(y, p, labels=labels, scale_by_half="auto"),
        "f1": sklearn.f1_score(y, predicted, average="binary" if classes == 2 else "macro", zero_division=0),
        "log_loss": sklearn.log_loss(y, p, labels=labels),
        "pr_auc": np.mean([sklearn.average_precision_score(is_it, score) for score, is_it in rest]),
        "roc_auc": np.mean([sklearn.roc_auc_score(is_it, score) for score, is_it in rest]),
        "loss": sklearn.log_loss(y, p, labels=labels),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name


@given(st.integers(5, 60), st.floats(0.01, 1000), st.integers(0, 2**32 - 1))
def test_metrics_of_numbers_are_those_of_scikit_learn(n: int, scale: float, seed: int) -> None:
    y, predicted = np.random.default_rng(seed).normal(size=(2, n))
    found = measured(task_for(Target(scale=scale)), torch.from_numpy(predicted)[:, None], torch.from_numpy(y))
    assert found["r2"] == pytest.approx(sklearn.r2_score(y, predicted), abs=1e-10)
    assert found["rmse"] == pytest.approx(scale * sklearn.root_mean_squared_error(y, predicted))
    assert found["mae"] == pytest.approx(scale * sklearn.mean_absolute_error(y, predicted))


@given(st.sampled_from([(Poisson(), 1), (Gamma(), 2)]), st.integers(5, 60), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_metrics_of_rates_are_those_of_scikit_learn(kind: tuple[Task, int], n: int, seed: int) -> None:
    (task, power), random = kind, np.random.default_rng(seed)
    y = random.poisson(3.0, size=n).astype(float) if power == 1 else random.gamma(2.0, size=n)
    y[0] += 1  # not all counts are 0
    rate = np.exp(random.normal(size=n))
    found = measured(task, torch.from_numpy(np.log(rate))[:, None], torch.from_numpy(y))
    deviance = sklearn.mean_tweedie_deviance(y, rate, power=power)
    assert found["deviance"] == pytest.approx(deviance, rel=1e-12) and found["loss"] == found["deviance"] / 2
    # That of the mean is a difference of sums.
    assert 1 - found["d2"] == pytest.approx(1 - sklearn.d2_tweedie_score(y, rate, power=power), rel=1e-9)
    assert found["rmse"] == pytest.approx(sklearn.root_mean_squared_error(y, rate))
    assert found["mae"] == pytest.approx(sklearn.mean_absolute_error(y, rate))


def test_calibration_error_of_a_model_that_is_sure_and_half_right() -> None:
    task = task_for(Target(classes=2))
    task.add_metrics([make("calibration_error")])
    output = torch.full((4, 1), math.log(9))  # the second class with probability 0.9
    assert measured(task, output, torch.tensor([1, 1, 0, 0]))["calibration_error"] == pytest.approx(0.4)


@pytest.mark.parametrize("name", ["roc_auc", "pr_auc", "balanced_accuracy", "f1"])
def test_a_part_without_one_of_the_classes_has_no_number_that_misleads(name: str) -> None:
    task = task_for(Target(classes=2))
    task.add_metrics([make(name)])
    value = measured(task, torch.randn(5, 1), torch.zeros(5, dtype=torch.int64))[name]
    assert math.isnan(value) if name.endswith("auc") else 0 <= value <= 1


def test_lanes_measure_what_single_runs_do(tmp_path: Path) -> None:
    """A metric that needs all rows, and one of sums with a vector for every class, through vmap."""
    from shrinkage.training.lanes_training import build_lanes
    from shrinkage.training.workshop import Workshop

    chosen = ["data=digits", "metrics=[roc_auc,f1,brier,calibration_error]", "trainer.max_epochs=1", "lambd=0.01"]
    cfgs = [config(*chosen, f"seed={seed}") for seed in (0, 1)]
    ended = []
    build_lanes(cfgs, Workshop(cfgs[0]), tmp_path, ended.append).run()
    for cfg, lane in zip(cfgs, sorted(ended, key=lambda lane: lane.index), strict=True):
        training = build(cfg, tmp_path)
        training.run()
        for name in ("roc_auc", "f1", "brier", "calibration_error"):
            assert lane.measured[f"val/{name}"] == pytest.approx(training.module.measured[f"val/{name}"], abs=1e-5)
            assert lane.test[f"test/{name}"] == pytest.approx(training.test[f"test/{name}"], abs=1e-5)


def test_a_metric_of_another_kind_and_one_that_nobody_measures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="metrics=f1: it measures predictions of classes"):
        build(config("metrics=[f1]"), tmp_path)
    with pytest.raises(InputError, match=r"metric=val/f1: no run measures it; .*val/loss, val/accuracy"):
        build(config("data=breast_cancer", "metric=val/f1"), tmp_path)
    build(config("data=breast_cancer", "metric=val/f1", "metrics=[f1]"), tmp_path)
    for typo in ("vall/loss", "val_loss", "f1"):
        with pytest.raises(InputError, match=f"metric={typo}: no run measures it; .*val/loss, val/accuracy"):
            build(config("data=breast_cancer", f"metric={typo}"), tmp_path)


@pytest.mark.parametrize("name", [name for name in CHOICES if isinstance(make(name), WholePartMetric)])
def test_a_metric_that_needs_all_rows_is_refused_on_several_devices(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"trainer.devices: 2 devices share .* {name} needs all .*trainer.devices=1"):
        build(config("data=breast_cancer", f"metrics=[f1,{name}]", "trainer=ddp"), tmp_path)


@pytest.mark.parametrize("name", ["loss", "objective", "accuracy"])
def test_a_metric_under_the_name_of_another_one_is_refused(name: str) -> None:
    metric = type("Mine", (type(make("f1")),), {"name": name})()
    with pytest.raises(InputError, match=f"metrics={name}: .* something else under that name; give Mine another one"):
        task_for(Target(classes=2)).add_metrics([metric])


class Cauchy(Task):
    """A robust regression whose loss log(1 + r²) is not convex, as somebody may bring it."""

    outputs = 1
    predicts = "numbers"
    standard = (type(make("mae")),)

    @classmethod
    def for_target(cls, target: Target) -> "Cauchy":
        return cls()

    def losses(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (output[:, 0] - target).square().log1p()

    def predictions(self, output: torch.Tensor) -> torch.Tensor:
        return output[:, 0]


def test_a_task_from_outside_that_is_not_convex_trains_a_linear_model_and_says_why_nothing_certifies_it(
    tmp_path: Path,
) -> None:
    target = f"{Cauchy.__module__}.Cauchy.for_target"
    training = build(config("data=diabetes", f"task._target_={target}", "trainer.max_epochs=5", "lambd=0.01"), tmp_path)
    training.run()
    assert training.verdict() == (
        "not certified: Cauchy does not say that its loss is convex, so nothing certifies an optimum"
    )
    val = training.datamodule.parts["val"]
    x, y = (torch.from_numpy(values) for values in (val.x, val.y))
    r = y - training.module.model(x.float()).detach()[:, 0].double()
    assert training.module.measured["val/loss"] == pytest.approx(float(r.square().log1p().mean()))
    assert training.module.measured["val/mae"] == pytest.approx(float(r.abs().mean()))
    assert training.module.measured["train/loss"] < training.module.history[0][-1]["train/loss"]


def test_a_metric_from_outside_is_chosen_by_in_its_own_direction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One Python file and one YAML file, in folders of somebody's own."""
    (tmp_path / "conf" / "metrics").mkdir(parents=True)
    (tmp_path / "somebodys.py").write_text(
        textwrap.dedent('''
            from shrinkage.tasks.metrics.base import SumMetric

            class Close(SumMetric):
                """The share of predictions that are within 1 of the target."""

                name, larger_is_better, about, predicts = "close", True, "share within 1", "numbers"

                def sums(self, prediction, target):
                    return {"close": ((prediction - target).abs() < 1).sum()}

                def value(self, sums):
                    return sums["close"] / sums["rows"]
        ''')
    )
    (tmp_path / "conf" / "metrics" / "close.yaml").write_text("close:\n  _target_: somebodys.Close\n")
    monkeypatch.syspath_prepend(tmp_path)
    options = [f"--config-dir={tmp_path / 'conf'}"]
    own = ["data=diabetes", "metrics=[close]", "metric=val/close", "trainer.max_epochs=3", "progress=false"]

    def train(*more: str) -> str:
        done = train_here(*options, *more, *own, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "share within 1" in train("lambd=0.1")
    train("-m", "lambd=0,100")
    (sweep,) = tmp_path.glob("multirun/*/*")
    answer = json.loads((sweep / "answer.json").read_text())
    assert answer["larger_is_better"] is True
    values = {run["metrics"]["lambd"]: run["metrics"]["val/close"] for run in Membership.of(sweep).results()}
    assert answer["lambd.min"] == max(values, key=values.__getitem__)
    assert "val/close" in (sweep / "report.html").read_text()


@given(st.integers(0, 10_000), st.sampled_from(["regression", "poisson", "gamma", "huber", 2, 3]))
@settings(deadline=None, max_examples=30)
def test_whole_weights_are_as_many_equal_rows(seed: int, kind: str | int) -> None:
    """No metric knows of weights, but for those of whole parts."""
    random = np.random.default_rng(seed)
    n = 12
    times = torch.from_numpy(random.integers(1, 4, n))
    if isinstance(kind, int):
        task, y = Classification(kind), torch.arange(n) % kind
        task.add_metrics(m for name in CHOICES if (m := make(name)).predicts == "classes")
    else:
        task = {"regression": Regression(2.0), "poisson": Poisson(), "gamma": Gamma(), "huber": Huber(1.0)}[kind]
        y = torch.from_numpy(random.gamma(2.0, size=n))
    output = torch.from_numpy(np.round(random.normal(size=(n, task.outputs)), 1))  # ties
    many = output.repeat_interleave(times, dim=0), y.repeat_interleave(times)
    weighted = task.measure(task.sums(output, y, times.double())) | task.measure_whole(output, y, times)
    copied = task.measure(task.sums(*many)) | task.measure_whole(*many)
    assert weighted.keys() == copied.keys() == set(task.names)
    for name, value in copied.items():
        torch.testing.assert_close(weighted[name], value, rtol=1e-10, atol=1e-12, msg=name)
