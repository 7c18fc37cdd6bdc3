"""What is our own keeps the laws of shrinkage."""

from functools import partial

from own_project.data import Visits
from own_project.model import TwoTowers
from own_project.penalty import Leaning
from own_project.task import Robust, Within

from shrinkage.tasks.base import Target
from shrinkage.testing import check_data, check_metric, check_model, check_penalty, check_task

VISITS = partial(Visits, flat=False, val=0.2, test=0.2, standardize=True, batch_size=32)


def test_the_penalty():
    check_penalty(Leaning(mode="prox", negative=3.0))


def test_the_data():
    check_data(VISITS)
    check_data(partial(VISITS, flat=True))


def test_the_model():
    check_model(partial(TwoTowers, width=3), VISITS(seed=0, order_seed=0))


def test_the_task_and_its_metric():
    check_task(Robust.for_target, Target())
    check_metric(Within())
