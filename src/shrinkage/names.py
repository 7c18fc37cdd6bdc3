"""How a text that a person chose, such as a column's name, is written where some of its characters mean something.

One function for each place: what they return shows the text there, and does nothing else.
"""

import json
import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.text import Text

# What a spreadsheet takes for a formula, after apostrophes that stand for themselves.
FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
MARKUP = re.compile(r"([\\`*_\[\]<>|~])")  # of Markdown, within a line


def on_a_line(text: str) -> str:
    """Write a text in one line: what no line can show, control characters and marks of the direction of writing, is
    written as \\n or \\u202e.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def in_terminal(text: str) -> "Text":
    """Write a text for rich, to which brackets and colons of a plain one are markup, in one line."""
    from rich.text import Text

    return Text(on_a_line(text))


def in_html(text: str) -> str:
    """Write a text as HTML, in one line."""
    return escape(on_a_line(text))


def in_matplotlib(text: str) -> str:
    """Write a text for matplotlib, in one line, which takes what stands between dollars for a formula and leaves out
    labels that begin with _.
    """
    escaped = on_a_line(text).replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped


def in_markdown(text: str) -> str:
    """Write a text as Markdown, in one line. HTML in it is shown as it stands."""
    return MARKUP.sub(r"\\\1", on_a_line(text).replace("&", "&amp;"))


def is_number(text: str) -> bool:
    """Tell whether a text is a plain number, which a spreadsheet may take for one."""
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|-?inf|nan", text, re.ASCII) is not None


def in_csv(text: str) -> str:
    """Write the text of a CSV's cell: one that a spreadsheet would take for a formula begins with an apostrophe."""
    return f"'{text}" if FORMULA.match(text) and not is_number(text) else text


def column_in_csv(cells: Sequence[Any]) -> Sequence[Any]:
    """Write the cells of a CSV's column as `in_csv` does if they are texts, each once; numbers stay as they are."""
    if not cells or not isinstance(cells[0], str):
        return cells
    known = {cell: in_csv(cell) for cell in set(cells)}
    return [known[cell] for cell in cells]


def from_csv(cell: str) -> str:
    """Read the text that `in_csv` has written."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def in_mlflow(text: str) -> str:
    """Write the name of a param, tag or metric so that MLflow takes it: other characters than its own become _."""
    parts = re.sub(r"[^\w.\- :/]", "_", text).split("/")
    return "/".join("_" if part.strip(".") == "" else part for part in parts)[:250]


def as_json(tree: object) -> str:
    """Write plain data as JSON in one line, with all letters as they are, but what UTF-8 cannot hold: the bytes of a
    file's name that are none of it are escaped, and read back as they were.
    """
    text = json.dumps(tree, ensure_ascii=False)
    return text if text.isascii() or encodable(text) == text else json.dumps(tree)


def encodable(text: str) -> str:
    """Write a text that UTF-8 can hold: bytes of a file's name that are none of it are written as \\udcff."""
    return text.encode("utf-8", "backslashreplace").decode()
