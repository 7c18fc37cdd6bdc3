"""Training as a whole: precision, steps, early stopping, checkpoints, schedules, and what is said beforehand."""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import choices, config
from sklearn.linear_model import Ridge

from shrinkage.errors import InputError
from shrinkage.tracking.source import describe_tests
from shrinkage.training.checkpoints import load
from shrinkage.training.history import describe_growth
from shrinkage.training.run import Training, build
from shrinkage.training.workshop import make


def trained(folder: Path, *overrides: str) -> Training:
    training = build(config(*overrides), folder)
    training.run()
    return training


def test_double_precision_throughout(tmp_path: Path) -> None:
    """Three steps on all rows are NumPy's: where one number was rounded to float32, they would be 10⁻⁷ away."""
    overrides = ("data=diabetes", "data.batch_size=null", "optimizer.lr=0.1", "lambd=0.1", "trainer.max_epochs=3")
    training = build(config(*overrides, "trainer.precision=64-true"), tmp_path)
    part = training.datamodule.parts["train"]
    w, b = (parameter.detach().double().numpy().copy() for parameter in training.module.model.parameters())
    training.run()
    assert all(parameter.dtype == torch.float64 for parameter in training.module.parameters())
    for _ in range(3):
        residual = part.x @ w[0] + b - part.y
        w, b = w - 0.1 * (residual @ part.x / len(part) + 0.1 * w), b - 0.1 * residual.mean()
    for found, expected in zip(training.module.model.parameters(), (w, b), strict=True):
        np.testing.assert_allclose(found.detach(), expected, rtol=1e-12, atol=1e-15)
    loss = np.mean((part.x @ w[0] + b - part.y) ** 2) / 2
    assert training.module.measured["train/loss"] == pytest.approx(loss, rel=1e-12)


def test_steps_count_the_run_where_max_steps_is_set(tmp_path: Path) -> None:
    training = trained(tmp_path, "trainer.max_steps=6")  # an epoch has 4
    assert [moment.step for moment in training.module.history] == [0, 4, 6]


def test_the_loss_is_that_of_the_whole_training_part(tmp_path: Path) -> None:
    training = trained(tmp_path, "trainer.max_epochs=3", "trainer.precision=64-true")
    part, model = training.datamodule.parts["train"], training.module.model
    with torch.no_grad():
        residual = model(torch.from_numpy(part.x))[:, 0] - torch.from_numpy(part.y)
    measured = training.module.measured
    assert measured["train/loss"] == pytest.approx(residual.square().mean().item() / 2, rel=1e-12)
    assert measured["train/penalty"] == pytest.approx(3 * measured["weight/half_squared_l2"], rel=1e-12)
    assert measured["val/rmse"] == pytest.approx(math.sqrt(2 * measured["val/loss"]), rel=1e-12)


def test_a_run_that_leaves_a_model_says_how_sure_its_test_loss_is(tmp_path: Path) -> None:
    training = trained(
        tmp_path, "data=diabetes", "data.test=0.2", "trainer.max_epochs=1", "trainer.precision=64-true", "export=m"
    )
    part, model = training.datamodule.parts["test"], training.module.model
    with torch.no_grad():
        losses = (model(torch.from_numpy(part.x))[:, 0] - torch.from_numpy(part.y)).square() / 2
    assert training.test["test/loss_error"] == pytest.approx(float(losses.std()) / math.sqrt(len(part)), rel=1e-12)
    assert " ± " in describe_tests(training.test) and "loss_error" not in describe_tests(training.test)
    whole = 1 + torch.arange(len(part)) % 3  # whole weights are copies of rows, but for the n in the error
    training.datamodule.parts["test"] = replace(part, weight=whole.double().numpy())
    copies, n = losses.repeat_interleave(whole), len(part)
    spread = (whole.double() * (losses - copies.mean())).square().sum() * n / (n - 1)
    assert training.module.error_of_loss("test") == pytest.approx(float(spread.sqrt()) / len(copies), rel=1e-12)


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
    losses = [measured["val/loss"] for step, _, measured in training.module.history if step]
    assert len(losses) < 300 and min(losses) == losses[-4]
    assert training.module.measured["val/loss"] == min(losses)
    assert training.module.evaluate("val")["loss"].item() == pytest.approx(min(losses), rel=1e-6)
    assert training.best_metrics()["best/epoch"] == len(losses) - 3


def test_checkpoints_load_without_unpickling(tmp_path: Path) -> None:
    training = trained(tmp_path, "trainer.max_epochs=2", "data=diabetes")
    best, last = (torch.load(tmp_path / "checkpoints" / f"{n}.ckpt", weights_only=True) for n in ("best", "last"))
    assert best["val/loss"] == min(m["val/loss"] for step, _, m in training.module.history if step)
    torch.testing.assert_close(last["state_dict"]["model.weight"], training.module.model.weight.detach())
    assert {file.name for file in training.checkpoints.files} == {"best.ckpt", "last.ckpt"}


class Code:
    """What makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_a_checkpoint_with_code_in_it_is_refused_and_not_run(tmp_path: Path) -> None:
    checkpoint, made = tmp_path / "last.ckpt", tmp_path / "made"
    torch.save({"between_epochs": Code(made)}, checkpoint)
    with pytest.raises(InputError, match="is damaged"):
        load(checkpoint)
    assert not made.exists()
    torch.load(checkpoint, weights_only=False)
    assert made.exists()  # so it would have been


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


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["data.batch_size=null"],
            r"gradient descent is stable with optimizer.lr under 2/L = \S+; use optimizer.lr=\d",
        ),
        (["optimizer.momentum=0.5"], r"optimizer.lr=\(1 − μ\)/L is short enough under momentum μ = 0.5; use "),
        (["penalty=mcp", "penalty.mode=loss"], "use a smaller learning rate, such as optimizer.lr=0.5"),
        (["model=mlp", "model.widths=[3]"], "the penalty alone needs optimizer.lr under 0.667; use optimizer.lr=0.17"),
    ],
)
def test_divergence_is_said_and_not_hidden(tmp_path: Path, overrides: list[str], words: str) -> None:
    with pytest.raises(InputError, match=f"with optimizer.lr=5 and lambd=3 .* diverged; .*{words}"):
        trained(tmp_path, "optimizer.lr=5", "trainer.max_epochs=200", *overrides)


def test_an_objective_has_grown_without_bounds_where_it_still_doubles_at_a_hundred_times_its_start() -> None:
    assert describe_growth([1.0, 20.0, 500.0]) and describe_growth([1.0, 3.0, 9.0, 27.0, 81.0, 243.0])
    assert not describe_growth([1.0, 20.0, 90.0])
    assert not describe_growth([0.02, 18.0, 18.0, 19.0])  # the noise of subgradient steps comes to rest
    assert not describe_growth([1.0]) and not describe_growth([1.0, 1000.0])  # of one epoch nobody can tell


# Motor Trend (1974), as R's mtcars: miles per gallon, displacement, horsepower, weight.
MTCARS = """mpg,disp,hp,wt
21,160,110,2.62
21,160,110,2.875
22.8,108,93,2.32
21.4,258,110,3.215
18.7,360,175,3.44
18.1,225,105,3.46
14.3,360,245,3.57
24.4,146.7,62,3.19
22.8,140.8,95,3.15
19.2,167.6,123,3.44
17.8,167.6,123,3.44
16.4,275.8,180,4.07
17.3,275.8,180,3.73
15.2,275.8,180,3.78
10.4,472,205,5.25
10.4,460,215,5.424
14.7,440,230,5.345
32.4,78.7,66,2.2
30.4,75.7,52,1.615
33.9,71.1,65,1.835
21.5,120.1,97,2.465
15.5,318,150,3.52
15.2,304,150,3.435
13.3,350,245,3.84
19.2,400,175,3.845
27.3,79,66,1.935
26,120.3,91,2.14
30.4,95.1,113,1.513
15.8,351,264,3.17
19.7,145,175,2.77
15,301,335,3.57
21.4,121,109,2.78
"""


def raw_cars(folder: Path, *overrides: str) -> list[str]:
    """The table without standardisation, under no penalty."""
    path = folder / "mtcars.csv"
    path.write_text(MTCARS)
    table = ["data=table", f"data.path={path}", "data.target=mpg", "data.standardize=false", "data.batch_size=null"]
    return [*table, "lambd=0", *overrides]


@pytest.mark.parametrize("epochs", [3, 20])
def test_a_table_of_raw_columns_diverges_and_is_told_the_learning_rate_that_works(tmp_path: Path, epochs: int) -> None:
    """After 3 epochs the weights are finite, of 1e10; after 20 they would not be."""
    with pytest.raises(InputError, match="diverged") as caught:
        trained(tmp_path, *raw_cars(tmp_path, f"trainer.max_epochs={epochs}"))
    works = float(re.search(r"use optimizer.lr=(\S+), or data.standardize=true", str(caught.value))[1])
    x = build(config(*raw_cars(tmp_path)), tmp_path).datamodule.parts["train"].x
    steepest = np.linalg.norm(np.column_stack([x, np.ones(len(x))]), 2) ** 2 / len(x)
    assert 0.9 / steepest < works <= 1 / steepest
    falls = [
        m["train/objective"]
        for _, _, m in trained(tmp_path, *raw_cars(tmp_path, f"optimizer.lr={works}")).module.history
    ]
    assert falls == sorted(falls, reverse=True)
    assert "diverged" not in trained(tmp_path, *raw_cars(tmp_path, "data.standardize=true")).verdict()


@pytest.mark.parametrize("epochs", [3, 20])
def test_a_polish_after_a_training_that_diverged_begins_at_zero_and_ends_at_the_optimum(
    tmp_path: Path, epochs: int
) -> None:
    overrides = [f"trainer.max_epochs={epochs}", "polish=20000", "trainer.until_gap=1e-9", "trainer.precision=64-true"]
    training = trained(tmp_path, *raw_cars(tmp_path, *overrides))
    train = training.datamodule.parts["train"]
    exact = np.linalg.lstsq(np.column_stack([train.x, np.ones(len(train.x))]), train.y, rcond=None)[0]
    np.testing.assert_allclose(training.module.model.weight.detach().numpy()[0], exact[:-1], rtol=0, atol=1e-3)
    assert training.conclusion["optimum/gap"] < 1e-9
    words = training.verdict()
    assert words.startswith("converged") and "from zero weights" in words and "it diverged" in words
    assert training.landscape() is not None


def test_one_epoch_that_went_too_far_is_told_so(tmp_path: Path) -> None:
    words = trained(tmp_path, *raw_cars(tmp_path, "trainer.max_epochs=1")).verdict()
    assert "with every weight at zero the objective is smaller" in words and "steps that are too long" in words
    assert "times its optimum" in words and "would help" not in words
    few = trained(tmp_path, *raw_cars(tmp_path, "optimizer.lr=1e-6", "trainer.max_epochs=1")).verdict()
    assert "above an optimum of 0" not in few and "would help" in few


@pytest.mark.parametrize("patience", ["null", "2"])
def test_the_best_weights_may_be_polished_ones_and_are_never_worse_than_the_last(tmp_path: Path, patience: str) -> None:
    problem = ["penalty=l1", "lambd=0.062", "polish=100", f"early_stopping.patience={patience}"]
    training = trained(tmp_path, *problem)
    best, measured = training.checkpoints.best, training.module.measured
    assert best["val/loss"] <= min(m["val/loss"] for step, _, m in training.module.history if step)
    assert best["val/loss"] == measured["val/loss"] and best["epoch"] == training.module.history[-1][0]
    torch.testing.assert_close(best["state_dict"], dict(training.module.model.state_dict()))
    written = torch.load(tmp_path / "checkpoints/best.ckpt", weights_only=True)
    assert (written["epoch"], written["val/loss"]) == (best["epoch"], best["val/loss"])
    assert training.best_metrics() == (
        {}
        if patience == "null"
        else {"best/epoch": best["epoch"]}
        | {f"best/{name}": value for name, value in measured.items() if name.startswith("val/")}
    )


def test_a_gap_that_single_precision_cannot_prove_ends_the_polish_and_is_said(tmp_path: Path) -> None:
    problem = ["data=diabetes", "penalty=l1", "lambd=0.05", "trainer.max_epochs=1"]
    training = trained(tmp_path, *problem, "polish=20000", "trainer.until_gap=1e-9")
    assert training.module.polished <= 500 and training.conclusion["optimum/gap"] < 1e-12
    words = training.verdict()
    assert "rounding keeps the proven gap at" in words and "trainer.precision=64-true rounds less" in words
    double = trained(tmp_path, *problem, "polish=20000", "trainer.until_gap=1e-9", "trainer.precision=64-true")
    assert double.conclusion["optimum/duality_gap"] <= 1e-9 and "rounding" not in double.verdict()


def test_a_polish_leaves_no_memory_to_be_told(tmp_path: Path) -> None:
    """Its accelerated steps shrink what the data do not reach by another law than the training's."""
    assert "init/memory" in trained(tmp_path).conclusion
    assert "init/memory" not in trained(tmp_path, "polish=3").conclusion


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
