"""A penalised bias against a free one, with few λ's."""

import numpy as np
import pytest
from conftest import config

from shrinkage.errors import InputError
from shrinkage.training.workshop import Workshop, make
from shrinkage_studies.bias import solved

FEW = ("experiment=bias", "study.lambds=[0.5,1000000]", "trainer.max_epochs=100", "data.num_val=100")


def test_a_penalised_bias_vanishes_and_a_free_one_becomes_the_mean() -> None:
    cfg = config(*FEW)
    train = Workshop(cfg).datamodule.parts["train"]
    findings = make(cfg.study).run(cfg)
    table = findings.tables["bias"]
    assert table["b penalised"][1] == pytest.approx(train.y.mean() / 1e6, rel=1e-4)
    assert table["b free"][1] == pytest.approx(train.y.mean(), rel=1e-4)
    assert table["val/loss, b free"][0] < table["val/loss, b penalised"][0]
    # At λ = 0.5 every step leaves at most (1 − 0.5 · 0.11)/(1 + 0.5 · 0.5) of the distance: 1e-12 after 100 steps.
    assert findings.metrics["furthest"] < 1e-9


def test_the_slopes_know_where_y_has_its_zero_only_where_the_bias_is_penalised() -> None:
    train = Workshop(config(*FEW)).datamodule.parts["train"]
    for scope, follows in (("weights", False), ("all", True)):
        moved = solved(train.x, train.y + 10, 0.3, scope)[0] - solved(train.x, train.y, 0.3, scope)[0]
        assert (np.linalg.norm(moved) > 1e-3) == follows
    (free, b), (penalised, b_penalised) = (solved(train.x, train.y, 0.0, scope) for scope in ("weights", "all"))
    np.testing.assert_allclose(penalised, free, rtol=1e-9)  # no penalty, no difference
    assert b_penalised == pytest.approx(b, rel=1e-9)


def test_what_it_cannot_answer_is_refused() -> None:
    for overrides in (["study.lambds=[0]"], ["study.lambds=[]"], ["study.shift=much"]):
        with pytest.raises(InputError, match=r"study\..*use study\."):
            make(config("experiment=bias", *overrides).study)
    for override in ("data=digits", "penalty=l1", "model=mlp", "model.bias=false"):
        cfg = config("experiment=bias", override)
        with pytest.raises(InputError, match="the study is about ridge regression"):
            make(cfg.study).run(cfg)
