"""L1 against L2, with fewer draws; what must hold of ridge, of the lasso and of an error in one variable."""

import numpy as np
import pytest
from conftest import config
from hydra.utils import instantiate
from omegaconf import OmegaConf

from shrinkage.data.base import Part
from shrinkage.errors import InputError
from shrinkage.optimum.exact import optimum
from shrinkage_studies.l1_against_l2 import EQUAL, L1AgainstL2, equal_fit, loss

REDUCED = ("study.draws=4", "study.lambdas=[0.05,0.2,1]", "data.num_val=400", "trainer.max_epochs=200")


def study(*overrides: str) -> L1AgainstL2:
    settings = OmegaConf.to_container(config("experiment=l1_against_l2", *overrides).study)
    return L1AgainstL2(**{key: value for key, value in settings.items() if key != "_target_"})


def random_part(columns: int) -> Part:
    draw = np.random.default_rng(0)
    x = draw.standard_normal((40, columns))
    return Part(x, x[:, 0] + 0.5 * x[:, 1] + 0.3 * draw.standard_normal(40))


def test_l2_spreads_and_l1_selects() -> None:
    cfg = config("experiment=l1_against_l2", *REDUCED)
    findings = instantiate(cfg.study, _convert_="all").run(cfg)
    fits = findings.data["fits"].set_index(["problem", "draw", "model"])
    equal = fits.xs(EQUAL, level="model")
    # Of all weights with this training loss, ridge has the smallest ‖w‖.
    for (problem, draw), row in equal.iterrows():
        lasso = fits.loc[(problem, draw, "L1")]
        (twin,) = [
            r for _, r in lasso.iterrows() if r["training loss"] == pytest.approx(row["training loss"], rel=1e-6)
        ]
        assert row["mean rise"] <= twin["mean rise"]
    lasso, ridge, _ = findings.tables["copies"]["shared by"]
    assert 1 <= lasso < ridge <= 3
    selection = findings.tables["selection"]
    assert (selection["trained: same"] == "yes").all()
    assert selection["gap"].max() < 1e-9
    assert selection["false"].is_monotonic_decreasing
    errors = findings.tables["errors"].set_index(["problem", "model"])["test loss"]
    assert errors["sparse", "L1"] < errors["sparse", "L2"]


def test_an_error_in_one_variable_adds_half_its_variance_times_the_squared_weight() -> None:
    part, s, rows = random_part(5), 0.7, 400_000
    scores = study(f"study.error={s}").scores({"train": part, "val": part, "test": part}, "L2", 0.1)
    weight = scores["weight"]
    j = int(np.abs(weight).argmax())
    best = optimum(part.x, part.y, None, 0.0, 0.1)
    x, y = np.tile(part.x, (rows // 40, 1)), np.tile(part.y, rows // 40)
    x[:, j] += s * np.random.default_rng(1).standard_normal(rows)
    rise = loss(Part(x, y), weight, best.bias[0]) - scores["test loss"]
    assert scores["worst rise"] == pytest.approx(s**2 * weight[j] ** 2 / 2)
    assert rise == pytest.approx(scores["worst rise"], rel=0.02)


def test_equal_fit_has_the_training_loss_asked_for() -> None:
    part = random_part(5)
    best = optimum(part.x, part.y, None, 0.0, equal_fit(part, 0.2))
    assert loss(part, best.weight[0], best.bias[0]) == pytest.approx(0.2)
    assert equal_fit(part, 100.0) == 1e9
    assert equal_fit(part, 0.0) == 1e-9


def test_exact_copies_share_evenly_under_ridge_and_as_the_solver_likes_under_the_lasso() -> None:
    part = random_part(2)
    found = study().exact_copies(part, np.ones(2), 0.05)
    assert found["coordinate descent"] == pytest.approx(1)
    assert found["proximal gradient"] == pytest.approx(1 / 3)
    assert found["difference"] < 1e-9
    ridge = optimum(np.repeat(part.x, 3, axis=1), part.y, None, 0.0, 0.05).weight.reshape(2, 3)
    assert ridge == pytest.approx(ridge[:, [1, 2, 0]])
    assert not optimum(np.repeat(part.x, 3, axis=1), part.y, None, 0.05, 0.0).unique


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("study.draws=0", "study.draws=0: must be a whole number ≥ 1; use study.draws=20"),
        ("study.copies=1", "study.copies=1: must be a whole number ≥ 2; use study.copies=3"),
        ("study.error=-1", "study.error=-1: must be a number > 0; use study.error=1"),
        ("study.lambdas=[1,0.1]", "study.lambdas=[1, 0.1]: must be two or more numbers > 0"),
    ],
)
def test_bad_numbers_are_refused(override: str, words: str) -> None:
    with pytest.raises(InputError) as refused:
        study(override)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data=digits", "data=digits: the study must know the true coefficients; use data=d2l"),
        ("data.weight=1", "data.weight=1: some coefficients must be 0 and some not; use data.num_inputs=4"),
        ("data.num_val=1", "data.num_val=1: half of the rows choose λ, .* use data.num_val=1000"),
        ("penalty=l2", "no exact lasso to stand beside; use model=linear penalty=l1"),
    ],
)
def test_problems_that_do_not_fit_are_refused(override: str, words: str) -> None:
    cfg = config("experiment=l1_against_l2", "trainer.max_epochs=1", override)
    with pytest.raises(InputError, match=words):
        instantiate(cfg.study, _convert_="all").run(cfg)
