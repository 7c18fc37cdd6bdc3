"""The laboratory's page in a real browser: its numbers are those of a run, and it fits every screen."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conftest import ROOT, found_by_axe

import shrinkage
from shrinkage_studies.lab.page import write_page
from shrinkage_studies.lab.problem import BATCH, chapter, orders, start

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.xdist_group("browser")

FIRST_EDITION = {"penalty": "l2", "lambd": 3.0, "rate": 0.003, "epochs": 20, "sigma": 1.0}


@pytest.fixture(scope="module")
def html() -> str:
    return write_page()


@pytest.fixture(scope="module")
def numbers(html: str) -> dict[str, Any]:
    (found,) = re.findall(r'id="numbers">(.*?)</script>', html)
    return json.loads(found)


@pytest.fixture(scope="module")
def page(browser: "Browser", html: str, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Page]":
    file = tmp_path_factory.mktemp("lab") / "lab.html"
    file.write_text(html)
    page = browser.new_page()
    wrong: list[object] = []
    page.on("pageerror", lambda error: wrong.append(error))
    page.on("request", lambda request: wrong.append(request.url) if not request.url.startswith("file:") else None)
    page.goto(file.as_uri())
    yield page
    assert wrong == []
    page.close()


def reference(penalty: str, lambd: float, rate: float, epochs: int, sigma: float) -> dict[str, np.ndarray]:
    """Train in double precision, by a loop of its own."""
    train, test = chapter(0)
    weight, bias = sigma * start(0), 0.0
    order = orders(0, epochs)
    found: dict[str, list[float]] = {"train": [], "test": [], "norm": []}
    for epoch in range(epochs + 1):
        for name, part in (("train", train), ("test", test)):
            found[name].append(np.mean((part.x @ weight + bias - part.y) ** 2) / 2)
        found["norm"].append(np.sqrt(weight @ weight))
        for rows in order[epoch].reshape(-1, BATCH) if epoch < epochs else ():
            residual = train.x[rows] @ weight + bias - train.y[rows]
            weight = weight - rate * (train.x[rows].T @ residual / BATCH + (lambd * weight if penalty == "l2" else 0.0))
            if penalty == "l1":
                weight = np.sign(weight) * np.maximum(np.abs(weight) - rate * lambd, 0)
            bias = bias - rate * residual.mean()
    return {name: np.array(values) for name, values in (found | {"weight": list(weight)}).items()}


@pytest.mark.parametrize(
    "changes",
    [{}, {"lambd": 0.0}, {"penalty": "l1", "lambd": 0.03, "rate": 0.01}, {"sigma": 0.0, "epochs": 200, "lambd": 0.1}],
)
def test_its_numbers_are_those_of_a_loop_in_double_precision(page: "Page", changes: dict[str, Any]) -> None:
    setting = FIRST_EDITION | changes
    found = page.evaluate(
        "(set) => { const run = train(PROBLEM, set); return { ...run, weight: [...run.weight] }; }", setting
    )
    for name, expected in reference(**setting).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-12, err_msg=name)


def test_its_run_is_that_of_the_command(page: "Page") -> None:
    """To the rounding of single precision, in which the command trains."""
    found = page.evaluate("(set) => train(PROBLEM, set)", FIRST_EDITION)
    run = shrinkage.fit(
        "lambd=3", "model.sigma=1", "optimizer.lr=0.003", "trainer.max_epochs=20", "tracking=none", "progress=false"
    )
    metrics = {"train": "train/loss", "test": "val/loss", "norm": "weight/l2", "memory": "init/memory"}
    for name, metric in metrics.items():
        assert found[name][-1] == pytest.approx(run.metrics[metric], rel=1e-4), name


def test_the_range_of_the_forum_is_that_of_the_study(numbers: dict[str, Any]) -> None:
    """Medians as docs/studies/forum_table.md has them, of runs in lanes."""
    page = (ROOT / "docs/studies/forum_table.md").read_text()
    rows = [line.split("|") for line in page.splitlines() if re.match(r"\| \d", line)]
    found = numbers["forum"]
    for row, train, test in zip(rows, found["train"], found["test"], strict=True):
        assert float(row[5]) == pytest.approx(test[1], rel=5e-3)
        assert float(row[3]) == pytest.approx(train[1], rel=5e-2) or train[1] < 1e-12


def test_a_minimiser_is_no_worse_than_its_run(numbers: dict[str, Any]) -> None:
    for penalty, size in (("l1", np.abs), ("l2", lambda w: w**2 / 2)):
        for lambd in (0.01, 3.0):
            weight = reference(penalty, lambd, 0.01, 200, 0.01)
            run = weight["train"][-1] + lambd * size(weight["weight"]).sum()
            place = numbers["strengths"].index(lambd)
            optimum = {name: values[place] for name, values in numbers["optima"][penalty].items()}
            assert optimum["train"] <= run
            assert optimum["zeros"] == 1 if (penalty, lambd) == ("l1", 3.0) else optimum["norm"] > 0


@pytest.mark.parametrize("width", [360, 1280, 2560])
def test_it_fits_every_screen(page: "Page", width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_function("waiting > 0")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    heights = page.evaluate("[...document.querySelectorAll('figure svg')].map((svg) => svg.clientHeight)")
    assert len(heights) == 8 and min(heights) >= 280


def test_a_slider_and_a_button_change_what_it_says(page: "Page") -> None:
    page.click("#today")
    today = page.inner_text("#answer")
    page.focus("#lambd")
    page.keyboard.press("Home")  # λ = 0
    assert "At λ = 0 " in page.inner_text("#answer") != today
    assert "100 % of the start is left" in page.inner_text("#answer")
    page.click("#zero-start")
    assert "there is no start to forget" in page.inner_text("#answer")
    page.check("input[value=l1]")
    assert "exactly zero" in page.inner_text("#answer")
    assert page.text_content("#command").startswith("python train.py penalty=l1 lambd=0 model.sigma=0 ")


def test_nothing_keeps_somebody_from_using_it(page: "Page") -> None:
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert found_by_axe(page) == []


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "shrinkage", "lab", "nowhere/lab.html"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(r"nowhere/lab.html: cannot be written \(No such file or directory\); name a file", done.stderr)
