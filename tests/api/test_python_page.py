"""Every block of docs/python.md runs as it stands, one after the other, as a reader would in a notebook."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

import shrinkage

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_runs(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
    draw = np.random.default_rng(0)
    area, town = draw.uniform(40, 200, 120), draw.choice(["Bonn", "Köln"], 120)
    price = 2000 * area + 30_000 * (town == "Köln") + draw.normal(0, 20_000, 120)
    pd.DataFrame({"area": area, "town": town, "price": price}).to_csv("houses.csv", index=False)
    assert {language for language, _ in BLOCKS} == {"python"}
    names: dict[str, object] = {}
    for _, block in BLOCKS:
        exec(compile(block, "docs/python.md", "exec"), names)
    names["trainer"].logger.experiment.leave()
    names["run"].leave()
    assert set(names["table"]["status"]) == {"FINISHED"} and names["table"]["lambd"].dtype == float
    answer = names["answer"]
    its = json.loads((answer.folder / "answer.json").read_text(encoding="utf-8"))  # what the command has written
    assert answer.answer.as_json() == its and answer._repr_html_().startswith('<iframe srcdoc="&lt;!DOCTYPE html&gt;')
    assert answer.lambda_min <= answer.lambda_1se == answer.model.metrics["lambd"] == its["lambd.1se"]
    assert answer.model.params["data.refit"] == "True" and "test/loss" in answer.model.metrics
    mine, loops = shrinkage.runs(experiment="mine"), shrinkage.runs()
    assert list(mine["status"]) == ["FINISHED"] and list(mine["optimizer.lr"]) == [0.1]
    loop = loops[loops["name"] == "a loop"].iloc[0]
    assert loop["loss"] == 0.25 and loop["data.rows"] == 100
