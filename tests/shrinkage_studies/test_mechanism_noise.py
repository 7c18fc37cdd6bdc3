"""One learning rate, one λ, one seed, few epochs; and the Jacobian of a linear map, which is its matrix."""

import pytest
import torch
from conftest import config
from torch import nn

from shrinkage.errors import InputError
from shrinkage.training.workshop import make
from shrinkage_studies.mechanism_noise import jacobian

SHORT = ("experiment=mechanism_noise", "trainer.max_epochs=4", "study.seeds=1", "study.lrs=[0.5]")
SHORT += ("study.lambds=[0.01]",)


def test_every_run_is_compared_with_the_same_one_without_decay() -> None:
    cfg = config(*SHORT)
    findings = make(cfg.study).run(cfg)
    table = findings.tables["mechanism_noise"].set_index("λ")
    assert table.loc[0, "gain"] == 0 and table.loc[0, "seeds won"] == 0
    assert table.loc[0.01, "gain"] == pytest.approx(table.loc[0, "test error, %"] - table.loc[0.01, "test error, %"])
    assert (table["squared Jacobian"] > 0).all()
    # Of the labels a fifth is drawn anew, and a tenth of those hits the right one.
    noise = make(config(*SHORT, "study.label_noise=0").study).run(config(*SHORT, "study.label_noise=0"))
    assert (noise.data["runs"]["train/error"] < findings.data["runs"]["train/error"]).all()
    assert len(findings.data["curves"]) == 2 * 5 and len(findings.answer) == 2


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
