"""Planted faults are found in their line, right scripts of many styles bring no word, and conventions are no faults."""

import ast
import re
from pathlib import Path

import pytest
from faulty import FAULTY
from hypothesis import given
from hypothesis import strategies as st
from right import RIGHT

from shrinkage.__main__ import COMMANDS
from shrinkage.diagnose.__main__ import diagnose
from shrinkage.diagnose.factors import find_conventions
from shrinkage.diagnose.faults import find_faults
from shrinkage.diagnose.reading import Script
from shrinkage.errors import InputError

# What a rule's word begins with, by the first word of a case.
SAYS = {
    "sign": "the penalty is subtracted",
    "zero_grad": "gradients are never cleared",
    "backward": "the optimiser steps, and no gradient",
    "accumulator": r"\w+ is never reset",
    "compared": "train_loss has the penalty in it, val_loss has not",
    "norm": "l2_penalty is the norm",
}


def scripts(text: str) -> list:
    """The scripts between lines of `# ---`, by what stands there."""
    parts = re.split(r"^# ---(.*)\n", text, flags=re.MULTILINE)
    return [pytest.param(body, id=name.strip()) for name, body in zip(parts[1::2], parts[2::2], strict=True) if name]


@pytest.mark.parametrize("text", scripts(RIGHT))
def test_a_right_script_brings_no_word(text: str) -> None:
    script = Script(text, "right.py")
    assert find_faults(script) == [] and find_conventions(script) == []


@pytest.mark.parametrize("text", scripts(FAULTY))
def test_a_planted_fault_is_found_in_its_line_and_no_other(text: str, request: pytest.FixtureRequest) -> None:
    (line,) = [number for number, words in enumerate(text.splitlines(), 1) if words.endswith("# FAULT")]
    (word,) = find_faults(Script(text, "faulty.py"))
    rule = request.node.callspec.id.partition(":")[0]
    assert word.line == line and re.match(SAYS[rule], word.what), word


LOOP = """
import torch
{imports}
net = torch.nn.Linear(5, 1)
criterion = torch.nn.{loss}()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1{decay})
for X, y in loader:
    loss = criterion(net(X), y) + {penalty}
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("loss", "penalty", "says"),
    [
        ("MSELoss", "lambd * net.weight.pow(2).sum() / 2", ["your λ is ours × 2"]),
        ("MSELoss", "lambd * net.weight.abs().sum()", ["your λ is ours × 2"]),
        ("MSELoss", "lambd * (net.weight ** 2).sum()", ["your λ is ours"]),  # as in keras: both twos cancel
        ("CrossEntropyLoss", "lambd * torch.sum(net.weight ** 2)", ["your λ is ours × ½"]),
        ("CrossEntropyLoss", "0.5 * lambd * net.weight.norm() ** 2", []),
        ("CrossEntropyLoss", "lambd * torch.norm(net.weight, p=1)", []),
        ("HuberLoss", "lambd * net.weight.pow(2).sum()", []),  # of which nothing is known
        ("MSELoss", "0.01 * net.weight.pow(2).sum()", []),  # what of the number is λ?
    ],
)
def test_a_factor_is_a_convention(loss: str, penalty: str, says: list[str]) -> None:
    script = Script(LOOP.format(imports="", loss=loss, penalty=penalty, decay=""), "script.py")
    assert find_faults(script) == [] and [word.what for word in find_conventions(script)] == says


def test_decayed_biases_are_a_convention() -> None:
    script = Script(LOOP.format(imports="", loss="HuberLoss", penalty="0", decay=", weight_decay=0.1"), "script.py")
    assert find_faults(script) == [] and [word.what for word in find_conventions(script)] == [
        "the biases are decayed, too"
    ]


def test_the_command_names_line_reason_and_mend(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(LOOP.format(imports="", loss="MSELoss", penalty="-lambd * net.weight.abs().sum()", decay=""))
    right = tmp_path / "right.py"
    right.write_text(LOOP.format(imports="", loss="MSELoss", penalty="lambd * net.weight.abs().sum()", decay=""))
    assert diagnose(right) == 0 and "convention: your λ is ours × 2" in capsys.readouterr().out
    assert COMMANDS["diagnose"] == "shrinkage.diagnose"
    for text in ("def f(:", "\0"):
        wrong.write_text(text)
        with pytest.raises(InputError, match="no Python"):
            diagnose(wrong)
    with pytest.raises(InputError, match="cannot be read"):
        diagnose(tmp_path)


@given(st.sampled_from([case.values[0] for case in [*scripts(RIGHT), *scripts(FAULTY)]]), st.data())
def test_no_script_is_too_odd(text: str, data: st.DataObject) -> None:
    """Any statement left out, any two exchanged: something is said or nothing, and nothing breaks."""
    tree = ast.parse(text)
    blocks = [node.body for node in ast.walk(tree) if isinstance(getattr(node, "body", None), list) and node.body]
    block = data.draw(st.sampled_from(blocks))
    place = data.draw(st.integers(0, len(block) - 1))
    block.insert(data.draw(st.integers(0, len(block) - 1)), block.pop(place))
    odd = Script(ast.unparse(tree), "odd.py")
    find_faults(odd), find_conventions(odd)
