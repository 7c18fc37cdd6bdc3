"""The choice of λ by a validation set, over few draws of a small problem."""

import pytest
from conftest import config

from shrinkage.errors import InputError
from shrinkage.training.workshop import make

SMALL = (
    "experiment=best_lambda",
    "study.seeds=40",
    "study.smallest=0.01",
    "study.validation_rows=[5,1000]",
    "~study.problems.chapter",
    "study.problems.noisy={num_train:30,num_inputs:20}",
)


def test_a_larger_validation_set_chooses_better_and_none_better_than_the_oracle() -> None:
    cfg = config(*SMALL)
    findings = make(cfg.study).run(cfg)
    table = findings.tables["best_lambda"].set_index("λ from")
    choices = findings.data["choices"].pivot(index="seed", columns="λ from", values="expected loss")
    assert (choices.sub(choices["oracle"], axis=0) >= 0).all(axis=None)
    assert table["above oracle (%)"]["1000 rows"] < table["above oracle (%)"]["5 rows"] / 2
    # σ²/(nτ²) = 1/(30 · 0.01) = 3.3 is best on average over w ~ N(0, τ²), and near it for these draws.
    assert 3.3 / 4 < table["λ, median"]["one for all draws"] < 3.3 * 4
    assert table["expected loss"]["oracle"] > 0.5  # ½σ², which no fit can go under


def test_what_it_cannot_answer_is_refused() -> None:
    for override in ("seeds=0", "validation_rows=[]", "validation_rows=[0]", "smallest=a", "largest=0.00001"):
        with pytest.raises(InputError, match=r"study\..*; use study\."):
            make(config("experiment=best_lambda", f"study.{override}").study)
    for override, words in (
        ("data=digits", "use data=d2l"),
        ("+study.problems.mine={nosie:1}", "nosie is no key of data"),
    ):
        cfg = config("experiment=best_lambda", override)
        with pytest.raises(InputError, match=words):
            make(cfg.study).run(cfg)
