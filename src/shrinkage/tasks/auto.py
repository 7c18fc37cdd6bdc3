"""TODO: what this file is."""

from .base import Task
from .classification import Classification
from .language import LanguageModelling
from .regression import Regression


def task_for(kind: str, classes: int | None, scale: float) -> Task:
    """The task of a data set: regression where it has no classes."""
    if kind == "language":
        return LanguageModelling(classes)
    return Regression(scale) if classes is None else Classification(classes)
