"""The user's own images: a folder with one of each class, or a Parquet file."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from shrinkage.checks import Whole, check
from shrinkage.errors import InputError

from .images import ImageData, Images
from .quoting import quoted, shown
from .reading import read_parquet

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


class ImageFiles(ImageData):
    """The user's own images, from a folder or a Parquet file.

    path: a folder whose folders are the classes, with an image a file; or a Parquet file with a column of images, as
    bytes (or as Hugging Face keeps them, {bytes, path}), and one of labels.

    image and label: the names of those columns. channels: 3 for colours, 1 for greys. size: images are resized to
    size × size pixels; None: all must be of one size. bad: an image that cannot be decoded is refused (`error`) or left
    out with a note (`skip`).
    """

    def __init__(
        self,
        *,
        path: str | None,
        image: str,
        label: str,
        channels: int,
        size: int | None,
        bad: str,
        **split: Any,
    ) -> None:
        super().__init__(**split)
        if path is None:
            raise InputError("data.path is not set: data=images needs it; use data.path=photos, a folder of folders")
        if channels not in (1, 3) or isinstance(channels, bool):
            raise InputError(f"data.channels={channels}: must be 3 (colours) or 1 (greys); use data.channels=3")
        check("data.size", size, Whole(1, or_null=True), "use data.size=32 for so many pixels to a side")
        if bad not in ("error", "skip"):
            raise InputError(f"data.bad={bad}: must be error or skip; use data.bad=skip to leave bad images out")
        self.path, self.image, self.label = Path(str(path)), str(image), str(label)
        self.channels, self.size, self.bad = channels, size, bad
        self.title = self.path.name

    def load(self) -> Images:
        if not os.path.exists(self.path):  # noqa: PTH110 it may be longer than a file's name
            raise InputError(f"data.path={shown(self.path)}: there is no such folder or file in {shown(Path.cwd())}")
        found = self.in_folder() if self.path.is_dir() else self.in_parquet()
        pixels, labels, skipped, first = [], [], 0, None
        for name, label, content in found:
            decoded = self.decoded(name, content)
            if decoded is None:
                skipped += 1
                continue
            if first is not None and decoded.shape != first[1].shape:
                raise InputError(
                    f"{shown(name)} is {size_of(decoded)} pixels and {shown(first[0])} is {size_of(first[1])}: a model "
                    "sees images of one size; use data.size=32 to have them resized"
                )
            first = first or (name, decoded)
            pixels.append(decoded)
            labels.append(label)
        if not pixels:
            raise InputError(f"data.path={shown(self.path)}: there is no image in it that can be decoded")
        if skipped:
            self.notes.append(f"left out, since they cannot be decoded (data.bad=skip): {skipped} images.")
        codes, names = pd.factorize(np.array(labels, dtype=object), sort=True)
        return Images(np.stack(pixels), codes.astype(np.int64), tuple(map(str, names)))

    def in_folder(self) -> Iterator[tuple[str, str, bytes]]:
        """Read (path, class, content) of every image in a folder of folders, in the order of their names."""
        classes = sorted(folder for folder in self.path.iterdir() if folder.is_dir())
        if not classes:
            raise InputError(
                f"data.path={shown(self.path)}: a folder for each class is looked for in it, and there is none; put "
                "the images of each class in a folder of its name"
            )
        for folder in classes:
            for file in sorted(folder.rglob("*")):
                if file.suffix.lower() in SUFFIXES:
                    yield str(file.relative_to(self.path)), folder.name, file.read_bytes()

    def in_parquet(self) -> Iterator[tuple[str, object, Any]]:
        """Read (row, class, content) of every image of a Parquet file. Raises InputError if there are none."""
        try:
            frame = read_parquet(self.path)
        except (OSError, ValueError) as error:
            raise InputError(
                f"data.path={shown(self.path)}: cannot be read ({shown(error)}); it must be a folder or Parquet"
            ) from None
        for key in ("image", "label"):
            if (column := getattr(self, key)) not in frame:
                raise InputError(
                    f"data.{key}={shown(column)}: there is no such column; the file has {', '.join(map(shown, frame))}"
                )
        for number, (content, label) in enumerate(zip(frame[self.image], frame[self.label], strict=True)):
            content = content.get("bytes") if isinstance(content, dict) else content
            yield f"row {number}", label, content

    def decoded(self, name: str, content: Any) -> np.ndarray | None:
        """Decode an image to bytes [channels, height, width]; None if it is none and may be left out."""
        try:
            with Image.open(io.BytesIO(content)) as image:
                image = image.convert("RGB" if self.channels == 3 else "L")
                if self.size is not None:
                    image = image.resize((self.size, self.size))
                pixels = np.array(image, dtype=np.uint8)
        except (OSError, ValueError, TypeError, SyntaxError, Image.DecompressionBombError) as error:
            if self.bad == "skip":
                return None
            raise InputError(
                f"{shown(name)} in data.path={shown(self.path)} cannot be decoded as an image ({quoted(error)}); mend "
                "it, or use data.bad=skip to leave such out"
            ) from None
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def size_of(pixels: np.ndarray) -> str:
    return f"{pixels.shape[2]} × {pixels.shape[1]}"
