"""What `--help` shows is what Hydra composes, with the comments of the YAML files; and a shell completes the same."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CONF, ROOT
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from test_conf import SHARED

from shrinkage.errors import InputError
from shrinkage.help import Configs, check_settings, commented, show_help

OURS = Configs([CONF], "train")
PROJECT = ROOT / "examples" / "own_project"
GROUPS = ["data", "model", "optimizer", "penalty", "schedule", "task", "tracking", "trainer"]


def shown(capsys: pytest.CaptureFixture[str], *arguments: str, path: str = "pkg://shrinkage.conf") -> str:
    """The help that a command line asks for."""
    assert show_help([*arguments, "--help"], path, "train")
    return capsys.readouterr().out


def test_a_command_without_help_is_left_to_hydra() -> None:
    assert not show_help(["penalty=l1", "lambd=3"], "pkg://shrinkage.conf", "train")
    assert not show_help(["--hydra-help"], "pkg://shrinkage.conf", "train")


def test_the_choices_are_those_of_hydra_but_for_what_they_share() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        for group in (*GROUPS, "experiment", "metrics", "scale"):
            options = sorted(loader.get_group_options(group))
            assert OURS.groups[group] == [name for name in options if f"{group}/{name}" not in SHARED]


@pytest.mark.parametrize("group", ["penalty", "tracking"])  # whose files include others
def test_the_keys_of_a_choice_are_those_that_hydra_composes(group: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for name in OURS.groups[group]:
            keys = set(compose("train", [f"{group}={name}"])[group]) - {"_target_", "_partial_"}
            assert set(OURS.keys(f"{group}/{name}", group)) == keys, name


def test_every_key_of_a_run_is_shown_with_its_comment(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "penalty=huber", "data=table")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = OmegaConf.to_container(compose("train", ["penalty=huber", "data=table"]), resolve=False)
    for key, value in cfg.items():
        if key not in ("choices", "task"):  # which has none but the name of its class
            assert re.search(rf"^{key}:", text, re.MULTILINE), key
        for inner in value if key in GROUPS else ():
            assert inner in ("_target_", "_partial_") or re.search(rf"^  {inner}:", text, re.MULTILINE), inner
    for words in (
        "# λ ≥ 0, how strong",
        "# larger weights shrink as if",
        "# loss: in the objective",
        "# share of the rows",
    ):
        assert words in text
    assert "  mode: decay  " in text  # huber's, with the comment of base


def test_what_is_chosen_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert "optimizer (sgd)" in shown(capsys)
    text = shown(capsys, "penalty=adamw")
    assert "penalty (adamw): adamw, elastic_net" in text and "optimizer (adam)" in text and "betas: " in text
    assert "optimizer (sgd)" in shown(capsys, "penalty=adamw", "optimizer=sgd")
    text = shown(capsys, "experiment=choose")
    assert "data (table)" in text and "experiment=choose sets:" in text and "  sweeper:  # hydra/sweeper=path" in text
    for word in ("hydra/launcher: ", "lanes, ray, submitit_local, submitit_slurm", "hydra/sweeper (grid): grid, path"):
        assert word in text


def test_a_project_of_its_own_is_shown_with_ours(capsys: pytest.CaptureFixture[str]) -> None:
    by_flag = shown(capsys, "--config-dir", str(PROJECT / "conf"), "experiment=mine")
    assert show_help(["--help"], str(PROJECT / "conf"), "own")
    for text in (by_flag, capsys.readouterr().out):
        assert "penalty (leaning): adamw, " in text and "negative: 3.0  # how much more" in text and "lambd: 3 " in text


def test_a_key_without_a_comment_has_that_of_the_key_which_it_replaces() -> None:
    base = "mode: loss   # how\n             # it acts"
    assert commented("mode: prox", base) == "mode: prox   # how\n             # it acts"
    assert commented("mode: prox  # alone", base) == "mode: prox  # alone"
    assert commented("mode: prox", "mode: loss") == "mode: prox"


def test_help_is_there_before_anything_heavy_is_imported() -> None:
    """On a core by itself it takes half a second; what is imported tells it on any machine."""
    command = [sys.executable, "-X", "importtime", "train.py", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "python train.py penalty=l1" in done.stdout and "mlflow ui" in done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    packages = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert "hydra" in packages
    assert not packages & {"torch", "lightning", "mlflow", "pandas", "numpy", "scipy", "matplotlib", "rich", "ray"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="the completion is bash's")
def test_a_shell_completes_choices_by_the_command_of_the_documentation() -> None:
    page = (ROOT / "docs" / "compose.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"`(eval .*?)`", page)
    script = f"""
        {command}
        COMP_LINE="shrinkage penalty=ela"; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=(shrinkage penalty=ela); COMP_CWORD=1
        words=("${{COMP_WORDS[@]}}"); hydra_bash_completion; echo "${{COMPREPLY[@]}}"
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", script], env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert done.stdout.strip() == "penalty=elastic_net", done.stderr


@pytest.mark.parametrize("group", GROUPS)
def test_a_setting_that_a_choice_has_is_not_refused(group: str) -> None:
    for name in OURS.groups[group]:
        keys = [key for key in OURS.keys(f"{group}/{name}", group) if not key.startswith("_")]
        OURS.check_settings([f"{group}={name}", *(f"{group}.{key}=1" for key in keys)])
        OURS.check_settings([f"{group}={name}", f"{group}.nobody_has_this=1", f"+{group}.weight=1"])


@pytest.mark.parametrize("choice", ["stream", "images", "text", "diabetes", "table,stream"])
@pytest.mark.parametrize("key", ["weight", "class_weight", "offset", "exposure"])
def test_a_setting_of_another_choice_is_refused_in_one_message(choice: str, key: str) -> None:
    with pytest.raises(InputError) as caught:
        OURS.check_settings([f"data={choice}", "data.seed=1", f"data.{key}=w"])
    words = str(caught.value)
    assert words.startswith(f"data.{key}=w: data={choice} has no setting of this name; use ")
    assert "data=table, which has, or leave it out" in words


def test_what_an_experiment_chooses_counts(capsys: pytest.CaptureFixture[str]) -> None:
    OURS.check_settings(["experiment=choose", "data.path=x", "data.weight=w"])
    OURS.check_settings(["experiment=choose", "penalty=adamw", "optimizer.betas=[0.9,0.99]"])
    with pytest.raises(SystemExit):
        check_settings(["experiment=choose", "data=text", "data.weight=w"], "pkg://shrinkage.conf", "train")
    assert capsys.readouterr().err.startswith("shrinkage: data.weight=w: data=text has no setting of this name")
