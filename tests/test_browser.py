"""MLflow's page after a sweep, and the sweep's report, in a real browser: what a person sees who opens them.

They need the extra `browser` and Chromium, and are skipped without. SHRINKAGE_CHROMIUM names the browser's program, and
where it is set nothing is skipped. SHRINKAGE_SCREENSHOTS names a folder that keeps a picture of every page.
"""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import train_py, wait_for
from mlflow.tracking import MlflowClient

from shrinkage.training.ranks import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Locator, Page

# One worker makes the sweep, the server and the browser, for all of them.
pytestmark = pytest.mark.xdist_group("browser")

# As text they are 0, 0.03, 0.1, 0.3, 1e-05; nor are they made in their order.
LAMBDAS = (0.1, 1e-5, 0.03, 0.0, 0.3)
FOLDS = 3
SECONDS = 60  # a page takes up to 20 on a busy machine
GENTLE = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
# MLflow opens its assistant beside the page that a browser sees first.
SEEN_BEFORE = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"


@dataclass(frozen=True)
class Swept:
    """A sweep that has ended. out: what it printed. sentence: its answer. lambdas: each run's λ, the parent's too."""

    folder: Path
    out: str
    parent: str
    sentence: str
    lambdas: dict[str, float]

    @property
    def children(self) -> set[str]:
        return self.lambdas.keys() - {self.parent}

    @property
    def report(self) -> Path:
        (path,) = self.folder.glob("multirun/*/*/report.html")
        return path


@dataclass(frozen=True)
class Server:
    """MLflow's page for that sweep. parent: the link that the sweep has printed."""

    home: str
    parent: str

    def runs(self, query: str) -> str:
        return f"{self.home}/#/experiments/1/runs?workflowType=machine_learning&{query}"


@pytest.fixture(scope="module")
def swept(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """The browser is asked for first, so that nothing is trained where it is missing."""
    folder = tmp_path_factory.mktemp("swept")
    store = folder / "mlflow.db"
    converged = ("data.batch_size=null", "trainer.until_gap=1e-6", "polish=20000")
    done = train_py(
        "-m",
        *("data=diabetes", "penalty=l1", f"lambd={','.join(f'{value:g}' for value in LAMBDAS)}"),
        *(f"data.folds={FOLDS}", f"data.fold=range({FOLDS})", *converged),
        "hydra/launcher=lanes",
        cwd=folder,
        store=store,
    )
    assert done.returncode == 0, done.stderr
    client = MlflowClient(f"sqlite:///{store}")
    runs = client.search_runs(["1"])
    (parent,) = [run.info.run_id for run in runs if "mlflow.parentRunId" not in run.data.tags]
    (answer,) = folder.glob("multirun/*/*/answer.json")
    return Swept(
        folder,
        done.stdout,
        parent,
        json.loads(answer.read_text(encoding="utf-8"))["sentence"],
        {run.info.run_id: run.data.metrics["lambd"] for run in runs},
    )


def answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def server(swept: Swept) -> Iterator[Server]:
    """The command that the sweep's last line names runs, on a port of its own."""
    command, page = re.search(r"^To look at it: (.*), then (http\S+)$", swept.out, re.MULTILINE).groups()
    port = free_port()
    program, *arguments = shlex.split(command)
    with (swept.folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [Path(sys.executable).parent / program, *arguments, "--port", str(port), "--workers", "1"],
            cwd=swept.folder,
            env=os.environ | GENTLE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    home = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: process.poll() is not None or answers(f"{home}/health"), 120)
        assert process.poll() is None, (swept.folder / "server.log").read_text()
        yield Server(home, page.replace("http://127.0.0.1:5000", home))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # all its processes, which hold the port together
        process.wait()


@pytest.fixture
def context(browser: "Browser") -> "Iterator[BrowserContext]":
    """A browser that knows nothing of the pages that other tests have opened."""
    fresh = browser.new_context(viewport={"width": 1400, "height": 900})
    fresh.add_init_script(SEEN_BEFORE)
    fresh.set_default_timeout(1000 * SECONDS)
    yield fresh
    fresh.close()


@pytest.fixture
def page(context: "BrowserContext") -> "Page":
    return context.new_page()


@pytest.fixture
def keep(tmp_path: Path) -> "Callable[[Page, str], None]":
    """Keep a picture of a page by a name."""
    folder = Path(os.environ.get("SHRINKAGE_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return lambda page, name: page.screenshot(path=folder / f"{name}.png", animations="disabled")


def rows(page: "Page") -> "Locator":
    """The table's rows. Each stands in the page in two parts; this is the one with the name."""
    return page.locator(".ag-pinned-left-cols-container [row-id]")


def shown(page: "Page") -> list[str]:
    """The run ids from top to bottom."""
    placed = rows(page).evaluate_all("all => all.map(row => [+row.ariaRowIndex, row.getAttribute('row-id')])")
    return [run for _, run in sorted(placed)]


def side(page: "Page") -> str:
    """Which of its two sides MLflow's page shows, told by what only one of them has in its menu."""
    menu = page.get_by_role("link", name=re.compile("^(Models|Prompts)$"))
    menu.first.wait_for()
    return {"Models": "model training", "Prompts": "GenAI"}[menu.first.inner_text()]


def followed(page: "Page", server: Server, name: str) -> "Page":
    """The page that a link in the parent's description opens."""
    page.goto(server.parent)
    with page.expect_popup() as popup:
        page.get_by_role("link", name=name).click()
    return popup.value


def test_the_printed_link_opens_the_parent_with_its_answer(
    swept: Swept, server: Server, page: "Page", keep: "Callable[[Page, str], None]"
) -> None:
    page.goto(server.parent)
    page.get_by_text(swept.sentence).wait_for()
    page.get_by_role("link", name="λ=0").first.wait_for()  # one of its children
    assert swept.parent in page.url and side(page) == "model training"
    keep(page, "mlflow_answer")


def test_runs_by_lambda_as_a_number(
    swept: Swept, server: Server, page: "Page", keep: "Callable[[Page, str], None]"
) -> None:
    """The view of them that the parent's description leads to."""
    table = followed(page, server, "its jobs by λ")
    rows(table).nth(len(swept.children) - 1).wait_for()
    order = shown(table)
    assert set(order) == swept.children  # the parent has no place among them
    assert [swept.lambdas[run] for run in order] == sorted(swept.lambdas[run] for run in swept.children)
    values = table.locator("[role=gridcell][col-id='metrics.`lambd`']")
    assert {float(text) for text in values.all_inner_texts()} == set(LAMBDAS)
    assert table.locator("[role=columnheader][col-id='metrics.`val/loss`']").count() == 1
    assert side(table) == "model training"
    keep(table, "mlflow_runs")


def test_the_charts_draw_the_runs(
    swept: Swept, server: Server, page: "Page", keep: "Callable[[Page, str], None]"
) -> None:
    page.goto(server.runs(f"viewStateShareKey=jobs-{swept.parent}&compareRunsMode=CHART"))
    runs = len([run for run in swept.children if swept.lambdas[run] > 0])  # 0 has no logarithm
    for place in range(3):
        chart = page.locator(".js-plotly-plot").nth(place)
        chart.locator(".point").nth(runs - 1).wait_for()
        assert chart.locator(".point").count() == runs
    keep(page, "mlflow_charts")


def test_a_sweep_is_one_row_of_the_views_with_its_answer(
    swept: Swept, server: Server, page: "Page", keep: "Callable[[Page, str], None]"
) -> None:
    for view in ("runs", "sweeps"):
        page.goto("about:blank")
        page.goto(server.runs(f"viewStateShareKey={view}"))
        rows(page).first.wait_for()
        assert shown(page) == [swept.parent], view
    told = page.locator(".ag-center-cols-container").inner_text()
    assert "Take penalty=l1" in told and "l1\n" in told  # its answer, and the winner's penalty
    keep(page, "mlflow_sweep")


def test_the_report_renders_among_the_artifacts(
    swept: Swept, server: Server, page: "Page", keep: "Callable[[Page, str], None]"
) -> None:
    opened = followed(page, server, "report.html")
    report = opened.frame_locator("iframe")
    answer = report.locator("p.answer", has_text=swept.sentence)
    answer.wait_for()
    report.locator(".chart polyline").first.wait_for()
    assert side(opened) == "model training"
    opened.set_viewport_size({"width": 1400, "height": 1080})  # room for the first chart
    answer.evaluate("answer => answer.scrollIntoView()")
    keep(opened, "mlflow_report")


def test_the_report_needs_no_network(swept: Swept, context: "BrowserContext", page: "Page") -> None:
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    context.set_offline(True)
    page.goto(swept.report.as_uri())
    page.locator("p.answer", has_text=swept.sentence).wait_for()
    page.locator(".chart polyline").first.wait_for()
    assert errors == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
