"""The report of a sweep: one page that needs no network, its pictures, the runs as a table, the answer as JSON."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from shrinkage.tracking.source import Source

from . import figures
from .choice import SPLIT, Answer, short

MOST_FILES, MOST_CURVES = 300, 20  # of coefficients and histories that are read: a path of 50 over five folds has 250
MOST_WEIGHTS = 300  # lines of a picture
MOST_ROWS = 2000  # of the page's table
INTERCEPT = "(intercept)"

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222;
  background: #fff; }
h1 { font-size: 1.3rem; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.answer { font-size: 1.15rem; font-weight: 600; border-left: 4px solid #0072B2; padding: .3rem 0 .3rem 1rem; }
.warning { border-left: 4px solid #D55E00; padding-left: 1rem; } .note { color: #555; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .15rem .7rem; text-align: right; } th:first-child, td:first-child { text-align: left; }
tr.chosen { font-weight: 600; background: #eef5fa; } thead th { border-bottom: 1px solid #999; }
.wide { overflow-x: auto; } details > summary { cursor: pointer; }
"""


class FolderSource(Source):
    """Reads what a run has left in its folder."""

    def coefficients(self, run: dict) -> pd.DataFrame | None:
        path = Path(run["folder"]) / "coefficients.csv" if run["folder"] else None
        return pd.read_csv(path, keep_default_na=False) if path is not None and path.exists() else None

    def history(self, run: dict) -> list[tuple[int, dict[str, float]]]:
        path = Path(run["folder"]) / "history.json" if run["folder"] else None
        if path is None or not path.exists():
            return []
        return [(step, measured) for step, measured in json.loads(path.read_text(encoding="utf-8"))]


@dataclass(frozen=True)
class Evidence:
    """What the pictures show besides the answer's table.

    path: the winner's weights, a row a value of the axis, a column a weight; None where there are none. of: what they
    are. curves: the losses of the winner's runs at λ.min. unit: of their steps.
    """

    path: pd.DataFrame | None
    of: str
    curves: list[list[tuple[int, dict[str, float]]]]
    unit: str


def write(answer: Answer, runs: Sequence[dict], source: Source, folder: Path, title: str) -> list[Path]:
    """The report's files, written into a folder.

    runs: all of them, also those that the answer leaves out. A picture whose data are missing is left out.
    """
    from . import interactive

    folder.mkdir(parents=True, exist_ok=True)
    evidence = gathered(answer, source)
    pictures = {"validation.png": figures.validation_curve(answer), "weights.png": figures.weight_sizes(answer)}
    if evidence.path is not None:
        pictures["coefficients.png"] = figures.coefficient_path(answer, evidence.path, evidence.of)
    if evidence.curves:
        pictures["learning_curves.png"] = figures.split_curves(answer, evidence.curves, evidence.unit)
    files = [folder / "report.html"]
    files[0].write_text(page(answer, evidence, title, interactive.charts(answer, evidence)), encoding="utf-8")
    files += [saved(figure, folder / name) for name, figure in pictures.items() if figure is not None]
    table_of_runs(runs).to_csv(folder / "runs.csv", index=False)
    (folder / "answer.json").write_text(json.dumps(answer.as_json(), ensure_ascii=False, indent=1), encoding="utf-8")
    return [*files, folder / "runs.csv", folder / "answer.json"]


def saved(figure: Figure, path: Path) -> Path:
    figure.savefig(path)
    return path


def table_of_runs(runs: Sequence[dict]) -> pd.DataFrame:
    """A row a run: name, status, the params that vary, the last metrics, and the error."""
    params = pd.DataFrame([run["params"] for run in runs])
    varied = [key for key in params if params[key].nunique(dropna=False) > 1]
    metrics = pd.DataFrame([run["metrics"] for run in runs])
    known = pd.DataFrame({key: [run[key] for run in runs] for key in ("name", "status", "run_id")})
    error = pd.Series([run["error"] for run in runs], name="error", dtype=object)
    # λ is both a param and a metric.
    return pd.concat([known, params[varied].drop(columns=metrics.columns, errors="ignore"), metrics, error], axis=1)


def gathered(answer: Answer, source: Source) -> Evidence:
    """The winner's weights along its path and the curves at λ.min, of no more runs than MOST_FILES and MOST_CURVES."""
    winner = answer.winner
    at_best = one_a_split(winner.runs_at(winner.min))
    curves = [curve for curve in (source.history(run) for run in at_best[:MOST_CURVES]) if len(curve) > 1]
    unit = at_best[0]["params"].get("step_unit", "epoch")
    path, of = weights_along(answer, source)
    return Evidence(path, of, curves, unit)


def one_a_split(runs: Sequence[dict]) -> list[dict]:
    """The first run on each split, by the split's and the seed's numbers."""
    found: dict[tuple, dict] = {}
    for run in sorted(runs, key=lambda run: numbers(run, ("seed",))):
        found.setdefault(numbers(run, SPLIT), run)
    return [found[key] for key in sorted(found)]


def numbers(run: dict, keys: Sequence[str]) -> tuple[int, ...]:
    """Whole numbers among a run's params; one that is not there, or null, is 0."""
    texts = (run["params"].get(key, "") for key in keys)
    return tuple(int(text) if text.isdigit() else 0 for text in texts)


def weights_along(answer: Answer, source: Source) -> tuple[pd.DataFrame | None, str]:
    """The winner's weights at each value, and what they are: their means over the splits, or those of the first split.

    The first split's where the splits have different features (a category that one of them lacks), or too many files.
    """
    winner = answer.winner
    at = {value: one_a_split(winner.runs_at(value)) for value in sorted(winner.runs)}
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
        columns[value] = [named(table) for table in found if table is not None]
    same = {tuple(weights.index) for found in columns.values() for weights in found}
    if len(same) > 1 or any(len(found) < splits for found in columns.values()):
        splits = 1
    path = pd.DataFrame(
        {value: pd.concat(found[:splits], axis=1).mean(axis=1) for value, found in columns.items() if found}
    ).T.sort_index()
    largest = path.abs().max().sort_values(ascending=False).index[:MOST_WEIGHTS]
    of = f"weights of {winner.name}"
    of += f", means over {splits} splits" if splits > 1 else ", of the first split" if winner.splits > 1 else ""
    of += f"; the {len(largest)} largest of {path.shape[1]}" if len(largest) < path.shape[1] else ""
    return path[largest], of


def named(table: pd.DataFrame) -> pd.Series:
    """The weights by feature, and by output where there are several; without the intercept."""
    table = table[table["feature"] != INTERCEPT]
    feature, output = table["feature"].astype(str), table["output"].astype(str)
    names = feature if output.nunique() == 1 else output + ": " + feature
    return pd.Series(table["weight"].astype(float).to_numpy(), names.to_numpy())


def page(answer: Answer, evidence: Evidence, title: str, charts: Sequence[tuple[str, str]]) -> str:
    """The page. charts: each a heading and its HTML."""
    missing = [
        words
        for words, there in (
            (
                "coefficient path: these runs have no coefficients.csv, which linear models leave",
                evidence.path is not None,
            ),
            ("learning curves: these runs have no curves", bool(evidence.curves)),
        )
        if not there
    ]
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="answer">{escape(answer.sentence)}</p>',
        *(f'<p class="warning">{escape(warning)}</p>' for warning in answer.warnings),
        *(f"<p>{escape(comparison.sentence)}</p>" for comparison in answer.comparisons),
        *(f'<p class="note">{escape(note)}</p>' for note in answer.notes),
        "<h2>Settings, each at its best</h2>",
        settings_table(answer),
        *(f"<h2>{escape(heading)}</h2>{chart}" for heading, chart in charts),
        *(f'<p class="note">Left out, {escape(words)}.</p>' for words in missing),
        f"<h2>All {len(answer.table)} means</h2>",
        values_table(answer),
        '<p class="note">runs.csv has every run, answer.json the answer for programs. '
        f"{answer.runs} runs stand behind this page, {len(answer.left_out)} were left out.</p>",
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>{"".join(body)}</body></html>\n'


def settings_table(answer: Answer) -> str:
    heads = ["setting", f"{answer.symbol}.min", answer.metric, "± error", "zeros"]
    heads += ["λ.1se", answer.metric, "zeros"] if answer.axis == "lambd" else []
    heads += ["values", "splits"]
    rows = []
    for each in answer.settings[:MOST_ROWS]:
        cells = [each.name, short(each.min), f"{each.mean:.5g}", number(each.error, ".2g"), percent(each.zeros)]
        if answer.axis == "lambd":
            cells += [number(each.one_se), number(each.mean_1se, ".5g"), percent(each.zeros_1se)]
        rows.append((each is answer.winner, [*cells, str(each.values), str(each.splits)]))
    return html_table(heads, rows)


def values_table(answer: Answer) -> str:
    """A row a setting and value, folded away where they are many."""
    columns = [name for name in ("train/loss", "val/loss", "weight/l1", "weight/l2") if name != answer.metric]
    heads = [
        "setting",
        answer.symbol,
        "runs",
        "splits",
        answer.metric,
        "± error",
        *columns,
        "zeros",
        "above optimum",
        "",
    ]
    chosen = {each.label: each for each in answer.settings}
    rows = []
    for _, row in answer.table.head(MOST_ROWS).iterrows():
        setting, value = chosen[row["setting"]], row[answer.axis]
        marks = [f"{answer.symbol}.min"] * (value == setting.min) + ["λ.1se"] * (value == setting.one_se)
        cells = [setting.name, short(value), f"{row['runs']:.0f}", f"{row['splits']:.0f}", f"{row['mean']:.5g}"]
        cells += [number(row["error"], ".2g"), *(number(row[name], ".5g") for name in columns)]
        cells += [percent(row["weight/zeros"]), percent(row["above"], ".2g"), ", ".join(marks)]
        rows.append((bool(marks), cells))
    more = len(answer.table) - MOST_ROWS
    words = f'<p class="note">… and {more} more.</p>' if more > 0 else ""
    is_open = " open" if len(rows) <= 30 else ""
    return f"<details{is_open}><summary>table</summary>{html_table(heads, rows)}{words}</details>"


def html_table(heads: Sequence[str], rows: Sequence[tuple[bool, Sequence[str]]]) -> str:
    """rows: whether a row stands out, and its cells."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
    body = "".join(
        ('<tr class="chosen">' if stands_out else "<tr>")
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>\n"
        for stands_out, cells in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def number(value: float | None, style: str = ".4g") -> str:
    return "" if value is None or math.isnan(value) else f"{value:{style}}"


def percent(share: float | None, style: str = ".0f") -> str:
    return "" if share is None or math.isnan(share) else f"{100 * share:{style}} %"
