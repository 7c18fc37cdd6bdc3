"""The task that the data ask for, where none is chosen."""

from .base import Target, Task
from .classification import Classification
from .language import LanguageModelling
from .regression import Regression


def task_for(target: Target) -> Task:
    """Choose the task of a data set: regression where it has no classes."""
    if target.kind == "language":
        return LanguageModelling.for_target(target)
    return Regression.for_target(target) if target.classes is None else Classification.for_target(target)
