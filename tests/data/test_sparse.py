"""Sparse data have the path, the coefficients, the gaps and the errors of their dense twin, or are refused."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import config
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sklearn.datasets import dump_svmlight_file

from shrinkage.data.base import DataModule
from shrinkage.runs.export import coefficients
from shrinkage.sweeps.path import lambda_path
from shrinkage.training.lane import Lane
from shrinkage.training.lanes_training import build_lanes
from shrinkage.training.workshop import Workshop

SAME = {"rtol": 0, "atol": 1e-10}


@st.composite
def sparse_rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Features [n, p] of mostly zeros, and numbers or classes; often binary, with equal, empty and constant columns."""
    random = np.random.default_rng(draw(st.integers(0, 100_000)))
    n, p, share = draw(st.integers(30, 60)), draw(st.integers(2, 60)), draw(st.sampled_from([0.05, 0.3]))
    is_binary = draw(st.booleans())
    x = (random.random((n, p)) < share) * (1.0 if is_binary else random.normal(size=(n, p)).round(3))
    x[:, 0] = draw(st.sampled_from([0.0, 1.0]))
    x[:, 1] = (np.arange(n) % 3 > 0) * random.normal(1, 1, n).round(3)
    signal = x[:, 1] + x[:, -1] + 0.5 * random.normal(size=n)
    kind = draw(st.sampled_from(["numbers", "two", "three"]))
    if kind == "numbers":
        return x, signal.round(3)
    return x, np.digitize(signal, np.quantile(signal, [0.5] if kind == "two" else [0.3, 0.6])).astype(float)


def write_both(x: np.ndarray, y: np.ndarray, folder: Path) -> tuple[list[str], list[str]]:
    """Write rows as sparse lines and as a table; returns the overrides that read them."""
    dump_svmlight_file(csr_array(x), y, str(folder / "rows.svm"), zero_based=False)
    if not x[:, -1].any():  # the format does not say how many columns there are
        x = x[:, : np.flatnonzero(x.any(axis=0))[-1] + 1]
    names = [str(j) for j in range(1, x.shape[1] + 1)]
    pd.DataFrame(x, columns=names).assign(y=y).to_csv(folder / "rows.csv", index=False)
    table = ["data=table", f"data.path={folder / 'rows.csv'}", "data.target=y"]
    return ["data=libsvm", f"data.path={folder / 'rows.svm'}"], table


def path_of(overrides: list[str], share: float) -> tuple[float, list[Lane], list[dict[str, float]], DataModule]:
    """Solve along a path down to a share of λ_max: λ_max, the lanes, and each one's coefficients that are not 0."""
    common = ["trainer=exact", "data.folds=3", "data.fold=1", *overrides]
    path = lambda_path(config(*common), 4, share, None, False).lambd
    cfgs = [config(*common, f"lambd={lambd}") for lambd in path]
    workshop, lanes = Workshop(cfgs[0]), list[Lane]()
    with tempfile.TemporaryDirectory() as folder:
        training = build_lanes(cfgs, workshop, Path(folder), lanes.append)
        training.run()
    tables = [coefficients(workshop.datamodule, training.model, lane.weights, lane.exchangeable) for lane in lanes]
    found = [
        {f"{o} {f}": c for o, f, c in zip(t["output"], t["feature"], t["coefficient"], strict=True) if c or "(" in f}
        for t in tables
    ]
    return path[0], lanes, found, workshop.datamodule


def assert_twins(sparse: list[str], dense: list[str]) -> None:
    (own, lanes, found, data), (twin, others, expected, other_data) = (path_of(each, 0.05) for each in (sparse, dense))
    assert data.is_sparse and not other_data.is_sparse
    assert own == twin
    for lane, other, table, wanted in zip(lanes, others, found, expected, strict=True):
        assert lane.error is None and other.error is None
        assert lane.measured["val/loss"] == pytest.approx(other.measured["val/loss"], rel=1e-9)
        gap = "optimum/duality_gap"
        np.testing.assert_allclose(lane.conclusion[gap], other.conclusion[gap], **SAME)
        assert lane.conclusion[gap] <= 1e-6 * max(lane.measured["train/objective"], 1e-3)
        assert table.keys() == wanted.keys()
        scale = max(1.0, *(abs(value) for value in wanted.values()))
        np.testing.assert_allclose(list(table.values()), list(wanted.values()), rtol=0, atol=1e-10 * scale)


@given(sparse_rows(), st.booleans(), st.sampled_from(["l1", "elastic_net"]))
@settings(deadline=None, max_examples=12)
def test_a_sparse_path_is_that_of_the_table_with_its_zeros(
    rows: tuple[np.ndarray, np.ndarray], standardize: bool, penalty: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sparse, dense = write_both(*rows, Path(folder))
        more = [f"data.standardize={standardize}".lower(), f"penalty={penalty}"]
        assert_twins([*sparse, *more], [*dense, *more])
