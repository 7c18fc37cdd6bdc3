"""Cut networks at one λ each: the same answers, fewer units, and what is refused."""

from pathlib import Path

import pytest
import torch
from conftest import config

from shrinkage.errors import InputError
from shrinkage.report.findings import files
from shrinkage.training.workshop import make

SHORT = (
    "experiment=pruning",
    "trainer.max_epochs=4",
    "model.widths=[6,8]",
    "study.mlp.widths=[16,16]",
    "study.seeds=1",
    "study.lambds.cnn=[0.002]",
    "study.lambds.mlp=[0.002]",
    "study.l2_lambds=[0]",
    "study.margin=0.9",
)


def test_networks_get_smaller_and_answer_the_same(tmp_path: Path) -> None:
    cfg = config(*SHORT)
    findings = make(cfg.study).run(cfg)
    runs = findings.data["runs"].set_index(["network", "penalty"])
    assert len(runs) == 6
    assert (runs["test"] == runs["smaller"]).all() and runs["difference"].max() < 1e-4
    assert (runs["parameters"] <= runs["of"]).all()
    assert (runs.xs("l2", level="penalty")["parameters"] == runs.xs("l2", level="penalty")["of"]).all()
    assert (runs.xs("l2", level="penalty")["zeros"] == 0).all()
    assert runs.loc[("mlp", "group_lasso"), "parameters"] < runs.loc[("mlp", "group_lasso"), "of"]
    networks = {path.stem: path for path in files(findings, tmp_path) if path.suffix == ".pt2"}
    assert set(networks) == {"cnn", "mlp"}
    small = torch.export.load(networks["mlp"])
    assert sum(p.numel() for p in small.parameters()) == runs.loc[("mlp", "group_lasso"), "parameters"]
    assert small.module()(torch.zeros(1, 64)).shape == (1, 10)


def test_what_it_cannot_answer_is_refused() -> None:
    for override in ("seeds=0", "lambds.mlp=[0]", "lambds.cnn=[]", "l2_lambds=[-1]", "margin=1"):
        with pytest.raises(InputError, match=r"study\..*; use study\."):
            make(config("experiment=pruning", f"study.{override}").study)
    for override, words in (
        ("model=mlp", "use model=cnn"),
        ("model.batch_norm=true", "use model.batch_norm=False"),
        ("penalty=l1", "use penalty=group_lasso"),
        ("penalty.by=output", "use penalty.by=input"),
        ("penalty.mode=loss", "use penalty.mode=prox"),
        ("data=digits", "use data=digits_images"),
        ("data.test=0", "counts right classes in a test part"),
    ):
        cfg = config("experiment=pruning", override)
        with pytest.raises(InputError, match=words):
            make(cfg.study).run(cfg)
