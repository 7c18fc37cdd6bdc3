"""The objective's pictures: drawn where they can be, of the function that was minimised."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import config

from shrinkage.report.landscape import minimum_of_the_loss, values
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
    assert title in figure.axes[0].get_title() and len(training.module.trajectory) == 4
    figure.savefig(tmp_path / "objective.png")


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
