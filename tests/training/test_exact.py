"""trainer=exact: a run without steps, whose weights an engine puts at the optimum and the certificate vouches for."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import config, train_here
from omegaconf import DictConfig

from shrinkage.errors import InputError
from shrinkage.optimum import solved_lanes
from shrinkage.optimum.engines.path import Solved
from shrinkage.optimum.exact import optimum
from shrinkage.optimum.gaps import duality_gaps
from shrinkage.optimum.problem import Problem
from shrinkage.runs.identity import params, recorded, run_name
from shrinkage.runs.membership import Membership
from shrinkage.sweeps.path import LambdaPath, jobs_along
from shrinkage.training.lane import Lane
from shrinkage.training.lanes_training import LanesTraining, build_lanes
from shrinkage.training.run import Training, build
from shrinkage.training.workshop import Workshop


def solved(*overrides: str) -> Training:
    with tempfile.TemporaryDirectory() as folder:
        training = build(config("trainer=exact", *overrides), Path(folder))
        training.run()
        assert {path.name for path in training.checkpoints.files} == {"best.ckpt", "last.ckpt"}
    return training


def lanes_of(cfgs: list[DictConfig], folder: Path) -> tuple[LanesTraining, list[Lane]]:
    lanes: list[Lane] = []
    return build_lanes(cfgs, Workshop(cfgs[0]), folder, lanes.append), lanes


@pytest.mark.parametrize("scope", ["weights", "all"])
@pytest.mark.parametrize("bias", ["true", "false"])
@pytest.mark.parametrize("penalty", ["l1", "l2", "elastic_net", "none"])
@pytest.mark.parametrize("data", ["diabetes", "breast_cancer"])
def test_the_weights_are_the_optimum(data: str, penalty: str, bias: str, scope: str) -> None:
    if data == "breast_cancer" and penalty == "none":
        pytest.skip("its classes can be separated")
    training = solved(
        f"data={data}", f"penalty={penalty}", f"model.bias={bias}", f"penalty.scope={scope}", "lambd=0.05"
    )
    module, known = training.module, training.module.measured | training.conclusion
    assert known["optimum/duality_gap"] <= 1e-6 * module.certifier.null_objective
    assert [moment.step for moment in module.history] == [0] and "converged" in training.verdict()
    assert next(module.model.parameters()).dtype == torch.float64 and "init/memory" not in known
    if scope == "weights" and penalty != "elastic_net" and bias == "true":
        train = training.datamodule.parts["train"]
        l1, l2 = (0.05 * strength for strength in training.module.penalty.elastic_net(1.0))
        best = optimum(train.x, train.y, training.datamodule.classes, l1, l2)
        tolerance = np.sqrt(1e-9) if data == "breast_cancer" else 1e-6  # scikit-learn's saga stops at 1e-9
        np.testing.assert_allclose(module.model.weight.detach(), best.weight, atol=tolerance)


def test_more_than_two_classes() -> None:
    training = solved("data=digits", "penalty=l1", "lambd=0.02")
    gap = training.conclusion["optimum/duality_gap"]
    assert gap <= 1e-6 * training.module.certifier.null_objective and training.module.measured["weight/zeros"] > 0.5


def test_a_copy_of_a_column_that_is_shifted_takes_its_weight_back(tmp_path: Path) -> None:
    """L1 gives the weight to the first of equal columns, and the bias makes up for the shift."""
    random = np.random.default_rng(0)
    x = random.normal(size=50)
    table = pd.DataFrame({"first": x + 7, "copy": x - 3, "other": random.normal(size=50)})
    table["y"] = 2 * x + random.normal(size=50)
    table.to_csv(tmp_path / "table.csv", index=False)
    where = ["data=table", f"data.path={tmp_path / 'table.csv'}", "data.target=y", "data.standardize=false"]
    training = solved(*where, "penalty=l1", "lambd=0.1")
    weight = training.module.model.weight.detach()[0]
    assert weight[0] > 1 and weight[1] == 0 and training.module.exchangeable().tolist() == [[1, 1, 0]]
    assert training.conclusion["optimum/duality_gap"] <= 1e-12


def test_no_seed_and_no_learning_rate_changes_it() -> None:
    first, second = (
        solved("data=diabetes", "penalty=l1", "lambd=0.05", f"seed={seed}", f"optimizer.lr={lr}").module.model
        for seed, lr in ((0, 0.1), (7, 1e9))
    )
    assert first.weight.equal(second.weight) and first.bias.equal(second.bias)


def test_what_only_steps_read_is_not_recorded() -> None:
    cfg = config("data=diabetes", "trainer=exact", "penalty=l1", "lambd=0.05")
    found = params(recorded(cfg))
    assert found["solver"] == "exact" and found["trainer.gap"] == 1e-6 and found["data.standardize"] is True
    names = (
        "optimizer",
        "optimizer.lr",
        "schedule._target_",
        "polish",
        "data.batch_size",
        "penalty.mode",
        "model.init",
    )
    assert not found.keys() & set(names)
    assert found.keys() | {"solver"} >= {"data", "model", "penalty", "lambd", "seed", "penalty.scope", "model.bias"}
    assert run_name(cfg, ["trainer=exact", "penalty=l1"]) == "l1 λ=0.05 seed=0"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=mlp"], "trainer=exact: the objective of MLP is not convex.* it solves model=linear under"),
        (["penalty=mcp"], "trainer=exact: MCP is no sum of L1 and L2.* penalty=none, l1, l2 or elastic_net"),
        (["penalty=adamw"], "trainer=exact: Adam with decay"),
        (["penalty=l1", "penalty.groups={weight: 2}"], "trainer=exact: penalty.groups gives λ by parameter"),
    ],
)
def test_what_no_engine_serves(overrides: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        solved("data=diabetes", *overrides)


@pytest.mark.parametrize(
    "override", ["optimizer.lr=0.3", "optimizer=adam", "polish=20", "data.batch_size=8", "trainer.max_epochs=3"]
)
def test_an_override_that_nothing_would_read(override: str, tmp_path: Path) -> None:
    done = train_here("data=diabetes", "trainer=exact", override, cwd=tmp_path)
    assert done.returncode == 1
    assert f"{override}: trainer=exact solves the problem and takes no steps" in done.stderr


def separable(folder: Path) -> list[str]:
    """A table of two classes that a line separates."""
    x = np.linspace(-1, 1, 40)
    pd.DataFrame({"x": x, "class": np.where(x > 0, "b", "a")}).to_csv(folder / "table.csv", index=False)
    return ["data=table", f"data.path={folder / 'table.csv'}", "data.target=class", "trainer=exact"]


def test_classes_that_can_be_separated_have_no_minimum_without_a_penalty(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lambd=0 or .* can be separated, .* no minimum .* use penalty=l2 lambd=0.0"):
        solved(*separable(tmp_path), "penalty=l2", "lambd=0")
    cfgs = [config(*separable(tmp_path), "penalty=l2", f"lambd={lambd}") for lambd in (0.1, 0, 0.01)]
    training, lanes = lanes_of(cfgs, tmp_path)
    training.run()
    ended = {lane.index: lane for lane in lanes}
    assert "no minimum" in str(ended[1].error) and ended[0].error is None and ended[2].error is None


def test_lanes_are_the_runs_that_they_would_be_alone(tmp_path: Path) -> None:
    overrides = ["data=diabetes", "data.test=0.2", "penalty=elastic_net", "trainer=exact"]
    own = [("lambd=0.3", "seed=0"), ("lambd=0.01", "seed=3"), ("lambd=0.05", "penalty.l1_ratio=0.9")]
    training, lanes = lanes_of([config(*overrides, *each) for each in own], tmp_path)
    training.run()
    for lane in lanes:
        alone = solved(*overrides, *own[lane.index])
        assert [moment.step for moment in lane.history] == [0]
        assert lane.measured == pytest.approx(alone.module.measured, rel=1e-6, abs=1e-12)
        assert lane.test == pytest.approx(alone.test, rel=1e-6)
        assert lane.best["epoch"] == 0 and lane.best["val/loss"] == lane.measured["val/loss"]
        assert lane.last["state_dict"]["model.weight"].equal(lane.weights["weight"])
        assert lane.conclusion["optimum/duality_gap"] <= 1e-6


def test_a_path_that_is_interrupted_keeps_what_it_has_certified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["data=diabetes", "trainer=exact", "penalty=elastic_net", "lambd=0.1"]
    cfgs = [config(*overrides, f"penalty.l1_ratio={ratio}") for ratio in (0.9, 0.5, 0.1)]  # a path each
    training, lanes = lanes_of(cfgs, tmp_path)
    monkeypatch.setattr(solved_lanes, "SECONDS", 0.0)
    engine = solved_lanes.solve_in_turn

    def interrupted(*arguments: object) -> Iterator[object]:
        for number, part in enumerate(engine(*arguments)):
            if number == 2:
                raise SystemExit(130)
            yield part

    monkeypatch.setattr(solved_lanes, "solve_in_turn", interrupted)
    with pytest.raises(SystemExit):
        training.run()
    assert len(lanes) == 2 and all(lane.conclusion["optimum/duality_gap"] <= 1e-6 for lane in lanes)
    assert len(training.module.interrupted()) == 1


def test_a_point_that_an_engine_leaves_too_far_is_solved_in_a_slower_way(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = solved_lanes.solve_in_turn

    def sloppy(problem: Problem, strengths: np.ndarray) -> Iterator[tuple[np.ndarray, Solved]]:
        for places, part in engine(problem, strengths):
            weight = 0.9 * part.weight
            points = (strengths[places, 0], strengths[places, 1], weight, part.bias)
            gaps = duality_gaps(problem, *map(torch.from_numpy, points)).numpy()
            yield places, replace(part, weight=weight, gap=gaps)

    monkeypatch.setattr(solved_lanes, "solve_in_turn", sloppy)
    training = solved("data=diabetes", "penalty=l1", "lambd=0.05")
    assert training.conclusion["optimum/duality_gap"] <= 1e-6 * training.module.certifier.null_objective
    monkeypatch.setattr(solved_lanes, "SLOWER_STEPS", 1)
    training = solved("data=diabetes", "penalty=l1", "lambd=0.05")
    assert training.conclusion["optimum/duality_gap"] > 1e-6 and "a slower way has not brought" in training.verdict()


def test_a_path_is_solved_unless_steps_are_asked_for() -> None:
    along = LambdaPath([0.5], True, [])

    def added(*job: str) -> set[str]:
        ((*found,),) = jobs_along([job], [along])
        return set(found[len(job) + 1 :])

    assert added("penalty=l1") == added("penalty=l1", "trainer.precision=64-true") == {"trainer=exact"}
    by_steps = {"data.batch_size=null", "trainer.until_gap=1e-06", "polish=20000", "model.init=normal", "model.sigma=0"}
    assert added("optimizer.lr=0.1") == added("trainer=gpu") == by_steps
    assert added("polish=5") == by_steps - {"polish=20000"}
    assert added("trainer=exact", "penalty=l2") == set()
    assert jobs_along([["penalty=mcp"]], [LambdaPath([0.5], False, [])]) == [["penalty=mcp", "lambd=0.5"]]


def test_a_sweep_along_a_path_records_what_solved_it(tmp_path: Path) -> None:
    path = ["hydra/sweeper=path", "hydra.sweeper.num=3", "hydra/launcher=lanes", "hydra.sweep.dir=here"]
    done = train_here("data=diabetes", "penalty=l1,l2", *path, "-m", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ended = Membership(tmp_path / "here", None).results()
    assert len(ended) == 6 and all(run["params"]["solver"] == "exact" for run in ended)
    assert max(run["metrics"]["optimum/duality_gap"] for run in ended) <= 1e-6
