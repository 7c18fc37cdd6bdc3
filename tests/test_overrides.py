"""Overrides that Hydra cannot read: the message has what to type, and typed in a shell it is what was meant."""

import re
import subprocess
from pathlib import Path

import pytest
from conftest import train_here
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shrinkage.overrides import as_typed, check_typed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["data.path=größe (1).csv"],
            """data.path=größe (1).csv: Hydra needs quotes for ö ß ( ), inside those of the shell; """
            """type "data.path='größe (1).csv'\"""",
        ),
        (["data.path=a=b, c.csv"], """type "data.path='a=b, c.csv'\""""),
        (["data.path=it's (1).csv"], r"""type "data.path=\"it's (1).csv\"" """.strip()),
        (["data.target=cost (in $)"], """type 'data.target="cost (in $)"'"""),
        (
            ["data.path=my", "file.csv"],
            """file.csv: an override is key=value; if this belongs to the value of data.path""",
        ),
        (["data.path=a=b,", "c.csv", "lambd=1"], """type "data.path='a=b, c.csv'\""""),
        (["lambd=[1,2"], "Hydra cannot read this list, dict or function"),
        (["data.fold=range(5"], "close its brackets"),
        (["lambda"], "lambda: an override is key=value"),
        (["=3"], "=3: an override is key=value"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_an_override_that_hydra_cannot_read(arguments: list[str], words: str, tmp_path: Path) -> None:
    done = train_here(*arguments, cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == "" and words in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1 and "Exception" not in done.stderr


def test_a_file_whose_name_is_a_list_to_hydra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    check_typed(["-m", "data.path=a,b.csv"])  # two files may be meant
    (tmp_path / "a,b.csv").write_text("x,y\n1,2\n")
    with pytest.raises(SystemExit):
        check_typed(["-m", "data.path=a,b.csv"])
    assert """type "data.path='a,b.csv'\"""" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "lambd=0,1,3", "penalty=l1,l2", "data.fold=range(5)"],
        ["-m", "lambd=" + ",".join(str(number / 1000) for number in range(1000))],
        ["~schedule", "+trainer.callbacks=[a,{b: 1}]", "data.target='größe (1)'", "data.drop=[a,'b c']"],
        ["--cfg", "job", "lambd=0.1"],
        [],
    ],
)
def test_what_hydra_reads_goes_on(arguments: list[str]) -> None:
    check_typed(arguments)


texts = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp")), min_size=1, max_size=12)


@settings(max_examples=200, deadline=None)
@given(texts)
@example("größe (1).csv")
@example('it\'s "so", $HOME `x` !y \\')
@example("a=b, c.csv")
def test_what_is_typed_is_what_was_meant(text: str) -> None:
    """By way of a shell and of Hydra; interpolations, which Hydra knows between quotes too, are none of it."""
    typed = as_typed("data.path", text)
    # What a POSIX shell does with the word, by dash, which `sh` is on Debian.
    word = subprocess.run(["sh", "-c", f"printf %s {typed}"], capture_output=True, check=True).stdout.decode()
    (override,) = OverridesParser.create().parse_overrides([word])
    assert override.key_or_group == "data.path" and override.value() == text


def test_bash_takes_an_exclamation_mark_as_it_is() -> None:
    """Between double quotes an interactive bash would look into its history."""
    assert as_typed("data.path", "wow! (1).csv") == """'data.path="wow! (1).csv"'"""
    assert not re.search('!.*"$', as_typed("data.path", "it's wow!"))


def test_a_password_is_not_shown(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        check_typed(["tracking.uri=postgresql://me:secret!@host/db"])
    errors = capsys.readouterr().err
    assert "Hydra needs quotes for !" in errors and "secret" not in errors


def test_a_key_that_is_longer_than_a_name_of_a_file(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        check_typed([f"+tags.{'x' * 300}=a"])
    assert "a key has at most 240 bytes" in capsys.readouterr().err


def test_a_folder_that_has_been_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(SystemExit):
        check_typed(["lambd=1"])
    assert "the current folder has been deleted" in capsys.readouterr().err
