"""A streamed Parquet file against the same file in memory: the same rows, numbers and digest, whatever its layout."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import config, results, train_py
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkage.data import memory
from shrinkage.data.base import DataModule, Share
from shrinkage.errors import InputError
from shrinkage.training.run import build
from shrinkage.training.workshop import Workshop, make


def frame(rows: int, seed: int = 0) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    x = draw.normal(3, 2, size=(rows, 3))
    town = draw.choice(["Bonn", "Köln", "Ulm"], rows)
    found = pd.DataFrame(x, columns=["a", "b", "c"]).assign(town=town, flag=x[:, 0] > 3, count=np.arange(rows))
    return found.assign(y=x @ [1.0, -2.0, 0.5] + (town == "Ulm") + 0.1 * draw.normal(size=rows), kind=found["flag"])


def loaded(data: str, path: Path, target: str, *overrides: str) -> DataModule:
    cfg = config(f"data={data}", f"data.path={path}", f"data.target={target}", *overrides)
    module = make(cfg.data, order_seed=cfg.seed)
    module.setup()
    return module


def gathered(batches: object) -> tuple[torch.Tensor, torch.Tensor]:
    xs, ys = zip(*batches, strict=True)
    return torch.cat(xs), torch.cat(ys)


def in_order(x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    """Rows with their targets, sorted, so that orders do not matter."""
    rows = np.column_stack([x.double().numpy(), y.double().numpy()])
    return rows[np.lexsort(rows.T)]


def written(table: pd.DataFrame, path: Path, files: int, group: int) -> Path:
    """As a file, or as a folder of some, in row groups of so many."""
    if files == 1:
        table.to_parquet(path, row_group_size=group)
        return path
    path.mkdir()
    (path / "_SUCCESS").touch()
    for number, part in enumerate(np.array_split(np.arange(len(table)), files)):
        table.iloc[part].to_parquet(path / f"part-{number:05}.parquet", row_group_size=group)
    return path


@pytest.mark.parametrize("target", ["y", "kind"])
@pytest.mark.parametrize("split", [(), ("data.folds=4", "data.fold=2"), ("data.group=town",), ("data.time=count",)])
def test_parts_are_those_in_memory(target: str, split: tuple[str, ...], tmp_path: Path) -> None:
    file = written(frame(500), tmp_path / "rows.parquet", 1, 64)
    folder = written(frame(500), tmp_path / "rows", 3, 50)
    memory, of_folder = (loaded("table", path, target, *split) for path in (file, folder))
    assert of_folder.tags == memory.tags and of_folder.parts["train"].digest == memory.parts["train"].digest
    assert_streams(loaded("stream", file, target, *split), memory)
    assert_streams(loaded("stream", folder, target, *split), memory)


@pytest.mark.parametrize("encoding", ["auto", "reference", "all"])
def test_dates_and_levels_are_those_in_memory(encoding: str, tmp_path: Path) -> None:
    rows = frame(400)
    days = pd.Timestamp("2024-03-01 06:00") + pd.to_timedelta(np.arange(400), unit="D")
    rows = rows.assign(day=days, shipped=days.strftime("%d.%m.%Y"), sex=np.where(rows["flag"], "f", "m"))
    rows.loc[7, "town"] = "rare"
    path = written(rows, tmp_path / "rows", 3, 50)
    common = (f"data.encoding={encoding}", "data.dates=[year,month,weekday,dayofyear,trend]", "data.max_categories=400")
    for seed in range(4):
        memory, stream = (loaded(data, path, "y", *common, f"data.seed={seed}") for data in ("table", "stream"))
        assert_streams(stream, memory)
        assert stream.notes == memory.notes


def assert_streams(stream: DataModule, memory: DataModule) -> None:
    assert stream.digest == memory.digest and stream.tags == memory.tags
    assert (stream.classes, stream.class_names, stream.feature_names) == (
        *(memory.classes, memory.class_names, memory.feature_names),
    )
    assert (stream.center, stream.scale) == pytest.approx((memory.center, memory.scale), rel=1e-12)
    ours, theirs = stream.recipe(), memory.recipe()
    assert ours.columns == theirs.columns
    for our, their in zip(ours.features, theirs.features, strict=True):
        assert our.name == their.name and (our.mean, our.scale) == pytest.approx((their.mean, their.scale), rel=1e-12)
    for name, part in memory.parts.items():
        x, y = gathered(stream.evaluation_dataloader(name, 50))
        np.testing.assert_allclose(
            in_order(x, y), in_order(torch.from_numpy(part.x), torch.from_numpy(part.y)), atol=1e-5
        )


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(20, 300),
    files=st.integers(1, 4),
    group=st.integers(1, 100),
    buffer=st.integers(1, 200),
    size=st.integers(1, 70),
    seed=st.integers(0, 5),
)
def test_an_epoch_has_every_training_row_once_in_an_order_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, rows: int, files: int, group: int, buffer: int, size: int, seed: int
) -> None:
    path = written(frame(rows), tmp_path_factory.mktemp("stream") / "rows", files, group)
    batch = f"data.batch_size={size}"
    stream = loaded("stream", path, "y", f"data.buffer={buffer}", batch, f"seed={seed}", "data.drop=[town]")
    loader = stream.train_dataloader()
    epochs = []
    for epoch in (0, 1, 0):
        loader.sampler.set_epoch(epoch)
        batches = list(loader)
        assert [len(x) for x, _ in batches[:-1]] == [stream.batch_rows] * (len(loader) - 1) and len(batches) == len(
            loader
        )
        epochs.append(gathered(batches))
    assert torch.equal(epochs[0][0], epochs[2][0]) and torch.equal(epochs[0][1], epochs[2][1])
    everything = in_order(*gathered(stream.evaluation_dataloader("train", 1000)))
    for epoch in epochs:
        np.testing.assert_array_equal(in_order(*epoch), everything)
    if len(everything) > 50:
        assert not torch.equal(epochs[0][0], epochs[1][0])


def test_shares_are_the_batches_between_them(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    frame(200).to_parquet(path, row_group_size=30)
    stream = loaded("stream", path, "y", "data.batch_size=32")
    whole = list(stream.train_dataloader())
    shares = []
    for rank in range(3):
        stream.share = Share(rank, 3)
        shares.append(list(stream.train_dataloader()))
    for (x, y), *parts in zip(whole, *shares, strict=True):
        np.testing.assert_array_equal(
            in_order(x, y), in_order(torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts]))
        )


def test_a_full_batch_run_is_that_in_memory(tmp_path: Path) -> None:
    """Where an epoch is one batch, its order does not matter, and neither does where the rows lie."""
    path = tmp_path / "rows.parquet"
    frame(300).to_parquet(path, row_group_size=70)
    common = (
        f"data.path={path}",
        "data.target=y",
        "data.batch_size=null",
        "penalty=l1",
        "lambd=0.1",
        "data.drop=[count]",
    )
    ends = []
    for data in ("table", "stream"):
        training = build(config(f"data={data}", *common, "trainer.precision=64-true"), tmp_path / data)
        training.run()
        ends.append(training)
    memory, stream = ends
    assert stream.module.measured == pytest.approx(
        {name: value for name, value in memory.module.measured.items() if not name.startswith("optimum/")}, rel=1e-9
    )
    assert stream.test == pytest.approx(memory.test, rel=1e-9)
    assert "read from disk" in stream.verdict()


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pd.Series([1.0, None] * 50), "has gaps, and a stream fills nothing in"),
        (pd.Series([1.0, np.inf] * 50), "is infinite in"),
        (pd.Series(pd.date_range("2026-01-01", periods=100)), "has dates, such as 2026-01-01; make numbers"),
        (pd.Series([f"text {n}" for n in range(100)]), "more than 9 different values"),
    ],
)
def test_columns_that_cannot_be_streamed_are_named(column: pd.Series, words: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    frame(100).assign(bad=column).to_parquet(path)
    with pytest.raises(InputError, match=words) as refused:
        loaded("stream", path, "y", "data.max_categories=9")
    assert "'bad'" in str(refused.value) or '"bad"' in str(refused.value)


def test_what_is_no_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,y\n1,2\n")
    with pytest.raises(InputError, match=r"it is no Parquet file .* data=table reads CSV"):
        loaded("stream", tmp_path / "rows.csv", "y")
    with pytest.raises(InputError, match="there is no such file"):
        loaded("stream", tmp_path / "none.parquet", "y")


def test_the_index_of_a_frame_is_no_column(tmp_path: Path) -> None:
    rows = frame(200).assign(row=lambda f: f.index[::-1]).set_index("row")
    rows.to_parquet(tmp_path / "rows.parquet")
    memory, stream = (loaded(data, tmp_path / "rows.parquet", "y") for data in ("table", "stream"))
    assert_streams(stream, memory)
    assert not [name for name in stream.feature_names if name.startswith("row")]


@pytest.mark.parametrize("data", ["table", "stream"])
@pytest.mark.parametrize(
    ("other", "words"),
    [
        (
            lambda part: part.rename(columns={"b": "B"}),
            r"0.parquet has 'b' \(double\) where part-00001.parquet has 'B'",
        ),
        (lambda part: part.astype({"count": "float32"}), r"'count' \(int64\) where .* has 'count' \(float\)"),
        (lambda part: part.drop(columns="kind"), "'kind' .bool. where .* has no further column"),
        (None, "part-00001.parquet is no Parquet file"),
    ],
)
def test_files_that_are_no_one_table_are_refused(data: str, other: object, words: str, tmp_path: Path) -> None:
    folder = written(frame(60), tmp_path / "rows", 2, 50)
    if other is None:
        (folder / "part-00001.parquet").write_bytes(b"PAR1 no more PAR1")
    else:
        other(frame(60)).to_parquet(folder / "part-00001.parquet")
    with pytest.raises(InputError, match=words):
        loaded(data, folder, "y")


@pytest.mark.parametrize("data", ["table", "stream"])
def test_a_folder_without_files_side_by_side_is_refused(data: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it is a folder without a Parquet file"):
        loaded(data, tmp_path, "y")
    folder = written(frame(60), tmp_path / "rows", 2, 50)
    for name in ("year=2026", "z.csv"):
        (folder / name).mkdir() if "=" in name else (folder / name).write_text("a,y\n1,2\n")
        with pytest.raises(InputError, match=f"{name} is no Parquet file; give a folder with nothing but Parquet"):
            loaded(data, folder, "y")
        (folder / name).rename(folder / f"_{name}")
    written(frame(60)[:0], tmp_path / "none.parquet", 1, 50)
    with pytest.raises(InputError, match=r"no row.* it needs rows"):
        loaded(data, tmp_path / "none.parquet", "y")


def test_a_stream_fills_nothing_in(tmp_path: Path) -> None:
    path = written(frame(60), tmp_path / "rows.parquet", 1, 50)
    with pytest.raises(InputError, match=r"data.missing=drop: a stream leaves no row out and fills nothing in"):
        loaded("stream", path, "y", "data.missing=drop")


def test_what_does_not_fit_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(frame(60), tmp_path / "rows.parquet", 1, 50)
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=60 * 8 * 8 - 1))
    with pytest.raises(InputError, match=r"60 rows of 8 numbers need .* data=stream reads it a batch at a time"):
        loaded("table", path, "y")
    assert len(loaded("stream", path, "y").parts["train"]) > 30


def test_lanes_of_one_order_ride_on_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    frame(300).to_parquet(path, row_group_size=70)
    overrides = ("data=stream", f"data.path={path}", "data.target=y", "lambd=0,0.1", "trainer.max_epochs=2")
    found = []
    for launcher in ("lanes", "basic"):
        folder = tmp_path / launcher
        folder.mkdir()
        launched = (f"hydra/launcher={launcher}", "tracking=none", "trainer.precision=64-true")
        done = train_py("-m", *launched, *overrides, cwd=folder, store=tmp_path / "mlflow.db")
        assert done.returncode == 0 and "one by one" not in done.stderr, done.stderr
        found.append({job["lambd"]: job for job in results(folder).values()})
    lanes, alone = found
    assert lanes.keys() == {0.0, 0.1} and lanes[0.0]["val/loss"] != lanes[0.1]["val/loss"]
    for lambd, job in alone.items():
        assert lanes[lambd] == pytest.approx(job, rel=1e-10, abs=1e-12)


def test_a_column_of_moments_is_no_text_to_a_table(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    frame(60).assign(day=pd.date_range("2026-01-01", periods=60)).to_parquet(path)
    with pytest.raises(InputError, match="column 'day' has dates, such as 2026-01-01"):
        loaded("table", path, "y")
    assert len(loaded("table", path, "y", "data.time=day").parts["train"]) > 30


def test_counts_keep_their_own_units_in_a_stream(tmp_path: Path) -> None:
    """They are read as numbers where task=poisson asks for it, and one below 0 is refused before training."""
    table = frame(60).assign(y=np.arange(60) % 4)
    path = written(table, tmp_path / "rows.parquet", 1, 20)
    cfg = config("data=stream", f"data.path={path}", "data.target=y", "task=poisson")
    data = Workshop(cfg).datamodule
    counts = torch.cat([gathered(data.evaluation_dataloader(part, 16))[1] for part in data.parts])
    np.testing.assert_array_equal(np.sort(counts.numpy()), np.sort(table.y))
    written(table.assign(y=table.y - 1), path, 1, 20)
    with pytest.raises(InputError, match="task=poisson: the target has a value of -1"):
        Workshop(cfg)
