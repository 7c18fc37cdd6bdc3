"""The gaps of many weights at once are those that the problem computes for each of them."""

import pytest
import torch
from hypothesis import given, settings
from test_certificate import problems

from shrinkage.optimum import gaps
from shrinkage.optimum.gaps import duality_gaps


@given(problems())
@settings(deadline=None, max_examples=60)
@pytest.mark.parametrize("at_once", [1, gaps.NUMBERS_AT_ONCE])
def test_gaps_of_many_are_those_of_each(at_once: int, case: tuple) -> None:
    problem, l1, l2, weight, bias = case
    factors = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    own = factors[:, None] * bias
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gaps, "NUMBERS_AT_ONCE", at_once)
        found = duality_gaps(problem, factors * l1, factors * l2, factors[:, None, None] * weight, own)
    for k, factor in enumerate(factors):
        alone = problem.duality_gap(factor * l1, factor * l2, factor * weight, own[k])
        torch.testing.assert_close(found[k], alone, rtol=1e-9, atol=1e-13)
