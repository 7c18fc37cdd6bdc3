"""Training as a whole: precision, steps, early stopping, checkpoints, schedules, and what is said beforehand."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import choices, config
from sklearn.linear_model import Ridge

from shrinkage.errors import InputError
from shrinkage.training import Training, build
from shrinkage.workshop import make


def trained(folder: Path, *overrides: str) -> Training:
    training = build(config(*overrides), folder)
    training.run()
    return training


def test_double_precision_throughout(tmp_path: Path) -> None:
    training = trained(tmp_path, "trainer.precision=64-true", "trainer.max_epochs=1", "model=mlp", "lambd=0.1")
    assert all(p.dtype == torch.float64 for p in training.module.parameters())


def test_steps_count_the_run_where_max_steps_is_set(tmp_path: Path) -> None:
    training = trained(tmp_path, "trainer.max_steps=6")  # an epoch has 4
    assert [step for step, _ in training.module.history] == [0, 4, 6]


def test_the_loss_is_that_of_the_whole_training_part(tmp_path: Path) -> None:
    training = trained(tmp_path, "trainer.max_epochs=3", "trainer.precision=64-true")
    part, model = training.datamodule.parts["train"], training.module.model
    with torch.no_grad():
        residual = model(torch.from_numpy(part.x))[:, 0] - torch.from_numpy(part.y)
    measured = training.module.measured
    assert measured["train/loss"] == pytest.approx(residual.square().mean().item() / 2, rel=1e-12)
    assert measured["train/penalty"] == pytest.approx(3 * measured["weight/half_squared_l2"], rel=1e-12)
    assert measured["val/rmse"] == pytest.approx(math.sqrt(2 * measured["val/loss"]), rel=1e-12)


def test_early_stopping_restores_the_best_weights(tmp_path: Path) -> None:
    training = trained(
        tmp_path,
        "data.num_train=10",
        "model.init=torch",
        "lambd=0",
        "optimizer.lr=0.003",
        "trainer.max_epochs=300",
        "early_stopping.patience=3",
    )
    losses = [measured["val/loss"] for step, measured in training.module.history if step]
    assert len(losses) < 300 and min(losses) == losses[-4]
    assert training.module.measured["val/loss"] == min(losses)
    assert training.module.evaluate("val")["loss"].item() == pytest.approx(min(losses), rel=1e-6)
    assert training.best_metrics()["best/epoch"] == len(losses) - 3


def test_checkpoints_load_without_unpickling(tmp_path: Path) -> None:
    training = trained(tmp_path, "trainer.max_epochs=2", "data=diabetes")
    best, last = (torch.load(tmp_path / "checkpoints" / f"{n}.ckpt", weights_only=True) for n in ("best", "last"))
    assert best["val/loss"] == min(m["val/loss"] for step, m in training.module.history if step)
    torch.testing.assert_close(last["state_dict"]["model.weight"], training.module.model.weight.detach())
    assert {file.name for file in training.checkpoints.files} == {"best.ckpt", "last.ckpt"}


@pytest.mark.parametrize("name", choices("schedule"))
@pytest.mark.parametrize("warmup", [0.0, 0.25])
def test_schedules_stay_between_zero_and_one(name: str, warmup: float) -> None:
    schedule = make(config(f"schedule={name}", f"schedule.warmup={warmup}").schedule)
    factors = [schedule(step, 100) for step in range(100)]
    assert all(0 <= factor <= 1 for factor in factors) and max(factors) == pytest.approx(1)
    rising = factors[: int(100 * warmup)]
    assert rising == sorted(rising) and factors[int(100 * warmup) :] == sorted(
        factors[int(100 * warmup) :], reverse=True
    )
    if name == "cosine" and not warmup:
        assert factors[50] == pytest.approx(0.5)
    with pytest.raises(InputError, match=r"schedule.warmup=1"):
        make(config(f"schedule={name}", "schedule.warmup=1").schedule)


def test_divergence_is_said_and_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"with optimizer.lr=5 and lambd=3 .* diverged; .* optimizer.lr=0.5"):
        trained(tmp_path, "optimizer.lr=5", "trainer.max_epochs=200")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["optimizer.lr=0.7"], "under 0.667 works"),
        (["optimizer.lr=0.6"], None),
        (["optimizer.lr=0.7", "penalty.mode=prox"], None),
        (["optimizer.lr=0.7", "optimizer=adam"], None),
        (["optimizer.lr=0.7", "penalty=adamw"], "under 0.667 works"),
        (["penalty=l1"], "every weight at zero"),
        (["penalty=l1", "lambd=0.01"], None),
        (["penalty=l1", "lambd=0.01", "data.batch_size=50"], "more than the 20 training rows"),
    ],
)
def test_advice_before_training(tmp_path: Path, overrides: list[str], words: str | None) -> None:
    advice = build(config(*overrides), tmp_path).advice()
    assert (words is None and not advice) or words in advice[0]


def test_l1_zeroes_what_the_advice_says(tmp_path: Path) -> None:
    assert trained(tmp_path, "penalty=l1").module.measured["weight/zeros"] == 1
    zeros = trained(tmp_path, "penalty=l1", "lambd=0.03").module.measured["weight/zeros"]
    assert 0 < zeros < 1


def test_the_chapters_numbers() -> None:
    """The medians over seeds of the chapter's two runs (10 epochs, learning rate 0.01, σ = 0.01)."""
    from statistics import median
    from tempfile import TemporaryDirectory

    expected = {0: (9.8e-6, 0.0191, 0.0101), 3: (4.7e-4, 0.0109, 0.00147)}
    for lambd, (train, val, half) in expected.items():
        with TemporaryDirectory() as folder:
            runs = [
                trained(Path(folder), f"lambd={lambd}", f"seed={seed}", f"data.seed={seed}").module.measured
                for seed in range(15)
            ]
        assert median(run["train/loss"] for run in runs) == pytest.approx(train, rel=0.5)
        assert median(run["val/loss"] for run in runs) == pytest.approx(val, rel=0.15)
        assert median(run["weight/half_squared_l2"] for run in runs) == pytest.approx(half, rel=0.15)


def test_decay_under_momentum_is_certified_against_the_optimum_that_it_tends_to(tmp_path: Path) -> None:
    training = trained(
        tmp_path,
        "data=diabetes",
        "data.batch_size=null",
        "lambd=0.1",
        "penalty.mode=decay",
        "optimizer.lr=0.1",
        "optimizer.momentum=0.5",
        "trainer.max_epochs=2000",
        "trainer.until_gap=1e-10",
        "trainer.precision=64-true",
    )
    train = training.datamodule.parts["train"]
    exact = Ridge(alpha=len(train) * 0.1 * (1 - 0.5)).fit(train.x, train.y)
    assert training.conclusion["optimum/duality_gap"] <= 1e-10
    np.testing.assert_allclose(training.module.model.weight.detach().numpy()[0], exact.coef_, rtol=0, atol=1e-4)
    assert training.conclusion["optimum/weight_distance"] == pytest.approx(
        np.linalg.norm(training.module.model.weight.detach().numpy()[0] - exact.coef_), abs=1e-9
    )
    assert "converged" in training.verdict() and "λ(1 − μ) = 0.05" in training.verdict()


@pytest.mark.parametrize("mode", ["loss", "decay", "prox"])
def test_the_memory_is_what_is_left_of_the_start(tmp_path: Path, mode: str) -> None:
    """Measured in the directions that no training row has."""
    training = build(
        config(f"penalty.mode={mode}", "schedule=cosine", "model.init=glorot", "trainer.precision=64-true"), tmp_path
    )
    start = training.module.model.weight.detach().clone()[0]
    training.run()
    rows = torch.from_numpy(training.datamodule.parts["train"].x)
    outside = torch.eye(200, dtype=torch.float64) - torch.linalg.pinv(rows) @ rows
    left = outside @ training.module.model.weight.detach()[0]
    torch.testing.assert_close(left, training.conclusion["init/memory"] * (outside @ start))
    assert 0 < training.conclusion["init/memory"] < 1 and "of the initial weights is left" in training.verdict()


def test_polish_reaches_the_support_of_the_optimum(tmp_path: Path) -> None:
    problem = ["data.num_train=200", "data.num_inputs=50", "penalty=l1", "lambd=0.008", "trainer.max_epochs=30"]
    problem += ["data.batch_size=20", "optimizer.lr=0.05"]
    plain, polished = (trained(tmp_path / str(steps), *problem, f"polish={steps}") for steps in (0, 20))
    assert plain.conclusion["optimum/same_support"] == 0 and polished.conclusion["optimum/same_support"] == 1
    assert polished.conclusion["optimum/gap"] < 1e-7 and "polish" in polished.verdict()
    assert polished.module.history[-1][0] == 50
    last = torch.load(tmp_path / "20/checkpoints/last.ckpt", weights_only=True)
    torch.testing.assert_close(last["state_dict"]["model.weight"], polished.module.model.weight.detach())


def test_advice_is_more_epochs_while_the_objective_falls_and_a_polish_where_it_does_not(tmp_path: Path) -> None:
    falling = trained(tmp_path, "trainer.max_epochs=10")
    words = falling.verdict()
    epochs = int(words.partition("trainer.max_epochs=")[2].split()[0])
    followed = trained(tmp_path, f"trainer.max_epochs={epochs}")
    assert followed.conclusion["optimum/gap"] < 0.1 * falling.conclusion["optimum/gap"]
    assert "polish=100" in trained(tmp_path, "trainer.max_epochs=300").verdict()
    assert "converged" in trained(tmp_path, "trainer.max_epochs=30", "polish=100").verdict()
    assert "trainer.max_epochs=" in trained(tmp_path, "data.batch_size=null").verdict()
    asked = trained(tmp_path, "data.batch_size=null", "trainer.until_gap=0.001", "trainer.max_epochs=300")
    assert "as trainer.until_gap=0.001 asks" in asked.verdict()


def test_columns_without_variation_leave_nothing_to_polish(tmp_path: Path) -> None:
    path = tmp_path / "constant.csv"
    path.write_text("a,y\n" + "".join(f"1,{i % 7}.5\n" for i in range(40)))
    training = trained(tmp_path, "data=table", f"data.path={path}", "data.target=y", "penalty=l1", "polish=3")
    assert training.conclusion["optimum/same_support"] == 1 and training.landscape() is not None


def test_what_has_no_certificate_says_why(tmp_path: Path) -> None:
    for overrides, words in (
        (["model=mlp", "model.widths=[3]"], "MLP is not convex"),
        (["penalty=adamw", "lambd=0.05"], "‖w‖_∞ ≤ 1/λ = 20"),
    ):
        training = trained(tmp_path, *overrides, "certificate=exact", "trainer.until_gap=1e-6", "trainer.max_epochs=1")
        assert words in training.verdict() and not {key for key in training.conclusion if key.startswith("optimum")}
        (sentence,) = training.advice()
        assert words in sentence and sentence.startswith("certificate=exact, trainer.until_gap=1e-06: ")
    singular = trained(tmp_path, "lambd=0", "trainer.max_epochs=1")
    assert "minimum-norm solution" in singular.verdict() and "optimum/weight_distance" not in singular.conclusion
