"""The report of a sweep: one page that needs no network, its pictures, the runs as a table, the answer as JSON."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from shrinkage.names import in_html
from shrinkage.tracking.outcome import Outcome
from shrinkage.tracking.source import RunSummary, Source

from . import charts, figures
from .answer import Answer, distance, error_of, number, percent, short
from .cells import csv_safe
from .evidence import Evidence, gather
from .grid import grids, heat_map
from .next_step import Command, NextStep, next_step
from .shades import colours_of

MOST_ROWS = 2000  # of the page's table
FEW_ROWS = 30  # that are shown without being asked for
MOST_SENTENCES = 2  # of how sure an answer is, before the rest


@dataclass(frozen=True)
class Pictures:
    """What a report shows beside its words and tables: the evidence, the files of pictures, and where they are from."""

    evidence: Evidence
    files: list[Path]
    source: Source


def draw(answer: Answer, source: Source, folder: Path) -> Pictures:
    """Draw a report's pictures into a folder; one whose data are missing is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    evidence = gather(answer, source)
    pictures = {"validation.png": figures.validation_curve(answer), "weights.png": figures.weight_sizes(answer)}
    if evidence.path is not None:
        pictures["coefficients.png"] = figures.coefficient_path(answer, evidence.path, evidence.of)
    if evidence.curves:
        pictures["learning_curves.png"] = figures.split_curves(answer, evidence.curves, evidence.unit)
    if found := grids(answer):
        pictures["heat_map.png"] = figures.heat_maps(answer, found)
    files = [figures.write_picture(figure, folder / name) for name, figure in pictures.items() if figure is not None]
    return Pictures(evidence, files, source)


def write(
    answer: Answer,
    runs: Sequence[RunSummary],
    pictures: Pictures,
    folder: Path,
    title: str,
    command: Command | None = None,
) -> list[Path]:
    """Write the rest of a report's files into the folder of its pictures, and list all of them.

    runs: all of them, also those that the answer leaves out. command: the sweep's, None where it is not known.
    """
    path = folder / "report.html"
    step = next_step(answer, runs, command)
    outcome = None if answer.refit is None else pictures.source.outcome(answer.refit.run)
    path.write_text(page(answer, pictures.evidence, title, step, outcome), encoding="utf-8")
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


def page(answer: Answer, evidence: Evidence, title: str, step: NextStep, outcome: Outcome | None = None) -> str:
    """Write the page as HTML. step: what to do next. outcome: of the refitted model, None where it is unknown."""
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
    sure = [comparison.sentence for comparison in answer.comparisons] + list(answer.about_error)
    sure = sure or [f"± is one standard error over {answer.winner.splits} splits; there is no other setting to compare"]
    body = [
        f"<h1>{in_html(title)}</h1>",
        f'<section class="first"><div><p class="answer">{in_html(answer.sentence)}</p>',
        f"<p><b>How sure:</b> {in_html('; '.join(sure[:MOST_SENTENCES]))}.</p>",
        f"<p><b>Next:</b> {in_html(step.why)}</p>",
        f'<div class="command"><code tabindex="0">{in_html(step.command)}</code>',
        '<button type="button">copy</button></div></div>',
        charts.main_chart(answer).html(),
        "</section>",
        paragraphs(answer.warnings, "warning"),
        paragraphs(answer.notes, "note"),
        folded(sure[MOST_SENTENCES:]),
        *(
            f"<h2>{in_html(grid.key)} and {in_html(answer.symbol)}</h2>{heat_map(grid, answer)}"
            for grid in grids(answer)
        ),
        "<h2>Settings, each at its best</h2>",
        settings_table(answer),
        *pictures_of_outcome(outcome),
        *pictures_of_weights(answer, evidence),
        *(f'<p class="note">Left out, {in_html(words)}.</p>' for words in missing),
        f"<h2>All {len(answer.table)} means</h2>",
        values_table(answer),
        '<p class="note">runs.csv has every run, answer.json the answer for programs. '
        f"{answer.runs} runs stand behind this page, {len(answer.left_out)} were left out.</p>",
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{in_html(title)}</title><style>{beside('page.css')}</style>"
    )
    script = f"<script>{beside('page.js')}</script>"
    whole = f"<head>{head}</head>\n<body><main>{''.join(body)}</main>{script}</body>"
    return f'<!DOCTYPE html>\n<html lang="en">{whole}</html>\n'


def beside(name: str) -> str:
    """Read a file that stands beside this one."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def paragraphs(texts: Iterable[str], kind: str) -> str:
    """Write sentences as paragraphs of a kind."""
    return "".join(f'<p class="{kind}">{in_html(text)}</p>' for text in texts)


def folded(sentences: Sequence[str]) -> str:
    """Write sentences, folded away if they are many."""
    if len(sentences) <= MOST_SENTENCES:
        return paragraphs(sentences, "note")
    summary = f"<summary>{len(sentences)} more sentences on how sure this is</summary>"
    return f"<details>{summary}{paragraphs(sentences, 'note')}</details>"


def pictures_of_outcome(outcome: Outcome | None) -> Iterator[str]:
    """Write the charts of what the refitted model does on rows: residuals of each target, or survival over time."""
    if outcome is not None:
        yield f"<h2>The refitted model: {in_html(outcome.title)}</h2>"
        yield f'<div class="charts">{"".join(chart.html() for chart in charts.outcome_charts(outcome))}</div>'


def pictures_of_weights(answer: Answer, evidence: Evidence) -> Iterator[str]:
    """Write the charts below the tables: the weights against λ, each of the winner's, and its learning curves."""
    if sizes := charts.size_charts(answer):
        yield f"<h2>Weights against {in_html(answer.symbol)}</h2>"
        yield f'<div class="charts">{"".join(chart.html() for chart in sizes)}</div>'
    if evidence.path is not None:
        yield f"<h2>Coefficient path: {in_html(evidence.of)}</h2>"
        yield charts.path_chart(answer, evidence.path, evidence.of).html()
    if evidence.curves:
        at = f"{answer.winner.name} at {answer.symbol}.min = {short(answer.winner.min)}"
        yield f"<h2>Learning curves of {in_html(at)}</h2>"
        yield charts.learning_chart(answer, evidence).html()


def settings_table(answer: Answer) -> str:
    """Write a table with a row for each setting at its λ.min and λ.1se; columns without a value are left out."""
    heads = ["setting", f"{answer.symbol}.min", answer.metric, "± error", "zeros"]
    heads += ["λ.1se", f"{answer.metric} there", "zeros there"] if answer.axis == "lambd" else []
    heads += ["values", "splits"]
    rows = []
    for each in answer.settings[:MOST_ROWS]:
        cells = [short(each.min), f"{each.mean:.5g}", error_of(each.mean, each.error), percent(each.zeros)]
        if answer.axis == "lambd":
            at = each.at_one_se
            cells += [number(each.one_se), number(at and at.mean, ".5g"), percent(at and at.zeros)]
        rows.append((each is answer.winner, [each.label, *cells, str(each.values), str(each.splits)]))
    return html_table(answer, heads, rows)


def values_table(answer: Answer) -> str:
    """Write a table with a row for each setting and value, folded away if they are many."""
    columns = [name for name in ("train/loss", "val/loss", "weight/l1", "weight/l2") if name != answer.metric]
    heads = ["setting", answer.symbol, "runs", "splits", answer.metric, "± error", *columns]
    heads += ["zeros", "above optimum", "chosen"]
    chosen = {each.label: each for each in answer.settings}
    rows = []
    for row in answer.table.head(MOST_ROWS).to_dict("records"):
        value = row[answer.axis]
        marks = chosen[row["setting"]].marks(value, answer.axis)
        cells = [short(value), f"{row['runs']:.0f}", f"{row['splits']:.0f}", f"{row['mean']:.5g}"]
        cells += [error_of(row["mean"], row["error"]), *(number(row[name], ".5g") for name in columns)]
        cells += [percent(row["weight/zeros"]), distance(row["above"]), ", ".join(marks)]
        rows.append((bool(marks), [row["setting"], *cells]))
    more = len(answer.table) - MOST_ROWS
    words = f'<p class="note">… and {more} more.</p>' if more > 0 else ""
    is_open = " open" if len(rows) <= FEW_ROWS else ""
    return f"<details{is_open}><summary>table</summary>{html_table(answer, heads, rows)}{words}</details>"


def html_table(answer: Answer, heads: Sequence[str], rows: Sequence[tuple[bool, Sequence[str]]]) -> str:
    """Write a table as HTML, without columns that have no value.

    rows: of each whether it stands out, and its cells, the first of them the setting's label.
    """
    colours = colours_of(answer.settings)
    names = {each.label: in_html(each.name) for each in answer.settings}
    there = [place for place in range(len(heads)) if any(cells[place] for _, cells in rows) or place == 0]
    head = "".join(f'<th scope="col">{in_html(heads[place])}</th>' for place in there)
    body = "".join(
        ('<tr class="chosen">' if stands_out else "<tr>")
        + f'<td><i style="background:{colours[cells[0]]}"></i>{names[cells[0]]}</td>'
        + "".join(f"<td>{in_html(cells[place])}</td>" for place in there[1:])
        + "</tr>\n"
        for stands_out, cells in rows
    )
    return f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
