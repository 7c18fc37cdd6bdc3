"""The house itself: its arrows, its style, and what a newcomer is told."""

import re
import subprocess
import sys
from pathlib import Path

from conftest import ROOT
from docstrings import House, by_room


def test_arrows_point_one_way() -> None:
    done = subprocess.run([Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_picture_of_the_rooms_shows_the_code() -> None:
    done = subprocess.run([sys.executable, "docs/draw_rooms.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_table_of_rooms_is_short_and_whole() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.search(r"\| --- \| --- \|\n((?:\|.*\n)+)", text).group(1).splitlines()
    assert len(rows) <= 12
    named = re.findall(r"`(?:src/)?(\w+)[/.`]", "".join(row.split("|")[1] for row in rows))
    assert sorted(named) == sorted({"conf", *(name.partition(".")[0] for name in House(ROOT).rooms)})


def test_the_files_that_the_documentation_names_are_there() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        made_by_the_reader = re.findall(r"one (?:Python|YAML) file, `([^`]+)`", text, re.IGNORECASE)
        for name in re.findall(r"[`(\s]((?:\.\./)*[\w./-]+/[\w.-]+\.(?:py|md|png|yaml|yml|sql|env))\b", text):
            if name in made_by_the_reader:
                continue
            places = (page.parent, ROOT, ROOT / "src" / "shrinkage", ROOT / "conf")
            assert any((place / name).exists() for place in places), f"{page.relative_to(ROOT)}: {name}"


def test_style() -> None:
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_types() -> None:
    python = ["--pythonpath", sys.executable]
    done = subprocess.run([sys.executable, "-m", "pyright", *python], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_other_rooms_use_is_explained_and_names_the_error_it_raises() -> None:
    house = House(ROOT)
    assert len(house.used) > 400
    assert not by_room(house.without_a_docstring())
    assert not by_room(house.silent_about_their_error())


def test_a_missing_docstring_and_an_error_that_is_not_named_are_found(tmp_path: Path) -> None:
    files = {
        "shrinkage/errors.py": "class InputError(ValueError):\n    'Somebody typed it.'",
        "shrinkage/kitchen.py": """
from .errors import InputError

def refused(words) -> InputError: return InputError(words)
def check(value):
    "Check a value."
    raise refused(value)
def cook(value):
    "Cook. Raises InputError where the value is wrong."
    check(value)
def taste(value):
    "Taste without complaint."
    try:
        check(value)
    except InputError:
        pass
def _season(value): check(value)
class Pan:
    "A pan."
    def __init__(self, size): check(size)
    def fry(self): return self
    def hidden(self): return self
class Small(Pan):
    def fry(self): return None
""",
        "shrinkage/table.py": """
from . import kitchen
from .kitchen import cook

def lay(): return kitchen.check, cook, kitchen.taste, kitchen.Pan(3).fry(), kitchen.Small
""",
    }
    for name, text in files.items():
        (tmp_path / "src" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "src" / name).write_text(text, encoding="utf-8")
    house = House(tmp_path)
    kitchen = "shrinkage.kitchen."
    assert {definition.name for definition in house.without_a_docstring()} == {
        *(kitchen + name for name in ("Pan.fry", "Small.fry", "Small"))
    }
    assert {definition.name for definition in house.silent_about_their_error()} == {
        *(kitchen + name for name in ("check", "Pan"))
    }


def test_the_files_that_people_read_name_no_machine() -> None:
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        assert not re.search(r"(^|[\s\"'`(=])/(root|home|work|tmp)/", (ROOT / name).read_text(encoding="utf-8")), name
