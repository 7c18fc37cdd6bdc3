"""Well-known sets of images, as OpenML keeps them: Fashion-MNIST, CIFAR-10."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import fetch_openml

from shrinkage.errors import InputError

from .images import ImageData, Images


class OpenMLImages(ImageData):
    """A set of images from openml.org, number `data_id` there.

    Its rows are the pixels of images of a shape [channels, height, width]. scikit-learn fetches it once, into `folder`
    (None: its own, ~/scikit_learn_data), and checks its MD5 sum. Nothing in it is unpickled. The last `test_rows` rows
    are the test part. Raises InputError if it cannot be fetched.
    """

    def __init__(
        self,
        *,
        data_id: int,
        title: str,
        shape: Sequence[int],
        test_rows: int,
        class_names: Sequence[str],
        folder: str | None,
        **split: Any,
    ) -> None:
        super().__init__(test=0, **split)
        self.data_id, self.shape, self.test_rows, self.folder = data_id, tuple(shape), test_rows, folder
        self.title, self.names = title, tuple(class_names)

    def load(self) -> Images:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of tries that failed; the last one is told of below
                data = fetch_openml(
                    data_id=self.data_id,
                    data_home=self.folder,
                    as_frame=False,
                    n_retries=1,
                    parser="pandas",
                    read_csv_kwargs={"dtype": "uint8"},  # labels too, which scikit-learn's own settings stumble over
                )
        except (OSError, ValueError) as error:
            reason = " ".join(str(getattr(error, "reason", None) or error).split())
            home = Path(self.folder or "~/scikit_learn_data").expanduser()
            raise InputError(
                f"{self.title} is not in {home}, and cannot be fetched from openml.org ({reason}); run once where the "
                f"network is, or copy that folder from there; data=digits_images needs no network"
            ) from None
        pixels = np.asarray(data.data).reshape(-1, *self.shape).astype(np.uint8)
        labels = np.asarray(data.target).astype(np.int64)
        return Images(pixels, labels, self.names, np.arange(len(labels))[-self.test_rows :])
