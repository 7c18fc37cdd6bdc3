"""Whatever a person's file or command line says: a right result or one clear sentence, never a traceback or a hang.

    SHRINKAGE_ROUNDS=100 pytest tests/faults/test_fuzz.py --hypothesis-show-statistics

tries a hundred times as many inputs as the suite, other ones each time, and says how many they were.
"""

import contextlib
import csv
import functools
import gzip
import io
import math
import os
import pickle
import random
import re
import signal
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import CONF, ROUNDS, choices, config, train_here
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import CompactHydraException
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from shrinkage.data.splits import Rows
from shrinkage.data.table import TableFile
from shrinkage.errors import InputError
from shrinkage.fit import fit
from shrinkage.runs.identity import leaves

SECONDS = 60  # after which an input is said to hang


def tries(count: int) -> Callable:
    """So many inputs in each round: in one round the same ones each time, in more of them others."""
    return settings(
        max_examples=count * ROUNDS,
        derandomize=ROUNDS == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@contextlib.contextmanager
def no_hang() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"no answer in {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def assert_one_sentence(words: str) -> None:
    """What a terminal can show in a line, whatever the names in a file are."""
    assert words.isprintable() and 20 < len(words) < 2500, words


# --- Files: what is in them -------------------------------------------------------------------------------------------


@dataclass
class Sheet:
    """A file as it is written, and what is asked of it."""

    content: bytes
    suffix: str
    options: dict[str, object] = field(default_factory=dict)


NAMES = st.one_of(
    st.sampled_from(["x", "y", "x_a", "area", "my column", " y", "y ", "", " ", "1", "a,b", "two\nlines", 'say "hi"']),
    st.sampled_from(
        ["Größe", "\u202ecba", "x.1", "Unnamed: 0", "[a]", "{a: 1}", "${x}", "None", "true", "'", "\ufeffx"]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6),
)
PLAIN_NAMES = st.from_regex(r"[a-z][a-z ]{0,6}[a-z]", fullmatch=True) | st.sampled_from(
    ["Größe", "a,b", '"', "1", "東"]
)
PLAIN = {
    "whole": st.integers(-(10**6), 10**6).map(str),
    "number": st.floats(-1e6, 1e6).map(repr),
    "rounded": st.floats(-1e3, 1e3).map("{:.3g}".format),
    "boolean": st.sampled_from(["True", "False"]),
    "few": st.sampled_from(["a", "b", "c"]),
    "text": st.sampled_from(["Köln", "a,b", 'say "hi"', "two\nlines", "=1+1", " a", "missing", "12 km"]),
}
HOSTILE = PLAIN | {
    "any number": st.floats(allow_nan=False).map(repr),
    "huge whole": st.integers(2**62, 10**40).map(str) | st.integers(-(10**40), -(2**62)).map(str),
    "digits": st.sampled_from(["1" * 400, "1" * 100_000, "0." + "3" * 100_000, "9" * 20 + ".5"]),
    "huge cell": st.sampled_from(["a" * 100_000, "ü" * 100_000, "x" * 140_000, '"' * 1000]),
    "truth": st.sampled_from(["true", "FALSE", "True", "yes", "no", "1", "0"]),
    "any text": st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5),
    "date": st.dates().map(str) | st.datetimes().map(str) | st.dates().map("{:%d/%m/%Y}".format),
    "thousands": st.integers(1000, 10**7).map("{:,}".format),
    "decimal comma": st.floats(-100, 100).map(lambda value: f"{value:.2f}".replace(".", ",")),
    "gap": st.sampled_from(["", " ", "NA", "n/a", "null", "None", "nan", "#N/A", "-", "?"]),
    "edge": st.sampled_from(
        ["inf", "-Infinity", "nan", "1e308", "-1e308", "1.7976931348623157e308", "1e400", "5e-324", "1e-400", "-0"]
    )
    | st.sampled_from(["1e200", "1e-200", "9007199254740993", "18446744073709551616", "007", "+5", ".5", "5.", " 1"])
    | st.sampled_from(["1_000", "0x1A", "١٢", "1e", "1d5"]),
}
# What data=table says is no value.
GAPS = {
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"),
    *("N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf(inity)?", re.ASCII | re.IGNORECASE)


@st.composite
def sheets(draw: st.DrawFn, hostile: bool) -> Sheet:
    """Hostile ones have anything in them; the others what no reader may refuse."""
    # How often is a choice of its own, since hypothesis prefers what is rare.
    chance = random.Random(draw(st.integers(0, 2**32)))
    kinds, names = (HOSTILE, NAMES) if hostile else (PLAIN, PLAIN_NAMES)
    unique = not hostile or chance.random() < 0.9
    header = draw(st.lists(names, min_size=2, max_size=5, unique=unique))
    count = chance.choice([0, 1, 2, 5]) if hostile and chance.random() < 0.1 else 30
    columns = []
    for number in range(len(header)):
        is_target = number == len(header) - 1
        kind = "number" if is_target and (not hostile or chance.random() < 0.7) else chance.choice(sorted(kinds))
        if kind == "number":
            column = [repr(chance.gauss(0, 3)) for _ in range(count)]
        else:
            pool = draw(st.lists(kinds[kind], min_size=1, max_size=6))
            column = [chance.choice(pool) for _ in range(count)]
        if hostile and count and chance.random() < 0.2:
            strange = draw(kinds[chance.choice(["gap", "edge", "any text"])])
            for _ in range(chance.choice([1, 1, 3])):
                column[chance.randrange(count)] = strange
        columns.append(column)
    rows = [list(row) for row in zip(*columns, strict=True)]
    if hostile and rows and chance.random() < 0.1:
        for row in rows if chance.random() < 0.3 else [chance.choice(rows)]:
            row[:] = chance.choice([row[:-1], [*row, "7"], [*row, ""], []])
    text = io.StringIO(newline="")
    quoting = chance.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
    separator = chance.choice(";\t") if hostile and chance.random() < 0.1 else ","
    # Python's csv module quotes a line's end inside a cell where it is the file's own.
    ending = chance.choice(["\n", "\r\n", "\r"] if quoting == csv.QUOTE_ALL else ["\n", "\r\n"])
    csv.writer(text, quoting=quoting, delimiter=separator, lineterminator=ending).writerows([header, *rows])
    encodings = (
        ["latin-1", "utf-16", "utf-16-le", "cp1252"] if hostile and chance.random() < 0.1 else ["utf-8", "utf-8-sig"]
    )
    content = text.getvalue().encode(chance.choice(encodings), errors="replace")
    suffix = ".csv"
    if hostile and chance.random() < 0.15:
        content = draw(damaged(content))
    if chance.random() < 0.15:
        content, suffix = gzip.compress(content), chance.choice([".csv.gz", ".csv"])
        if hostile and chance.random() < 0.3:
            content = draw(damaged(content))
    if hostile and chance.random() < 0.05:
        suffix = chance.choice([".parquet", ".csv.gz", ".txt", ""])
    return Sheet(content, suffix, draw(options(header, hostile, chance)))


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Cut, or with bytes put in, taken out or put in the place of others."""
    at = draw(st.integers(0, len(content)))
    piece = draw(st.sampled_from([b"\0", b'"', b"\n", b",", b"\xff", b"\r", b" \n", b"\x1a", b'""', b'"\n"']))
    kind = draw(st.sampled_from(["cut", "put in", "taken out", "replaced"]))
    if kind == "cut":
        return content[:at]
    return content[:at] + (b"" if kind == "taken out" else piece) + content[at + (kind != "put in") :]


@st.composite
def options(draw: st.DrawFn, header: Sequence[str], hostile: bool, chance: random.Random) -> dict[str, object]:
    """What `data.…` says about a file of these columns."""
    found = {"target": header[-1], "seed": draw(st.integers(0, 3))}
    if chance.random() < 0.5:
        found["standardize"] = draw(st.booleans())
    if chance.random() < 0.8:
        found["missing"] = draw(st.sampled_from(["drop", "mean"]))
    if hostile:
        columns = [*header[:-1], *header]
        for key, values in {
            "target": columns,
            "task": ["regression", "classification"],
            "group": columns,
            "time": columns,
            "drop": [[], [columns[0]], [columns[0], columns[-1]]],
            "folds": [2, 3, 5],
            "max_categories": [3, 10**6],
            "test": [0, 0.4],
        }.items():
            if chance.random() < 0.15:
                found[key] = chance.choice(values)
    return found


# --- Files: what is to be read in them --------------------------------------------------------------------------------


@dataclass
class Reading:
    """What Python's own csv module finds in a file; `wrong` says why nothing can be learned from it as it is."""

    header: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    wrong: str | None = None


def read(content: bytes) -> Reading:
    """The strictest reading there is."""
    try:
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        text = content.decode("utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        return Reading(wrong=type(error).__name__)
    rows = [row for row in rows if row and not (len(row) == 1 and row[0] and not row[0].strip(" \t"))]
    if "\0" in text or len(rows) < 2:
        return Reading(wrong="NUL" if "\0" in text else "empty")
    header, *rows = rows
    names = [name or f"Unnamed: {number}" for number, name in enumerate(header)]
    if len(set(names)) < len(names):
        return Reading(wrong="names")
    if any(len(row) != len(names) for row in rows):
        return Reading(wrong="ragged")
    return Reading(names, rows)


def values_of(cells: Sequence[str]) -> list[float] | list[str | None]:
    """A column's numbers, NaN for a gap, booleans 0 and 1; or its text, None for a gap."""
    texts = [None if cell.strip() in GAPS or not cell.strip() else cell.strip() for cell in cells]
    filled = [text for text in texts if text is not None]
    if filled and all(map(NUMBER.fullmatch, filled)):
        return [math.nan if text is None else float(text) for text in texts]
    if filled and all(text.lower() in ("true", "false") for text in filled):
        return [math.nan if text is None else float(text.lower() == "true") for text in texts]
    return [None if text is None else cell for cell, text in zip(cells, texts, strict=True)]


def is_gap(value: object) -> bool:
    return value is None or value != value


def assert_read_rightly(data: TableFile, found: Reading) -> None:
    """Every number of every part comes from the cell of its row and column, by the training part's mean and spread."""
    columns = {
        name: values_of([row[index] for row in found.rows])
        for index, name in enumerate(found.header)
        if name not in data.drop
    }
    keep = range(len(found.rows))
    if data.missing == "drop":
        keep = [row for row in keep if not any(is_gap(values[row]) for values in columns.values())]
    columns = {name: [values[row] for row in keep] for name, values in columns.items()}
    target = columns.pop(data.targets[0])
    groups = times = None
    if "group" in data.roles:
        groups = np.unique(np.array(columns.pop(data.roles["group"]), dtype=object).astype(str), return_inverse=True)[1]
        groups = pd.factorize(groups)[0]
    if "time" in data.roles:
        times = columns.pop(data.roles["time"])
        if isinstance(times[0], str):
            try:
                times = [datetime.fromisoformat(time) for time in times]
            except ValueError:
                return
    if data.classes:
        known = sorted(set(target))
        expected = np.array([known.index(value) for value in target])
        assert len(known) == data.classes
        if isinstance(known[0], str):
            assert data.class_names == tuple(known)
    else:
        expected = np.array(target, dtype=float)
    index = data.split.parts(Rows(expected, data.class_names, groups, None if times is None else np.array(times)))
    assert index.keys() == data.parts.keys()
    train = index["train"]

    features = data.recipe().features
    assert tuple(feature.name for feature in features) == data.feature_names
    numbers = [name for name, values in columns.items() if isinstance(values[0], float)]
    texts = {name: ["missing" if v is None else v for v in values] for name, values in columns.items()}
    wanted = [(name, None) for name in numbers]
    for name in [name for name in columns if name not in numbers]:
        levels = sorted({texts[name][row] for row in train})
        wanted += [(name, level) for level in levels[len(levels) == 2 :]]
    assert [(feature.column, feature.category) for feature in features] == wanted
    for number, feature in enumerate(features):
        if feature.category is None:
            values = np.array(columns[feature.column])
            values = np.where(np.isnan(values), np.nanmean(values[train]), values)
        else:
            values = np.array([text == feature.category for text in texts[feature.column]], dtype=float)
        mean, spread = values[train].mean(), values[train].std()
        if spread < 1e-9 * abs(mean):
            spread = 0.0
        if data.standardize:
            values = (values - mean) / (spread or 1.0)
        error = 1e-6 * max(1.0, abs(mean) / 1e6) if spread == 0 else 1e-7
        for name, rows in index.items():
            np.testing.assert_allclose(data.parts[name].x[:, number], values[rows], rtol=1e-7, atol=error)
    for name, rows in index.items():
        part = data.parts[name]
        assert np.isfinite(part.x).all() and np.isfinite(part.y).all()
        largest = 1.0 if data.classes else np.abs(expected).max()
        np.testing.assert_allclose(part.y * data.scale + data.center, expected[rows], rtol=1e-9, atol=1e-9 * largest)
    if not data.classes and data.standardize:
        y = data.parts["train"].y
        np.testing.assert_allclose([y.mean(), y.std()], [0, 1], atol=1e-5)


@functools.cache
def defaults() -> dict[str, object]:
    node = OmegaConf.to_container(config("data=table").data)
    return {key: value for key, value in node.items() if key != "_target_"}


def load(sheet: Sheet, folder: Path, is_plain: bool = False) -> TableFile:
    """The data of a file. is_plain: commas and points are said, and not found out."""
    path = folder / f"data{sheet.suffix}"
    path.write_bytes(sheet.content)
    plain = {"separator": "comma", "decimal": "point", "thousands": "none", "comment": "none"}
    said = plain if is_plain and sheet.suffix != ".parquet" else {}
    data = TableFile(**defaults() | {"path": str(path), "order_seed": 0} | said | sheet.options)
    with no_hang():
        data.setup()
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@tries(30)
@given(sheets(hostile=False))
def test_a_plain_file_is_read_rightly(folder: Path, sheet: Sheet) -> None:
    try:
        data = load(sheet, folder, is_plain=True)
    except InputError as error:
        # What a split, or a target that is drawn, may come to.
        assert re.search(
            r"in every (training )?row|needs at least|both have a feature|in no training row|is left", str(error)
        )
        return
    assert_read_rightly(data, read(sheet.content))


@tries(100)
@given(sheets(hostile=True))
def test_any_file_is_read_rightly_or_refused(folder: Path, sheet: Sheet) -> None:
    found = read(sheet.content)
    try:
        data = load(sheet, folder, is_plain=True)
    except InputError as error:
        assert_one_sentence(str(error))
        if found.wrong is None and sheet.suffix != ".parquet":
            assert not str(error).startswith("data.path=") or "no column is left" in str(error)
        event(f"refused: {re.sub(r'[^a-z ].*', '', str(error).split(': ', 1)[-1])[:40]}")
        return
    assert found.wrong is None
    event("read")
    for note in data.notes:
        assert_one_sentence(note)
    assert_read_rightly(data, found)


# --- Command lines ----------------------------------------------------------------------------------------------------

SMALL = ["tracking=none", "progress=false", "trainer.max_epochs=1"]
DATA = {
    "d2l": ["data.num_train=8", "data.num_val=4", "data.num_inputs=3"],
    "table": ["data.path=rows.csv", "data.target=y"],
    "digits_images": ["data.val=0.05", "data.test=0.9"],
    "text": ["data.context=8", "data.epoch_rows=16", "data.measured_rows=8"],
}
READS = {"digits_images": "cnn", "text": "gpt"}
GROUPS = ("data", "model", "optimizer", "penalty", "schedule")
# What a run may be asked for in all seriousness, and nobody waits for.
LONG = re.compile(r"(trainer\.max_(epochs|steps)|polish)=.*[\dabcdef]{2}|tracking.enabled=true", re.IGNORECASE)
COMMANDS = ("resume", "rerun", "resume_sweep", "study", "data.path", "data.target")  # of which few words make sense
WORDS = (
    *("loss", "decay", "prox", "weights", "all", "normal", "glorot", "torch", "Tanh", "GELU", "Softmax", "GLU"),
    *("regression", "classification", "mean", "drop", "x", "kind", "day", "y", "[x]", "[kind,day]", "2", "0.5", "null"),
    *(
        "end",
        "epoch",
        "exact",
        "1se",
        "value",
        "norm",
        "thin",
        "64-true",
        "bf16-true",
        "16-mixed",
        "auto",
        "gpu",
        "[8]",
    ),
)
VALUES = st.one_of(
    st.sampled_from(
        ["-1", "0", "1", "2", "3", "0.5", "1e-3", "-0.5", "1e308", "-1e308", "1e-320", "inf", "-inf", "nan"]
    ),
    st.sampled_from(["1000000000000", "9223372036854775808", "1" + "0" * 30, "1" + "0" * 400, "null", "true", "False"]),
    st.sampled_from(
        ["abc", "no", "''", "' '", "'a b'", "ü", "'\u202e'", "'a\nb'", "'1'", "[]", "[1,2]", "[[1]]", "[abc]"]
    ),
    st.sampled_from(
        ["{}", "{a:1}", "{_target_:abc}", "${lambd}", "${nope}", "${oc.env:NOPE}", "'${'", "\\${x}", "???"]
    ),
    st.sampled_from(["${data}", "${.seed}", "1,2", "range(3)", "choice(1,2)", "glob(*)", "[1", "{", "'", "=", "10:30"]),
    st.sampled_from(["0x10", "1_0", "1e3", "", "min", "exact", "all", "Tanh", "Softmax", "decay", "prox", "16-mixed"]),
    st.integers().map(str),
    st.floats().map(repr),
    st.text(max_size=4),
    st.text(max_size=4).map(lambda text: "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"),
)


@functools.cache
def composed(chosen: tuple[str, ...]) -> bytes:
    """The config of these choices, pickled, as Hydra hands it to a run."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        whole = compose("train", [*SMALL, *chosen], return_hydra_config=True)
    OmegaConf.set_readonly(whole.hydra, False)
    whole.hydra.runtime.output_dir = "run"
    whole.hydra.mode = "RUN"
    return pickle.dumps(whole)


@functools.cache
def typed(chosen: tuple[str, ...]) -> dict[str, object]:
    """What can be typed: every key, and the value that it has."""
    whole = pickle.loads(composed(chosen))
    tree = {key: value for key, value in OmegaConf.to_container(whole).items() if key not in ("hydra", "choices")}
    return dict(leaves(tree))


def near(value: object) -> st.SearchStrategy[str]:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return st.just(str(not value))
    if isinstance(value, int | float):
        return st.sampled_from([2 * value, value + 1, value / 10, 10 * value, -value, 0]).map(repr)
    return st.sampled_from(WORDS)


@st.composite
def command_lines(draw: st.DrawFn) -> tuple[tuple[str, ...], list[str]]:
    """Choices of groups, and overrides of their settings."""
    chance = random.Random(draw(st.integers(0, 2**32)))
    groups = random.Random(chance.randrange(8 * ROUNDS))  # few of them, since composing takes longer than most answers
    chosen = {group: groups.choice(list(DATA) if group == "data" else choices(group)) for group in GROUPS}
    if groups.random() < 0.8:
        chosen["model"] = READS.get(chosen["data"], chosen["model"])
    given = (*(f"{group}={name}" for group, name in chosen.items()), *DATA[chosen["data"]])
    values, is_tame = typed(given), chance.random() < 0.4
    names = [key for key in values if key not in COMMANDS] if is_tame else sorted(values)
    lines = []
    for _ in range(chance.choice([1, 1, 2, 3])):
        key = chance.choice(names)
        lines.append(f"{key}={draw(near(values[key]) if is_tame or chance.random() < 0.3 else VALUES)}")
    if chance.random() < 0.05:
        lines.append(chance.choice(["~", "+", "++"]) + chance.choice(names) + chance.choice(["", "=1"]))
    assume(not any(map(LONG.match, lines)))
    return given, lines


def answer(chosen: tuple[str, ...], lines: list[str]) -> float | str:
    """The loss of such a run, or what is said instead."""
    whole = pickle.loads(composed(chosen))
    try:
        ConfigLoaderImpl._apply_overrides_to_config(OverridesParser.create().parse_overrides(lines), whole)
    except CompactHydraException as error:
        return f"Hydra: {error}"
    HydraConfig.instance().set_config(whole)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), no_hang():
            return fit(OmegaConf.masked_copy(whole, [key for key in whole if key != "hydra"]))
    except SystemExit as end:
        return end.code
    finally:
        HydraConfig.instance().cfg = None


@pytest.fixture
def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with rows.csv, and a store that there is none of."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/none.db")
    rows = [f"{x},{'abc'[x % 3]},{x % 7},{x * x}" for x in range(40)]
    Path("rows.csv").write_text("\n".join(["x,kind,day,y", *rows]))


@tries(60)
@given(command_lines())
def test_any_command_line_gives_a_loss_or_is_refused(in_folder: None, line: tuple[tuple[str, ...], list[str]]) -> None:
    found = answer(*line)
    if isinstance(found, float):
        assert math.isfinite(found)
        event("a loss")
    elif found.startswith("Hydra: "):
        event("refused by Hydra")
    else:
        assert found.startswith("shrinkage: ")
        assert_one_sentence(found)
        event("refused")


# --- Both together, and what has been found ---------------------------------------------------------------------------


def override(key: str, value: object) -> str:
    """As it is typed, with the quotes that Hydra's grammar asks for."""
    if isinstance(value, list):
        return f"{key}=[{','.join(override('', each)[1:] for each in value)}]"
    if not isinstance(value, str):
        return f"{key}={value}"
    text = re.sub(r"(\\*)(\"|$)", lambda found: 2 * found[1] + (found[2] and "\\" + found[2]), value)
    return f'{key}="{text.replace("${", chr(92) + "${")}"'


@tries(3)
@given(sheets(hostile=True))
def test_any_file_through_the_command_line(in_folder: None, folder: Path, sheet: Sheet) -> None:
    (folder / "data.csv").write_bytes(sheet.content)
    asked = [override(f"data.{key}", value) for key, value in sheet.options.items()]
    with no_hang():
        done = train_here("data=table", "data.path=data.csv", "trainer.max_epochs=1", "penalty=l1", *asked, cwd=folder)
    assert "Traceback" not in done.stdout + done.stderr
    words = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
    if done.returncode == 0:
        assert not words
        losses = re.findall(r"^(?:train|val|test)/loss +(\S+)", done.stdout, re.MULTILINE)
        assert len(losses) >= 2 and all(math.isfinite(float(loss)) for loss in losses)
    else:
        assert done.returncode == 1
        assert "parsing override" in done.stderr or (len(words) == 1 and words[0].startswith("shrinkage: "))


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        # Rows longer than the header: the first column was taken for the rows' names, and all others were shifted.
        ("x,c,y\n" + "1,2,a,3\n" * 30, {}, "line 2 has 4 cells and the header has 3"),
        ("x,c,y\n" + "1,2,3\n" * 30 + "1,2\n", {}, "line 32 has 2 cells"),
        ("x,x,y\n" + "1,2,3\n" * 30, {}, "2 columns are called 'x'"),
        # A quote that is not closed took in rows up to the next one.
        ('x,y\n1,2\n"3"4,5\n' + "1,2\n" * 30, {}, "line 3 cannot be read"),
        ("x,y\n1\0,2\n", {}, "since it has NUL bytes"),
        ("x,y\n1,2\n".encode("utf-16-le"), {}, "since it has NUL bytes"),
        ("x;y\n1,5;2\n", {}, "1 row for"),
        ("x;y\n1;2\n3;4\n", {"separator": "comma"}, "if its cells are separated by another sign, say it"),
        (gzip.compress(b"x,y\n1,2\n", mtime=0)[:-9] + b"\0" * 9, {}, "cannot be read"),
        # Squares of such numbers are infinite, or 0: they were all standardised to 0, or not at all.
        ("x,y\n" + "".join(f"{n}e200,{n}\n" for n in range(30)), {}, "column 'x' goes from 0 to 2.9e+201"),
        ("x,y\n" + "".join(f"{n},{n}e-200\n" for n in range(30)), {}, "the target goes from 0 to 2.9e-199"),
        ("t,t_a,y\n" + "".join(f"{'abc'[n % 3]},{n},{n}\n" for n in range(30)), {}, "both have a feature called 't_a'"),
        ("x,y\n" + "1,2\n3,4\n" * 30, {"drop": ["y"]}, "data.target and data.drop are both y"),
        ("x,y\n" + "1,2\n3,4\n" * 30, {"drop": "y"}, "must be a list"),
        ("x,a,y\n" + "1,2,3\n" * 30, {"group": "a", "time": "a"}, "leave the other one out"),
        ("a\u202eb,y\n", {"target": "z"}, "there is a header and no row"),
        ("a\u202eb,y\n1,2\n", {"target": "z"}, r"it has 'a\u202eb', y"),
        ("t,x,y\n" + "".join(f"5-{n}z,{n},{n}\n" for n in range(30)), {"time": "t"}, "neither as numbers nor as dates"),
    ],
)
def test_what_was_read_wrongly_once(folder: Path, content: str | bytes, options: dict, words: str) -> None:
    content = content if isinstance(content, bytes) else content.encode()
    with pytest.raises(InputError) as error:
        load(Sheet(content, ".csv", {"target": "y"} | options), folder)
    assert words in str(error.value)
    assert_one_sentence(str(error.value))


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["1,234", "5.67"], "the thousands sign of 'x' is the comma"),
        (["1.5", "2,5"], "'2,5' in 20 of 40 rows is no number"),
        (["12 %", "13 %"], "'x' is read as text"),
        (["a", "b"], None),
        (["1e3", " 2 "], None),
        (["123456789012345678901234567890", "-1"], None),
    ],
)
def test_text_that_looks_like_numbers_is_told_of(folder: Path, cells: list[str], words: str | None) -> None:
    rows = [f'"{cells[n % 2]}",{n * n}' for n in range(40)]
    data = load(
        Sheet("\n".join(["x,y", *rows]).encode(), ".csv", {"target": "y", "batch_size": None, "dates": ["trend"]}),
        folder,
    )
    assert len(data.notes) == (words is not None) and all(words in note for note in data.notes)


def test_what_is_no_file(folder: Path) -> None:
    os.mkfifo(folder / "pipe.csv")
    (folder / "folder.csv").mkdir()
    with (folder / "sparse.csv").open("wb") as file:
        file.truncate(2**40)
    for name in ("pipe.csv", "folder.csv", "sparse.csv", "/dev/zero", "/dev/stdin", "no\0thing", "x" * 5000, ""):
        with pytest.raises(InputError) as error, no_hang():
            TableFile(**defaults() | {"path": str(folder / name), "target": "y", "order_seed": 0}).setup()
        assert str(error.value).startswith("data.path=")


@tries(30)
@given(damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_parquet_file_is_read_or_refused(folder: Path, damage: list[tuple[float, int]]) -> None:
    frame = pd.DataFrame({"x": np.arange(40.0), "c": ["a", "b"] * 20, "y": np.arange(40.0) ** 2})
    content = bytearray(frame.to_parquet())
    for where, byte in damage:
        content[int(where * len(content))] = byte
    try:
        data = load(Sheet(bytes(content), ".parquet", {"target": "y"}), folder)
    except InputError as error:
        assert_one_sentence(str(error))
        return
    assert all(np.isfinite(part.x).all() and np.isfinite(part.y).all() for part in data.parts.values())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("~data", "data"),
        ("~lambd", "lambd"),
        ("data=nope", "Could not find 'data/nope'"),
        ("lambd", "lambd: an override is key=value"),
        ("lambd=1,2", "Ambiguous value"),
        ("lambd=[1", "at input '[1'"),
        ("early_stopping=null", "early_stopping=None"),
    ],
)
def test_a_command_line_that_is_no_config(in_folder: None, folder: Path, line: str, words: str) -> None:
    done = train_here("progress=false", line, cwd=folder)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and words in done.stderr


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["lambd=${nope}"], "nope"),
        (["lambd=???"], "lambd"),
        (["lambd=1" + "0" * 400], "and finite"),
        (["choices=5"], "choices=5"),
        (["study=5"], "study=5"),
        (["progress=no"], "progress=no: must be true or false"),
        (["seed=9223372036854775808"], "seed=9223372036854775808: must be ≤ 9223372036854775807"),
        (["threads=1000000000000"], "≤ 1024"),
        (["trainer.devices=4096"], "each of so many processes takes a core"),
        (["trainer.gradient_clip_algorithm=2"], "must be norm or value"),
        (["optimizer=adam", "optimizer.betas=abc"], "must be two numbers"),
        (["schedule=cosine", "schedule.final=-1"], "must be a factor"),
        (["data.seed=4294967296"], "≤ 4294967295"),
        (["data.noise=abc"], "must be a finite number"),
        (["data.num_train=1000000000000"], "GB of memory"),
        (["model=mlp", "model.widths=[1000000000,1000]"], "GB of memory"),
        (["model=mlp", "model.widths=3"], "must be whole numbers"),
        (["model=mlp", "model.activation=MultiheadAttention"], "maps each number to one"),
        (["model._target_=nope.Nope"], "nope.Nope"),
        (["~model.bias"], "missing 1 required"),
        (["~penalty._target_"], "must name a class"),
        (["resume=" + "1" * 400], "there is no store"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_value_that_showed_a_traceback_once(in_folder: None, lines: list[str], words: str) -> None:
    chosen = tuple(line for line in lines if "." not in line and line.partition("=")[0] in GROUPS)
    found = answer(("optimizer=sgd", *DATA["d2l"], *chosen), [line for line in lines if line not in chosen])
    assert words in found
    assert_one_sentence(found)
