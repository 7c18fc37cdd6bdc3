"""Images and text from a person's own files: read rightly, or refused with a way out."""

import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import config, in_openmls_format
from PIL import Image

from shrinkage.data.base import DataModule
from shrinkage.errors import InputError
from shrinkage.training.run import build
from shrinkage.training.workshop import make


def loaded(*overrides: str) -> DataModule:
    module = make(config(*overrides).data, order_seed=0)
    module.setup()
    return module


def picture(value: int, size: tuple[int, int] = (6, 4), colours: bool = True) -> np.ndarray:
    """Pixels by which a file is known again."""
    random = np.random.default_rng(value)
    return random.integers(0, 256, (size[1], size[0], 3) if colours else size[::-1], dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten cats and ten dogs, 6 × 4."""
    for number in range(20):
        folder = tmp_path / "photos" / ("cats" if number % 2 else "dogs")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:02}.png").write_bytes(png(picture(number)))
    (tmp_path / "photos" / "cats" / "notes.txt").write_text("no image")
    return tmp_path / "photos"


def test_a_folder_of_folders_is_read_pixel_by_pixel(photos: Path) -> None:
    data = loaded("data=images", f"data.path={photos}")
    assert data.class_names == ("cats", "dogs") and data.inputs == (3, 4, 6)
    assert {name: len(part) for name, part in data.parts.items()} == {"train": 12, "val": 4, "test": 4}
    known = {picture(number).tobytes(): number % 2 == 0 for number in range(20)}  # whether it is a dog
    for part in data.parts.values():
        for x, y in zip(part.x, part.y, strict=True):
            assert known.pop(x.transpose(1, 2, 0).tobytes()) == y
    assert not known


def test_parquet_holds_the_same_as_bytes_or_as_hugging_face_has_them(photos: Path, tmp_path: Path) -> None:
    files = sorted(photos.rglob("*.png"))
    contents = [file.read_bytes() for file in files]
    labels = [file.parent.name for file in files]
    expected = loaded("data=images", f"data.path={photos}")
    for images in (contents, [{"bytes": content, "path": None} for content in contents]):
        path = tmp_path / "photos.parquet"
        pd.DataFrame({"image": images, "label": labels}).to_parquet(path)
        found = loaded("data=images", f"data.path={path}")
        assert found.digest == expected.digest and found.class_names == expected.class_names


def test_pixels_are_standardised_by_the_training_part_alone(photos: Path) -> None:
    data = loaded("data=images", f"data.path={photos}")
    train = data.parts["train"].x.astype(float)
    x, y = data.tensors("val")[torch.arange(4)]
    mean, deviation = (getattr(train, what)(axis=(0, 2, 3))[:, None, None] for what in ("mean", "std"))
    np.testing.assert_allclose(x, (data.parts["val"].x - mean) / deviation, rtol=1e-5, atol=1e-6)
    assert y.tolist() == data.parts["val"].y.tolist()
    flat = loaded("data=images", f"data.path={photos}", "data.flat=true")
    assert flat.inputs == 72 and flat.parts["train"].x.mean() == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(flat.parts["val"].x, x.flatten(1), rtol=1e-5, atol=1e-6)


def test_greys_and_another_size(photos: Path) -> None:
    data = loaded("data=images", f"data.path={photos}", "data.channels=1", "data.size=8")
    assert data.inputs == (1, 8, 8)


def test_images_that_are_refused_or_left_out(photos: Path, tmp_path: Path) -> None:
    def refused(match: str, *overrides: str, path: Path = photos) -> None:
        with pytest.raises(InputError, match=match):
            loaded("data=images", f"data.path={path}", *overrides)

    bad = photos / "cats" / "99.png"
    bad.write_bytes(png(picture(99))[:60])
    refused("'?cats/99.png'? in data.path=.* cannot be decoded as an image .*data.bad=skip")
    assert loaded("data=images", f"data.path={photos}", "data.bad=skip", "data.batch_size=null").notes == [
        "left out, since they cannot be decoded (data.bad=skip): 1 images."
    ]
    bad.write_bytes(png(picture(99, (5, 4))))
    refused("cats/99.png is 5 × 4 pixels and cats/01.png is 6 × 4: .*data.size=32")
    bad.unlink()
    for file in (photos / "dogs").iterdir():
        file.unlink()
    refused("all of them are of one class, cats")
    refused("a folder for each class", path=photos / "cats")
    refused("there is no such folder", path=tmp_path / "nowhere")
    refused("there is no such folder", path=tmp_path / ("n" * 300))
    empty = tmp_path / "empty" / "cats"
    empty.mkdir(parents=True)
    refused("no image in it that can be decoded", path=empty.parent)
    table = tmp_path / "rows.parquet"
    pd.DataFrame({"picture": [b""], "label": [0]}).to_parquet(table)
    refused("data.image=image: there is no such column; the file has picture, label", path=table)
    table.write_bytes(b"no parquet")
    refused("cannot be read .*it must be a folder or Parquet", path=table)


@pytest.mark.parametrize("override", ["data.channels=2", "data.size=0", "data.bad=ignore", "data.path=null"])
def test_settings_of_images_that_are_refused(photos: Path, override: str) -> None:
    with pytest.raises(InputError, match=override.split("=")[0]):
        loaded("data=images", f"data.path={photos}", override)


@pytest.mark.parametrize(
    ("name", "data_id", "shape"), [("fashion_mnist", 40996, (1, 28, 28)), ("cifar10", 40927, (3, 32, 32))]
)
def test_openmls_files_are_read_and_the_last_rows_test(
    name: str, data_id: int, shape: tuple[int, int, int], tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    labels = np.tile(np.arange(10), 12)
    pixels = random.integers(0, 256, (120, np.prod(shape)))
    in_openmls_format(tmp_path, data_id, pixels, labels)
    data = loaded(f"data={name}", f"data.folder={tmp_path}", "data.test_rows=20")
    assert data.inputs == shape and data.classes == 10
    assert [len(data.parts[part]) for part in ("train", "val", "test")] == [90, 10, 20]
    np.testing.assert_array_equal(data.parts["test"].x, pixels[-20:].reshape(-1, *shape))
    training = build(
        config(f"data={name}", f"data.folder={tmp_path}", "data.test_rows=20", "model=cnn", "trainer.max_epochs=1"),
        tmp_path,
    )
    training.run()
    assert np.isfinite(training.module.measured["val/loss"])


def test_without_the_network_the_message_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Fashion-MNIST is not in .*cannot be fetched from openml.org") as found:
        loaded("data=fashion_mnist", f"data.folder={tmp_path}")
    assert "\n" not in str(found.value)


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_bytes(bytes(i * i % 251 for i in range(1000)))
    return path


SMALL = ("data=text", "data.context=16", "data.epoch_rows=32", "data.measured_rows=8", "data.batch_size=8")


def test_windows_follow_each_other_and_targets_follow_their_bytes(book: Path) -> None:
    data = loaded(*SMALL, f"data.path={book}", "data.test=0.1")
    text = np.frombuffer(book.read_bytes(), dtype=np.uint8)
    starts = {"train": 0, "val": 800, "test": 900}
    for name, part in data.parts.items():
        np.testing.assert_array_equal(part.x.ravel(), text[starts[name] :][: part.x.size])
        np.testing.assert_array_equal(part.y.ravel(), text[starts[name] + 1 :][: part.y.size])
        assert part.x.shape[1] == 16 and starts[name] + part.y.size < starts[name] + {"train": 800}.get(name, 100)
    x, y = data.tensors("val")[torch.tensor([2, 0])]
    assert x.dtype == torch.int64 and x[:, 1:].equal(y[:, :-1]) and x[1, 0] == text[800]


def test_an_epoch_draws_windows_anew_and_once(book: Path) -> None:
    data = loaded(*SMALL, f"data.path={book}", "data.epoch_rows=20")
    batches = data.train_dataloader().sampler
    first = torch.cat(list(batches))
    assert len(batches) == 3 and len(set(first.tolist())) == 20
    batches.set_epoch(1)
    assert set(torch.cat(list(batches)).tolist()) != set(first.tolist())


def test_a_folder_is_its_files_in_order(tmp_path: Path) -> None:
    (tmp_path / "books" / "more").mkdir(parents=True)
    for name, text in (
        ("b.txt", "world " * 30),
        ("a.txt", "hello " * 30),
        ("more/c.txt", "!" * 99),
        ("d.md", "?" * 99),
    ):
        (tmp_path / "books" / name).write_text(text)
    data = loaded(*SMALL, f"data.path={tmp_path / 'books'}")
    text = b"hello " * 30 + b"world " * 30 + b"!" * 99
    assert bytes(data.parts["train"].x.ravel()) == text[: data.parts["train"].x.size]


def test_text_that_is_refused(tmp_path: Path) -> None:
    def refused(match: str, path: Path, *overrides: str) -> None:
        with pytest.raises(InputError, match=match):
            loaded(*SMALL, f"data.path={path}", *overrides)

    empty = tmp_path / "empty.txt"
    empty.write_bytes(b"")
    refused("there is no text in it; give a file that is not empty", empty)
    (tmp_path / "folder").mkdir()
    refused(r"there is no text in it, in no file \*\*/\*.txt", tmp_path / "folder")
    refused("there is no such file or folder", tmp_path / "nowhere.txt")
    refused("there is no such file or folder", tmp_path / ("n" * 300))
    short = tmp_path / "short.txt"
    short.write_text("a" * 100)
    refused("data.context=16: the val part of the text has 10 bytes, and a window takes 17; use data.context=5", short)
    refused("data.val=0", short, "data.val=0")
    refused("data.context=0", short, "data.context=0")


def test_a_language_models_metrics(tmp_path: Path) -> None:
    training = build(
        config(*SMALL, "optimizer.lr=0.01", "model=gpt", "penalty=adamw", "lambd=0.1", "trainer.max_epochs=2"), tmp_path
    )
    training.run()
    measured = training.module.measured
    assert (
        0
        < measured["val/loss"]
        < training.module.history[0].metrics["val/loss"]
        == pytest.approx(np.log(256), rel=0.06)
    )
    assert measured["val/perplexity"] == pytest.approx(np.exp(measured["val/loss"]))
    assert measured["val/bits_per_byte"] == pytest.approx(measured["val/loss"] / np.log(2))


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    """Of this process' own memory, without the pages of the mapped file, which the system may take back at any time."""

    def kilobytes() -> int:
        return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))[1])

    book = tmp_path / "book.txt"
    with book.open("wb") as file:
        for _ in range(100):
            file.write(np.random.default_rng(0).integers(32, 127, 1 << 20, dtype=np.uint8).tobytes())
    overrides = [f"data.path={book}", "model=gpt", "data.context=64", "data.epoch_rows=64", "trainer.max_epochs=1"]
    build(config(*SMALL, *overrides), tmp_path).run()  # what is loaded once
    before = kilobytes()
    training = build(config(*SMALL, *overrides), tmp_path)
    training.run()
    training.datamodule.describe("text")
    assert kilobytes() - before < 20_000  # of 102,400
