"""Every row is in one part, folds cover what is not tested, and groups, time and classes are respected."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import config
from hypothesis import given, reject
from hypothesis import strategies as st

from shrinkage.data.base import DataModule
from shrinkage.data.splits import Rows, Split
from shrinkage.errors import InputError
from shrinkage.workshop import make


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
        (["data.group=patients"], "did you mean patient"),
        (["data.group=patient", "data.time=day"], "leave the other one out"),
        (["data.group=patient", "data.folds=30"], "groups to deal out"),
        (["data.time=day", "data.folds=3", "data.repeat=1"], "cannot be dealt anew"),
        (["data.time=y"], "it is the target"),
        (["data.target=late", "data.time=day", "data.task=classification"], "is in no training row"),
    ],
)
def test_what_cannot_be_split_is_refused(overrides: list[str], message: str, visits: Path) -> None:
    drop = [f"data.drop=[{','.join({'late', 'patient', 'day'} - {o.partition('=')[2] for o in overrides})}]"]
    with pytest.raises(InputError, match=message):
        loaded(visits, *drop, *overrides)
