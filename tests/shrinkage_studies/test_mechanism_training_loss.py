"""Weight decay and training loss of a language model: two learning rates, few steps."""

import pytest
from conftest import config

from shrinkage.errors import InputError
from shrinkage.training.workshop import make

SHORT = (
    "experiment=mechanism_training_loss",
    "trainer.max_steps=40",
    "data.epoch_rows=80",
    "data.batch_size=4",
    "data.context=32",
    "data.measured_rows=32",
    "study.lrs=[0.003,0.03]",
    "study.lambds=[1]",
    "study.seeds=2",
)


def test_runs_are_compared_within_a_seed_and_decay_shortens_and_turns() -> None:
    cfg = config(*SHORT)
    findings = make(cfg.study).run(cfg)
    table = findings.tables["mechanism_training_loss"].set_index(["lr", "λ"])
    assert len(table) == 4 and len(findings.data["runs"]) == 8
    assert (table.xs(0, level="λ")["difference"] == 0).all()
    norm, angle = table["norm"].unstack(), table["angle"].unstack()
    assert (norm[1] < norm[0]).all()
    assert angle.loc[0.03, 1] > angle.loc[0.03, 0]
    runs = findings.data["runs"].set_index(["lr", "λ", "seed"])
    for (lr, _, seed), run in runs.iterrows():
        assert run["difference"] == run["train/loss"] - runs.loc[(lr, 0, seed), "train/loss"]
    verdicts = findings.tables["verdicts"].set_index("lr")
    for lr, own in runs.xs(1, level="λ")["difference"].groupby("lr"):
        assert verdicts.loc[lr, "seeds smaller"] == (own < 0).sum()
        assert (verdicts.loc[lr, "claim"] == "reproduces") == (own < 0).all()
        assert f"lr = {lr:g}: the claim {verdicts.loc[lr, 'claim']}" in "\n".join(findings.answer)
    curves = findings.data["curves"]
    assert sorted(curves["step"].unique()) == [0, 20, 40]
    assert (curves[curves["step"] == 0].groupby("seed")["train/loss"].nunique() == 1).all()  # the same start


def test_what_it_cannot_answer_is_refused() -> None:
    for override in ("seeds=0", "lrs=[]", "lrs=[0]", "lambds=[-1]", "lambds=[]", "lambds=[.inf]"):
        with pytest.raises(InputError, match=r"study\..*; use study\."):
            make(config("experiment=mechanism_training_loss", f"study.{override}").study)
    for overrides, words in (
        (["model=linear", "data=digits"], "use data=text"),
        (["penalty=l2"], "use penalty=adamw"),
        (["trainer.max_steps=-1", "trainer.max_epochs=1"], "use trainer.max_steps=300"),
        (["trainer.max_steps=100000"], r"less than one epoch; use trainer.max_steps=\d+$"),
    ):
        cfg = config("experiment=mechanism_training_loss", *overrides)
        with pytest.raises(InputError, match=words):
            make(cfg.study).run(cfg)
