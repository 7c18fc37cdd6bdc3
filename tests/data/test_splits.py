"""Every row is in one part, folds cover what is not tested, and groups, time and classes are respected."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import config
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from sklearn.model_selection import PredefinedSplit

from shrinkage.data.base import DataModule
from shrinkage.data.splits import Rows, Split, read_folds, read_parts
from shrinkage.errors import InputError
from shrinkage.training.workshop import make

UNSPLIT = {"val": 0.2, "test": 0.2, "seed": 0, "folds": None, "fold": 0, "repeat": 0, "refit": False}


@st.composite
def cases(draw: st.DrawFn) -> tuple[Rows, dict]:
    rows = draw(st.integers(60, 150))
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    kind = draw(st.sampled_from(["plain", "groups", "times"]))
    classes = draw(st.sampled_from([(), ("a", "b"), ("a", "b", "c")]))
    target = random.integers(0, len(classes), rows) if classes else random.standard_normal(rows)
    found = Rows(
        target,
        classes,
        random.integers(0, 20, rows) if kind == "groups" else None,
        random.integers(0, 50, rows).astype(float) if kind == "times" else None,
    )
    return found, {
        "val": draw(st.sampled_from([0.1, 0.2, 0.25])),
        "test": draw(st.sampled_from([0.0, 0.2])),
        "seed": draw(st.integers(0, 5)),
        "folds": draw(st.sampled_from([None, 2, 5])),
        "repeat": 0,
    }


def parts_of(rows: Rows, settings: dict, fold: int = 0, refit: bool = False) -> dict[str, np.ndarray]:
    try:
        return Split(**settings, fold=fold, refit=refit).parts(rows)
    except InputError as error:
        # The first rows in time, or all groups but one, may happen to lack a class.
        assert "is in no training row" in str(error) and (rows.times is not None or rows.groups is not None)
        reject()


@given(cases())
def test_parts_are_disjoint_and_the_test_rows_wait(case: tuple[Rows, dict]) -> None:
    rows, settings = case
    folds = range(settings["folds"] or 1)
    refit = parts_of(rows, settings, refit=True)
    everything = np.sort(np.concatenate(list(refit.values())))
    np.testing.assert_array_equal(everything, np.arange(len(rows.target)))
    assert set(refit) == ({"train", "test"} if settings["test"] else {"train"})
    validated = []
    for fold in folds:
        parts = parts_of(rows, settings, fold)
        assert set(parts) == {"train", "val"} | ({"test"} if settings["folds"] is None and settings["test"] else set())
        together = np.concatenate(list(parts.values()))
        assert len(set(together)) == len(together)
        # What a model to take away is tested on has been seen by no run before it.
        seen = set(parts["train"]) | set(parts["val"])
        assert seen <= set(refit["train"]) and not seen & set(refit.get("test", ()))
        validated.append(parts["val"])
    if settings["folds"] is not None and rows.times is None:
        np.testing.assert_array_equal(np.sort(np.concatenate(validated)), np.sort(refit["train"]))


@given(cases())
def test_groups_stay_together_and_time_goes_on(case: tuple[Rows, dict]) -> None:
    rows, settings = case
    for fold in range(settings["folds"] or 1):
        parts = list(parts_of(rows, settings, fold).values())
        for number, part in enumerate(parts):
            for later in parts[number + 1 :]:
                if rows.groups is not None:
                    assert not set(rows.groups[part]) & set(rows.groups[later])
                if rows.times is not None:
                    assert rows.times[part].max() <= rows.times[later].min()


@given(cases())
def test_classes_are_dealt_evenly(case: tuple[Rows, dict]) -> None:
    rows, settings = case
    if not rows.class_names or rows.groups is not None or rows.times is not None:
        return
    share = np.bincount(rows.target) / len(rows.target)
    for part in parts_of(rows, settings).values():
        counts = np.bincount(rows.target[part], minlength=len(share))
        assert np.all(np.abs(counts - share * len(part)) <= 2)


def test_a_repeat_deals_anew_and_keeps_the_test_rows() -> None:
    rows = Rows(np.random.default_rng(0).standard_normal(80))
    settings = {"val": 0.2, "test": 0.2, "seed": 0, "folds": 5}
    first, second = (Split(**settings, fold=0, repeat=repeat, refit=False).parts(rows) for repeat in (0, 1))
    assert set(first["val"]) != set(second["val"])
    refits = [Split(**settings, fold=0, repeat=repeat, refit=True).parts(rows) for repeat in (0, 1)]
    np.testing.assert_array_equal(refits[0]["test"], refits[1]["test"])


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 visits of 20 patients, in no order of time."""
    draw = np.random.default_rng(0)
    patient, x = draw.integers(0, 20, 200), draw.standard_normal(200)
    day = pd.Timestamp("2026-01-01") + pd.to_timedelta(draw.permutation(200), unit="D")
    path = tmp_path_factory.mktemp("data") / "visits.csv"
    frame = pd.DataFrame(
        {"patient": patient, "day": day, "x": x, "y": x + draw.normal(0, 0.1, 200), "late": day > "2026-06"}
    )
    frame.to_csv(path, index=False)
    return path


def loaded(path: Path, *overrides: str, target: str = "y") -> DataModule:
    module = make(config("data=table", f"data.path={path}", f"data.target={target}", *overrides).data, order_seed=0)
    module.setup()
    return module


def test_columns_that_split_are_no_features(visits: Path) -> None:
    drop = "data.drop=[late]"
    grouped = loaded(visits, drop, "data.group=patient", "data.folds=5", "data.time=null", "data.drop=[day,late]")
    assert grouped.feature_names == ("x",)
    ordered = loaded(visits, "data.time=day", "data.drop=[patient,late]", "data.folds=4", "data.fold=3")
    assert ordered.feature_names == ("x",) and set(ordered.parts) == {"train", "val"}
    assert [len(part) for part in ordered.parts.values()] == [128, 32]  # of the 160 that are not the latest
    assert grouped.digest != ordered.digest or grouped.feature_names == ordered.feature_names
    assert grouped.tags["data.rows.train"] == str(len(grouped.parts["train"]))


def test_preprocessing_is_learned_in_each_fold(visits: Path) -> None:
    for fold in (0, 1):
        data = loaded(visits, "data.drop=[patient,day,late]", "data.folds=3", f"data.fold={fold}")
        train = data.parts["train"]
        np.testing.assert_allclose([train.x.mean(), train.y.mean()], 0, atol=1e-12)
        np.testing.assert_allclose([train.x.std(), train.y.std()], 1)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.fold=1"], "there are no folds; use data.folds=5"),
        (["data.folds=1"], "must be a whole number ≥ 2"),
        (["data.folds=5", "data.fold=5"], "numbered from 0 to 4"),
        (["data.folds=5", "data.repeat=-1"], "data.repeat=-1"),
        (["data.folds=500"], "there are 160 rows to deal out; use data.folds=160"),
        (["data.group=patients"], r"did you mean data.group=patient\?"),
        (["data.group=patient", "data.time=day"], "leave the other one out"),
        (["data.group=patient", "data.folds=30"], "groups to deal out"),
        (["data.time=day", "data.folds=3", "data.repeat=1"], "cannot be dealt anew"),
        (["data.time=y"], "data.target and data.time are both y"),
        (
            ["data.target=late", "data.time=day", "data.task=classification"],
            r"class 'True' \(48 rows\) is in no training",
        ),
        (["data.group=patient", "data.fold_column=patient"], "are both patient: a column has one use"),
        (["data.split=patient"], r"data.split=patient: '\d+' in \d+ of 200 rows is no part; the values must be train"),
        (
            ["data.fold_column=patient"],
            r"data.folds=null: data.fold_column has 20 folds; use data.folds=20, and 'data.f",
        ),
        (["data.fold_column=patient", "data.folds=20", "data.repeat=1"], "are dealt already; use 0"),
        (["data.fold_column=patient", "data.folds=20", "data.seed=1"], "no row is drawn"),
        (["data.fold_column=patient", "data.folds=20", "data.time=day"], "both say which rows validate"),
    ],
)
def test_what_cannot_be_split_is_refused(overrides: list[str], message: str, visits: Path) -> None:
    drop = [f"data.drop=[{','.join({'late', 'patient', 'day'} - {o.partition('=')[2] for o in overrides})}]"]
    with pytest.raises(InputError, match=message):
        loaded(visits, *drop, *overrides)


@given(st.data())
@settings(deadline=None)
def test_the_users_folds_are_those_of_glmnets_foldid(data: st.DataObject) -> None:
    folds = data.draw(st.integers(2, 6))
    ids = np.array([*range(1, folds + 1), *data.draw(st.lists(st.integers(1, folds), min_size=3, max_size=30))])
    named = data.draw(st.sampled_from([lambda k: k, lambda k: 10.0 * k, lambda k: f"part {k}"]))
    numbers, note = read_folds(pd.Series([named(k) for k in ids], name="foldid"))
    assert f"has {folds} folds" in note
    rows = Rows(np.arange(len(ids), dtype=float), folds=numbers)
    for fold, (train, val) in enumerate(PredefinedSplit(ids).split()):
        parts = Split(**UNSPLIT | {"folds": folds, "fold": fold}).parts(rows)
        assert set(parts) == {"train", "val"}  # a share for testing would tear what the user put together
        np.testing.assert_array_equal(parts["train"], train)
        np.testing.assert_array_equal(parts["val"], val)
    refit = Split(**UNSPLIT | {"folds": folds, "refit": True}).parts(rows)
    assert set(refit) == {"train"} and len(refit["train"]) == len(ids)


@given(st.lists(st.sampled_from(["train", "val", "test"]), min_size=4, max_size=60), st.booleans())
@settings(deadline=None)
def test_the_users_parts_are_kept(words: list[str], refit: bool) -> None:
    words = ["train", "train", *words]
    others = {"train": "Training", "val": "DEV", "test": " testing"}
    said, _ = read_parts(pd.Series([word if place % 2 else others[word] for place, word in enumerate(words)], name="s"))
    assert list(said) == words
    rows = Rows(np.arange(len(words), dtype=float), parts=said)
    where = {part: np.flatnonzero(said == part) for part in ("train", "val", "test")}
    if len(where["val"]) == 0:
        if len(where["train"]) - np.ceil(0.2 * len(where["train"])) < 2:
            return
        found = Split(**UNSPLIT).parts(rows)
        np.testing.assert_array_equal(np.sort([*found["train"], *found["val"]]), where["train"])
        assert len(found["val"]) == np.ceil(0.2 * len(where["train"]))  # a share of the rows that train
    else:
        found = Split(**UNSPLIT | {"refit": refit}).parts(rows)
        trains = np.sort([*where["train"], *where["val"]]) if refit else where["train"]
        np.testing.assert_array_equal(np.sort(found["train"]), trains)
        assert refit or np.array_equal(found["val"], where["val"])
    np.testing.assert_array_equal(found.get("test", []), where["test"])


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("train", ["T", "F", "T"], ["train", "test", "train"]),  # as in the prostate data of ESL
        ("train", [True, False, True], ["train", "test", "train"]),
        ("is_test", [0, 1, 0], ["train", "test", "train"]),
        ("Validation", [0.0, 1.0, 0.0], ["train", "val", "train"]),
        ("part", ["train", "valid", "test"], ["train", "val", "test"]),
    ],
)
def test_words_for_parts(name: str, values: list, expected: list[str]) -> None:
    assert list(read_parts(pd.Series(values, name=name))[0]) == expected


def test_words_that_are_no_parts() -> None:
    for name, values, message in (
        ("part", [1, 0, 1], "'1' in 2 of 3 rows is no part"),
        ("part", ["val", "test"], "no row of it is for training"),
        ("train", [False, False], "no row of it is for training"),
    ):
        with pytest.raises(InputError, match=message):
            read_parts(pd.Series(values, name=name))
    with pytest.raises(InputError, match="it has 1 value, and there must be two folds"):
        read_folds(pd.Series([3, 3], name="foldid"))


def test_folds_are_dealt_among_the_users_training_rows() -> None:
    said = np.array(["train"] * 20 + ["test"] * 5, dtype=object)
    plain = Rows(np.arange(25.0), parts=said)
    found = [Split(**UNSPLIT | {"folds": 5, "fold": fold}).parts(plain) for fold in range(5)]
    np.testing.assert_array_equal(np.sort(np.concatenate([parts["val"] for parts in found])), np.arange(20))
    assert all("test" not in parts for parts in found)
    refit = Split(**UNSPLIT | {"folds": 5, "refit": True}).parts(plain)
    np.testing.assert_array_equal(refit["test"], np.arange(20, 25))
    numbers = np.array([*np.arange(20) % 4, *[-1] * 5])
    both = Rows(np.arange(25.0), parts=said, folds=numbers)
    parts = Split(**UNSPLIT | {"folds": 4, "fold": 1}).parts(both)
    np.testing.assert_array_equal(parts["val"], np.arange(1, 20, 4))


@pytest.mark.parametrize(
    ("rows", "changed", "message"),
    [
        ({"parts": ["train", "train", "val", "test"]}, {"folds": 2}, "use data.folds=null data.fold=0"),
        ({"parts": ["train", "train", "val", "test"]}, {"seed": 1}, "data.split decides for each; use data.seed=0"),
        ({"parts": ["train", "train", "val", "test"], "groups": [0, 1, 1, 2]}, {}, "1 of 3 groups have rows in more"),
        ({"parts": ["train", "train", "val"], "times": [0, 1, 2]}, {}, "data.split and data.time: both say"),
        (
            {"parts": ["train", "train", "val"], "folds": [0, 1, 0]},
            {"folds": 2},
            "data.split and data.fold_column: both",
        ),
        ({"folds": [0, 1, -1, 0]}, {"folds": 2}, "1 of 4 rows have no fold"),
        ({"folds": [0, 1, 2, 0]}, {"folds": 5}, r"data.folds=5: data.fold_column has 3 folds; use data.folds=3, and"),
        ({"folds": [0, 1, 2, 0], "groups": [0, 1, 2, 0]}, {"folds": 3}, "data.fold_column and data.group"),
        ({"groups": [0, 0, 1, 1]}, {}, "2 groups for 3 parts, each of which needs its own; use data.test=0"),
        ({"groups": [0, 0, 0, 0]}, {"folds": 2, "test": 0}, "there is 1 group to deal out"),
        ({"groups": [0, 0, 1, 1, 2, 2]}, {"folds": 3}, "there are 2 groups to deal out; use data.folds=2"),
    ],
)
def test_what_contradicts_itself_is_refused(rows: dict, changed: dict, message: str) -> None:
    count = len(next(iter(rows.values())))
    with pytest.raises(InputError, match=message):
        Split(**UNSPLIT | changed).parts(Rows(np.arange(float(count)), **{key: np.array(v) for key, v in rows.items()}))


@given(st.integers(2, 8), st.integers(0, 3))
@settings(deadline=None)
def test_as_many_folds_as_groups(folds: int, seed: int) -> None:
    """The folds are then the groups, and without a test part none is kept from them."""
    groups = np.random.default_rng(seed).permutation(np.arange(5 * folds) % folds)
    split = UNSPLIT | {"test": 0, "folds": folds, "seed": seed}
    held = [
        Split(**split | {"fold": fold}).parts(Rows(np.arange(5.0 * folds), groups=groups))["val"]
        for fold in range(folds)
    ]
    assert sorted(set(groups[val]).pop() for val in held if len(set(groups[val])) == 1) == list(range(folds))


def test_rare_classes_are_listed_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "birds.csv"
    kinds = ["wren"] * 40 + ["robin"] * 40 + ["owl"] * 2 + ["kite"] + ["rook"] * 6
    pd.DataFrame({"x": np.arange(len(kinds)), "kind": kinds}).to_csv(path, index=False)
    with pytest.raises(
        InputError, match=r"classes 'kite' \(1 row\), 'owl' \(2 rows\): every class needs at least 3 rows"
    ):
        loaded(path, target="kind")
    with pytest.raises(
        InputError, match=r"classes 'kite' .*, 'owl' .*: .* at least 6 rows, one for each of the 5 folds and"
    ):
        loaded(path, "data.folds=5", target="kind")
    data = loaded(path, "data.folds=5", "data.drop_classes=rare", target="kind")
    assert data.class_names == ("robin", "rook", "wren")
    assert "data.drop_classes=rare left out 3 of 89 rows: classes 'kite' (1 row), 'owl' (2 rows)" in data.notes[0]
    data = loaded(path, "data.drop_classes=rare", target="kind")
    assert sum(len(part) for part in data.parts.values()) == 86
    assert {int(code) for part in data.parts.values() for code in part.y} == {0, 1, 2}
    with pytest.raises(InputError, match=r"data.drop_classes=rare: data.target=x is a number"):
        loaded(path, "data.drop_classes=rare", target="x")
    with pytest.raises(InputError, match=r"no two classes are left"):
        loaded(
            path,
            "data.drop_classes=rare",
            "data.folds=45",
            target="kind",
        )
