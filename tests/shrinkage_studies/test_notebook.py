"""The notebook's one weight and its two."""

import numpy as np
import pytest
from conftest import config
from hydra.utils import instantiate

from shrinkage.errors import InputError


def test_sum_and_mean_have_one_minimum_when_lambda_is_scaled() -> None:
    cfg = config("experiment=notebook_1d", "study.seeds=5", "lambd=0.4")
    one = instantiate(cfg.study).run(cfg).tables["solutions"]
    no_penalty, ridge, mean, run = one.itertuples(index=False)
    assert mean.w == pytest.approx(ridge.w, rel=1e-13) and run.w == pytest.approx(ridge.w, rel=1e-12)
    np.testing.assert_allclose(one["MSE + λ₂w²/2"], 2 / 1000 * one["Σ½r² + λw²/2"], rtol=1e-12)
    assert one["Σ½r²"].idxmin() == 0 and ridge[3] < no_penalty[3]


def test_the_spread_over_draws_is_that_of_the_notebook() -> None:
    """Means of 200 draws were 3.140, 499.5, 1.565, 2957 and 1731; of 40 draws they lie within four standard errors."""
    cfg = config("experiment=notebook_1d", "study.seeds=40")
    spread = instantiate(cfg.study).run(cfg).tables["spread_over_draws"]
    expected = np.array([3.140, 499.5, 1.565, 2957, 1731])
    assert (np.abs(spread["mean"] - expected) < 4 * spread["sd"] / np.sqrt(40)).all()


def test_the_marked_point_is_not_the_minimum_of_what_is_plotted() -> None:
    cfg = config("experiment=notebook_2d", "study.points=11")
    table = instantiate(cfg.study).run(cfg).tables["minima"]
    marked, plotted, mended, _, run = table[["w1", "w2"]].to_numpy()
    np.testing.assert_allclose(mended, marked, rtol=1e-12)
    np.testing.assert_allclose(run, marked, rtol=1e-9)
    # XᵀX/M is the identity up to sampling: 2w/(2 + 1000) of the true weights.
    np.testing.assert_allclose(plotted, 2 / 1002 * np.array([4.0, 1.5]), rtol=0.3)


def test_another_problem_is_refused() -> None:
    for overrides in (["experiment=notebook_1d", "data.num_inputs=3"], ["experiment=notebook_2d", "model.bias=true"]):
        cfg = config(*overrides)
        with pytest.raises(InputError, match="no bias: keep"):
            instantiate(cfg.study).run(cfg)
