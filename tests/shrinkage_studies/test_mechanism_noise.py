"""One learning rate, one λ, one seed, few epochs; and the Jacobian of a linear map, which is its matrix."""

import pandas as pd
import pytest
import torch
from conftest import config
from torch import nn

from shrinkage.errors import InputError
from shrinkage.studies.base import train_one, vary
from shrinkage.training.workshop import make
from shrinkage_studies.mechanism_noise import MEASURED, answer, compared, jacobian

SHORT = ("experiment=mechanism_noise", "trainer.max_epochs=4", "study.seeds=1", "study.lrs=[0.5]")
SHORT += ("study.lambds=[0.01]",)


def test_every_run_is_compared_with_the_same_one_without_decay() -> None:
    cfg = config(*SHORT)
    findings = make(cfg.study).run(cfg)
    table = findings.tables["mechanism_noise"].set_index("λ")
    assert list(table.index) == [0, 0.01] and (table["squared Jacobian"] > 0).all()
    # The errors are the run's own, at one λ as at the other.
    for lambd, row in findings.data["runs"].set_index("λ").iterrows():
        alone = train_one(vary(cfg, optimizer__lr=0.5, lambd=lambd), label_noise=0.2)
        assert row["test/error"] == pytest.approx(100 - 100 * alone.test["test/accuracy"])
        assert table.loc[lambd, "test error, %"] == row["test/error"]
    # Of the labels a fifth is drawn anew, and a tenth of those hits the right one.
    noise = make(config(*SHORT, "study.label_noise=0").study).run(config(*SHORT, "study.label_noise=0"))
    assert (noise.data["runs"]["train/error"] < findings.data["runs"]["train/error"]).all()
    assert len(findings.data["curves"]) == 2 * 5 and len(findings.answer) == 2


def test_gains_are_medians_of_the_seeds_differences_and_not_differences_of_medians() -> None:
    errors = {0.0: [10.0, 20.0, 60.0], 0.1: [4.0, 21.0, 30.0], 1.0: [50.0, 19.0, 60.0]}
    rows = [
        (lr, lambd, seed, lr * error, 1.0, 7.0 * seed)
        for lr in (1.0, 2.0)
        for lambd, own in errors.items()
        for seed, error in enumerate(own)
    ]
    runs = pd.DataFrame(rows, columns=["η", "λ", "seed", *MEASURED])
    table = compared(runs.sample(frac=1, random_state=0)).set_index(["η", "λ"])
    for lr in (1.0, 2.0):
        own = table.loc[lr]
        assert own["gain"].to_dict() == {0.0: 0.0, 0.1: 6.0 * lr, 1.0: 0.0}  # of 6, −1, 30 and of −40, 1, 0
        assert own["seeds won"].to_dict() == {0.0: 0, 0.1: 2, 1.0: 1}
        assert own["test error, %"].to_dict() == {0.0: 20.0 * lr, 0.1: 21.0 * lr, 1.0: 50.0 * lr}
        assert (own.loc[0.1, "smallest"], own.loc[0.1, "largest"]) == (4.0 * lr, 30.0 * lr)
        assert (own["squared Jacobian"] == 7.0).all()
    words = answer(table.reset_index(), seeds=3)
    assert "η = 2: without decay 40.0 %" in words[1] and "with λ = 0.1 the gain is 12.0 points" in words[1]
    assert "in 2 of 3 seeds" in words[1] and "is what these runs show" in words[2]


def test_the_jacobian_of_a_linear_map_is_its_matrix() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    squares = jacobian(model, torch.randn(5, 1, 3, 4))
    torch.testing.assert_close(squares, model[1].weight.square().sum().expand(5).detach())


def test_what_it_cannot_answer_is_refused() -> None:
    for override in ("seeds=0", "label_noise=1", "lrs=[0]", "lambds=0.1"):
        with pytest.raises(InputError, match=r"study\.\w+=.*; use study\."):
            make(config("experiment=mechanism_noise", f"study.{override}").study)
    cfg = config("experiment=mechanism_noise", "penalty=l1")
    with pytest.raises(InputError, match="penalty=l1"):
        make(cfg.study).run(cfg)
