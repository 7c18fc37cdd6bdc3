"""A study as a recorded run, and what belongs to every study."""

from pathlib import Path

import pytest
from conftest import CONF, ROOT, config, runs, train_py
from mlflow.tracking import MlflowClient
from omegaconf import OmegaConf

from shrinkage.errors import InputError
from shrinkage.studies.base import draw_labels_anew
from shrinkage.training.workshop import Workshop

STUDIES = sorted(file.stem for file in (CONF / "experiment").glob("*.yaml") if "study" in OmegaConf.load(file))


def test_a_study_is_one_run_with_its_answer(tmp_path: Path, store: Path) -> None:
    done = train_py("experiment=notebook_2d", "study.points=11", cwd=tmp_path, store=store)
    assert done.returncode == 0, done.stderr
    (run,) = runs(store)
    assert run.info.status == "FINISHED" and run.info.run_name == "notebook_2d study.points=11"
    assert run.data.params["study.points"] == "11" and run.data.metrics["mape/mended"] < 1e-12
    folder = Path(MlflowClient(f"sqlite:///{store}").download_artifacts(run.info.run_id, ""))
    answer = (folder / "answer.md").read_text(encoding="utf-8")
    assert run.data.tags["mlflow.note.content"] == answer.strip()
    assert answer.split()[0] in done.stdout and "λ₂ = 2λ/M" in answer
    assert {"minima.csv", "notebook_2d.png", "notebook_2d.html", "config.yaml"} <= {f.name for f in folder.iterdir()}
    assert "https://cdn" not in (folder / "notebook_2d.html").read_text(encoding="utf-8")[:5000]


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_a_page_with_its_command_and_its_figure(name: str) -> None:
    page = (ROOT / "docs" / "studies" / f"{name}.md").read_text(encoding="utf-8")
    assert f"python train.py experiment={name} " in page and f"../images/{name}.png" in page
    assert (ROOT / "docs" / "images" / f"{name}.png").exists()
    for file, place in (("docs/studies/index.md", f"({name}.md)"), ("docs/questions.md", f"studies/{name}.md")):
        assert place in (ROOT / file).read_text(encoding="utf-8"), file


def test_labels_are_drawn_anew_only_where_there_are_classes() -> None:
    plain, noisy = (Workshop(config("data=digits")).datamodule for _ in range(2))
    draw_labels_anew(noisy, 0.5, seed=0)
    changed = (noisy.parts["train"].y != plain.parts["train"].y).mean()
    assert changed == pytest.approx(0.45, abs=0.05)  # a tenth of those drawn are what they were
    assert (noisy.parts["val"].y == plain.parts["val"].y).all()
    with pytest.raises(InputError, match="no classes to draw from"):
        draw_labels_anew(Workshop(config("data=d2l")).datamodule, 0.5, seed=0)
