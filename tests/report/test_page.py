"""The report's page in a real browser, as a person sees it: on a telephone and a wide screen, by day and by night."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import found_by_axe
from test_report import Wide, run

from shrinkage.report.choice import choose
from shrinkage.report.page import draw, write

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.xdist_group("browser")

# Of every piece of writing: its text, its colour, and the colour behind it.
WRITING = """() => [...document.querySelectorAll("body *")].flatMap(part => {
  const text = [...part.childNodes].filter(node => node.nodeType === 3).map(node => node.data.trim()).join("");
  if (!text || ["SCRIPT", "STYLE"].includes(part.tagName) || !part.getClientRects().length) return [];
  const style = getComputedStyle(part), ink = part instanceof SVGElement ? style.fill : style.color;
  let behind = part, paper;
  do { paper = getComputedStyle(behind).backgroundColor; behind = behind.parentElement; }
  while (paper === "rgba(0, 0, 0, 0)" && behind);
  return [[text, ink, paper]];
})"""
TOO_WIDE = """() => ({
  page: document.documentElement.scrollWidth - innerWidth,
  cells: [...document.querySelectorAll("td, th")].filter(cell => cell.scrollWidth > cell.clientWidth + 1).length,
  tables: [...document.querySelectorAll(".wide")].filter(box => box.scrollWidth > box.clientWidth).length,
  plots: Math.min(...[...document.querySelectorAll(".plot")].map(plot => plot.clientHeight)),
})"""


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of two numbers that vary, and of several penalties with warnings; some names are long."""
    rates, lambdas = ("0.001", "0.01", "0.1"), (0.0, 0.01, 0.1, 1.0)
    two = [run("l2", at, 0, None, **{"optimizer.lr": rate}) for rate in rates for at in lambdas]
    names = ("l1", "l2", "a_penalty_of_somebody_else_with_a_name")
    many = [run(name, at, fold, None) for name in names for at in (0.1, 1.0) for fold in range(3)]
    failed = many[0] | {"name": "l1 " + 60 * "x", "status": "FAILED", "metrics": {}, "error": "no"}
    found = []
    for runs in (two, [*many, failed]):
        folder, answer = tmp_path_factory.mktemp("report"), choose(runs)
        write(answer, runs, draw(answer, Wide(30), folder), folder, "sweep " + " ".join(rates * 9))
        found.append(folder / "report.html")
    return found


@pytest.fixture
def opened(browser: "Browser") -> "Iterator[Callable[..., Page]]":
    """Open a page at a width, in light or dark; what it says to the console fails the test."""
    contexts, said = [], []

    def open_page(path: Path, width: int = 1280, scheme: str = "light") -> "Page":
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


@pytest.mark.parametrize("width", [360, 1280, 2560])
def test_nothing_is_cut_off_at_any_width(opened: "Callable[..., Page]", reports: list[Path], width: int) -> None:
    for path in reports:
        found = opened(path, width).evaluate(TOO_WIDE)
        assert (found["page"], found["cells"]) == (0, 0) and found["plots"] >= 280
        assert found["tables"] == 0 or width == 360  # which scrolls them within the page


def test_the_answer_and_its_picture_are_on_the_first_screen(opened: "Callable[..., Page]", reports: list[Path]) -> None:
    for path in reports:
        page = opened(path)
        for part in ("p.answer", "text=How sure", "text=Next", ".command code", ".first .plot"):
            box = page.locator(part).first.bounding_box()
            assert box is not None and box["y"] + box["height"] <= 800, part


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_writing_stands_out_from_what_is_behind_it(
    opened: "Callable[..., Page]", reports: list[Path], scheme: str
) -> None:
    for path in reports:
        page = opened(path, scheme=scheme)
        assert found_by_axe(page) == []
        writing = page.evaluate(WRITING)  # axe-core does not measure that of pictures
        assert len(writing) > 100
        for text, ink, paper in writing:
            high, low = sorted((luminance(ink), luminance(paper)), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ink, paper)


def luminance(css: str) -> float:
    """WCAG 2's relative luminance of rgb(…)."""
    shares = [int(part) / 255 for part in css.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return sum(weight * s for weight, s in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_keys_and_the_mouse_are_told_the_numbers(opened: "Callable[..., Page]", reports: list[Path]) -> None:
    page = opened(reports[0])
    chart = page.locator(".chart").first
    told = chart.locator(".told")
    chart.focus()
    page.keyboard.press("ArrowRight")
    first = told.inner_text()
    page.keyboard.press("ArrowRight")
    assert "λ = 0:" in first and "λ = 0.01:" in told.inner_text() and "val/loss" in first
    page.keyboard.press("Escape")
    assert not told.is_visible()
    box = chart.locator("circle").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert told.is_visible() and "λ = 0:" in told.inner_text()
    button = chart.locator(".legend button").first
    button.click()
    assert button.get_attribute("aria-pressed") == "false" and not chart.locator("polyline").first.is_visible()


def test_charts_and_tables_have_names_for_those_who_do_not_see_them(
    opened: "Callable[..., Page]", reports: list[Path]
) -> None:
    page = opened(reports[0])
    for chart in page.locator(".chart").all():
        assert len(chart.get_attribute("aria-label")) > 5
    assert page.locator("table.heat caption").count() == 1
    assert page.locator("th:not([scope])").count() == 0 and page.locator("html").get_attribute("lang") == "en"
    # Each pair of numbers has a cell, with its mean on it, and one of them is framed.
    assert page.locator("table.heat td[title]").count() == 12 and page.locator("table.heat td.best").count() == 1
