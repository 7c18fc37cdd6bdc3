"""Lanes against runs made alone: the same weights, metrics, best epochs and ends."""

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import choices, config
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig
from torch import nn

from shrinkage.errors import InputError
from shrinkage.studies.base import vary
from shrinkage.training.history import thinned
from shrinkage.training.lane import Lane
from shrinkage.training.lanes_training import build_lanes, lanes_that_fit
from shrinkage.training.run import Training, best_metrics, build
from shrinkage.training.sharing import CannotShare
from shrinkage.training.workshop import Workshop, make

OPTIMIZERS = {
    "sgd": ["optimizer=sgd", "optimizer.lr=0.02"],
    "momentum": ["optimizer=sgd", "optimizer.lr=0.01", "optimizer.momentum=0.8"],
    "nesterov": ["optimizer=sgd", "optimizer.lr=0.01", "optimizer.momentum=0.8", "optimizer.nesterov=true"],
    "adam": ["optimizer=adam", "optimizer.lr=0.01"],
}
SMOOTH = {"none", "l2", "adamw", "huber"}  # under others, or in mode cautious, a rounding may flip a sign or a zero
OF_MATRICES = {"nuclear", "spectral"}


def alone(cfg: DictConfig) -> Training:
    with tempfile.TemporaryDirectory() as folder:
        training = build(cfg, Path(folder))
        training.run()
    return training


def together(cfgs: list[DictConfig]) -> list[Lane]:
    lanes: dict[int, Lane] = {}
    with tempfile.TemporaryDirectory() as folder:
        build_lanes(cfgs, Workshop(cfgs[0]), Path(folder), lambda lane: lanes.setdefault(lane.index, lane)).run()
    return [lanes[index] for index in range(len(cfgs))]


def assert_equal(lane: Lane, training: Training, tolerance: float) -> None:
    """Relative to the model's largest entry; metrics near rounding are compared absolutely."""

    def close(ours: dict[str, float], theirs: dict[str, float]) -> None:
        assert ours == pytest.approx(theirs, rel=tolerance, abs=tolerance)

    history = training.module.history
    assert [moment.step for moment in lane.history] == [moment.step for moment in history]
    for ours, theirs in zip(lane.history, history, strict=True):
        close(ours.metrics, theirs.metrics)
    close(lane.measured, training.module.measured)
    close(lane.test, training.test)
    # One optimum may be cheap where those of all lanes together are not.
    exact = "optimum/gap" in lane.conclusion or "optimum/gap" not in training.conclusion
    theirs = training.conclusion if exact else {name: training.conclusion[name] for name in lane.conclusion}
    assert ("optimum/kkt" in lane.conclusion) == ("optimum/kkt" in training.conclusion)
    close(lane.conclusion, theirs)
    kept = training.checkpoints
    close(best_metrics(lane.best["epoch"], lane.best_measured), best_metrics(kept.best["epoch"], kept.best_measured))
    states = [(lane.best["state_dict"], training.checkpoints.best["state_dict"])]
    if training.cfg.early_stopping.patience is None:
        states.append((lane.last["state_dict"], training.module.state_dict()))
    for ours, theirs in states:
        largest = max(weight.abs().max() for weight in theirs.values())
        assert all((ours[name] - weight).abs().max() <= tolerance * largest for name, weight in theirs.items())


def modes_of(penalty: str) -> tuple[str, ...]:
    """The modes that a penalty serves."""
    return make(config(f"penalty={penalty}").penalty).modes


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[str], list[dict[str, float]], str]:
    """Overrides of a config, what each of its lanes changes, and the precision."""
    data, epochs = draw(st.sampled_from([("d2l", 5), ("diabetes", 2), ("breast_cancer", 1), ("digits", 1)]))
    model = draw(st.sampled_from([["model=linear"], ["model=mlp", "model.widths=[7,5]"]]))
    penalty, optimizer = draw(st.sampled_from(choices("penalty"))), draw(st.sampled_from(sorted(OPTIMIZERS)))
    served = [mode for mode in modes_of(penalty) if not (mode == "prox" and optimizer == "adam")]
    mode = draw(st.sampled_from(served or ["prox"]))
    optimizer = optimizer if served else "sgd"
    flips = penalty not in SMOOTH or mode == "cautious"
    precision = draw(st.sampled_from(["64-true", "32-true"])) if not flips else "64-true"
    if penalty in OF_MATRICES:
        model = ["model=mlp", "model.widths=[7,5]"]
    patience = draw(st.sampled_from(["null", "1"])) if precision == "64-true" else "null"
    # Over all rows of a standardised regression the bias's gradient is pure rounding, which Adam makes a step of.
    size = draw(st.sampled_from(["5" if data == "d2l" else "20", *([] if data == "diabetes" else ["null"])]))
    overrides = [f"data={data}", f"data.batch_size={size}", *model, f"penalty={penalty}", *OPTIMIZERS[optimizer]]
    overrides += [f"penalty.mode={mode}", f"penalty.scope={draw(st.sampled_from(['weights', 'all']))}"]
    overrides += [f"schedule={draw(st.sampled_from(choices('schedule')))}", f"trainer.precision={precision}"]
    overrides += [f"early_stopping.patience={patience}", f"trainer.max_epochs={epochs * (3 if patience == '1' else 1)}"]
    if draw(st.booleans()):
        overrides += ["trainer.gradient_clip_val=0.05", "trainer.gradient_clip_algorithm=value"]
    overrides += [f"polish={draw(st.sampled_from([0, 0, 3]))}"]
    overrides += [f"certificate={draw(st.sampled_from(['end', 'epoch']))}"]
    if flips and mode != "prox":
        overrides.append("trainer.max_steps=20")
    lane = {"lambd": st.floats(0, 0.5), "seed": st.integers(0, 2)}
    if penalty == "elastic_net":
        lane["penalty__l1_ratio"] = st.floats(0, 1)
    lanes = draw(st.lists(st.fixed_dictionaries(lane), min_size=1, max_size=3))
    return overrides, lanes, precision


@given(cases())
@settings(max_examples=6, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
def test_each_lane_equals_the_run_made_alone(case: tuple[list[str], list[dict[str, float]], str]) -> None:
    overrides, lanes, precision = case
    cfg = config(*overrides, "tracking.history=all")
    cfgs = [vary(cfg, **numbers) for numbers in lanes]
    for lane, each in zip(together(cfgs), cfgs, strict=True):
        assert_equal(lane, alone(each), 1e-10 if precision == "64-true" else 1e-5)


@pytest.mark.parametrize(("penalty", "mode"), [(name, mode) for name in choices("penalty") for mode in modes_of(name)])
def test_every_penalty_can_be_a_lane_in_every_mode(penalty: str, mode: str, tmp_path: Path) -> None:
    acting = [f"penalty={penalty}", f"penalty.mode={mode}", *(["optimizer=sgd"] if mode == "prox" else [])]
    data = ["data=digits", "data.batch_size=null"] if penalty in OF_MATRICES else []
    cfg = config(*data, *acting, "trainer.precision=64-true", "trainer.max_epochs=1", "tracking.history=all")
    cfgs = [vary(cfg, lambd=lambd) for lambd in (0.0, 0.1)]
    assert lanes_that_fit(cfgs, Workshop(cfg), tmp_path) > 1
    for lane, each in zip(together(cfgs), cfgs, strict=True):
        assert_equal(lane, alone(each), 1e-10)


NETWORKS = {
    "cnn": ["model=cnn", "data=digits_images", "data.batch_size=256"],
    "gpt": [
        "model=gpt",
        "model.width=16",
        "data=text",
        "data.context=16",
        "data.epoch_rows=64",
        "data.measured_rows=32",
    ],
}


@pytest.mark.parametrize("penalty", ["adamw", "group_lasso"])
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())
def test_networks_can_be_lanes(network: list[str], penalty: str, tmp_path: Path) -> None:
    overrides = [*network, f"penalty={penalty}", "optimizer.lr=0.01", "trainer.max_epochs=1", "dynamics=false"]
    cfg = config(*overrides, "trainer.precision=64-true", "tracking.history=all")
    cfgs = [vary(cfg, lambd=lambd, seed=seed) for lambd, seed in ((0.0, 0), (0.1, 1))]
    assert lanes_that_fit(cfgs, Workshop(cfg), tmp_path) > 1
    for lane, each in zip(together(cfgs), cfgs, strict=True):
        assert_equal(lane, alone(each), 1e-10)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["model=cnn", "model.batch_norm=true", "data=digits_images"], "batch normalisation keeps running statistics"),
        (["model=resnet", "data=digits_images"], "batch normalisation keeps running statistics"),
        (["model=gpt", "model.dropout=0.1", "data=text", "data.context=16"], "dropout"),
    ],
)
def test_networks_that_cannot_be_lanes_say_why(overrides: list[str], reason: str, tmp_path: Path) -> None:
    cfg = config(*overrides)
    with pytest.raises(CannotShare, match=reason):
        lanes_that_fit([cfg, vary(cfg, lambd=1.0)], Workshop(cfg), tmp_path)


@pytest.mark.parametrize("draws", ["orders", "splits"])
def test_lanes_of_rows_with_weights_and_offsets(draws: str, tmp_path: Path) -> None:
    """Each lane has its own order of the rows, or its own split; with factors of columns, and areas under curves."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(60, 3)), columns=["a", "b", "shift"])
    frame["w"], frame["y"] = random.integers(1, 4, 60), np.where(frame["a"] + random.normal(size=60) > 0, "yes", "no")
    frame.to_csv(tmp_path / "rows.csv", index=False)
    cfg = config(
        "data=table", f"data.path={tmp_path / 'rows.csv'}", "data.target=y", "data.weight=w", "data.offset=shift",
        "data.class_weight=balanced", "penalty=l2", "penalty.factor={a: 0.5}", "data.batch_size=8", "metrics=[roc_auc]",
        "trainer.precision=64-true", "trainer.max_epochs=2", "tracking.history=all",
    )  # fmt: skip
    key = "seed" if draws == "orders" else "data__seed"
    cfgs = [vary(cfg, lambd=lambd, **{key: seed}) for lambd, seed in ((0.01, 0), (0.1, 1))]
    for lane, each in zip(together(cfgs), cfgs, strict=True):
        training = alone(each)
        if draws == "splits":  # of which lanes know no optimum
            training.conclusion = lane.conclusion
        assert_equal(lane, training, 1e-10)


@pytest.mark.parametrize("batch_size", ["5", "null"])
def test_lanes_on_data_of_their_own(batch_size: str) -> None:
    cfg = config(
        f"data.batch_size={batch_size}", "trainer.precision=64-true", "trainer.max_epochs=3", "tracking.history=all"
    )
    cfgs = [
        vary(cfg, data__seed=data, seed=seed, lambd=lambd) for data in (3, 4) for seed in (0, 1) for lambd in (0.0, 1.0)
    ]
    for lane, each in zip(together(cfgs), cfgs, strict=True):
        training = alone(each)
        assert lane.measured == pytest.approx(training.module.measured, rel=1e-10, abs=1e-12)
        assert lane.conclusion == pytest.approx({"init/memory": training.conclusion["init/memory"]})


def test_lanes_that_stop_early_leave_the_others_alone() -> None:
    """Lanes end at different epochs, so that the stack is compacted on the way, under momentum."""
    cfg = config(
        "data.num_train=10",
        "model.init=torch",
        "optimizer.lr=0.003",
        "optimizer.momentum=0.9",
        "trainer.max_epochs=60",
        "trainer.precision=64-true",
        "early_stopping.patience=2",
        "early_stopping.min_delta=1e-5",
        "tracking.history=all",
    )
    cfgs = [vary(cfg, lambd=lambd, seed=seed) for lambd in (0, 0.5, 3, 10, 30) for seed in (0, 1)]
    lanes = together(cfgs)
    assert len({len(lane.history) for lane in lanes}) > 3 and max(len(lane.history) for lane in lanes) > 20
    for lane, each in zip(lanes, cfgs, strict=True):
        assert_equal(lane, alone(each), 1e-10)


def test_lanes_stop_at_their_own_gap() -> None:
    cfg = config(
        "data=diabetes",
        "data.batch_size=null",
        "optimizer.lr=0.2",
        "trainer.max_epochs=200",
        "trainer.until_gap=1e-4",
        "trainer.precision=64-true",
        "tracking.history=all",
    )
    cfgs = [vary(cfg, lambd=lambd) for lambd in (0.03, 0.1, 0.3, 1.0, 3.0)]
    lanes = together(cfgs)
    assert len({len(lane.history) for lane in lanes}) > 3
    for lane, each in zip(lanes, cfgs, strict=True):
        assert lane.conclusion["optimum/gap"] <= lane.conclusion["optimum/duality_gap"] <= 1e-4
        assert_equal(lane, alone(each), 1e-9)


@pytest.mark.parametrize("polish", [0, 3])
def test_a_lane_whose_objective_grows_without_bounds_fails_or_is_polished_from_zero(polish: int) -> None:
    cfg = config("optimizer.lr=0.2", "trainer.max_epochs=4", f"polish={polish}", "trainer.precision=64-true")
    cfg.tracking.history = "all"
    cfgs = [vary(cfg, lambd=lambd) for lambd in (0.0, 1.0)]
    for lane, each in zip(together(cfgs), cfgs, strict=True):
        if polish:
            assert_equal(lane, alone(each), 1e-10)
        else:
            with pytest.raises(InputError, match=r"has grown to .* diverged; .* use optimizer.lr=0.01") as caught:
                alone(each)
            assert str(lane.error) == str(caught.value) and not lane.last


def test_the_best_of_a_polished_lane_may_be_the_polished_one() -> None:
    cfg = config("penalty=l1", "lambd=0.06", "polish=20", "trainer.precision=64-true", "tracking.history=all")
    cfgs = [vary(cfg, seed=seed) for seed in (0, 1)]
    for lane, each in zip(together(cfgs), cfgs, strict=True):
        assert lane.best["epoch"] == 30 and lane.best["val/loss"] == lane.measured["val/loss"]
        assert_equal(lane, alone(each), 1e-10)


def test_a_lane_that_blows_up_fails_alone_and_says_what_a_run_says() -> None:
    cfg = config("trainer.max_epochs=100", "tracking.history=all", "trainer.precision=64-true")
    cfgs = [vary(cfg, lambd=lambd) for lambd in (0.1, 500, 1, 700)]
    quiet, first, other, second = together(cfgs)
    for lane, each in ((first, cfgs[1]), (second, cfgs[3])):
        with pytest.raises(InputError) as caught:
            alone(each)
        assert str(lane.error) == str(caught.value) and not lane.last
    for lane, each in ((quiet, cfgs[0]), (other, cfgs[2])):
        assert lane.error is None
        assert_equal(lane, alone(each), 1e-10)


class Scaled(nn.Linear):
    """Has a buffer as long as there are lanes in the test, which is no stack of theirs."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("scale", torch.tensor([2.0, 3.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * self.scale.sum()


def test_buffers_are_shared_and_kept() -> None:
    cfg = config("trainer.precision=64-true", "trainer.max_epochs=3", "tracking.history=all", "optimizer.lr=0.001")
    cfg.model = {"_target_": f"{__name__}.Scaled"}
    cfgs = [vary(cfg, lambd=lambd) for lambd in (0.0, 0.1)]
    for lane, each in zip(together(cfgs), cfgs, strict=True):
        assert_equal(lane, alone(each), 1e-10)


class Noisy(nn.Linear):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return y * 2 if y.sum() > 0 else y


class Normed(nn.Sequential):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Linear(inputs, 3), nn.BatchNorm1d(3), nn.Linear(3, outputs))


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["model=mlp", "model.dropout=0.5"], "random numbers"),
        (["trainer.gradient_clip_val=1"], "norm"),
        (["optimizer._target_=torch.optim.LBFGS", "~optimizer.momentum", "~optimizer.nesterov"], "LBFGS"),
        (["+model.kind=normed"], "running statistics"),
        (["+model.kind=noisy"], "branches on its data"),
    ],
)
def test_what_cannot_share_a_training_says_why(overrides: list[str], reason: str, tmp_path: Path) -> None:
    cfg = config(*overrides)
    if "kind" in cfg.model:
        cfg.model = {"_target_": f"{__name__}.{cfg.model.kind.title()}"}
    with pytest.raises(CannotShare, match=reason):
        lanes_that_fit([cfg, vary(cfg, lambd=1)], Workshop(cfg), tmp_path)


@given(st.integers(0, 3000))
def test_a_thinned_curve_keeps_twenty_points_or_all(count: int) -> None:
    chosen = thinned(count)
    assert len(chosen) == min(count, 20) and sorted(set(chosen)) == chosen
    assert not chosen or (chosen[0] == 0 and chosen[-1] == count - 1)
    gaps = [after - before for before, after in itertools.pairwise(chosen)]
    assert all(after >= before - 1 for before, after in itertools.pairwise(gaps))
