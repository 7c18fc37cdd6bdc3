"""Two learning rates and two strengths, two seeds, few steps; and the exponent against a grid where it is known."""

import numpy as np
import pandas as pd
import pytest
from conftest import config

from shrinkage.errors import InputError
from shrinkage.training.workshop import make
from shrinkage_studies.adamw_vs_adam_l2 import exponent

SHORT = ("experiment=adamw_vs_adam_l2", "trainer.max_steps=12", "study.seeds=2", "study.lrs=[0.003,0.01]")
SHORT += ("study.steps=[0.001,0.01]", "study.lambds=[0.001,0.01]")


def test_both_methods_are_measured_on_the_same_seeds() -> None:
    cfg = config(*SHORT)
    findings = make(cfg.study).run(cfg)
    runs = findings.data["runs"].set_index(["method", "η", "strength", "seed"])
    assert len(runs) == 2 * 2 * 3 * 2
    bare = runs.xs(0, level="strength")
    pd.testing.assert_frame_equal(bare.loc["Adam with L2"], bare.loc["AdamW"], rtol=1e-4)  # without λ they are one
    assert not np.allclose(runs.loc["Adam with L2", 0.01, 0.01], runs.loc["AdamW", 0.01, 0.01])


@pytest.mark.parametrize("power", [0.0, 1.0, -1.0])
def test_the_exponent_of_a_valley_is_its_own(power: float) -> None:
    lrs, strengths = 10.0 ** np.arange(-3, 0), 10.0 ** np.arange(-5, 5)
    index = pd.MultiIndex.from_product([lrs, strengths], names=["η", "strength"])
    valley = [(np.log(strength) - power * np.log(lr)) ** 2 for lr, strength in index]
    assert exponent(np.column_stack([valley, valley]), index) == pytest.approx(power, abs=1e-9)


def test_what_it_cannot_answer_is_refused() -> None:
    for override in ("seeds=1", "lrs=[0.1]", "steps=[0,1]", "lambds=0.1"):
        with pytest.raises(InputError, match=r"study\.\w+=.*; use study\."):
            make(config("experiment=adamw_vs_adam_l2", f"study.{override}").study)
    cfg = config("experiment=adamw_vs_adam_l2", "optimizer=sgd")
    with pytest.raises(InputError, match="optimizer=sgd"):
        make(cfg.study).run(cfg)
