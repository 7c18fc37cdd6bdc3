"""Files as people have them are read right, or refused with the override that reads them; what is odd is said."""

import csv
import json
import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import config
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from shrinkage.data.base import DataModule
from shrinkage.data.leaks import find_leaks
from shrinkage.data.quoting import dropping, override
from shrinkage.data.reading import CsvFormat, read_file
from shrinkage.data.recipe import Column, Recipe, Refused, predicted
from shrinkage.errors import InputError
from shrinkage.training.workshop import Workshop, Workshops, make


def table(path: Path, target: str, *overrides: str) -> DataModule:
    chosen = ["data=table", f"data.path={path}", override("data.target", target).strip("'"), *overrides]
    module = make(config(*chosen).data, order_seed=0)
    module.setup()
    return module


def lines(path: Path, rows: int, *columns: Callable[[int], str], header: str, sep: str = ",") -> Path:
    """A file of `rows` lines below the header, each column a function of the line's number."""
    body = [sep.join(column(number) for column in columns) for number in range(rows)]
    path.write_text("\n".join([header, *body]) + "\n", encoding="utf-8")
    return path


def number(k: int) -> str:
    return str(k)


def point(k: int) -> str:
    return f"{20 + k / 7:.2f}"


def comma(k: int) -> str:
    return point(k).replace(".", ",")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.csv"


def raw(path: Path, **said: str) -> dict[str, list]:
    contents = read_file(path, CsvFormat(**said))
    assert not contents.doubts
    return {name: contents.frame[name].tolist() for name in contents.frame}


def test_semicolons_decimal_commas_and_a_remark(path: Path) -> None:
    path.write_text("# made by me\nDatum;Temperatur\n2026-01-01;28,7\n2026-01-02;-3,25\n2026-01-03;1.004,5\n")
    assert raw(path)["Temperatur"] == [28.7, -3.25, 1004.5]
    (note,) = read_file(path, CsvFormat()).notes
    assert "data.separator=semicolon data.comment=hash data.decimal=comma data.thousands=point" in note
    said = {"separator": "semicolon", "comment": "hash", "decimal": "comma", "thousands": "point"}
    assert not read_file(path, CsvFormat(**said)).notes  # as the note says it
    assert raw(path, **said) == raw(path)
    path.write_text("a,b\n1,2.5\n2,1.234\n")
    assert not read_file(path, CsvFormat()).notes and raw(path)["b"] == [2.5, 1.234]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('x,y\n"26,5",1\n"3,25",2\n', [26.5, 3.25]),
        ('x,y\n"1,234",2.5\n"12,001",3.5\n', [1234, 12001]),  # where decimals have a point
        ('x,y\n"1,234,567",2\n"12",3\n', [1234567, 12]),
        ("x;y\n1,234;28,7\n2,5;3\n", [1.234, 2.5]),
        ("x\ty\n1 234,5\t1\n12\t2\n", [1234.5, 12]),
        ("x;y\n1,234;1\n0,500;2\n", [1.234, 0.5]),  # no thousand begins with 0
        ("x|y\n1'234.5|1\n12|2\n", [1234.5, 12]),
        ("x;y\n1.5;2,5\n2.25;3\n", [1.5, 2.25]),  # each column is without doubt by itself
        ("#x,y\n1,2\n3,4\n", [1, 3]),
        ("# a, b\nx,y\n1,2\n# a remark\n3,4\n", [1, 3]),
        ('# "open\n\n# more\nx,y\n1,2\n3,4\n', [1, 3]),
    ],
)
def test_without_doubt(content: str, expected: list[float], path: Path) -> None:
    path.write_text(content)
    assert next(iter(raw(path).values())) == expected


@pytest.mark.parametrize(
    ("content", "ways"),
    [
        ('x,y\n"1,234",1\n"2,345",2\n', {"data.decimal=comma": [1.234, 2.345], "data.thousands=comma": [1234, 2345]}),
        ("x;y\n1.234;28,7\n2.345;3,5\n", {"data.thousands=none": [1.234, 2.345], "data.thousands=point": [1234, 2345]}),
        ("x;z,y\n1;2,3\n4;5,6\n", {"data.separator=semicolon": [1, 4], "data.separator=comma": ["1;2", "4;5"]}),
        ("# a,b\nx,y\nu,v\n", {"data.comment=hash": ["u"], "data.comment=none": ["x", "u"]}),
    ],
)
def test_doubts_are_refused_with_cures_that_work(content: str, ways: dict[str, list], path: Path) -> None:
    path.write_text(content)
    try:
        message = str(next(iter(read_file(path, CsvFormat()).doubts.values())))
    except InputError as error:
        message = str(error)
    for way, expected in ways.items():
        assert way in message
        key, _, value = way.removeprefix("data.").partition("=")
        assert next(iter(raw(path, **{key: value}).values())) == expected


def test_a_doubt_stops_only_where_the_column_is_used(path: Path) -> None:
    lines(path, 40, lambda k: f'"{k + 1},234"', number, point, header="a,b,y")
    table(path, "y")  # points elsewhere
    lines(path, 40, lambda k: f'"{k + 1},234"', number, number, header="a,b,y")
    with pytest.raises(
        InputError, match=r"'1,234', which may be 1.234 \(data.decimal=comma\) or 1234 \(data.thousands"
    ):
        table(path, "y")
    assert table(path, "y", "data.drop=[a]").feature_names == ("b",)


def test_uneven_lines_are_refused_with_ways_out(path: Path) -> None:
    path.write_text("x;y,z\n1;2\n3;4;5\n")
    with pytest.raises(
        InputError, match=r"line 2 has 1 cell and the header has 2, cut at each comma; .* data.separator=sem"
    ):
        read_file(path, CsvFormat())
    path.write_text("x y\nr1 1 2\n")
    with pytest.raises(InputError, match=r"header has 2.*begin the header with a name more"):
        read_file(path, CsvFormat(separator=" "))
    for said, message in (
        ({"separator": "; "}, "data.separator='; ': must be one of auto, comma, semicolon"),
        ({"decimal": "dot"}, "data.decimal=dot: must be one of auto, point, comma"),
        ({"decimal": "comma", "thousands": "comma"}, "the signs must differ"),
    ):
        with pytest.raises(InputError, match=message):
            CsvFormat(**said)
    frame = pd.DataFrame({"x": [1.0, 2.0]})
    frame.to_parquet(path.with_suffix(".parquet"))
    with pytest.raises(InputError, match="this is Parquet; leave them out"):
        read_file(path.with_suffix(".parquet"), CsvFormat(decimal="comma"))


words = st.text(st.sampled_from("ab ,;|\t'\"é"), min_size=1, max_size=6).map(lambda text: f"w{text}w")


@given(
    st.data(),
    st.sampled_from(",;\t|"),
    st.sampled_from([(".", ""), (",", ""), (".", ","), (",", "."), (",", " "), (".", "'")]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.booleans(),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_table_is_read_back_or_refused(tmp_path: Path, data, separator, signs, quoting, remark) -> None:
    decimal, thousands = signs

    def written(value: float, digits: int) -> str:
        text = f"{value:,.{digits}f}" if thousands else f"{value:.{digits}f}"
        return text.replace(",", "T").replace(".", decimal).replace("T", thousands)

    rows = data.draw(st.integers(3, 8))
    digits = data.draw(st.integers(0, 4))
    values = data.draw(st.lists(st.floats(-1e6, 1e6).map(lambda v: round(v, digits)), min_size=rows, max_size=rows))
    texts = data.draw(st.lists(words, min_size=rows, max_size=rows))
    path = tmp_path / "any.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write("# a remark; made by me, today\n" * remark)
        writer = csv.writer(file, delimiter=separator, quoting=quoting)
        writer.writerow(["v", "t", "half"])
        writer.writerows([written(v, digits), t, written(0.5, 1)] for v, t in zip(values, texts, strict=True))
    try:
        contents = read_file(path, CsvFormat())
    except InputError:
        assume(False)
    assert contents.frame["t"].tolist() == texts
    assert contents.frame["half"].tolist() == [0.5] * rows
    if "v" not in contents.doubts:
        assert contents.frame["v"].tolist() == values
    known = read_file(path, CsvFormat(decimal=decimal, thousands=thousands or "none"))
    assert known.frame["v"].tolist() == values


ALMOST = ["${}", "{} €", "{}%", "{} kg", "({})", "<{}"]


@pytest.mark.parametrize("form", ALMOST)
def test_almost_numbers_are_named_where_an_error_follows(form: str, path: Path) -> None:
    lines(path, 150, lambda k: form.format(k), point, header="a,y")
    found = r"text column 'a' has 150 different values.* Note: column 'a' is read as text.*in 150 of 150 rows are no"
    with pytest.raises(InputError, match=found):
        table(path, "y")
    lines(path, 40, number, lambda k: form.format(k), header="a,y")
    with pytest.raises(
        InputError, match=r"every class needs .* Note: column 'y' is read as text, its values as classes"
    ):
        table(path, "y")
    lines(path, 40, lambda k: form.format(k % 4), point, header="a,y")
    assert any("column 'a' is read as text, its values as categories" in note for note in table(path, "y").notes)


def test_one_cell_that_is_no_number(path: Path) -> None:
    lines(path, 150, lambda k: "?" if k == 7 else number(k), point, header="a,y")
    with pytest.raises(InputError, match=r"since '\?' in 1 of 150 rows is no number; .* a gap is an empty cell"):
        table(path, "y")
    lines(path, 150, point, lambda k: "?" if k == 7 else number(k), header="a,y")
    with pytest.raises(InputError, match=r"since '\?' in 1 of 150 rows is no number"):
        table(path, "y")
    with pytest.raises(InputError, match=r"regression needs numbers.* Note: .*since '\?' in 1 of 150 rows"):
        table(path, "y", "data.task=regression")
    lines(path, 150, number, point, header="a,y\nkg,m")  # a row of units
    with pytest.raises(InputError, match=r"since 'kg' in 1 of 151 rows .*since 'm' in 1 of 151 rows"):
        table(path, "y")


def test_codes_ids_and_dates_are_told(path: Path) -> None:
    lines(
        path,
        50,
        lambda k: f"0{1000 + k}",
        lambda k: f"n{k}",
        lambda k: f"0{k % 9 + 1}/0{k % 9 + 1}/2025",
        point,
        header="zip,id,day,y",
    )
    notes = " ".join(table(path, "y").notes)
    assert "column 'zip' has '01000' and is read as numbers, without the first 0" in notes
    assert "column 'id' has 50 different texts in 50 rows" in notes and "data.drop=[id]" in notes
    assert "column 'day' has what may be dates, such as '01/01/2025'" in notes


def test_spellings_are_told_and_joined(path: Path) -> None:
    answers = ["yes", "no", "Yes", "NO", "yes "]
    lines(path, 80, point, lambda k: [" Red", "red", "blue"][k % 3], lambda k: answers[k % 5], header="a,colour,y")
    data = table(path, "y")
    assert len(data.class_names) == 5 and "colour_ Red" in data.feature_names
    assert any("'yes', 'Yes', 'yes ' as classes of their own" in n and "data.tidy=true" in n for n in data.notes)
    assert any("column 'colour' has" in note for note in data.notes)
    data = table(path, "y", "data.tidy=true")
    assert data.class_names == ("no", "yes")
    assert data.feature_names == ("a", "colour_red")  # the second of two, blue and red
    served = Recipe.from_json(json.loads(json.dumps(asdict(data.recipe()))))
    frame = pd.DataFrame({"a": [20.0] * 4, "colour": ["RED ", " red", "Blue", "blue"]})
    x = served(frame)
    assert x[0, 1] == x[1, 1] > x[2, 1] == x[3, 1]


def test_the_served_model_reads_numbers_as_training_did(path: Path) -> None:
    lines(path, 40, lambda k: f"{1000 + 3 * k:,}".replace(",", ".") + ",5", comma, header="x;y", sep=";")
    data = table(path, "y")
    served = Recipe.from_json(json.loads(json.dumps(asdict(data.recipe()))))
    texts, numbers = pd.DataFrame({"x": ["1.003,5", "1000,5"]}), pd.DataFrame({"x": [1003.5, 1000.5]})
    np.testing.assert_array_equal(served(texts), served(numbers))
    with pytest.raises(Refused, match="is no number"):
        served(pd.DataFrame({"x": ["1003.5"]}))  # with a point between thousands it is no such number
    with pytest.raises(Refused, match="is no number"):
        Column("x", "number").read(pd.Series(["1003,5"]))


def test_gaps_in_the_target(path: Path) -> None:
    lines(path, 80, point, lambda k: ["0", "1", "", "1", "0"][k % 5], header="a,y")
    with pytest.raises(InputError, match=r"data.target=y is missing in 16 of 80 rows: .* use data.missing_target=drop"):
        table(path, "y")
    with pytest.raises(InputError, match=r"data.target=y is missing in 16 of 80 rows: .* use data.missing_target=drop"):
        table(path, "y", "data.missing=mean")
    data = table(path, "y", "data.missing_target=drop")
    assert data.class_names == ("0", "1") and sum(map(len, data.parts.values())) == 64
    assert "data.missing_target=drop left out 16 of 80 rows." in data.notes
    assert table(path, "y", "data.missing=drop").class_names == ("0", "1")


def test_gaps_that_are_words_are_counted(path: Path) -> None:
    alley = ["None", "None", "gravel", "NA"]
    lines(
        path,
        80,
        lambda k: alley[k % 4],
        lambda k: "" if k == 3 else number(k),
        lambda k: "" if k == 0 else point(k),
        header="alley,b,y",
    )
    counts = r"'alley' in 60 \(40 × 'None', 20 × 'NA'\), 'b' in 1, 'y' in 1; use data.missing=drop"
    with pytest.raises(InputError, match=rf"{counts}.* or data.missing=mean data.missing_target=drop"):
        table(path, "y")
    data = table(path, "y", "data.missing=mean", "data.missing_target=drop")
    assert sum(map(len, data.parts.values())) == 79
    assert data.feature_names == ("b", "alley_missing")
    with pytest.raises(
        InputError, match=r"missing values \(of 79 rows\): 'alley' in 59 \(39 × 'None', 20 × 'NA'\), 'b' in 1;"
    ):
        table(path, "y", "data.missing_target=drop")


def test_headers_with_blanks_are_found_by_their_words(path: Path) -> None:
    lines(path, 40, number, point, number, header="x, y, z")
    data = table(path, "y", "data.drop=[z]")
    assert data.targets == (" y",) and data.feature_names == ("x",)
    assert table(path, " y").feature_names == ("x", " z")  # as the model is to be given them
    with pytest.raises(InputError, match=r"""has no such column.*did you mean 'data.target=" y"'\?"""):
        table(path, "Y")
    lines(path, 40, number, point, number, header="x, y,y")
    assert table(path, "y").targets == ("y",) and table(path, " y").targets == (" y",)


@given(st.text(min_size=1, max_size=8))
@example(" y")
@example("größe (1)")
@example('a"b\\"c\\')
@example("a\\b")
@example("null")
@example("1")
@example("it's")
def test_any_header_is_an_override_as_it_is_printed(name: str) -> None:
    assume("\0" not in name)
    (typed,) = shlex.split(override("data.target", name))
    assert OverridesParser.create().parse_override(typed).value() == name
    if dropping(name) != "data.drop":
        (typed,) = shlex.split(dropping(name))
        assert OverridesParser.create().parse_override(typed).value() == [name]


def test_a_column_that_says_the_target_is_told(path: Path) -> None:
    draw = np.random.default_rng(0)
    pd.DataFrame({"x": (x := draw.standard_normal(60)), "copy": 2 * x + 1, "y": x, "z": draw.random(60)}).to_csv(
        path, index=False
    )
    notes = [note for note in table(path, "y").notes if "nearly determines the target" in note]
    assert [note.split("'")[1] for note in notes] == ["x", "copy"]
    assert "it equals the target" in notes[0] and "r² is 1" in notes[1] and "data.drop=[copy]" in notes[1]


def test_what_says_a_target_and_what_does_not() -> None:
    draw = np.random.default_rng(0)
    y = draw.standard_normal(100)
    towns = draw.choice(["a", "b", "c"], 100).astype(object)
    price = np.array([{"a": 1.0, "b": 2.0, "c": 5.0}[town] for town in towns])
    known = {
        "log": np.exp(y),
        "noisy": y + draw.normal(0, 0.1, 100),
        "constant": np.ones(100),
        "id": np.array([f"n{k}" for k in range(100)], dtype=object),
    }
    assert set(find_leaks(known, y, None)) == {"log"}
    assert set(find_leaks({"town": towns}, price, None)) == {"town"}
    assert find_leaks({"town": towns}, y, None) == {}
    sick = (y > 0.3).astype(np.int64)
    found = find_leaks(
        {
            "y": y,
            "flag": sick.astype(float),
            "word": np.where(sick, "s", "h").astype(object),
            "noise": draw.standard_normal(100),
            "town": towns,
        },
        sick,
        2,
    )
    assert set(found) == {"y", "flag", "word"}
    assert find_leaks({"y": y[:10]}, y[:10], None) == {}  # too few to say


def test_columns_that_cost_most_rows_are_named(path: Path) -> None:
    def cells(k: int) -> str:
        return f"{k % 7},{'' if k % 10 else 'seen'},{'' if k % 9 == 0 else k},{k / 3:.2f}"

    lines(path, 90, cells, header="a,Comments,b,y")
    advice = (
        r"\(with 'data.drop=\[a,Comments\]' 80 would be whole\)|\(with data.drop=\[a,Comments\] 80 would be whole\)"
    )
    with pytest.raises(InputError, match=rf"use data.missing=drop to leave rows out and keep 8 {advice}, or"):
        table(path, "y", "data.drop=[a]")
    data = table(path, "y", "data.drop=[a]", "data.missing=drop")
    assert data.notes[0] == "data.missing=drop left out 82 of 90 rows (with data.drop=[a,Comments] 80 would be whole)."
    assert table(path, "y", "data.drop=[a,Comments]", "data.missing=drop").notes[0].endswith("left out 10 of 90 rows.")


def test_all_columns_with_too_many_values_are_refused_at_once(path: Path) -> None:
    lines(path, 150, lambda k: f"n{k}", lambda k: f"m{k}", point, header="name,surname,y")
    with pytest.raises(
        InputError, match=r"'name' has 150 .*, as do 'surname': .*data.drop=\[name,surname\]"
    ) as refused:
        table(path, "y")
    assert "Note:" not in str(refused.value)  # nothing is said twice


def test_a_date_is_no_target(path: Path) -> None:
    lines(path, 30, lambda k: f"2026-01-{k + 1:02}", number, header="day,x")
    with pytest.raises(InputError, match=r"data.target=day: the column has dates, such as 2026-01-01"):
        table(path, "day")


@pytest.mark.parametrize("levels", [["1. White", "2. Black", "3. Asian"], ["1Story", "2Story", "SLvl", "1.5Fin"]])
def test_numbered_words_are_no_almost_numbers(path: Path, levels: list[str]) -> None:
    lines(path, 60, lambda k: levels[k % len(levels)], point, header="a,y")
    assert not any("number" in note for note in table(path, "y").notes)


def test_a_file_that_is_split_in_another_way_is_read_once(tmp_path: Path) -> None:
    written = pd.DataFrame({"a": range(40), "b": [number**2 for number in range(40)], "y": np.linspace(0, 1, 40)})
    written.to_csv(tmp_path / "table.csv", index=False)
    overrides = ["data=table", f"data.path={tmp_path / 'table.csv'}", "data.target=y", "data.folds=4"]
    workshops = Workshops()
    found = [workshops.open(config(*overrides, f"data.fold={fold}")).datamodule for fold in (0, 0, 3)]
    assert found[0] is found[1] and found[0].loaded is found[2].loaded is not None
    alone = Workshop(config(*overrides, "data.fold=3")).datamodule
    assert alone.loaded is None and alone.digest == found[2].digest and alone.notes == found[2].notes
    for part, rows in alone.parts.items():
        np.testing.assert_array_equal(rows.x, found[2].parts[part].x)


@given(seed=st.integers(0, 2**32 - 1), classes=st.sampled_from([2, 3]), width=st.sampled_from([0.1, 10.0, 1000.0]))
def test_outputs_mean_probabilities_and_numbers(seed: int, classes: int, width: float) -> None:
    output = width * np.random.default_rng(seed).normal(size=(5, 1 if classes == 2 else classes))
    names = ["a", "b", "c"][:classes]
    logits = torch.from_numpy(output if classes > 2 else np.hstack([0 * output, output]))
    found = predicted(output, names, 0.0, 1.0)
    p = np.stack([found[f"probability_{name}"] for name in names], axis=1)
    np.testing.assert_allclose(p, logits.softmax(dim=1).numpy(), rtol=1e-13, atol=1e-300)
    assert (found["prediction"] == np.array(names, dtype=object)[logits.argmax(dim=1).numpy()]).all()
    numbers = predicted(output[:, :1] / width, [], 3.0, 2.0)["prediction"]
    np.testing.assert_array_equal(numbers, output[:, 0] / width * 2.0 + 3.0)
    np.testing.assert_array_equal(predicted(output[:, :1] / width, [], 3.0, 2.0, "log")["prediction"], np.exp(numbers))
