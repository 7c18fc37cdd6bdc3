"""The report of a sweep: one page that needs no network, its pictures, the runs as a table, the answer as JSON."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from shrinkage.names import in_html
from shrinkage.tracking.source import RunSummary, Source

from . import figures
from .answer import Answer, number, percent, short
from .cells import csv_safe
from .evidence import Evidence, gather

MOST_ROWS = 2000  # of the page's table

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


@dataclass(frozen=True)
class Pictures:
    """What a report shows beside its words and tables: the evidence, the charts of its page, and the files of pictures.

    charts: each a heading and its HTML.
    """

    evidence: Evidence
    charts: list[tuple[str, str]]
    files: list[Path]


def draw(answer: Answer, source: Source, folder: Path) -> Pictures:
    """Draw a report's pictures into a folder; one whose data are missing is left out."""
    from . import interactive

    folder.mkdir(parents=True, exist_ok=True)
    evidence = gather(answer, source)
    pictures = {"validation.png": figures.validation_curve(answer), "weights.png": figures.weight_sizes(answer)}
    if evidence.path is not None:
        pictures["coefficients.png"] = figures.coefficient_path(answer, evidence.path, evidence.of)
    if evidence.curves:
        pictures["learning_curves.png"] = figures.split_curves(answer, evidence.curves, evidence.unit)
    files = [figures.write_picture(figure, folder / name) for name, figure in pictures.items() if figure is not None]
    return Pictures(evidence, interactive.charts(answer, evidence), files)


def write(answer: Answer, runs: Sequence[RunSummary], pictures: Pictures, folder: Path, title: str) -> list[Path]:
    """Write the rest of a report's files into the folder of its pictures, and list all of them.

    runs: all of them, also those that the answer leaves out.
    """
    path = folder / "report.html"
    path.write_text(page(answer, pictures.evidence, title, pictures.charts), encoding="utf-8")
    csv_safe(table_of_runs(runs)).to_csv(folder / "runs.csv", index=False)
    (folder / "answer.json").write_text(json.dumps(answer.as_json(), ensure_ascii=False, indent=1), encoding="utf-8")
    return [path, *pictures.files, folder / "runs.csv", folder / "answer.json"]


def table_of_runs(runs: Sequence[RunSummary]) -> pd.DataFrame:
    """Make a table with a row for each run: name, status, the params that vary, the last metrics, and the error."""
    params = pd.DataFrame([run["params"] for run in runs])
    varied = [key for key in params if params[key].nunique(dropna=False) > 1]
    metrics = pd.DataFrame([run["metrics"] for run in runs])
    known = pd.DataFrame({key: [run[key] for run in runs] for key in ("name", "status", "run_id")})
    error = pd.Series([run["error"] for run in runs], name="error", dtype=object)
    # λ is both a param and a metric.
    return pd.concat([known, params[varied].drop(columns=metrics.columns, errors="ignore"), metrics, error], axis=1)


def page(answer: Answer, evidence: Evidence, title: str, charts: Sequence[tuple[str, str]]) -> str:
    """Write the page as HTML. charts: each a heading and its HTML."""
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
        f"<h1>{in_html(title)}</h1>",
        f'<p class="answer">{in_html(answer.sentence)}</p>',
        *(f'<p class="warning">{in_html(warning)}</p>' for warning in answer.warnings),
        *(f"<p>{in_html(comparison.sentence)}</p>" for comparison in answer.comparisons),
        *(f'<p class="note">{in_html(note)}</p>' for note in answer.notes),
        "<h2>Settings, each at its best</h2>",
        settings_table(answer),
        *(f"<h2>{in_html(heading)}</h2>{chart}" for heading, chart in charts),
        *(f'<p class="note">Left out, {in_html(words)}.</p>' for words in missing),
        f"<h2>All {len(answer.table)} means</h2>",
        values_table(answer),
        '<p class="note">runs.csv has every run, answer.json the answer for programs. '
        f"{answer.runs} runs stand behind this page, {len(answer.left_out)} were left out.</p>",
    ]
    head = f'<meta charset="utf-8"><title>{in_html(title)}</title><style>{STYLE}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>{"".join(body)}</body></html>\n'


def settings_table(answer: Answer) -> str:
    heads = ["setting", f"{answer.symbol}.min", answer.metric, "± error", "zeros"]
    heads += ["λ.1se", answer.metric, "zeros"] if answer.axis == "lambd" else []
    heads += ["values", "splits"]
    rows = []
    for each in answer.settings[:MOST_ROWS]:
        cells = [each.name, short(each.min), f"{each.mean:.5g}", number(each.error, ".2g"), percent(each.zeros)]
        if answer.axis == "lambd":
            at = each.at_one_se
            cells += [number(each.one_se), number(at and at.mean, ".5g"), percent(at and at.zeros)]
        rows.append((each is answer.winner, [*cells, str(each.values), str(each.splits)]))
    return html_table(heads, rows)


def values_table(answer: Answer) -> str:
    """Write a table with a row for each setting and value, folded away if they are many."""
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
        marks = setting.marks(value, answer.axis)
        cells = [setting.name, short(value), f"{row['runs']:.0f}", f"{row['splits']:.0f}", f"{row['mean']:.5g}"]
        cells += [number(row["error"], ".2g"), *(number(row[name], ".5g") for name in columns)]
        cells += [percent(row["weight/zeros"]), percent(row["above"], ".2g"), ", ".join(marks)]
        rows.append((bool(marks), cells))
    more = len(answer.table) - MOST_ROWS
    words = f'<p class="note">… and {more} more.</p>' if more > 0 else ""
    is_open = " open" if len(rows) <= 30 else ""
    return f"<details{is_open}><summary>table</summary>{html_table(heads, rows)}{words}</details>"


def html_table(heads: Sequence[str], rows: Sequence[tuple[bool, Sequence[str]]]) -> str:
    """Write a table as HTML. rows: of each whether it stands out, and its cells."""
    head = "".join(f"<th>{in_html(cell)}</th>" for cell in heads)
    body = "".join(
        ('<tr class="chosen">' if stands_out else "<tr>")
        + "".join(f"<td>{in_html(cell)}</td>" for cell in cells)
        + "</tr>\n"
        for stands_out, cells in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
