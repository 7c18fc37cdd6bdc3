"""One strength of each optimiser, one seed, few epochs."""

import pytest
from conftest import config

from shrinkage.errors import InputError
from shrinkage.training.workshop import make

SHORT = ("experiment=equilibrium", "trainer.max_epochs=8", "study.seeds=1", "study.lambds={sgd:[0.05],adam:[4]}")


def test_normalised_weights_settle_where_theory_says_and_others_do_not() -> None:
    cfg = config(*SHORT)
    findings = make(cfg.study).run(cfg)
    runs = findings.data["runs"]
    assert list(runs["layer"].unique()) == ["0.weight", "4.weight", "9.weight"]
    settled = runs[runs["normalised"]]
    assert settled["angle/theory"].between(0.85, 1.15).all()
    assert settled["norm/theory"].dropna().between(0.85, 1.15).all()
    assert (runs[~runs["normalised"]]["angle/theory"] < 0.85).all()
    assert len(findings.answer) == 4 and len(findings.data["curves"]) == 2 * 3 * 8


def test_what_it_cannot_answer_is_refused() -> None:
    for override in ("seeds=0", "label_noise=1", "lambds.sgd=[0]", "lambds.adam=[]"):
        with pytest.raises(InputError, match=r"study\.[\w.]+="):
            make(config("experiment=equilibrium", f"study.{override}").study)
    for override in ("model.batch_norm=false", "penalty.mode=loss"):
        cfg = config("experiment=equilibrium", override)
        with pytest.raises(InputError, match=override.split("=")[0]):
            make(cfg.study).run(cfg)
