"""Weight decay from scratch and concise, over fewer epochs."""

import pytest
from conftest import config

from shrinkage.errors import InputError
from shrinkage.report.findings import Findings
from shrinkage.training.workshop import make

pytestmark = pytest.mark.xdist_group("scratch_and_concise")  # one sweep, or training, for all of them


@pytest.fixture(scope="module")
def findings() -> Findings:
    cfg = config("experiment=scratch_and_concise", "trainer.max_epochs=2")
    return make(cfg.study).run(cfg)


def test_loss_decay_and_the_optimisers_own_are_one_algorithm(findings: Findings) -> None:
    table = findings.tables["scratch_and_concise"]
    assert (table.filter(like="|Δw|") < 1e-15).all(axis=None)
    assert table["‖w‖₂"].to_numpy() ** 2 / 2 == pytest.approx(table["½‖w‖²"].to_numpy(), rel=1e-12)


def test_each_version_is_ours_at_a_lambda_and_a_learning_rate(findings: Findings) -> None:
    versions = findings.tables["other_versions"].set_index("version")
    assert (versions["|Δw|"] < 1e-15).all()
    assert versions.loc["MSE", ["λ here", "lr here"]].tolist() == [1.5, 0.02]
    assert versions.loc["ΣSE", "λ here"] == pytest.approx(0.3)  # batches of five, twice the square
    assert versions.loc["½MSE", "kept"] == pytest.approx(1 - 0.01 * 3, rel=1e-12)
    assert versions.loc["½MSE + λw²", "kept"] == pytest.approx(1 - 2 * 0.01 * 3, rel=1e-12)


def test_under_momentum_they_are_two_algorithms_and_the_answer_says_so() -> None:
    cfg = config("experiment=scratch_and_concise", "trainer.max_epochs=2", "optimizer.momentum=0.9")
    findings = make(cfg.study).run(cfg)
    table = findings.tables["scratch_and_concise"].set_index("λ")
    assert table.loc[3, "|Δw|, decay"] > 1e-4 > 1e-15 > table.loc[3, "|Δw|, SGD"]
    assert "more than rounding" in findings.answer[0]


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(InputError, match=r"study.strengths=\[-1\]"):
        make(config("experiment=scratch_and_concise", "study.strengths=[-1]").study)
