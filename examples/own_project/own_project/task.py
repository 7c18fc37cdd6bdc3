"""A task of our own, with its metric."""

from shrinkage.errors import InputError
from shrinkage.tasks.base import Task
from shrinkage.tasks.metrics.base import SumMetric


class Within(SumMetric):
    """The share of predictions that are within half a standard deviation of the target."""

    name = "within"
    larger_is_better = True
    about = "share within half a standard deviation"
    predicts = "numbers"

    def sums(self, prediction, target):
        return {"within": ((prediction - target).abs() < 0.5).double().sum()}

    def value(self, sums):
        return sums["within"] / sums["rows"]


class Robust(Task):
    """Regression that a few wild targets do not move: the loss of a row is log(1 + residual²)."""

    outputs = 1
    predicts = "numbers"
    standard = (Within,)

    @classmethod
    def for_target(cls, target):
        if target.classes is not None:
            raise InputError(f"task=robust: the target is one of {target.classes} classes; use task=classification")
        return cls()

    def losses(self, output, target):
        return (output[:, 0] - target).square().log1p()

    def predictions(self, output):
        return output[:, 0]
