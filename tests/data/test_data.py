"""Every choice of conf/data keeps the promises of its base class; the user's own file is read rightly or refused."""

import csv
import gzip
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import choices, config, in_openmls_format
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import dump_svmlight_file

from shrinkage.data.base import DataModule, ShuffledBatches
from shrinkage.data.column_rules import read_written
from shrinkage.data.reading import Layout, read_cells, read_rows, split_fast
from shrinkage.data.recipe import GAPS
from shrinkage.errors import InputError
from shrinkage.testing import check_data
from shrinkage.training.run import build
from shrinkage.training.workshop import make


@pytest.fixture(scope="session")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 houses: two numbers, a text column, a constant, and a price; beside them photos, and what OpenML has."""
    draw = np.random.default_rng(0)
    area, rooms = draw.uniform(40, 200, 200), draw.integers(1, 7, 200)
    town = draw.choice(["Aachen", "Bonn", "Köln"], 200)
    price = 2000 * area + 10_000 * rooms + 30_000 * (town == "Köln") + draw.normal(0, 5000, 200)
    path = tmp_path_factory.mktemp("data") / "houses.csv"
    pd.DataFrame({"area": area, "rooms": rooms, "town": town, "country": "DE", "price": price}).to_csv(
        path, index=False
    )
    pd.read_csv(path).to_parquet(path.with_suffix(".parquet"))
    dump_svmlight_file(
        np.column_stack([area, rooms, town == "Köln"]), price, str(path.with_suffix(".svm")), zero_based=False
    )
    for number in range(40):
        photo = path.parent / "photos" / f"town {number % 2}" / f"{number}.png"
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(photo)
    for data_id, pixels in ((40996, 28 * 28), (40927, 3 * 32 * 32)):
        images = draw.integers(0, 256, (120, pixels))
        in_openmls_format(path.parent / "openml", data_id, images, np.tile(np.arange(10), 12))
    return path


def overrides_for(name: str, houses: Path) -> list[str]:
    """What the choice needs to be loaded here, and a model that reads it."""
    folder = houses.parent
    known = {
        "table": [f"data.path={houses}", "data.target=price"],
        "stream": [f"data.path={houses.with_suffix('.parquet')}", "data.target=price"],
        "libsvm": [f"data.path={houses.with_suffix('.svm')}", "trainer=exact", "penalty=l1"],
        "images": [f"data.path={folder / 'photos'}", "model=cnn"],
        "digits_images": ["model=cnn"],
        "fashion_mnist": [f"data.folder={folder / 'openml'}", "data.test_rows=20", "model=cnn"],
        "cifar10": [f"data.folder={folder / 'openml'}", "data.test_rows=20", "model=cnn"],
        "text": ["data.context=16", "data.epoch_rows=64", "data.measured_rows=16", "model=gpt"],
    }
    return [f"data={name}", *known.get(name, [])]


def loaded(*overrides: str) -> DataModule:
    module = make(config(*overrides).data, order_seed=0)
    module.setup()
    return module


def table(path: Path, target: str, *overrides: str) -> DataModule:
    return loaded("data=table", f"data.path={path}", f"data.target={target}", *overrides)


@pytest.fixture(params=choices("data"))
def overrides(request: pytest.FixtureRequest, houses: Path) -> list[str]:
    return overrides_for(request.param, houses)


def test_a_data_set_keeps_the_laws(overrides: list[str]) -> None:
    check_data(partial(make, config(*overrides).data))


def test_parts_have_every_class_and_no_row_twice(overrides: list[str]) -> None:
    data = loaded(*overrides)
    if data.kind == "language" or not data.in_memory:
        pytest.skip("a text is split where it stands, and test_stream.py looks at the rows of a stream")
    if data.classes:
        for part in data.parts.values():
            assert set(part.y) == set(range(data.classes))  # stratified
    dense = [part.x.toarray() if data.is_sparse else part.x.reshape(len(part), -1) for part in data.parts.values()]
    flat = [np.column_stack([x, part.y]).round(9) for x, part in zip(dense, data.parts.values(), strict=True)]
    rows = [tuple(row) for part in flat for row in part]
    if not {"data=digits", "data=digits_images"} & set(overrides):  # which hold a few images twice
        assert len(set(rows)) == len(rows)


def test_standardised_by_the_training_part_alone(overrides: list[str]) -> None:
    data = loaded(*overrides)
    if "data=d2l" in overrides or not isinstance(data.inputs, int) or not data.in_memory:
        pytest.skip("the chapter's data are not standardised, and images, text and streams not beforehand")
    train = data.parts["train"]
    x = train.x.toarray() if data.is_sparse else train.x
    spread = x.std(axis=0)
    if not data.is_sparse:
        np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-9)
    assert np.all(np.isclose(spread, 1) | np.isclose(spread, 0, atol=1e-12))  # 0: a constant column
    if data.classes is None:
        assert (train.y.mean(), train.y.std()) == pytest.approx((0, 1))
        raw = loaded(*overrides, "data.standardize=false")
        np.testing.assert_allclose(data.parts["val"].y * data.scale + data.center, raw.parts["val"].y)


def test_one_fast_run(overrides: list[str], tmp_path: Path) -> None:
    steps = [] if "trainer=exact" in overrides else ["trainer.max_epochs=1"]
    training = build(config(*overrides, *steps, "lambd=0.01"), tmp_path)
    training.run()
    measured = training.module.measured
    assert [moment.step for moment in training.module.history] == [0, 1][: 1 + len(steps)]
    assert all(np.isfinite(value) for value in measured.values())
    assert measured["train/objective"] == pytest.approx(measured["train/loss"] + measured["train/penalty"])
    assert ("test/loss" in training.test) == ("test" in training.datamodule.parts)


def test_the_chapters_problem() -> None:
    parts = loaded("data.num_val=20000", "data.num_inputs=5", "data.weight=[1,2,3,4,5]").parts
    x, y = parts["val"].x, parts["val"].y
    solution, residual, *_ = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y)
    np.testing.assert_allclose(solution, [1, 2, 3, 4, 5, 0.05], atol=6 * 0.01 / np.sqrt(len(x)))
    assert np.sqrt(residual[0] / len(x)) == pytest.approx(0.01, rel=0.05)
    assert len(parts["train"]) == 20 and "test" not in parts


def test_batches_are_each_row_once_in_an_order_of_seed_and_epoch_alone() -> None:
    batches = ShuffledBatches(rows=17, batch_size=5, seed=3)
    first = torch.cat(list(batches))
    assert sorted(first.tolist()) == list(range(17)) and len(batches) == len(list(batches)) == 4
    batches.set_epoch(1)
    assert torch.cat(list(batches)).tolist() != first.tolist()
    batches.set_epoch(0)
    assert torch.cat(list(batches)).tolist() == first.tolist()


def test_a_batch_larger_than_the_data_becomes_all_rows_and_says_so() -> None:
    data = loaded("data.batch_size=64")
    assert data.batch_rows == 20
    assert data.notes == ["data.batch_size=64 is more than the 20 training rows: each batch is all of them."]


def test_columns_of_a_file(houses: Path) -> None:
    data = table(houses, "price")
    assert data.feature_names == ("area", "rooms", "town_Aachen", "town_Bonn", "town_Köln", "country_DE")
    assert data.classes is None
    assert data.notes == ["'country': the same in all rows, so of no use; data.drop=[country] leaves it out."]
    assert [len(part) for part in data.parts.values()] == [120, 40, 40]


@pytest.mark.parametrize("kind", ["csv.gz", "parquet"])
def test_other_formats_hold_the_same(houses: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"houses.{kind}"
    if kind == "parquet":
        pd.read_csv(houses).to_parquet(path)
    else:
        path.write_bytes(gzip.compress(houses.read_bytes()))
    expected, found = table(houses, "price").parts["val"], table(path, "price").parts["val"]
    np.testing.assert_array_equal(found.x, expected.x)


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["yes", "no"] * 30, 2),
        ([True, False] * 30, 2),
        ([1, 2, 3] * 20, 3),
        ([0.5, 1.5] * 30, 2),
        ([0.5, 1.5, 2.5] * 20, None),
        (list(range(60)), None),
    ],
)
def test_the_task_is_told_from_the_target(tmp_path: Path, values: list, classes: int | None) -> None:
    path = tmp_path / "data.csv"
    pd.DataFrame({"x": np.random.default_rng(0).normal(size=60), "y": values}).to_csv(path, index=False)
    assert table(path, "y").classes == classes
    if values == [1, 2, 3] * 20:
        assert "read as 3 classes" in table(path, "y").notes[0]
        assert table(path, "y", "data.task=regression").classes is None


def test_missing_values(houses: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(houses)
    frame.loc[:9, "area"] = np.nan
    frame.loc[5:14, "town"] = None
    path = tmp_path / "gaps.csv"
    frame.to_csv(path, index=False)
    with pytest.raises(InputError, match=r"'area' in 10, 'town' in 10; use data.missing=drop"):
        table(path, "price")
    dropped = table(path, "price", "data.missing=drop")
    assert sum(map(len, dropped.parts.values())) == 185
    assert dropped.notes[0] == "data.missing=drop left out 15 of 200 rows."
    filled = table(path, "price", "data.missing=mean")
    assert sum(map(len, filled.parts.values())) == 200 and "town_missing" in filled.feature_names
    # The mean of the training part is 0 once standardised, and every gap of any part gets it.
    area = filled.feature_names.index("area")
    gaps = sum(np.isclose(part.x[:, area], 0, atol=1e-12).sum() for part in filled.parts.values())
    assert gaps == 10


def test_a_category_unseen_in_training_is_no_category(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": np.arange(50.0), "c": ["a"] * 24 + ["b"] * 25 + ["rare"], "y": np.arange(50.0) ** 2})
    path = tmp_path / "rare.csv"
    frame.to_csv(path, index=False)
    seen = {seed: table(path, "y", f"data.seed={seed}") for seed in range(12)}
    assert {data.feature_names for data in seen.values()} == {("x", "c_b"), ("x", "c_a", "c_b", "c_rare")}
    for seed, data in seen.items():
        unseen = [
            note
            for note in data.notes
            if "column 'c' has values in 1 row that no training row had: 'rare' in 1" in note
        ]
        assert len(unseen) == ("c_rare" not in data.feature_names)
        if unseen:
            with pytest.raises(InputError, match=r"'rare' in 1; use data.unseen=zero"):
                table(path, "y", f"data.seed={seed}", "data.unseen=error")


@pytest.mark.parametrize(
    ("encoding", "features"),
    [
        ("auto", ("x", "sex_m", "town_A", "town_B", "town_C")),
        ("reference", ("x", "sex_m", "town_B", "town_C")),
        ("all", ("x", "sex_f", "sex_m", "town_A", "town_B", "town_C")),
    ],
)
def test_levels_that_are_features(tmp_path: Path, encoding: str, features: tuple[str, ...]) -> None:
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"sex": draw.choice(["f", "m"], 80), "x": draw.normal(size=80), "town": draw.choice(list("ABC"), 80)}
    )
    frame.assign(y=draw.normal(size=80)).to_csv(tmp_path / "rows.csv", index=False)
    data = table(tmp_path / "rows.csv", "y", f"data.encoding={encoding}", "data.standardize=false")
    assert data.feature_names == features
    expected = [frame[name] if name == "x" else frame[name[:-2]] == name[-1] for name in features]
    for part, rows in data.rows.items():
        np.testing.assert_array_equal(data.parts[part].x, np.column_stack(expected)[rows])
    with pytest.raises(InputError, match=r"data.encoding=both: must be one of auto, reference, all; use auto"):
        table(tmp_path / "rows.csv", "y", "data.encoding=both")


@pytest.mark.parametrize("written", ["%Y-%m-%d", "%d.%m.%Y", "%Y/%m/%d", "%b %d, %Y", "%Y-%m-%dT%H:%M:%S", None])
def test_dates_become_what_is_asked_for(tmp_path: Path, written: str | None) -> None:
    draw = np.random.default_rng(0)
    days = pd.Series(pd.Timestamp("2023-02-27") + pd.to_timedelta(draw.permutation(900)[:200], unit="D"))
    frame = pd.DataFrame({"day": days.dt.strftime(written) if written else days, "y": draw.normal(size=200)})
    path = tmp_path / ("rows.csv" if written else "rows.parquet")
    frame.to_csv(path, index=False) if written else frame.to_parquet(path)
    cure = (
        r"'day' has dates, such as 202.*data.dates=\[year,month,weekday,dayofyear,trend\].*data.time.*data.drop=\[day\]"
    )
    with pytest.raises(InputError, match=cure):
        table(path, "y")
    data = table(path, "y", "data.dates=[year,month,weekday,dayofyear,trend]", "data.standardize=false")
    angle = 2 * np.pi * (days.dt.day_of_year - 1) / 365.25
    expected = {"day_year": days.dt.year, "day_dayofyear_sin": np.sin(angle), "day_dayofyear_cos": np.cos(angle)}
    expected |= {f"day_month_{month:02}": days.dt.month == month for month in range(1, 13)}
    expected |= {f"day_weekday_{name}": days.dt.day_name() == name for name in days.dt.day_name().unique()}
    expected["day_trend"] = (days - days[data.rows["train"]].min()).dt.days
    assert set(data.feature_names) == set(expected)
    for part, rows in data.rows.items():
        for number, name in enumerate(data.feature_names):
            np.testing.assert_allclose(data.parts[part].x[:, number], expected[name].iloc[rows], rtol=1e-12, atol=1e-12)
    with pytest.raises(InputError, match=r"data.dates=\['hour'\]: must be error, or a list of some of year, month"):
        table(path, "y", "data.dates=[hour]")


CELL = st.text(st.sampled_from(list('ab 1,";\n\r\té')), max_size=4)


@settings(max_examples=300, deadline=None)
@given(
    rows=st.integers(1, 3).flatmap(lambda n: st.lists(st.lists(CELL, min_size=n, max_size=n), min_size=1, max_size=6)),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_arrow_splits_a_csv_as_pythons_csv_does(tmp_path_factory, rows: list[list[str]], end: str) -> None:
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    has_lines = any({"\n", "\r"} & set(cell) for row in rows for cell in row)
    quoting = csv.QUOTE_ALL if has_lines else csv.QUOTE_MINIMAL
    header = [f"c{number}" for number in range(len(rows[0]))]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator=end, quoting=quoting).writerows([header, *rows])
    with path.open(encoding="utf-8", newline="") as lines:
        expected = read_cells(read_rows(path, lines, Layout(","), []))
    with path.open("rb") as content:
        found = split_fast(content, list(expected), Layout(","))
    if found is not None and ('"' not in path.read_text(encoding="utf-8") or len(found) == len(expected)):
        pd.testing.assert_frame_equal(found, expected)


@given(numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.none(), min_size=1).filter(any))
def test_numbers_are_those_that_were_written(numbers: list[float | None]) -> None:
    for gap in ("", "NA", " None "):
        cells = pd.Series([gap if number is None else repr(number) for number in numbers], dtype="str", name="x")
        column, values = read_written(cells)
        np.testing.assert_array_equal(values, np.array(numbers, dtype=float))
        np.testing.assert_array_equal(column.read(cells), values)
        padded, again = read_written(pd.Series([f" {cell}" for cell in cells], dtype="str", name="x"))
        assert padded == column and again.equals(values)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "2"], "integer"),
        (["1", "2.0"], "number"),
        (["1", ""], "number"),
        (["1", "inf"], "number"),
        (["1", "1_000"], "text"),
        (["1", "NAN"], "text"),
        (["9007199254740993", "1"], "number"),
        (["true", "FALSE"], "boolean"),
        (["true", "NA"], "boolean"),
        (["true", "1"], "text"),
        (["2026-01-31", "null"], "date"),
        (["2026-01-31", "2026-02-31"], "text"),
        (["31.01.2026", "01.02.2026"], "date"),
        (["01/02/2026", "31/02/2026"], "text"),
        (["31/01/2026", "01/02/2026"], "date"),
        (["None", "x"], "text"),
    ],
)
def test_kinds_of_columns(cells: list[str], kind: str) -> None:
    column, values = read_written(pd.Series(cells, dtype="str", name="x"))
    assert column.kind == kind
    assert values.isna().tolist() == [cell.strip() in GAPS for cell in cells]


@pytest.mark.parametrize(
    ("content", "overrides", "message"),
    [
        ("", [], r"the file is empty"),
        ("x,y\n", [], r"no row"),
        ("x,y\n1,2\n", [], r"1 row for .* at least 2 must be left"),
        ("x,y\n1,2\n2,2\n3,2\n", [], r"data.target=y: it is 2 in every row"),
        ("x,z\n1,2\n2,3\n", [], r"data.target=y: .* has no such column, it has x, z"),
        ("x,Y2\n1,2\n2,3\n", ["data.target=Y"], r"did you mean data.target=Y2\?"),
        ("y\n1\n2\n3\n", [], r"no column is left"),
        ("x,y\n1,2\ninf,3\n3,4\n", [], r"column 'x' is infinite in 1 of 3 rows"),
        ("x,y\n1,2\n,3\n3,4\n", [], r"'x' in 1; use data.missing=drop"),
        ("x,y\n1,a\n2,b\n3,a\n4,a\n5,a\n6,a\n", [], r"class 'b' \(1 row\): every class needs at least 3 rows"),
        ("x,y\n1,a\n2,b\n3,a\n", ["data.task=regression"], r"regression needs numbers"),
        ("x,y\n1,2\n2,3\n", ["data.missing=zero"], r"data.missing=zero: must be one of"),
        ("x,y\n1,2\n2,3\n", ["data.val=0.9"], r"together under 1"),
        ("x,y\n1,2\n2,3\n", ["data.drop=[q]"], r"data.drop=q"),
        ('x,y\n"1,2\n', [], r"cannot be read"),
        ("x,y\n\xff\xfe\x00,1\n", [], r"cannot be read|text column|class|row"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, content: str, overrides: list[str], message: str) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=message):
        table(path, "y", *overrides)


def test_a_text_column_with_thousands_of_values_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ids.csv"
    pd.DataFrame({"id": [f"u{i}" for i in range(3000)], "y": np.arange(3000.0)}).to_csv(path, index=False)
    with pytest.raises(InputError, match=r"'id' has 3,000 different values.*data.drop=\[id\]"):
        table(path, "y")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InputError, match=r"data.path=nowhere.csv: there is no such file"):
        table(Path("nowhere.csv"), "y")
    with pytest.raises(InputError, match=r"data.path is not set"):
        loaded("data=table")
