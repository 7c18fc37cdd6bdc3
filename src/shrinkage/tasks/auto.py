"""The task that the data ask for, if none is chosen."""

from .base import Target, Task
from .classification import Classification
from .cox import Cox
from .language import LanguageModelling
from .multi_regression import MultiRegression
from .regression import Regression


def task_for(target: Target) -> Task:
    """Choose the task of a data set: language modelling of text, classification of classes, else regression.

    Of several columns it is a regression of all of them at once, of times until an event a Cox regression.
    """
    if target.kind == "language":
        return LanguageModelling.for_target(target)
    if target.has_events:
        return Cox.for_target(target)
    if target.names:
        return MultiRegression.for_target(target)
    return Regression.for_target(target) if target.classes is None else Classification.for_target(target)
