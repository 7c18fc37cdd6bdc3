"""Split networks at two λ's: the same answers, lower ranks at the larger one, and what is refused."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import config

from shrinkage.errors import InputError
from shrinkage.report.findings import files
from shrinkage.training.workshop import make

SHORT = (
    "experiment=low_rank",
    "trainer.max_epochs=6",
    "model.widths=[32]",
    "study.seeds=1",
    "study.lambds=[0.001,0.02]",
    "study.l2_lambds=[0]",
    "study.margin=0.9",
)


def test_layers_are_split_and_answer_the_same(tmp_path: Path) -> None:
    cfg = config(*SHORT)
    findings = make(cfg.study).run(cfg)
    runs: pd.DataFrame = findings.data["runs"]
    assert (runs["test"] == runs["smaller"]).all() and runs["difference"].max() < 1e-4
    little, much = (list(map(int, ranks.split(", "))) for ranks in runs["ranks"])
    assert much[0] < little[0] <= 32
    assert runs["left over"].max() < 1e-5
    r = much[0]
    ten = 32 * 10 if much[1] * 42 >= 320 else much[1] * 42
    assert runs["parameters"].iloc[1] == r * (64 + 32) + 32 + ten + 10 < runs["of"].iloc[1]
    (path,) = (path for path in files(findings, tmp_path) if path.suffix == ".pt2")
    assert torch.export.load(path).module()(torch.zeros(1, 64)).shape == (1, 10)


def test_what_it_cannot_answer_is_refused() -> None:
    for override in ("seeds=0", "lambds=[0]", "l2_lambds=[-1]", "margin=-1"):
        with pytest.raises(InputError, match=r"study\..*; use study\."):
            make(config("experiment=low_rank", f"study.{override}").study)
    for override, words in (
        ("model=linear", "use model=mlp"),
        ("penalty=l1", "use penalty=nuclear"),
        ("penalty.mode=loss", "use penalty.mode=prox"),
        ("data=diabetes", "counts right classes in a test part"),
        ("data.test=0", "counts right classes in a test part"),
    ):
        cfg = config("experiment=low_rank", override)
        with pytest.raises(InputError, match=words):
            make(cfg.study).run(cfg)
