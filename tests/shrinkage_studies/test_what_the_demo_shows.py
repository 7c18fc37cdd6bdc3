"""The chapter's demonstration beside the exact minimiser, with fewer seeds and λ's."""

import pytest
from conftest import config

from shrinkage.errors import InputError
from shrinkage.optimum.memory import memory_of_the_start
from shrinkage.training.workshop import make


def test_the_test_loss_is_that_of_the_minimiser_and_of_what_is_left_of_the_start() -> None:
    cfg = config("experiment=what_the_demo_shows", "study.seeds=3", "study.strengths=[0,1]")
    findings = make(cfg.study).run(cfg)
    table = findings.tables["what_the_demo_shows"].set_index("λ")
    assert table.index.tolist() == [0, 1, 3]
    expected = [memory_of_the_start(lambd, [0.003] * 400, "loss") for lambd in table.index]
    assert table["memory"].tolist() == pytest.approx(expected, rel=1e-12)
    assert table["… and the run's bias"].to_numpy() == pytest.approx(table["run"].to_numpy(), rel=0.1)
    # An interpolating minimiser is no worse than a ridge one here, and runs are far from both.
    assert table.loc[0, "minimiser"] < 1.1 * table.loc[3, "minimiser"]
    assert table.loc[0, "run"] > 1000 * table.loc[0, "minimiser"]
    assert "random start" in findings.answer[0]


def test_where_rows_reach_every_direction_the_minimiser_has_its_share() -> None:
    cfg = config(
        "experiment=what_the_demo_shows",
        "study.seeds=2",
        "study.strengths=[0,3]",
        "data.num_inputs=5",
        "model.sigma=0.01",
        "optimizer.lr=0.05",
        "trainer.max_epochs=20",
    )
    findings = make(cfg.study).run(cfg)
    assert "random start" not in findings.answer[0]  # nothing of it is left at any λ
    assert "reach all 5 directions" in findings.answer[1]


@pytest.mark.parametrize("override", ["study.seeds=0", "study.strengths=[1]", "model=mlp", "lambd=0"])
def test_bad_numbers_are_refused(override: str) -> None:
    cfg = config("experiment=what_the_demo_shows", override)
    with pytest.raises(InputError, match=override.replace("[", r"\[")):
        make(cfg.study).run(cfg)
