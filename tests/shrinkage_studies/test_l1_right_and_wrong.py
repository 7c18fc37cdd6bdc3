"""L1 with the wrong and the right sign, over fewer epochs."""

import numpy as np
import pytest
from conftest import config

from shrinkage.data.base import Part
from shrinkage.errors import InputError
from shrinkage.training.workshop import make
from shrinkage_studies.l1_right_and_wrong import drift


def test_the_wrong_sign_grows_as_derived_and_the_right_one_makes_exact_zeros() -> None:
    cfg = config("experiment=l1_right_and_wrong", "study.epochs=10", "trainer.max_epochs=40")
    findings = make(cfg.study).run(cfg)
    loops = findings.tables["posted_loop"].set_index(["lr", "mean r² …"])
    wrong, right = loops.loc[(0.003, "− ‖w‖₁")], loops.loc[(0.003, "+ ‖w‖₁")]
    assert wrong["derived"] == pytest.approx(wrong["an epoch"], rel=0.15)
    assert wrong["end"] > 10 * wrong["start"] > 10 * right["end"]
    ways = findings.tables["right_sign"].set_index("way")
    assert ways.loc["subgradient", "exact zeros"] == 0 < ways.loc["prox", "exact zeros"]
    assert ways.loc["prox, polished", "same support"]
    assert ways.loc["prox, polished", "gap"] < 1e-6 < ways.loc["prox", "gap"] < ways.loc["subgradient", "gap"]


def test_nothing_holds_back_where_there_are_no_features_and_everything_where_rows_reach_all() -> None:
    draw = np.random.default_rng(0)
    weight = draw.standard_normal(7)
    assert drift(Part(np.zeros((3, 7)), np.zeros(3)), weight) == pytest.approx(7)
    assert drift(Part(draw.standard_normal((20, 7)), np.zeros(20)), weight) == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("override", ["study.rates=[0]", "study.strength=-1", "study.epochs=1", "penalty=l2"])
def test_bad_numbers_are_refused(override: str) -> None:
    cfg = config("experiment=l1_right_and_wrong", override)
    with pytest.raises(InputError, match=override.replace("[", r"\[")):
        make(cfg.study).run(cfg)
