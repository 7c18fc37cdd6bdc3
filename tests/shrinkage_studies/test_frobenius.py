"""The matrix norm on a short run, with three λ's."""

import numpy as np
import pytest
from conftest import config

from shrinkage.errors import InputError
from shrinkage.training.workshop import make


def test_every_way_of_computing_the_norm_agrees_and_the_singular_values_shrink() -> None:
    cfg = config("experiment=frobenius", "trainer.max_epochs=2", "study.lambds=[0.01,0.1,10]")
    findings = make(cfg.study).run(cfg)
    equal, table = findings.tables["frobenius"], findings.tables["singular_values"]
    assert (equal["relative difference"][:5] < 1e-12).all()
    assert equal["relative difference"][5] < 1e-6  # the run's penalty, in single precision
    for name in ("‖W‖_F", "σ1", "σ9"):
        assert table[name].is_monotonic_decreasing
    assert (table["σ10"] < 1e-9 * table["σ1"]).all()  # the rows of a softmax's optimum sum to zero
    assert (table["‖W‖_F"] > table["σ1"]).all()
    assert (table["‖W‖_F"] <= np.sqrt(9) * table["σ1"]).all()


def test_what_it_cannot_answer_is_refused() -> None:
    for lambds in ("[0.1]", "[0,1]", "[much,1]"):
        with pytest.raises(InputError, match=r"study\.lambds=.*use study\.lambds="):
            make(config("experiment=frobenius", f"study.lambds={lambds}").study)
    for override in ("model=mlp", "penalty=l1", "penalty.scope=all", "lambd=0"):
        cfg = config("experiment=frobenius", override)
        with pytest.raises(InputError, match="the study is about a linear model under L2"):
            make(cfg.study).run(cfg)
