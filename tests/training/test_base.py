"""The classes of training modules: what a class has written, no other one writes anew."""

import itertools

import pytest

from shrinkage.training.base import TrainingModule
from shrinkage.training.lanes import LanesModule
from shrinkage.training.module import PenalisedModule


@pytest.mark.parametrize("module", [PenalisedModule, LanesModule])
def test_a_training_module_is_final_and_fills_in_what_is_abstract(module: type[TrainingModule]) -> None:
    assert module.__final__ and not module.__abstractmethods__
    house = [cls for cls in module.__mro__ if issubclass(cls, TrainingModule)]
    for above, below in itertools.combinations(reversed(house), 2):
        own = {name for name, value in vars(below).items() if callable(value) or isinstance(value, property)}
        for name in (own & set(vars(above))) - {"__init__"}:
            assert getattr(vars(above)[name], "__isabstractmethod__", False), f"{below.__name__}.{name}"
