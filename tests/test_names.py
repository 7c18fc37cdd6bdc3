"""Names that a person chose: wherever they are shown they show themselves, and do nothing else."""

import csv
import io
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
from conftest import train_here
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from rich.console import Console

from shrinkage.names import (
    encodable,
    from_csv,
    in_csv,
    in_html,
    in_markdown,
    in_matplotlib,
    in_terminal,
    is_number,
    on_a_line,
)

HOSTILE = [
    *("$x^$", r"\$x^$", "$$", "_a", "a\\", "[/bold]", "[red]x", ":smile:", "\x1b[31mred", "\u202ecba", "two\nlines"),
    *("<script>alert(1)</script>", "a&b", "%{y}", "=cmd|' /C calc'!A0", "+1+1", "@x", "-x", "'=x", "''=x", "\t=x"),
    *(
        "![x](http://h.example/x)",
        "`x`",
        "**x**",
        "a|b",
        "https://h.example",
        'say "hi"',
        "a,b",
        " x",
        "1",
        "-1",
        "-1e5",
    ),
]
NAMES = st.sampled_from(HOSTILE) | st.text(max_size=12) | st.text("$\\_[]<>&%{}='-+@ :*`!()x\r\n\t\x1b", max_size=8)


class Text(HTMLParser):
    """The text of a page, and how many tags it has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.tags = "", 0
        self.feed(page)
        self.close()

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags += 1


@given(NAMES)
@settings(max_examples=300, deadline=None)
def test_a_name_shows_itself_in_each_place(name: str) -> None:
    line = on_a_line(name)
    assert line.isprintable() and (line == name or not name.isprintable())
    page = Text(f"<p>{in_html(name)}</p>")
    assert page.text == line and page.tags == 1
    page = Text(MarkdownIt().render(f"**({in_markdown(name)})**"))
    assert page.text.strip() == f"({line})" and page.tags == 2  # paragraph and emphasis
    console = Console(file=io.StringIO(), width=200)
    console.print(in_terminal(name))
    assert "".join(console.file.getvalue().splitlines()) == line.rstrip("\n") or len(line) > 190
    encodable(name).encode()
    assert (encodable(name) == name) == (not any("\ud800" <= c <= "\udfff" for c in name))


@given(NAMES)
@settings(max_examples=60, deadline=None)
def test_matplotlib_takes_no_name_for_a_formula(name: str) -> None:
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1], label=in_matplotlib(name))
    (text,) = axes.legend().get_texts() if in_matplotlib(name) else [axes.text(0, 0, "")]
    shown, is_formula = text._preprocess_math(text.get_text())
    assert not is_formula and shown.removeprefix(" ") == on_a_line(name).removeprefix(" ")


@given(st.lists(NAMES, min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_no_cell_is_a_formula_and_each_is_read_back(names: list[str]) -> None:
    cells = [in_csv(name) for name in names]
    assert all(is_number(cell) or not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for cell in cells)
    assert [from_csv(cell) for cell in cells] == names
    if not any("\0" in name or not name.isprintable() for name in names):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow([*cells, "(intercept)"])
        assert [from_csv(cell) for cell in next(csv.reader(io.StringIO(text.getvalue())))][:-1] == names


def test_a_sweep_over_a_file_with_such_names_ends_with_its_answer(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    names = [name for name in HOSTILE if name.strip() and not is_number(name)]
    x = draw.normal(size=(80, len(names)))
    table = pd.DataFrame(x, columns=names).assign(y=x @ draw.normal(size=len(names)))
    table.to_csv(tmp_path / "names.csv", index=False)
    done = train_here(
        "hydra/sweeper=path", "hydra.sweeper.num=3", "penalty=l1", "data=table", "data.path=names.csv",
        "data.target=y", "data.folds=2", "data.fold=range(2)", "hydra.sweep.dir=here", "-m", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "\x1b" not in done.stdout + done.stderr
    page = (tmp_path / "here" / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and "%{y}<" not in page
    assert json.loads((tmp_path / "here" / "answer.json").read_text(encoding="utf-8"))["axis"] == "lambd"
    for path in (tmp_path / "here").glob("*/coefficients.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            head, *rows = csv.reader(file)
        features = [from_csv(row[head.index("feature")]) for row in rows]
        assert [*names, "(intercept)"] == features
