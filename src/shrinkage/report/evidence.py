"""What a report shows besides the answer's table, read from single runs: weights along the path, learning curves."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from shrinkage import split
from shrinkage.names import from_csv
from shrinkage.tracking.source import INTERCEPT, RunSummary, Source

from .answer import Answer

MOST_FILES, MOST_CURVES = 300, 20  # of coefficients and histories that are read: a path of 50 over five folds has 250
MOST_WEIGHTS = 300  # lines of a picture


@dataclass(frozen=True)
class Evidence:
    """What the pictures of a report show besides the answer's table.

    path: the winner's weights, a row a value of the axis, a column a weight; None where there are none. of: what they
    are. curves: the losses of the winner's runs at λ.min. unit: of their steps.
    """

    path: pd.DataFrame | None
    of: str
    curves: list[list[tuple[int, dict[str, float]]]]
    unit: str


def gather(answer: Answer, source: Source) -> Evidence:
    """Read the winner's weights along its path, and the curves at λ.min, of at most MOST_FILES and MOST_CURVES runs."""
    winner = answer.winner
    at_best = first_of_each_split(winner.runs_at(winner.min))
    curves = [curve for curve in (source.history(run) for run in at_best[:MOST_CURVES]) if len(curve) > 1]
    unit = at_best[0]["params"].get("step_unit", "epoch")
    path, of = weights_along(answer, source)
    return Evidence(path, of, curves, unit)


def first_of_each_split(runs: Sequence[RunSummary]) -> list[RunSummary]:
    """Select the run with the smallest seed on each split; the splits are sorted by their numbers."""
    found: dict[tuple[int, ...], RunSummary] = {}
    for run in sorted(runs, key=lambda run: numbers(run, ("seed",))):
        found.setdefault(numbers(run, split.KEYS), run)
    return [found[key] for key in sorted(found)]


def numbers(run: RunSummary, keys: Sequence[str]) -> tuple[int, ...]:
    """Read whole numbers among a run's params; one that is not there, or null, is 0."""
    texts = (run["params"].get(key, "") for key in keys)
    return tuple(int(text) if text.isdigit() else 0 for text in texts)


def weights_along(answer: Answer, source: Source) -> tuple[pd.DataFrame | None, str]:
    """Read the winner's weights at each value, and say what they are: means over the splits, or of the first split.

    The first split's where the splits have different features (a category that one of them lacks), or too many files.
    """
    winner = answer.winner
    at = {value: first_of_each_split(winner.runs_at(value)) for value in sorted(winner.runs)}
    splits = min(len(runs) for runs in at.values())
    if sum(len(runs) for runs in at.values()) > MOST_FILES:
        splits = 1
    if splits * len(at) > MOST_FILES:
        kept = {round(place * (len(at) - 1) / (MOST_FILES - 1)) for place in range(MOST_FILES)}
        at = {value: runs for place, (value, runs) in enumerate(at.items()) if place in kept}
    columns: dict[float, list[pd.Series]] = {}
    for value, runs in at.items():
        found = [source.coefficients(run) for run in runs[:splits]]
        if found[0] is None and not columns:
            return None, ""  # no run of this model has any
        columns[value] = [weights_by_name(table) for table in found if table is not None]
    same = {tuple(weights.index) for found in columns.values() for weights in found}
    if len(same) > 1 or any(len(found) < splits for found in columns.values()):
        splits = 1
    path = pd.DataFrame(
        {value: pd.concat(found[:splits], axis=1).mean(axis=1) for value, found in columns.items() if found}
    ).T.sort_index()
    path = path.fillna(0.0)  # tables of sparse data leave out what is zero
    largest = path.abs().max().sort_values(ascending=False, kind="stable").index[:MOST_WEIGHTS]
    of = f"weights of {winner.name}"
    of += f", means over {splits} splits" if splits > 1 else ", of the first split" if winner.splits > 1 else ""
    of += f"; the {len(largest)} largest of {path.shape[1]}" if len(largest) < path.shape[1] else ""
    return path[largest], of


def weights_by_name(table: pd.DataFrame) -> pd.Series:
    """List the weights by feature, and by output if there are several; without the intercept."""
    features, outputs = (texts_from_csv(table[name]) for name in ("feature", "output"))
    # Cell by cell: a table is small, there are hundreds of them, and a step of pandas costs as much as many cells.
    of_features = [place for place, feature in enumerate(features) if feature != INTERCEPT]
    names = [features[place] for place in of_features]
    if len({*outputs}) > 1:
        names = [f"{outputs[place]}: {features[place]}" for place in of_features]
    index = pd.Index(names, dtype=object)  # else pandas makes an array of Arrow of them, and texts of that again
    return pd.Series(table["weight"].to_numpy(float)[of_features], index)


def texts_from_csv(cells: pd.Series) -> list[str]:
    """Read the texts of a column that `column_in_csv` has written, each of them once; numbers are names, too."""
    listed = cells.to_numpy(object).tolist()
    known = {cell: from_csv(str(cell)) for cell in set(listed)}
    return [known[cell] for cell in listed]
