"""The laws that every penalty, model, data set, task and metric keeps, to be checked of a class of your own.

Each check raises an AssertionError that says which law is broken, and with which numbers; any test runner shows it.
"""

from .data import check_data
from .metrics import check_metric
from .models import check_model
from .penalties import check_penalty
from .tasks import check_task

__all__ = ["check_data", "check_metric", "check_model", "check_penalty", "check_task"]
