"""The forum's table, with fewer seeds."""

from conftest import config
from hydra.utils import instantiate


def test_the_posted_test_losses_lie_among_our_seeds_and_the_training_loss_rises() -> None:
    cfg = config("experiment=forum_table", "study.seeds=12")
    findings = instantiate(cfg.study).run(cfg)
    table = findings.tables["forum_table"]
    assert table["posted test"].between(table["test (smallest)"], table["test (largest)"]).all()
    assert table["train (median)"].is_monotonic_increasing
    assert table["test (median)"][0] > 50 * 0.02 > table["test (median)"][1]
