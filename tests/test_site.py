"""The documentation: every command of train.py in it can be composed, and its site builds without a broken link."""

import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import CONF, ROOT, found_by_axe
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FLAGS = {"-m", "--multirun", "--help", "--cfg", "job", "-n"}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands() -> list[str]:
    """The commands of train.py in the pages' blocks, without those that need what the reader has written."""
    found: dict[str, None] = {}
    for page in PAGES:
        for block in re.findall(r"^```sh\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            for line in re.sub(r"\\\n\s*", " ", block).splitlines():
                for command in line.split(" && "):
                    if re.match(r"\s*python train.py(?!.*(…|--config-dir))", command):
                        found[shlex.join(shlex.split(command, comments=True)[2:])] = None
    return list(found)


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_documentation_can_be_composed(command: str) -> None:
    """With the first value of each key that it sweeps over."""
    typed = [word for word in shlex.split(command) if word not in FLAGS]
    overrides = []
    for parsed in OverridesParser.create().parse_overrides(typed):
        line = str(parsed.input_line)
        is_swept = parsed.is_sweep_override()
        overrides.append(f"{line.partition('=')[0]}={next(parsed.sweep_string_iterator())}" if is_swept else line)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        compose("train", overrides, return_hydra_config=True)


@pytest.mark.xdist_group("browser")
@pytest.mark.skipif(find_spec("mkdocs") is None, reason="mkdocs is not installed: pip install -e '.[docs]'")
def test_the_site_builds_strictly_and_is_searched_from_files(browser: "Browser", tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    page = browser.new_page()
    wrong: list[object] = []
    page.on("pageerror", lambda error: wrong.append(error))
    page.on("request", lambda request: wrong.append(request.url) if not request.url.startswith("file:") else None)
    page.goto((tmp_path / "site" / "index.html").as_uri())
    page.click(".md-search__input")
    page.keyboard.type("standard error", delay=20)
    page.wait_for_function("/matching/.test(document.querySelector('.md-search-result__meta').textContent)")
    assert page.locator("a.md-search-result__link[href*='choosing.html']").count()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for name in ("index", "choosing", "api"):
            page.goto((tmp_path / "site" / f"{name}.html").as_uri())
            assert found_by_axe(page) == []
    assert wrong == []
    page.close()
