"""Weight decay in bfloat16: a tiny network, few steps."""

import pytest
from conftest import config

from shrinkage.errors import InputError
from shrinkage.training.workshop import make
from shrinkage_studies.mechanism_bf16 import is_finite

SHORT = (
    "experiment=mechanism_bf16",
    "trainer.max_steps=10",
    "data.epoch_rows=10",
    "data.batch_size=2",
    "data.context=8",
    "data.measured_rows=8",
    "model.layers=1",
    "model.width=16",
    "study.lambds=[1,4]",
    "study.seeds=1",
)


def test_decay_is_rounded_away_in_bfloat16_alone() -> None:
    cfg = config(*SHORT)
    findings = make(cfg.study).run(cfg)
    table = findings.tables["mechanism_bf16"].set_index(["precision", "λ"])
    assert len(table) == 9
    assert (table.xs(0, level="λ")["equal"] == 1).all()
    decayed = table.drop(0, level="λ")
    assert decayed.index[decayed["equal"] == 1].tolist() == [("bf16-true", 1)]  # ηλ = 0.001 < 2⁻⁹
    assert table.loc[("bf16-true", 1), "left"] == 1  # of λ = 1 a step of the decay leaves all
    assert table.loc[("bf16-true", 4), "left"] == 0  # ηλ = 0.004 > 2⁻⁸ moves every weight
    assert (table.drop("bf16-true")["left"] == 0).all()
    assert table.loc[("bf16-mixed", 4), "norm"] == pytest.approx(table.loc[("32-true", 4), "norm"], rel=0.01)
    assert table["diverged"].sum() == 0
    assert "not reproduced at this scale" in findings.answer[0]
    assert "1 of 1 seeds with λ = 1 (ηλ = 0.001 < 2⁻⁹), 0 of 1 seeds with λ = 4" in findings.answer[1]


def test_a_run_that_diverges_is_counted() -> None:
    cfg = config(*SHORT, "optimizer.lr=1e30", "study.lambds=[1e-31]")
    findings = make(cfg.study).run(cfg)
    assert (findings.tables["mechanism_bf16"]["diverged"] == 1).all()
    assert not is_finite({"train/loss": float("nan")}) and is_finite({"train/loss": 1.0})


def test_what_it_cannot_answer_is_refused() -> None:
    for override in ("seeds=0", "lambds=[]", "lambds=[0]", "lambds=[.nan]"):
        with pytest.raises(InputError, match=r"study\..*; use study\."):
            make(config("experiment=mechanism_bf16", f"study.{override}").study)
    for overrides, words in (
        (["model=linear", "data=digits"], "use model=gpt"),
        (["penalty=l2"], "use penalty=adamw"),
        (["penalty.mode=cautious"], "use penalty.mode=decay"),
        (["schedule=cosine"], "use schedule=constant"),
    ):
        cfg = config("experiment=mechanism_bf16", *overrides)
        with pytest.raises(InputError, match=words):
            make(cfg.study).run(cfg)
