"""What a study found: tables and the answer in the terminal, and files to keep."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure
from pandas.api.types import is_numeric_dtype
from rich.console import Console
from rich.table import Table

from shrinkage.names import in_terminal

from .cells import csv_safe
from .figures import write_picture
from .terminal import width_of

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from torch.export import ExportedProgram


@dataclass(frozen=True)
class Findings:
    """What a study found. answer: sentences, the first one short. The rest by the names of their files, without ending.

    tables: shown and kept. data: kept. pages: figures to hover over. networks: to be loaded by `torch.export.load`.
    metrics: numbers to compare runs of a study by.
    """

    answer: Sequence[str]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    data: dict[str, pd.DataFrame] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)
    pages: dict[str, "go.Figure"] = field(default_factory=dict)
    networks: dict[str, "ExportedProgram"] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


def show(title: str, findings: Findings) -> None:
    """Print the tables of a study, and under them its answer."""
    console = Console()
    for name, frame in findings.tables.items():
        for part in narrow_parts(frame, console):
            console.print(table(name, part))
            console.print()
    console.print(in_terminal(title), style="bold")
    for sentence in findings.answer:
        console.print(in_terminal(sentence))


def narrow_parts(frame: pd.DataFrame, console: Console) -> Iterator[pd.DataFrame]:
    """Split a table's columns into tables that fit into the terminal; each of them begins with the first column."""
    first, *rest = map(str, frame.columns)
    taken: list[str] = []
    for column in rest:
        if taken and width_of(table("", frame[[first, *taken, column]]), console) > console.width:
            yield frame[[first, *taken]]
            taken = []
        taken.append(column)
    yield frame[[first, *taken]]


def table(name: str, frame: pd.DataFrame) -> Table:
    """Lay out a table for the terminal, numbers with four digits and uncut; only texts are wrapped."""
    made = Table(title=name.replace("_", " "), title_justify="left", box=None, pad_edge=False)
    for column in map(str, frame.columns):
        is_number = is_numeric_dtype(frame[column])
        made.add_column(
            in_terminal(column), justify="right" if is_number else "left", no_wrap=is_number, overflow="fold"
        )
    for row in frame.itertuples(index=False):
        made.add_row(*(f"{value:.4g}" if isinstance(value, float) else in_terminal(str(value)) for value in row))
    return made


def files(findings: Findings, folder: Path) -> Iterator[Path]:
    """Write the findings of a study into a folder; yield each path when it is written."""
    folder.mkdir(parents=True, exist_ok=True)
    answer = folder / "answer.md"
    answer.write_text("\n\n".join(findings.answer) + "\n", encoding="utf-8")
    yield answer
    for name, frame in (findings.tables | findings.data).items():
        path = folder / f"{name}.csv"
        csv_safe(frame).to_csv(path, index=False)
        yield path
    for name, figure in findings.figures.items():
        yield write_picture(figure, folder / f"{name}.png")
    for name, page in findings.pages.items():
        path = folder / f"{name}.html"
        page.write_html(path, include_plotlyjs=True)  # it opens without a network
        yield path
    for name, program in findings.networks.items():
        import torch

        path = folder / f"{name}.pt2"
        program.example_inputs = None  # the only part of the file that would be pickled
        torch.export.save(program, path)
        yield path
