"""A project of somebody's own, `examples/own_project`: what it can do, and what is said where it cannot."""

import importlib
import json
import re
import runpy
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, runs, tracked_here, train_here

from shrinkage import overrides
from shrinkage.data.base import Part
from shrinkage.errors import InputError
from shrinkage.overrides import check_typed
from shrinkage.runs.export import check_exportable, write_model
from shrinkage.runs.provenance import commit, package_tags, packages
from shrinkage.runs.rerun import Original, circumstances
from shrinkage.tracking.store import explain

PROJECT = ROOT / "examples" / "own_project"
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8").partition("## A project of your own")[2]
OURS = (f"--config-dir={PROJECT / 'conf'}", "experiment=mine", "progress=false")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python finds the project's package, as if it were installed."""
    monkeypatch.syspath_prepend(PROJECT)


def test_what_is_its_own_keeps_the_laws() -> None:
    laws = runpy.run_path(str(PROJECT / "test_own_project.py"))
    checks = [law for name, law in laws.items() if name.startswith("test_")]
    assert len(checks) == 4
    for check in checks:
        check()


def test_a_run_by_config_dir_and_one_by_a_train_py_of_its_own_are_the_same_and_can_be_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "mlflow.db"
    first = tracked_here(*OURS, "trainer.max_epochs=2", cwd=tmp_path, store=store)
    assert first.returncode == 0, first.stderr
    script = PROJECT / "train.py"
    second = tracked_here("trainer.max_epochs=2", cwd=tmp_path, store=store, script=script)
    assert second.returncode == 0, second.stderr
    mine, theirs = runs(store)
    assert mine.data.metrics == theirs.data.metrics and "val/within" in mine.data.metrics
    assert mine.data.tags["config.hash"] == theirs.data.tags["config.hash"]
    again = tracked_here(f"rerun={mine.info.run_id}", cwd=tmp_path, store=store)
    assert "The same: all " in again.stdout, again.stdout + again.stderr


def test_the_commands_of_the_documentation(tmp_path: Path) -> None:
    """Its sweeps run, in lanes and with a short training; what single runs are is composed."""
    lines = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    commands = [shlex.split(line, comments=True) for line in lines]
    assert len(commands) == 4
    runs_of_sweeps = []
    for program, flag, conf, *words in commands:
        assert (program, flag, conf) == ("shrinkage", "--config-dir", "conf")
        short = ["trainer.max_epochs=1", "hydra/launcher=lanes", "refit=null"] if "-m" in words else ["--cfg=job"]
        done = train_here(OURS[0], *words, *short, cwd=tmp_path)
        assert done.returncode == 0 and "one by one" not in done.stderr, done.stderr
        runs_of_sweeps += re.findall(r"(\d+) of \1 runs FINISHED", done.stdout)
        assert "-m" in words or "own_project.data.Visits" in done.stdout
    assert runs_of_sweeps == ["3", "15"]


def test_a_path_of_its_own_penalty_is_chosen_by_its_own_metric(tmp_path: Path) -> None:
    path = ("hydra/sweeper=path", "hydra.sweeper.max=0.1", "hydra.sweeper.num=3", "hydra/launcher=lanes")
    done = train_here("-m", *OURS, *path, "trainer.max_epochs=2", cwd=tmp_path)
    assert "3 of 3 runs FINISHED" in done.stdout, done.stdout + done.stderr
    (answer,) = [json.loads(file.read_text()) for file in tmp_path.glob("multirun/*/*/answer.json")]
    assert answer["larger_is_better"] is True


def test_a_model_of_two_inputs_is_exported_as_one_of_their_columns(tmp_path: Path) -> None:
    data, two_towers = importlib.import_module("own_project.data"), importlib.import_module("own_project.model")
    visits = data.Visits(flat=False, val=0.2, test=0.2, seed=0, standardize=True, batch_size=32, order_seed=0)
    visits.setup()
    model = two_towers.TwoTowers(visits.inputs, 1, width=3)
    folder = write_model(visits, model, tmp_path / "model")
    program = torch.export.load(folder / "model.pt2").module()
    x, _ = visits.tensors("test")[:]
    torch.testing.assert_close(program(torch.cat([x["visitor"], x["page"]], dim=1)), model(x), rtol=0, atol=1e-6)
    visits.parts = {
        name: Part({**part.x, "more": np.zeros((len(part), 2))}, part.y) for name, part in visits.parts.items()
    }
    with pytest.raises(InputError, match=r"export: .* inputs of \[4, 6, 2\] are not the 10 features"):
        check_exportable(visits)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model=linear", "this model reads rows of numbers, and these data are rows of 2 inputs (visitor, page)"),
        ("certificate=exact", "Robust does not say that its loss is convex"),
        ("penalty.negative=0", "penalty.negative=0: must be > 0; use penalty.negative=3"),
        ("task._target_=own_project.task.Nothing", "_target_=own_project.task.Nothing: Python finds no such class"),
    ],
)
def test_what_cannot_be_done_with_it_is_said_in_one_line(override: str, words: str, tmp_path: Path) -> None:
    done = train_here(*OURS, override, "trainer.max_epochs=1", cwd=tmp_path)
    assert words in done.stderr.replace("\n", " ") and "Traceback" not in done.stderr
    assert done.returncode == (0 if override.startswith("certificate") else 1)


def test_a_folder_of_configs_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"):
        check_typed(["--config-dir", "nowhere", "penalty=l1"])
    assert "shrinkage: --config-dir=nowhere: there is no such folder in " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["penalty=l1", "--config-dir=conf", "lambd=1"], "lambd=1: a flag stands between it and other overrides; "),
        (["--confdir=conf", "lambd=1"], "--confdir=conf: there is no such flag; "),
    ],
)
def test_a_flag_that_cannot_be_read_is_refused_in_one_line(
    typed: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="1"):
        check_typed(typed)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"shrinkage: {words}")


def test_a_launcher_of_a_package_that_is_not_installed_names_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overrides, "find_spec", lambda name: None)  # as where it is not installed
    with pytest.raises(SystemExit, match="1"):
        check_typed(["-m", "hydra/launcher=joblib", "lambd=0,1"])
    assert "pip install 'shrinkage[joblib]'" in capsys.readouterr().err


def test_a_store_whose_driver_is_not_installed_names_it() -> None:
    error = ModuleNotFoundError("No module named 'psycopg'", name="psycopg")
    words = explain("postgresql://me:geheim@host/runs", error)
    assert "needs a driver (No module named 'psycopg'); use pip install 'shrinkage[server]'" in words
    assert "geheim" not in words


def test_a_run_done_again_tells_what_has_changed_in_an_outside_package() -> None:
    then = {"version.own_project": "0.2", "git.commit.own_project": "abc", "git.clean.own_project": "false"}
    now = {"version.own_project": "0.3", "git.commit.own_project": "def", "git.clean.own_project": "false"}
    found = "\n".join(circumstances(Original("a run", "0", {}, [], tags=then), now, {}))
    assert "version.own_project: 0.2 then, 0.3 now" in found and "git.commit.own_project: abc then, def now" in found
    assert "from a tree with uncommitted changes" in found


def test_packages_of_classes_are_found_wherever_a_config_names_one() -> None:
    cfg = {
        "data": {"_target_": "own_project.data.Visits", "parts": [{"_target_": "another.Part"}]},
        "optimizer": {"_target_": "torch.optim.SGD"},
        "model": {"_target_": "shrinkage.models.linear.Linear", "layers": {"head": {"_target_": "third.Head"}}},
    }
    assert packages(cfg) == {"own_project", "another", "third"}


def test_an_outside_package_is_recorded_by_version_commit_and_whether_its_tree_was_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=Anna", "-c", "user.email=anna@example.org"]
        done = subprocess.run(["git", "-C", tmp_path, *who, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    for name in ("kept", "changed", "installed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
        about = tmp_path / f"{name}-0.3.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.3\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    package_tags.cache_clear()
    git("init", "--quiet")
    git("add", "kept", "changed")
    git("commit", "--quiet", "-m", "first")
    head = git("rev-parse", "HEAD")
    expected = {"version.kept": "0.3", "git.commit.kept": head, "git.clean.kept": "true"}
    assert package_tags("kept") == expected
    (tmp_path / "changed" / "__init__.py").write_text("changed = True")
    commit.cache_clear()
    assert package_tags("changed")["git.clean.changed"] == "false"
    assert package_tags("installed") == {"version.installed": "0.3"}  # into a folder of the repository
    assert package_tags("nowhere") == {}


def test_the_documentation_shows_the_files_of_the_project() -> None:
    blocks = re.findall(r"^```(?:python|yaml)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    files = [(PROJECT / name).read_text(encoding="utf-8") for name in ("train.py", "conf/own.yaml")]
    assert len(blocks) == 2 and all(file.endswith(block) for file, block in zip(files, blocks, strict=True))
