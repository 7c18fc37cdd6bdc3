"""The report: its files, what it reads for them, and the command that makes it again from a real store."""

import json
import math
import os
import re
import sqlite3
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient
from PIL import Image

from shrinkage.errors import InputError
from shrinkage.report import figures
from shrinkage.report.__main__ import main
from shrinkage.report.answer import Answer
from shrinkage.report.choice import choose
from shrinkage.report.evidence import MOST_CURVES, MOST_FILES, MOST_WEIGHTS, Evidence, gather
from shrinkage.report.next_step import next_step
from shrinkage.report.page import draw, page, write
from shrinkage.report.shades import colours_of
from shrinkage.tracking import read
from shrinkage.tracking.source import FolderSource, Source

pytestmark = pytest.mark.xdist_group("report")  # one sweep, or training, for all of them

LAMBDAS = (0.0, 0.01, 0.1, 1.0)
FEATURES = ("bmi", "<b>blood & pressure</b>", "age")
PICTURES = {"validation.png", "weights.png", "coefficients.png", "learning_curves.png"}


def leave(folder: Path, weights: dict[str, float], curves: bool = True) -> str:
    """What a run of a linear model leaves in its folder."""
    folder.mkdir(parents=True)
    rows = [
        {"output": "", "feature": name, "weight": weight, "coefficient": weight} for name, weight in weights.items()
    ]
    intercept = {"output": "", "feature": "(intercept)", "weight": 99.0, "coefficient": 99.0}
    pd.DataFrame([*rows, intercept]).to_csv(folder / "coefficients.csv", index=False)
    if curves:
        history = [[step, {"train/loss": 1 / (1 + step), "val/loss": 1.1 / (1 + step)}] for step in (0, 1, 5)]
        (folder / "history.json").write_text(json.dumps(history))
    return str(folder)


def run(penalty: str, lambd: float, fold: int, folder: str | None, **params: str) -> dict:
    loss = 0.3 + 0.02 * (math.log10(lambd + 1e-3) + 1) ** 2 + 0.01 * fold + 0.001 * (penalty == "l2")
    return {
        "name": f"{penalty} λ={lambd:g} seed=0 data.fold={fold}",
        "status": "FINISHED",
        "run_id": None,
        "folder": folder,
        "params": {"penalty": penalty, "data": "diabetes", "data.folds": "3", "data.fold": str(fold), "data.seed": "0"}
        | {"seed": "0", "lambd": str(lambd)}
        | params,
        "metrics": {
            "lambd": lambd,
            "val/loss": loss,
            "train/loss": loss / 2,
            "train/objective": loss,
            "val/r2": 1 - loss,
        }
        | {"weight/l1": 1 / (1 + lambd), "weight/l2": 1 / (2 + lambd), "weight/zeros": 0.25, "optimum/gap": 0.0},
        "tags": {"data.rows.train": "283", "data.rows.val": "71", "data.digest": "0123456789abcdef"},
        "error": None,
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """A sweep over two penalties, four λ's and three folds, of which one job failed."""
    found, place = [], tmp_path_factory.mktemp("sweep")
    for penalty in ("l1", "l2"):
        for lambd in LAMBDAS:
            for fold in range(3):
                weights = {name: (j + 1 + fold) / (1 + lambd) for j, name in enumerate(FEATURES)}
                folder = leave(place / f"{penalty} {lambd} {fold}", weights)
                found.append(run(penalty, lambd, fold, folder))
    failed = {"status": "FAILED", "metrics": {}, "error": 'it broke, "so" and <so>', "name": "l1 λ=9 seed=0"}
    return [*found, run("l1", 9.0, 0, None) | failed]


@pytest.fixture(scope="module")
def written(runs: list[dict], tmp_path_factory: pytest.TempPathFactory) -> tuple[Answer, Path]:
    """The sweep's answer, and the folder of its report."""
    answer, folder = choose(runs), tmp_path_factory.mktemp("report") / "of a sweep"
    files = write(answer, runs, draw(answer, FolderSource(), folder), folder, "sweep <penalty> & λ")
    assert sorted(files) == sorted(folder.iterdir())
    return answer, folder


def test_the_files_of_a_report(runs: list[dict], written: tuple) -> None:
    answer, folder = written
    assert {path.name for path in folder.iterdir()} == PICTURES | {"report.html", "runs.csv", "answer.json"}
    for name in PICTURES:
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 400 and len(picture.convert("RGB").getcolors(10**6)) > 10
    assert json.loads((folder / "answer.json").read_text(encoding="utf-8")) == answer.as_json()
    table = pd.read_csv(folder / "runs.csv")
    assert len(table) == 25 and list(table["status"]).count("FAILED") == 1
    assert {"name", "penalty", "data.fold", "lambd", "val/loss", "error"} <= set(table) and "data" not in table
    assert table["error"].iloc[-1] == runs[-1]["error"] and table["lambd"].notna().sum() == 24


def lines(figure: Figure) -> list[tuple[str, list[tuple[float, float]]]]:
    """Every line of a picture, its label and its points."""
    drawn = [line for axes in figure.axes for line in axes.lines]
    return [(str(line.get_label()), list(map(tuple, line.get_xydata().tolist()))) for line in drawn]


def test_the_pictures_draw_the_numbers(runs: list[dict]) -> None:
    answer = choose(runs)
    evidence = gather(answer, FolderSource())
    curves = dict(lines(figures.validation_curve(answer)))
    for penalty in ("l1", "l2"):
        losses = [[run(penalty, lambd, fold, None)["metrics"]["val/loss"] for fold in range(3)] for lambd in LAMBDAS]
        means = list(map(statistics.mean, losses))
        assert curves[penalty] == [pytest.approx(point) for point in zip(LAMBDAS, means, strict=True)]
    assert answer.winner.min == 0.1 and (0.1, pytest.approx(min(means) - 0.001)) in [
        points[0] for _, points in lines(figures.validation_curve(answer)) if len(points) == 1
    ]
    sizes = lines(figures.weight_sizes(answer))
    assert ("l1", [(lambd, pytest.approx(1 / (1 + lambd))) for lambd in LAMBDAS]) in sizes
    path = figures.coefficient_path(answer, evidence.path, evidence.of)
    for j in range(len(FEATURES)):
        weights = [(lambd, pytest.approx((j + 2) / (1 + lambd))) for lambd in LAMBDAS]  # the mean over three folds
        assert weights in [points for _, points in lines(path)]
    learning = lines(figures.split_curves(answer, evidence.curves, "epoch"))
    assert len(learning) == 6
    assert ("val/loss", [(step, pytest.approx(1.1 / (1 + step))) for step in (0, 1, 5)]) in learning


def test_a_picture_is_drawn_once_and_is_the_one_that_savefig_writes(tmp_path: Path) -> None:
    def drawn() -> Figure:
        figure, (axes,) = figures.empty_panels(1, 1, (3, 2))
        axes.set(xlabel="λ", ylabel="val/loss", yscale="log", ylim=(0.1, 20))
        return figure

    drawn().savefig(tmp_path / "twice.png")
    written = figures.write_picture(drawn(), tmp_path / "once.png")
    assert written.read_bytes() == (tmp_path / "twice.png").read_bytes()


def test_the_page_needs_no_network_and_its_words_no_script(written: tuple) -> None:
    answer, folder = written
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=", text)
    words = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert answer.sentence in words and "sweep &lt;penalty&gt; &amp; λ" in words and "1 FAILED" in words
    assert words.count('<tr class="chosen">') == 3  # the winner, and two rows with λ.min and λ.1se
    assert text.count("<figure") == 6 and len(text) < 200_000
    # A feature's name may hold anything: it ends no script and is no element.
    assert "<b>blood" not in text


def test_weights_are_means_over_the_splits_without_the_intercept(runs: list[dict]) -> None:
    evidence = gather(choose(runs), FolderSource())
    assert list(evidence.path.index) == list(LAMBDAS) and set(evidence.path) == set(FEATURES)
    assert evidence.path.loc[0.1, "age"] == pytest.approx(sum(3 + fold for fold in range(3)) / 3 / 1.1)
    assert "means over 3 splits" in evidence.of and len(evidence.curves) == 3


def test_splits_with_other_features_are_not_averaged(runs: list[dict], tmp_path: Path) -> None:
    other = leave(tmp_path / "other", {"bmi": 1.0, "a category of this split": 2.0})
    changed = [one | {"folder": other} if one["params"]["data.fold"] == "2" else one for one in runs]
    evidence = gather(choose(changed), FolderSource())
    assert "of the first split" in evidence.of and evidence.path.loc[0.0, "age"] == 3.0


def test_what_is_missing_is_left_out_with_a_word(runs: list[dict], tmp_path: Path) -> None:
    runs = [one | {"folder": None} for one in runs]
    answer, folder = choose(runs), tmp_path / "report"
    files = write(answer, runs, draw(answer, FolderSource(), folder), folder, "of an MLP")
    assert {path.name for path in files} == {"report.html", "validation.png", "weights.png", "runs.csv", "answer.json"}
    page = files[0].read_text(encoding="utf-8")
    assert "Left out, coefficient path" in page and "Left out, learning curves" in page


class Wide(Source):
    """Runs of so many features, and how often it was asked for them."""

    def __init__(self, features: int) -> None:
        self.features, self.files, self.curves = features, 0, 0

    def coefficients(self, run: dict) -> pd.DataFrame:
        self.files += 1
        names = [f"x{number}" for number in range(self.features)]
        return pd.DataFrame({"output": "", "feature": names, "weight": range(self.features), "coefficient": 0.0})

    def outcome(self, run: dict) -> None:
        return None

    def history(self, run: dict) -> list[tuple[int, dict[str, float]]]:
        self.curves += 1
        return [(step, {"train/loss": 1.0, "val/loss": 2.0}) for step in (0, 1)]


def test_of_many_runs_few_files_are_read(tmp_path: Path) -> None:
    lambdas = [10 ** (-3 + place / 100) for place in range(310)]
    runs = [run("l1", lambd, fold, None, **{"data.folds": "21"}) for lambd in lambdas for fold in range(21)]
    source, answer = Wide(600), choose(runs)
    evidence = gather(answer, source)
    assert (source.files, source.curves) == (MOST_FILES, MOST_CURVES)
    assert evidence.path.shape == (MOST_FILES, MOST_WEIGHTS) and "x599" in evidence.path and "x0" not in evidence.path
    assert evidence.path.index[0] == lambdas[0] and evidence.path.index[-1] == lambdas[-1]
    assert "the 300 largest of 600" in evidence.of


@pytest.mark.parametrize("kind", ["one λ a setting", "l1_ratio", "many settings"])
def test_every_kind_of_sweep_has_a_page(kind: str, tmp_path: Path) -> None:
    if kind == "one λ a setting":
        runs = [run(penalty, 0.1, 0, None) for penalty in ("l1", "l2", "none")]
    elif kind == "l1_ratio":
        ratios = ("0.0", "0.5", "1.0")
        runs = [run("elastic_net", 0.1, fold, None, **{"penalty.l1_ratio": r}) for r in ratios for fold in range(3)]
    else:
        rates = [f"{number / 100}" for number in range(1, 30)]
        runs = [run("l1", lambd, 0, None, **{"optimizer.lr": rate}) for rate in rates for lambd in (0.0, 0.1, 1.0)]
    answer = choose(runs)
    write(answer, runs, draw(answer, Wide(2), tmp_path), tmp_path, kind)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert answer.sentence in page
    # What the page's first chart tells of: the means of each setting, best settings first, as many as it shows.
    first, *_ = told_by_charts(page)
    means = [line for line in first if " val/loss " in line["at"][0][2]]
    assert len(means) == min(len(answer.settings), figures.MOST_SETTINGS)
    for line, setting in zip(means, answer.settings, strict=False):
        told = [float(re.search(r"val/loss (\S+)", words)[1]) for _, _, words in line["at"]]
        assert min(told) == pytest.approx(setting.mean, rel=1e-4) and len(told) == setting.values
        assert line["colour"] == colours_of(answer.settings)[setting.label]
        # What is better stands lower, at the place of its mean: the page's scale is straight here.
        (x, y, _), *_ = sorted(line["at"], key=lambda point: -point[1])
        assert 0 <= x <= 1 and y == max(place for _, place, _ in line["at"])
    # Each setting has a row of the first table, each mean one of the second.
    *_, best, means_of_all = (
        [re.findall("<td>(.*?)</td>", row) for row in re.findall("<tr.*?</tr>", table)][1:]
        for table in re.findall("<table.*?</table>", page, re.DOTALL)
    )
    assert [float(row[2]) for row in best] == pytest.approx([each.mean for each in answer.settings], rel=1e-4)
    assert [float(row[4]) for row in means_of_all] == pytest.approx(list(answer.table["mean"]), rel=1e-4)


def told_by_charts(page: str) -> list[list[dict]]:
    """What the page's script has to tell of each chart's points."""
    return [json.loads(text) for text in re.findall(r'<script type="application/json">(.*?)</script>', page)]


def test_of_many_runs_the_page_is_small() -> None:
    """It grows with the means and weights that it shows, and not with runs, which are in none of it."""
    rates = [f"{rate / 1000}" for rate in range(1, 41)]
    runs = [
        run("l1", 10 ** (place / 10 - 4), 0, None, **{"optimizer.lr": rate}) for place in range(50) for rate in rates
    ]
    answer = choose(runs)
    random = np.random.default_rng(0)
    path = pd.DataFrame(random.normal(size=(MOST_FILES, MOST_WEIGHTS)), np.geomspace(1e-4, 10, MOST_FILES))
    evidence = Evidence(path.rename(columns=str), "weights", [], "epoch")
    text = page(answer, evidence, "sweep", next_step(answer, runs, None))
    assert len(answer.table) == 2000 and text.count("<polyline") > MOST_WEIGHTS
    assert len(text.encode()) < 1_900_000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, list[str]]:
    """A real store: its URI, the parent of a sweep with twelve runs and a failed one, and the children's ids.

    Beside them stand a run without the metric and the model that was refitted on all rows.
    """
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("houses / 2026", artifact_location=(folder / "mlartifacts").as_uri())
    parent = client.create_run(experiment, run_name="sweep penalty=l1").info.run_id

    def record(one: dict, parent: str | None) -> str:
        tags = {"mlflow.parentRunId": parent} if parent else {}
        made = client.create_run(experiment, tags=tags, run_name=one["name"]).info.run_id
        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, 5) for name, value in one["metrics"].items()]
        metrics += [Metric(name, 9.0, now, 0) for name in ("train/loss", "val/loss") if name in one["metrics"]]
        client.log_batch(
            made,
            metrics,
            [Param(name, value) for name, value in one["params"].items()],
            [RunTag(name, value) for name, value in (one["tags"] | {"error": one["error"] or ""}).items()],
        )
        if one["folder"]:
            client.log_artifact(made, f"{one['folder']}/coefficients.csv")
        client.set_terminated(made, one["status"])
        return made

    children = []
    for lambd in LAMBDAS:
        for fold in range(3):
            left = leave(folder / f"{lambd} {fold}", {"bmi": 1 / (1 + lambd), "age": -fold}, curves=False)
            children.append(record(run("l1", lambd, fold, left), parent))
    failed = {"status": "FAILED", "metrics": {}, "name": "l1 λ=9 seed=0", "error": "no"}
    children.append(record(run("l1", 9.0, 0, None) | failed, parent))
    client.set_terminated(parent)
    record(run("l1", 0.1, 0, None) | {"metrics": {"some/number": 1.0}, "name": "a study"}, None)
    refitted = run("l1", 0.1, 0, None, **{"data.refit": "True"})
    record(refitted | {"metrics": {"train/loss": 0.1}, "name": "the model"}, None)
    return uri, parent, children


def report(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """`python -m shrinkage.report ARGUMENTS` in this process."""
    monkeypatch.setattr(sys, "argv", ["report", *arguments])
    main()


def test_a_sweep_is_reported_again_and_its_run_tells_the_answer(
    store: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    uri, parent, _ = store
    report(monkeypatch, parent, "--store", uri, "--out", str(tmp_path / "out"))
    shown = capsys.readouterr().out
    told = json.loads((tmp_path / "out" / "answer.json").read_text(encoding="utf-8"))
    assert told["sentence"] in shown and "1 FAILED (l1 λ=9 seed=0)" in shown
    assert told["runs"] == 12 and told["left_out"] == ["l1 λ=9 seed=0"] and told["lambd.min"] == 0.1
    client = MlflowClient(uri)
    kept = {file.path for file in client.list_artifacts(parent)}
    assert kept == PICTURES | {"report.html", "runs.csv", "answer.json"}
    tags = client.get_run(parent).data.tags
    assert float(tags["lambd.min"]) == 0.1 and float(tags["lambd.1se"]) == told["lambd.1se"]
    assert told["sentence"] in tags["mlflow.note.content"] and "report.html" in tags["mlflow.note.content"]


def test_an_experiment_is_found_by_name_and_by_id(
    store: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Its parents, and the model that was refitted, are no candidates."""
    uri, parent, _ = store
    monkeypatch.chdir(tmp_path)
    report(monkeypatch, "houses / 2026", "--store", uri, "--metric", "val/r2")
    told = json.loads((tmp_path / "report-houses-2026" / "answer.json").read_text(encoding="utf-8"))
    assert told["runs"] == 12 and told["left_out"] == ["a study"] and told["metric"] == "val/r2"
    assert parent not in capsys.readouterr().out
    client = read.open_to_read(uri)
    assert read.find(client, uri, "1").runs == read.find(client, uri, "houses / 2026").runs


def test_the_store_tells_what_the_folders_tell(store: tuple) -> None:
    uri, parent, children = store
    client = read.open_to_read(uri)
    found = read.find(client, uri, parent)
    expected = [run("l1", lambd, fold, None) for lambd in LAMBDAS for fold in range(3)]
    assert choose(found.runs).as_json()["settings"] == choose(expected).as_json()["settings"]
    assert {one["run_id"] for one in found.runs} == set(children)
    assert [one["error"] for one in found.runs if one["status"] == "FAILED"] == ["no"]
    evidence = gather(choose(found.runs), read.StoreSource(client))
    assert evidence.path.loc[1.0].to_dict() == {"bmi": 0.5, "age": -1.0}
    assert [step for step, _ in evidence.curves[0]] == [0, 5] and evidence.curves[0][0][1]["val/loss"] == 9.0


def test_reading_page_by_page_finds_each_run_once(store: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    uri, parent, children = store
    monkeypatch.setattr(read, "PAGE", 5)
    told = []
    found = read.find(read.open_to_read(uri), uri, parent, told.append)
    assert sorted(one["run_id"] for one in found.runs) == sorted(children) and told == [5, 10]


def test_bad_targets_are_answered_in_one_line(
    store: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    uri, parent, children = store
    for arguments, words in (
        (("hauses",), "hauses: no run has this id and no experiment this name or id"),
        (("hauses",), "its experiments are houses / 2026 (1), Default (0)"),
        ((children[0],), f"give the id of a sweep's own run, which is {parent} here"),
        (("Default",), "no run has FINISHED (there are none)"),
        ((parent, "--metric", "val/accuracy"), "val/accuracy: no run has this metric; there are lambd, optimum/gap"),
        ((parent, "--out", str(tmp_path / "a file" / "out")), "cannot be written"),
    ):
        (tmp_path / "a file").write_text("")
        with pytest.raises(SystemExit) as end:
            report(monkeypatch, *arguments, "--store", uri)
        errors = capsys.readouterr().err
        assert end.value.code == 1 and words in errors and errors.count("\n") == 1


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    empty = tmp_path / "empty.db"
    sqlite3.connect(empty).close()
    (tmp_path / "text.db").write_text("no database")
    for name in ("nowhere.db", "no/folder.db", "text.db", "empty.db"):
        with pytest.raises(InputError, match="there is no store"):
            read.open_to_read(f"sqlite:///{tmp_path / name}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.db", "text.db"]
    assert empty.stat().st_size == 0


def test_the_command_line(store: tuple, tmp_path: Path) -> None:
    uri, _, _ = store
    done = subprocess.run(
        [sys.executable, "-m", "shrinkage.report", "nothing"],
        cwd=tmp_path,
        env=os.environ | {"MLFLOW_TRACKING_URI": uri},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("shrinkage: nothing: no run") and "Traceback" not in done.stderr
