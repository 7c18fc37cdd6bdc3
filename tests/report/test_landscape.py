"""The objective's pictures: drawn where they can be, of the function that was minimised."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import config
from matplotlib.axes import Axes
from scipy.interpolate import RegularGridInterpolator

from shrinkage.report import landscape
from shrinkage.report.landscape import contours, minimum_of_the_loss, values
from shrinkage.training.run import Training, build


def trained(folder: Path, *overrides: str) -> Training:
    training = build(config("trainer.max_epochs=3", "optimizer.lr=0.02", *overrides), folder)
    training.run()
    return training


@pytest.mark.parametrize(
    ("overrides", "title"),
    [
        (["data.num_inputs=1", "penalty=l1", "lambd=0.01"], ""),
        (["data.num_inputs=2", "data.weight=[4.0,1.5]", "lambd=1"], "the bias is the best at every point"),
        (["data.num_inputs=30", "lambd=0.1"], "through 30 weights"),
        (["data=breast_cancer", "penalty=elastic_net", "certificate=exact", "lambd=0.1"], "through 30 weights"),
        (["data.num_inputs=3", "penalty.scope=all"], "through 4 weights"),
    ],
)
def test_a_convex_run_has_its_picture(overrides: list[str], title: str, tmp_path: Path) -> None:
    training = trained(tmp_path, *overrides)
    figure = training.landscape()
    assert title in figure.axes[0].get_title()
    figure.savefig(tmp_path / "objective.png")


def drawn(axes: Axes) -> dict[str, np.ndarray]:
    """The points [n, 2] of each line of a picture that has a name, up to a colon."""
    return {line.get_label().partition(":")[0]: line.get_xydata() for line in axes.lines}


def test_the_curve_over_one_weight_is_the_objective(tmp_path: Path) -> None:
    training = trained(tmp_path, "data.num_inputs=1", "penalty=l1", "lambd=0.3", "data.weight=2.0")
    lines, part = drawn(training.landscape().axes[0]), training.datamodule.parts["train"]
    x, y = part.x[:, 0] - part.x.mean(), part.y - part.y.mean()  # with the best bias at every weight

    def objective(w: np.ndarray) -> np.ndarray:
        return ((np.multiply.outer(w, x) - y) ** 2).mean(axis=-1) / 2 + 0.3 * np.abs(w)

    curve, run = lines["objective, their sum"], lines["the run"]
    for points in (curve, run, lines["minimum of the objective"]):
        np.testing.assert_allclose(points[:, 1], objective(points[:, 0]), rtol=1e-5)
    assert len(run) == 4 and run[-1, 0] == pytest.approx(training.module.model.weight.item(), rel=1e-6)
    soft = np.sign(x @ y) * max(abs(x @ y) / len(x) - 0.3, 0) / (x @ x / len(x))
    assert lines["minimum of the objective"][0, 0] == pytest.approx(soft, rel=1e-6)
    assert lines["minimum of the loss"][0, 0] == pytest.approx(x @ y / (x @ x), rel=1e-5)


@pytest.mark.parametrize("overrides", [["data.num_inputs=2", "data.weight=[4.0,1.5]"], ["data.num_inputs=30"]])
def test_the_levels_are_those_of_the_objective_and_the_run_goes_down_them(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the picture says that a point has some height, it has: looked up beside each point of the run."""
    fields = []

    def remember(axes: Axes, first: np.ndarray, second: np.ndarray, values: np.ndarray, *others: object) -> None:
        fields.append(RegularGridInterpolator((first, second), values.T, method="cubic"))
        contours(axes, first, second, values, *others)

    monkeypatch.setattr(landscape, "contours", remember)
    training = trained(tmp_path, *overrides, "lambd=0.5", "data.batch_size=null", "optimizer.lr=0.3")
    (axes,) = training.landscape().axes
    lines, (height,) = drawn(axes), fields
    run, optimum = lines["the run, from its start"], lines.get("optimum", lines.get("minimum of the objective"))[0]
    heights = [moment.metrics["train/objective"] for moment in training.module.history]
    assert len(run) == 4 and (np.diff(heights) < 0).all()
    if len(training.module.model.weight[0]) == 2:
        np.testing.assert_allclose(run[-1], training.module.model.weight[0].detach(), rtol=1e-6)
        assert (height(run) <= np.array(heights) + 1e-3 * heights[0]).all()  # whose bias is not yet the best
    else:
        np.testing.assert_allclose(height(run[[0, -1]]), [heights[0], heights[-1]], rtol=1e-3)
    least = training.module.measured["train/objective"] - training.conclusion["optimum/gap"]
    assert height(optimum) == pytest.approx(least, rel=1e-3, abs=1e-3 * heights[0])


@pytest.mark.parametrize("overrides", [["model=mlp", "model.widths=[3]"], ["data=breast_cancer", "penalty=l1"]])
def test_without_a_known_optimum_there_is_none(overrides: list[str], tmp_path: Path) -> None:
    assert trained(tmp_path, *overrides).landscape() is None


def test_the_minima_that_are_marked_are_the_smallest_values(tmp_path: Path) -> None:
    training = trained(tmp_path, "data.num_inputs=2", "data.weight=[4.0,1.5]", "lambd=0.5")
    problem, (best, _) = training.module.certifier.problem, training.module.certifier.best(0.0, 0.5)
    near = torch.from_numpy(np.random.default_rng(0).normal(size=(50, 1, 2))) * 0.1
    assert (values(problem, 0.0, 0.5, best + near) > values(problem, 0.0, 0.5, best[None])).all()
    weight, bias = problem.parameters(training.module.parameters_by_name())
    loss_only = minimum_of_the_loss(problem, (weight, bias))
    x = problem.x - problem.x.mean(dim=0)
    exact = torch.linalg.lstsq(x, (problem.y - problem.y.mean())[:, None]).solution.T
    torch.testing.assert_close(loss_only, exact, rtol=0, atol=1e-6)
