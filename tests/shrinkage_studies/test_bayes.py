"""Priors and penalties, over few data seeds."""

import numpy as np
import pytest
from conftest import config

from shrinkage.errors import InputError
from shrinkage.optimum.exact import optimum
from shrinkage.studies.base import vary
from shrinkage.training.workshop import Workshop, make
from shrinkage_studies.bayes import against_bayesian_ridge, expected_loss

NOISY = ("experiment=bayes", "data.num_train=30", "data.num_inputs=20", "data.weight=0.1", "data.noise=0.5")


def test_the_posterior_is_highest_at_the_minimiser_and_the_prior_s_lambda_is_the_best() -> None:
    cfg = config("experiment=bayes", "study.seeds=2")
    findings = make(cfg.study).run(cfg)
    assert (findings.tables["one_weight"]["difference"] < 5.1e-6).all()  # half a step of the grid of 0.1/20,000
    assert findings.metrics["lambda/bayes"] == pytest.approx(0.01**2 / (20 * 0.01**2))
    assert findings.metrics["lambda/best"] == pytest.approx(findings.metrics["lambda/bayes"])


def test_the_posterior_is_that_of_bayesian_ridge() -> None:
    part = Workshop(config(*NOISY)).datamodule.parts["train"]
    assert max(against_bayesian_ridge(part.x, part.y, 0.25, 0.01)) < 1e-9


def test_the_expected_loss_is_the_mean_of_many_fits() -> None:
    cfg, lambds = config(*NOISY), np.array([0.05, 0.8, 20.0])
    expected, found = [], []
    for seed in range(100):
        part = Workshop(vary(cfg, data__seed=seed)).datamodule.parts["train"]
        fits = [optimum(part.x, part.y, None, 0.0, lambd) for lambd in lambds]
        errors = [np.square(fit.weight - 0.1).sum() + (fit.bias[0] - 0.05) ** 2 for fit in fits]
        found.append((0.25 + np.array(errors)) / 2)
        expected.append(expected_loss(part.x, 0.25, 0.01, lambds))
    differences = np.array(found) - np.array(expected)
    standard_error = differences.std(axis=0, ddof=1) / np.sqrt(len(differences))
    assert (np.abs(differences.mean(axis=0)) < 4 * standard_error).all()
    assert (standard_error < 0.05 * np.mean(expected, axis=0)).all()  # so that the test could fail


def test_what_it_cannot_answer_is_refused() -> None:
    for override in ("study.seeds=0", "study.rows=many"):
        with pytest.raises(InputError, match=r"study\..*must be a whole number ≥ 1; use study\."):
            make(config("experiment=bayes", override).study)
    for override in ("data=digits", "data.noise=0", "data.weight=0", "lambd=0"):
        cfg = config("experiment=bayes", override)
        with pytest.raises(InputError, match="the study needs a known noise"):
            make(cfg.study).run(cfg)
