"""Ways of looking at an experiment's runs that MLflow's page offers by name, since its table shows no metric by itself.

A view is a tag of the experiment with the page's own state in it: filter, order, columns, charts. The page lists views
under "Views", and opens one by its address.
"""

import json
from collections.abc import Mapping

from .location import JOBS_OF
from .source import PARENT

WIDE = 320  # pixels, of a run's name and of an answer, of which MLflow's page shows 50 characters
PAGE = 100  # runs that MLflow's page loads at once, into its table and charts
TRAINED = "params.seed != ''"  # a sweep's parent has no seed


def view(name: str, key: str, **state: object) -> tuple[str, str]:
    """Build the tag that a view is. key: what its address has."""
    everything = {"searchFilter": "", "startTime": "ALL", "lifecycleFilter": "Active", "datasetsFilter": []}
    held = {"name": name, "createdAt": 0, "updatedAt": 0, "state": json.dumps(everything | state)}
    return f"mlflow.sharedViewState.{key}", json.dumps(held, ensure_ascii=False)


def columns(*names: str) -> dict[str, object]:
    """Choose columns as the page knows them, behind those that it always has, and room for the names of runs."""
    chosen = [f"{kind}.`{name}`" for kind, name in (name.split(".", 1) for name in names)]
    run, answer = "attributes.`Run Name`", "attributes.`Description`"
    return {
        "selectedColumns": chosen,
        "columnOrder": [run, *chosen],
        "columnWidths": {run: WIDE, answer: WIDE},
    }


def against_lambda(*metrics: str) -> dict[str, object]:
    """Draw a chart for each metric, a point a run; λ = 0 has no logarithm and no place there."""
    return {
        "runsHiddenMode": "SHOW_ALL",  # else only the first ten are drawn
        "compareRunSections": [
            {"uuid": "lambda", "name": "Against λ", "display": True, "isReordered": False, "columns": 2}
        ],
        "compareRunCharts": [
            {
                "type": "SCATTER",
                "uuid": f"lambda-{metric}",
                "metricSectionId": "lambda",
                "deleted": False,
                "isGenerated": False,
                "runsCountToCompare": 500,
                "xaxis": {"key": "log10_lambd", "type": "METRIC"},
                "yaxis": {"key": metric, "type": "METRIC"},
            }
            for metric in metrics
        ],
    }


LONGEST = 60  # characters of a sweep's name in the list of views
OF_A_RUN = ("metrics.lambd", "metrics.val/loss", "metrics.train/loss", "metrics.weight/l2", "metrics.weight/zeros")
BY_LAMBDA = {"orderByKey": "metrics.`lambd`", "orderByAsc": True} | against_lambda(
    "val/loss", "weight/l2", "weight/zeros"
)
BY_TIME = {"orderByKey": "attributes.start_time", "orderByAsc": False}

VIEWS = dict(
    [
        # What a person has started: a sweep is one row, and its jobs are none.
        view(
            "Runs",
            "runs",
            searchFilter="tags.kind != 'job'",
            **BY_TIME,
            **columns("tags.kind", "params.penalty", "params.data", *OF_A_RUN),
        ),
        view(
            "Sweeps and their answers",
            "sweeps",
            searchFilter="tags.kind = 'sweep'",
            **BY_TIME,
            **columns(
                *("attributes.Description", "params.penalty", "params.lambd.min", "params.lambd.1se"),
                *("params.data", "metrics.val/loss", "metrics.val/loss_error"),
            ),
        ),
        # Without jobs: hundreds of one sweep would leave no room for others, and each sweep has a view of its own.
        view(
            "Runs by λ",
            "by_lambda",
            searchFilter=f"{TRAINED} AND tags.kind != 'job' AND tags.kind != 'study'",
            **BY_LAMBDA,
            **columns("metrics.lambd", "params.penalty", "params.data", *OF_A_RUN[1:]),
        ),
    ]
)


def jobs_view(sweep: str, name: str, only: Mapping[str, str]) -> tuple[str, str]:
    """Build the view of the runs that stand under a sweep's own run, by λ; each has its penalty's colour.

    Of one sweep, so that no axis has two data sets on it. name: the sweep's. only: the params of those that are shown;
    none for all of them.
    """
    conditions = [f"tags.`{PARENT}` = '{sweep}'", *(f"params.`{key}` = '{value}'" for key, value in only.items())]
    return view(
        f"Jobs of {name}" if len(name) <= LONGEST else f"Jobs of {name[: LONGEST - 1]}…",
        f"{JOBS_OF}{sweep}",
        searchFilter=" AND ".join(conditions),
        **BY_LAMBDA,
        **columns(*OF_A_RUN, "params.penalty"),
    )
