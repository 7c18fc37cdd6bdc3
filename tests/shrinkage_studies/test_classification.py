"""Weight decay in classification, with fewer splits; its solvers against the exact optimum."""

import numpy as np
import pytest
from conftest import config
from hydra.utils import instantiate
from omegaconf import OmegaConf

from shrinkage.data.base import Part
from shrinkage.errors import InputError
from shrinkage.optimum.exact import optimum
from shrinkage_studies.classification import Classification, l1, l2

REDUCED = ("study.splits=3", "study.labels=[5,10]", "study.lambdas=[0.000001,0.001,10]", "study.l1_lambdas=[0.001,0.1]")


def study(*overrides: str) -> Classification:
    return Classification(**{key: value for key, value in settings(*overrides).items() if key != "_target_"})


def settings(*overrides: str) -> dict:
    return OmegaConf.to_container(config("experiment=classification", *overrides).study)


def test_decay_turns_over_into_underconfidence_and_lets_the_rare_class_go() -> None:
    cfg = config("experiment=classification", *REDUCED)
    findings = instantiate(cfg.study, _convert_="all").run(cfg)
    confidence = findings.tables["confidence"].query("penalty == 'L2'")
    excess = (confidence["confidence"] - confidence["accuracy"]).to_numpy()
    assert excess[0] > 0.02 > -0.5 > excess[-1]
    assert confidence["calibration error"].idxmin() == confidence.index[1]
    # A mean of bins' absolute excesses is no less than the absolute mean.
    assert (confidence["calibration error"] >= np.abs(excess) - 1e-12).all()
    recall = findings.tables["imbalance"].iloc[-1]
    assert recall["rare, as they are"] < 0.05 < 0.5 < recall["rare, class weights"]
    labels = findings.tables["labels"]
    assert (labels["loss, chosen λ"] < labels["loss, least λ"]).all()
    assert findings.metrics["largest_gap_of_l1"] < 1e-3


@pytest.mark.parametrize("classes", [2, 3])
def test_the_solvers_reach_the_optimum(classes: int) -> None:
    draw = np.random.default_rng(0)
    x = draw.standard_normal((60, 8))
    train = Part(x, np.argmax(x[:, :classes] + draw.standard_normal((60, classes)), axis=1))
    for lambd in (0.01, 0.05):
        best = optimum(train.x, train.y, classes, 0.0, lambd)
        assert l2(train, lambd).coef_ == pytest.approx(best.weight, abs=1e-4)
        sparse = optimum(train.x, train.y, classes, lambd, 0.0)
        _, weight, _ = l1(train, classes, lambd, None)
        assert weight == pytest.approx(sparse.weight, abs=1e-3)
        assert (weight == 0).any()


def test_the_calibration_error_of_one_bin_and_of_two() -> None:
    # Four rows at probability 0.8, three of them right, and two at 0.6, both right.
    logits = np.array([0.8, 0.8, 0.8, 0.8, 0.6, 0.6])
    part = Part(np.log(logits / (1 - logits))[:, None], np.array([1, 1, 1, 0, 1, 1]))
    parts, weight, bias = {"val": part, "test": part}, np.ones((1, 1)), np.zeros(1)
    one, ten = (study(f"study.bins={bins}").scores(parts, weight, bias) for bins in (1, 10))
    assert one["calibration error"] == pytest.approx(abs(5 - 4 * 0.8 - 2 * 0.6) / 6)
    assert ten["calibration error"] == pytest.approx((abs(3 - 4 * 0.8) + abs(2 - 2 * 0.6)) / 6)


def test_columns_in_other_units_are_another_penalty() -> None:
    """w·x = (w/c)·(cx): L2 on columns times c is L2 with λ/c² on the old ones, and λ alone says nothing."""
    draw = np.random.default_rng(1)
    x = draw.standard_normal((50, 4))
    y = (x[:, 0] + draw.standard_normal(50) > 0).astype(int)
    assert l2(Part(10 * x, y), 1.0).coef_ * 10 == pytest.approx(l2(Part(x, y), 0.01).coef_, abs=1e-5)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("study.splits=0", "study.splits=0: must be a whole number ≥ 1; use study.splits=10"),
        ("study.lambdas=[1,0.1]", "study.lambdas=[1, 0.1]: must be two or more numbers > 0"),
        ("study.labels=[5,7.5]", "study.labels=[5, 7.5]: must be two or more whole numbers > 0"),
        ("study.decades=-1", "study.decades=-1: must be a number from 0 to 3"),
    ],
)
def test_bad_numbers_are_refused(override: str, words: str) -> None:
    with pytest.raises(InputError) as refused:
        study(override)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data=diabetes", "data=diabetes: the study is about classes; use data=digits"),
        ("data=d2l", "data=d2l: the study needs classes and columns to scale; use data=digits"),
        ("data.test=0", "data.test=0: a chosen λ is scored on rows that did not choose it; use data.test=0.3"),
        ("study.labels=[5,100]", r"study.labels=\[5, 100\] study.few=10: a class has 70 training rows, .* use fewer"),
    ],
)
def test_data_that_do_not_fit_are_refused(override: str, words: str) -> None:
    cfg = config("experiment=classification", override)
    with pytest.raises(InputError, match=words):
        instantiate(cfg.study, _convert_="all").run(cfg)
