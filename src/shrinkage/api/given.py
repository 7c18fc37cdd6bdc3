"""Data in memory as a file that a run records, and can be read from again."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shrinkage.data.quoting import hydras
from shrinkage.errors import InputError
from shrinkage.machine.disk import patiently

if TYPE_CHECKING:
    import pandas as pd


def overrides_for(data: Any, target: str | Sequence[str] | None) -> list[str]:
    """Write rows into a file, and list the overrides by which a run reads them.

    data: a DataFrame with the target as a column, or several, or a pair of arrays X [n, p] and y [n], whose columns
    become x0, x1, … and y, or y0, y1, … of y [n, targets]. The file is `outputs/data/frame-DIGEST.parquet`, where
    DIGEST follows from the contents: equal data are one file, which a run's resume and rerun read again. A DataFrame's
    index is not kept. Raises InputError where this is no table, or no target is named.
    """
    frame, targets = as_frame(data, target)
    for name in targets:
        if name not in frame.columns:
            near = ", ".join(list(frame.columns)[:10])
            raise InputError(f"target={name!r}: no column has this name; the first of {frame.shape[1]} are {near}")
    path = written(frame)
    named = hydras(targets[0]) if len(targets) == 1 else f"[{','.join(map(hydras, targets))}]"
    return ["data=table", f"data.path={hydras(str(path))}", f"data.target={named}"]


def as_frame(data: Any, target: str | Sequence[str] | None) -> "tuple[pd.DataFrame, list[str]]":
    """Make a table, whose columns have texts as names, of what `overrides_for` takes, and list its targets.

    Raises InputError.
    """
    import numpy as np
    import pandas as pd

    targets = list(map(str, target)) if isinstance(target, list | tuple) else [str(target)]
    if isinstance(data, pd.DataFrame):
        if target is None:
            raise InputError("target=None: which column is to be predicted? use target='price'")
        frame = data.copy(deep=False).rename(columns=str)
    elif isinstance(data, tuple) and len(data) == 2:
        x, y = np.asarray(data[0]), np.asarray(data[1])
        if x.ndim != 2 or y.ndim not in (1, 2) or len(y) != len(x) or y.shape[1:] == (0,):
            raise InputError(
                f"data: X of shape {x.shape} and y of shape {y.shape}: X has a row and y a value, or several, for each "
                "example; reshape them to (n, p) and (n,)"
            )
        count = y.shape[1] if y.ndim == 2 else 1
        if target is None:
            targets = ["y"] if count == 1 else [f"y{number}" for number in range(count)]
        if len(targets) != count:
            raise InputError(f"target={target!r}: y of shape {y.shape} has {count} columns; give each a name")
        frame = pd.DataFrame(x, columns=[f"x{number}" for number in range(x.shape[1])])
        frame = frame.assign(**dict(zip(targets, y.reshape(len(y), count).T, strict=True)))
    else:
        raise InputError(
            f"data={type(data).__name__}: must be a DataFrame, or a pair of arrays (X, y); data of your own class are "
            "chosen by data=NAME, and a Lightning script of your own is recorded by JournalLogger"
        )
    doubled = [name for name, times in Counter(frame.columns).items() if times > 1]
    if doubled:
        raise InputError(f"data: several columns are called {doubled[0]!r}; rename them")
    return frame, targets


def written(frame: "pd.DataFrame") -> Path:
    """Write a table under a name that follows from its contents. Raises InputError where a column has no one type."""
    import pandas as pd

    categories = [name for name in frame if isinstance(frame[name].dtype, pd.CategoricalDtype)]
    content = BytesIO()
    try:
        frame.astype(dict.fromkeys(categories, object)).to_parquet(content, index=False)
    except (ValueError, TypeError) as error:  # among them those of Arrow
        reason = " ".join(str(part) for part in error.args)
        raise InputError(f"data: {reason}; give each column values of one type: numbers, texts or dates") from None
    name = f"frame-{hashlib.sha256(content.getvalue()).hexdigest()[:16]}.parquet"
    path = Path.cwd() / "outputs" / "data" / name
    if not path.exists():
        patiently(lambda: path.write_bytes(content.getvalue()), path)
    return path
