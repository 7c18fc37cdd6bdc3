"""The ways against overfitting, one setting each, two seeds and fewer steps."""

import pytest
from conftest import config

from shrinkage.errors import InputError
from shrinkage.training.workshop import make

SHORT = (
    "experiment=overfitting",
    "trainer.max_steps=120",
    "study.seeds=2",
    "study.lambds=[0.003]",
    "study.widths=[0]",
    "study.dropout=[0.5]",
    "study.times=[4]",
)


def test_every_way_is_measured_and_more_data_help() -> None:
    cfg = config(*SHORT)
    findings = make(cfg.study).run(cfg)
    table = findings.tables["overfitting"].set_index("way")
    assert len(table) == 6
    nothing = table.loc["nothing"]
    assert nothing["seeds won"] == 0
    assert nothing["train"] < 0.1 * nothing["test"]  # it overfits
    assert table.loc["more data", "seeds won"] == 2
    assert table.loc["weight decay", "train"] > nothing["train"]  # what the penalty must cost
    steps = findings.data["curves"].groupby(["way", "seed"])["step"].max().unstack()
    assert (steps.drop("early stopping") == 120).all(axis=None)
    assert (steps.loc["early stopping"] <= 120).all()


def test_what_it_cannot_answer_is_refused() -> None:
    for override in ("seeds=0", "patience=0", "lambds=[0]", "widths=[-1]", "dropout=[1]", "times=[1]"):
        with pytest.raises(InputError, match=r"study\..*; use study\."):
            make(config("experiment=overfitting", f"study.{override}").study)
    for overrides, words in (
        (["model=linear"], "use model=mlp"),
        (["trainer.max_steps=-1", "trainer.max_epochs=1"], "use model=mlp"),
        (["data.test=0"], "counts right classes in a test part"),
        (["data=diabetes"], "counts right classes in a test part"),
        ([*SHORT, "study.times=[40]"], r"leave none of 1330 test rows; use study.times=\[13\]"),
    ):
        cfg = config("experiment=overfitting", *overrides)
        with pytest.raises(InputError, match=words):
            make(cfg.study).run(cfg)
