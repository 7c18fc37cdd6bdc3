"""Ways of looking at an experiment's runs that MLflow's page offers by name, since its table shows no metric by itself.

A view is a tag of the experiment with the page's own state in it: filter, order, columns, charts. The page lists views
under "Views", and opens one by its address.
"""

import json

from .location import BY_LAMBDA

WIDE = 250  # pixels
TRAINED = "params.seed != ''"  # a sweep's parent has metrics and no params


def view(name: str, key: str, **state: object) -> tuple[str, str]:
    """Build the tag that a view is. key: what its address has."""
    everything = {"searchFilter": "", "startTime": "ALL", "lifecycleFilter": "Active", "datasetsFilter": []}
    held = {"name": name, "createdAt": 0, "updatedAt": 0, "state": json.dumps(everything | state)}
    return f"mlflow.sharedViewState.{key}", json.dumps(held, ensure_ascii=False)


def columns(*names: str) -> dict[str, object]:
    """Choose columns as the page knows them, behind those that it always has, and room for the names of runs."""
    chosen = [f"{kind}.`{name}`" for kind, name in (name.split(".", 1) for name in names)]
    run = "attributes.`Run Name`"
    return {"selectedColumns": chosen, "columnOrder": [run, *chosen], "columnWidths": {run: WIDE}}


def against_lambda(*metrics: str) -> dict[str, object]:
    """Draw a chart for each metric, a point a run; λ = 0 has no logarithm and no place there."""
    return {
        "runsHiddenMode": "SHOW_ALL",  # else only the first ten are drawn
        "compareRunSections": [{"uuid": "lambda", "name": "Against λ", "display": True, "isReordered": False}],
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


VIEWS = dict(
    [
        view(
            "Runs by λ",
            BY_LAMBDA,
            searchFilter=TRAINED,
            orderByKey="metrics.`lambd`",
            orderByAsc=True,
            **columns(
                *("metrics.lambd", "metrics.val/loss", "metrics.train/loss", "metrics.weight/l2"),
                *("metrics.weight/zeros", "params.penalty", "params.data"),
            ),
            **against_lambda("val/loss", "weight/l2", "weight/zeros"),
        ),
        view(
            "Sweeps and their answers",
            "sweeps",
            orderByKey="attributes.start_time",
            orderByAsc=False,
            **columns("metrics.lambd", "metrics.val/loss", "metrics.val/loss_error", "attributes.Description"),
        ),
    ]
)
